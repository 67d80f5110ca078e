//! A language model with an encoder that reads the prompt (T5, FLAN-T5).
//!
//! Two graphs (models/export/t5.py): the encoder runs once for a frame and gives the keys and values of
//! the decoder's attention to the prompt; the decoder runs once for a token. All rows share the former.

use super::{
    Condition, Decoder, DecoderError, Logits, Step, Wants, Words, cache::Cache, check_vocabulary,
    load_network, prompt::Prompt,
};
use crate::{
    embedding::shape_fits,
    engine::{
        Element, Engine, EngineError, Input, InputSpec, Network, NetworkSpec, Output, Values,
        shape_text,
    },
    pack::{DecoderSpec, Pack, PackError},
};

/// See the module.
pub struct EncoderDecoder {
    spec: DecoderSpec,
    encoder: Box<dyn Network>,
    network: Box<dyn Network>,
    words: Words,
    prompt: Prompt,
    /// Keys and values of the prompt, `[1, 2 layers, heads, n, head_dimension]`.
    cross: Output,
    cache: Cache,
}

impl EncoderDecoder {
    pub(crate) fn load(
        pack: &Pack,
        spec: &DecoderSpec,
        encoder: &str,
        prompt_tokens: usize,
        engine: &dyn Engine,
    ) -> Result<Self, PackError> {
        let input = |name: &str, element, shape: &[Option<usize>]| InputSpec {
            name: name.to_owned(),
            element,
            shape: shape.to_vec(),
        };
        let (one, layers, heads) = (Some(1), Some(2 * spec.layers), Some(spec.heads));
        let depth = Some(spec.head_dimension);
        let cross = [one, layers, heads, None, depth];
        let encoder_spec = NetworkSpec {
            inputs: vec![input("input_ids", Element::I64, &[one, None])],
            outputs: vec!["cross".to_owned()],
            activations: spec.activations,
        };
        let network_spec = NetworkSpec {
            inputs: vec![
                input("ids", Element::I64, &[None, one]),
                input("distances", Element::I64, &[None]),
                input("past", Element::F32, &[None, layers, heads, None, depth]),
                input("cross", Element::F32, &cross),
            ],
            outputs: vec!["logits".to_owned(), "present".to_owned()],
            activations: spec.activations,
        };
        let reader = load_network(pack, encoder, &encoder_spec, engine)?;
        let found = reader.output_shape(0);
        if !shape_fits(&found, &[&cross]) {
            return Err(pack.mismatch(
                encoder,
                "output \"cross\"",
                format!("shape {}", shape_text(&found)),
                format!("shape {}", shape_text(&cross)),
                "mend decoder.layers, heads or head_dimension in pack.toml",
            ));
        }
        let network = load_network(pack, &spec.file, &network_spec, engine)?;
        let words = pack.words(spec)?;
        check_vocabulary(pack, spec, network.as_ref(), &words)?;
        Ok(Self {
            encoder: reader,
            network,
            words,
            prompt: Prompt::load(pack, spec, prompt_tokens)?,
            cross: Output {
                values: Vec::new(),
                shape: Vec::new(),
            },
            spec: spec.clone(),
            cache: Cache::default(),
        })
    }

    /// Runs on one token a row.
    fn run(&mut self, tokens: &[i64]) -> Result<Logits, DecoderError> {
        let (rows, past) = (tokens.len(), self.cache.length);
        let keys = past + 1;
        let distances: Vec<i64> = (0..keys as i64).rev().collect();
        let (layers, heads, depth) = (
            2 * self.spec.layers,
            self.spec.heads,
            self.spec.head_dimension,
        );
        let outputs = self.network.run(&[
            Input {
                values: Values::I64(tokens),
                shape: &[rows, 1],
            },
            Input {
                values: Values::I64(&distances),
                shape: &[keys],
            },
            Input {
                values: Values::F32(&self.cache.values),
                shape: &[rows, layers, heads, past, depth],
            },
            Input {
                values: Values::F32(&self.cross.values),
                shape: &self.cross.shape,
            },
        ])?;
        let block = layers * heads * depth;
        self.cache
            .put(outputs, (rows, keys, block), self.words.size())
    }
}

impl Decoder for EncoderDecoder {
    fn begin(&mut self, condition: &Condition<'_>) -> Result<Logits, DecoderError> {
        self.cache = Cache::default();
        let given = condition.retrieved.len().min(self.spec.retrieved);
        let prompt = self.prompt.tokens(&condition.retrieved[..given])?;
        self.cross = self.encoder.run_single(&[Input {
            values: Values::I64(&prompt),
            shape: &[1, prompt.len()],
        }])?;
        let (layers, heads) = (2 * self.spec.layers, self.spec.heads);
        if self.cross.shape != [1, layers, heads, prompt.len(), self.spec.head_dimension] {
            let found = format!("output \"cross\" of shape {:?}", self.cross.shape);
            return Err(EngineError::Run(found).into());
        }
        // Never absent: the manifest was checked.
        self.run(&[i64::from(self.words.begin().unwrap_or_default())])
    }

    fn step(&mut self, steps: &[Step]) -> Result<Logits, DecoderError> {
        if self.cache.said >= self.spec.max_tokens {
            return Err(DecoderError::Full(self.spec.max_tokens));
        }
        self.cache.take(steps)?;
        if steps.is_empty() {
            return Ok(Logits::new(Vec::new(), self.words.size()));
        }
        let tokens: Vec<i64> = steps.iter().map(|step| i64::from(step.token)).collect();
        self.run(&tokens)
    }

    fn words(&self) -> &Words {
        &self.words
    }

    fn most_tokens(&self) -> usize {
        self.spec.max_tokens
    }

    fn wants(&self) -> Wants {
        Wants {
            grid: None,
            retrieved: self.spec.retrieved,
        }
    }
}
