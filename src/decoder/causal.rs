//! A plain language model (GPT-2): the prompt and the words are one text.
//!
//! One graph (models/export/gpt2.py) with an explicit key/value cache. The prompt runs once for a frame;
//! its cache is shared out to the rows as they come to be.

use super::{
    Condition, Decoder, DecoderError, HIDDEN, Logits, Step, Wants, Words, cache::Cache,
    check_vocabulary, load_network, prompt::Prompt,
};
use crate::{
    engine::{Element, Engine, Input, InputSpec, Network, NetworkSpec, Values},
    pack::{DecoderSpec, Pack, PackError},
};

/// See the module.
pub struct CausalDecoder {
    spec: DecoderSpec,
    network: Box<dyn Network>,
    words: Words,
    prompt: Prompt,
    cache: Cache,
}

impl CausalDecoder {
    pub(crate) fn load(
        pack: &Pack,
        spec: &DecoderSpec,
        prompt_tokens: usize,
        engine: &dyn Engine,
    ) -> Result<Self, PackError> {
        let input = |name: &str, element, shape: &[Option<usize>]| InputSpec {
            name: name.to_owned(),
            element,
            shape: shape.to_vec(),
        };
        let (layers, heads) = (Some(2 * spec.layers), Some(spec.heads));
        let past = [None, layers, heads, None, Some(spec.head_dimension)];
        let network_spec = NetworkSpec {
            inputs: vec![
                input("ids", Element::I64, &[None, None]),
                input("positions", Element::I64, &[None, None]),
                input("mask", Element::F32, &[None, None]),
                input("past", Element::F32, &past),
            ],
            outputs: vec!["logits".to_owned(), "present".to_owned()],
            activations: spec.activations,
        };
        let network = load_network(pack, &spec.file, &network_spec, engine)?;
        let words = pack.words(spec)?;
        check_vocabulary(pack, spec, network.as_ref(), &words)?;
        Ok(Self {
            network,
            words,
            prompt: Prompt::load(pack, spec, prompt_tokens)?,
            spec: spec.clone(),
            cache: Cache::default(),
        })
    }

    /// Runs on `tokens`, `[rows, s]` row-major.
    fn run(&mut self, tokens: &[i64], rows: usize) -> Result<Logits, DecoderError> {
        let (queries, past) = (tokens.len() / rows, self.cache.length);
        let keys = past + queries;
        let mut mask = vec![0f32; queries * keys];
        for (query, row) in mask.chunks_exact_mut(keys).enumerate() {
            row[past + query + 1..].fill(HIDDEN);
        }
        let one_row = past as i64..keys as i64;
        let positions: Vec<i64> = (0..rows).flat_map(|_| one_row.clone()).collect();
        let (layers, heads, depth) = (
            2 * self.spec.layers,
            self.spec.heads,
            self.spec.head_dimension,
        );
        let outputs = self.network.run(&[
            Input {
                values: Values::I64(tokens),
                shape: &[rows, queries],
            },
            Input {
                values: Values::I64(&positions),
                shape: &[rows, queries],
            },
            Input {
                values: Values::F32(&mask),
                shape: &[queries, keys],
            },
            Input {
                values: Values::F32(&self.cache.values),
                shape: &[rows, layers, heads, past, depth],
            },
        ])?;
        let block = layers * heads * depth;
        self.cache
            .put(outputs, (rows, keys, block), self.words.size())
    }
}

impl Decoder for CausalDecoder {
    fn begin(&mut self, condition: &Condition<'_>) -> Result<Logits, DecoderError> {
        self.cache = Cache::default();
        let given = condition.retrieved.len().min(self.spec.retrieved);
        let prompt = self.prompt.tokens(&condition.retrieved[..given])?;
        let begin = self.spec.begin_id.map(i64::from);
        let tokens: Vec<i64> = begin.into_iter().chain(prompt).collect();
        if tokens.is_empty() {
            return Err(DecoderError::Tokenizer(
                "the prompt has no token".to_owned(),
            ));
        }
        self.run(&tokens, 1)
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
        self.run(&tokens, steps.len())
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
