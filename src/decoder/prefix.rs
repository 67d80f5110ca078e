//! A decoder-only transformer with the frame and the retrieved captions before its words.
//!
//! Two graphs (models/decoder/export.py): one brings the condition to prefix positions, the other
//! runs the transformer with an explicit key/value cache. Positions of the prefix see each other,
//! words see the prefix and the words before them; the prefix runs once for a frame, whatever the
//! number of beams or samples.

use super::{Condition, Decoder, DecoderError, Logits, Step, Wants, Words};
use crate::{
    engine::{
        Element, Engine, EngineError, Input, InputSpec, Network, NetworkSpec, Output, Values,
    },
    pack::{DecoderSpec, Pack, PackError},
};

/// Added to the attention's logits of what must not be seen. Finite: a row that sees nothing at all
/// (every part hidden) has to stay a number.
const HIDDEN: f32 = -1e9;

/// See the module.
pub struct PrefixDecoder {
    spec: DecoderSpec,
    widths: Widths,
    prefix: Box<dyn Network>,
    network: Box<dyn Network>,
    words: Words,
    cache: Cache,
}

/// Lengths of the embeddings that the prefix is made of.
#[derive(Debug, Clone, Copy)]
struct Widths {
    image: usize,
    text: usize,
}

/// Keys and values of all that was said, `[rows, 2 layers, heads, length, head_dimension]`.
#[derive(Default)]
struct Cache {
    values: Vec<f32>,
    rows: usize,
    length: usize,
    /// Words said, the beginning included.
    said: usize,
    /// Whether each position of the prefix is hidden.
    hidden: Vec<bool>,
}

impl PrefixDecoder {
    pub(crate) fn load(
        pack: &Pack,
        spec: &DecoderSpec,
        engine: &dyn Engine,
    ) -> Result<Self, PackError> {
        let widths = Widths {
            image: pack.manifest.image_tower.dimension,
            text: pack.manifest.text_tower.dimension,
        };
        let floats = |name: &str, shape: &[Option<usize>]| InputSpec {
            name: name.to_owned(),
            element: Element::F32,
            shape: shape.to_vec(),
        };
        let one = Some(1);
        let cells = spec.grid[0] * spec.grid[1];
        let prefix_spec = NetworkSpec {
            inputs: vec![
                floats("cells", &[one, Some(cells), Some(widths.image)]),
                floats("realigned", &[one, Some(widths.text)]),
                floats("retrieved", &[one, None, Some(widths.text)]),
                floats("scores", &[one, None]),
            ],
            outputs: vec!["prefix".to_owned()],
        };
        let ids = |name: &str| InputSpec {
            name: name.to_owned(),
            element: Element::I64,
            shape: vec![None, None],
        };
        let heads = [Some(2 * spec.layers), Some(spec.heads)];
        let decoder_spec = NetworkSpec {
            inputs: vec![
                floats("prefix", &[None, None, Some(spec.width)]),
                ids("ids"),
                ids("positions"),
                floats("mask", &[None, None]),
                floats(
                    "past",
                    &[
                        None,
                        heads[0],
                        heads[1],
                        None,
                        Some(spec.width / spec.heads),
                    ],
                ),
            ],
            outputs: vec!["logits".to_owned(), "present".to_owned()],
        };
        let load = |file: &String, network: &NetworkSpec| {
            engine
                .load(&mut pack.reader(file)?, network)
                .map_err(|source| pack.network_error(file, source))
        };
        let decoder = Self {
            prefix: load(&spec.prefix, &prefix_spec)?,
            network: load(&spec.file, &decoder_spec)?,
            words: pack.words(spec)?,
            spec: spec.clone(),
            widths,
            cache: Cache::default(),
        };
        decoder.check_vocabulary(pack)?;
        Ok(decoder)
    }

    /// A token that the tokenizer has no word for could never be spoken.
    fn check_vocabulary(&self, pack: &Pack) -> Result<(), PackError> {
        let found = self.network.output_shape(0);
        let size = self.words.size();
        if let Some(Some(logits)) = found.last()
            && *logits != size
        {
            return Err(pack.mismatch(
                &self.spec.tokenizer,
                "vocabulary",
                format!("{size} tokens"),
                format!("{logits}, as {} gives", self.spec.file),
                "export decoder and tokenizer together (models/README.md)",
            ));
        }
        Ok(())
    }

    fn prefix_values(&mut self, condition: &Condition<'_>) -> Result<Output, DecoderError> {
        let cells = self.spec.grid[0] * self.spec.grid[1];
        let text = self.widths.text;
        let given = &condition.retrieved[..condition.retrieved.len().min(self.spec.retrieved)];
        let whole = |part, values: &[f32], expected: usize| match values.len() {
            0 => Ok(vec![0.0; expected]),
            found if found == expected => Ok(values.to_vec()),
            found => Err(DecoderError::Condition {
                part,
                found,
                expected,
            }),
        };
        let cell_values = whole("cells", condition.cells, cells * self.widths.image)?;
        let realigned = whole("realigned", condition.realigned, text)?;
        // The graph takes one caption at least; a hidden one stands in for none.
        let count = given.len().max(1);
        let mut retrieved = Vec::with_capacity(count * text);
        let mut scores: Vec<f32> = given.iter().map(|r| r.score).collect();
        for row in given {
            retrieved.extend(whole("retrieved", &row.embedding, text)?);
        }
        retrieved.resize(count * text, 0.0);
        scores.resize(count, 0.0);
        self.cache.hidden = std::iter::repeat_n(condition.cells.is_empty(), cells)
            .chain([condition.realigned.is_empty()])
            .chain(std::iter::repeat_n(given.is_empty(), count))
            .collect();
        let float = |values, shape| Input {
            values: Values::F32(values),
            shape,
        };
        Ok(self.prefix.run_single(&[
            float(&cell_values, &[1, cells, self.widths.image]),
            float(&realigned, &[1, text]),
            float(&retrieved, &[1, count, text]),
            float(&scores, &[1, count]),
        ])?)
    }

    /// Runs the transformer on `prefix` (`[1, p, width]`, or nothing) and one token a row.
    fn run(&mut self, prefix: &[f32], tokens: &[i64]) -> Result<Logits, DecoderError> {
        let (rows, width) = (tokens.len(), self.spec.width);
        let before = prefix.len() / width / rows;
        let (queries, keys) = (before + 1, self.cache.length + before + 1);
        let mut mask = vec![0f32; queries * keys];
        for (query, row) in mask.chunks_exact_mut(keys).enumerate() {
            for (key, cell) in row.iter_mut().enumerate() {
                let hidden = self.cache.hidden.get(key).copied().unwrap_or(false);
                // The prefix must not see the word behind it.
                if hidden || (query < before && key == keys - 1) {
                    *cell = HIDDEN;
                }
            }
        }
        let positions = vec![self.cache.said as i64; rows];
        let (layers, heads) = (2 * self.spec.layers, self.spec.heads);
        let depth = width / heads;
        let outputs = self.network.run(&[
            Input {
                values: Values::F32(prefix),
                shape: &[rows, before, width],
            },
            Input {
                values: Values::I64(tokens),
                shape: &[rows, 1],
            },
            Input {
                values: Values::I64(&positions),
                shape: &[rows, 1],
            },
            Input {
                values: Values::F32(&mask),
                shape: &[queries, keys],
            },
            Input {
                values: Values::F32(&self.cache.values),
                shape: &[rows, layers, heads, self.cache.length, depth],
            },
        ])?;
        let [logits, present] = <[Output; 2]>::try_from(outputs)
            .map_err(|found| EngineError::Run(format!("{} outputs instead of 2", found.len())))?;
        let vocabulary = self.words.size();
        if present.values.len() != rows * layers * heads * keys * depth
            || logits.values.len() != rows * vocabulary
        {
            let found = format!("outputs {:?} and {:?}", logits.shape, present.shape);
            return Err(EngineError::Run(found).into());
        }
        self.cache.values = present.values;
        self.cache.rows = rows;
        self.cache.length = keys;
        self.cache.said += 1;
        Ok(Logits::new(logits.values, vocabulary))
    }
}

impl Decoder for PrefixDecoder {
    fn begin(&mut self, condition: &Condition<'_>) -> Result<Logits, DecoderError> {
        self.cache = Cache::default();
        let prefix = self.prefix_values(condition)?;
        let begin = [i64::from(self.words.begin())];
        self.run(&prefix.values, &begin)
    }

    fn step(&mut self, steps: &[Step]) -> Result<Logits, DecoderError> {
        if self.cache.said >= self.spec.max_tokens {
            return Err(DecoderError::Full(self.spec.max_tokens));
        }
        let rows = self.cache.rows;
        if let Some(stray) = steps.iter().find(|step| step.parent >= rows) {
            return Err(DecoderError::Parent {
                parent: stray.parent,
                rows,
            });
        }
        // Most steps continue every row where it stands.
        let in_place = steps.len() == rows && steps.iter().enumerate().all(|(i, s)| s.parent == i);
        if !in_place {
            let block = self.cache.values.len() / rows;
            let mut taken = Vec::with_capacity(block * steps.len());
            for step in steps {
                taken.extend_from_slice(&self.cache.values[step.parent * block..][..block]);
            }
            self.cache.values = taken;
        }
        let tokens: Vec<i64> = steps.iter().map(|step| i64::from(step.token)).collect();
        if tokens.is_empty() {
            return Ok(Logits::new(Vec::new(), self.words.size()));
        }
        self.run(&[], &tokens)
    }

    fn words(&self) -> &Words {
        &self.words
    }

    fn most_tokens(&self) -> usize {
        self.spec.max_tokens
    }

    fn wants(&self) -> Wants {
        Wants {
            grid: Some(self.spec.grid),
            retrieved: self.spec.retrieved,
        }
    }
}
