//! A decoder-only transformer with the frame and the retrieved captions before its words.
//!
//! Two graphs (models/decoder/export.py): one brings the condition to prefix positions, the other
//! runs the transformer with an explicit key/value cache. Positions of the prefix see each other,
//! words see the prefix and the words before them; the prefix runs once for a frame, whatever the
//! number of beams or samples.

use super::{
    Condition, Decoder, DecoderError, HIDDEN, Logits, Step, Wants, Words, cache::Cache,
    check_vocabulary, load_network,
};
use crate::{
    engine::{Element, Engine, Input, InputSpec, Network, NetworkSpec, Output, Values},
    pack::{DecoderSpec, Pack, PackError, PrefixParts},
};

/// See the module.
pub struct PrefixDecoder {
    spec: DecoderSpec,
    parts: PrefixParts,
    widths: Widths,
    prefix: Box<dyn Network>,
    network: Box<dyn Network>,
    words: Words,
    cache: Cache,
    /// Whether each position of the prefix is hidden.
    hidden: Vec<bool>,
}

/// Lengths of the embeddings that the prefix is made of.
#[derive(Debug, Clone, Copy)]
struct Widths {
    image: usize,
    text: usize,
}

impl PrefixDecoder {
    pub(crate) fn load(
        pack: &Pack,
        spec: &DecoderSpec,
        parts: &PrefixParts,
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
        let cells = parts.grid[0] * parts.grid[1];
        let prefix_spec = NetworkSpec {
            inputs: vec![
                floats("cells", &[one, Some(cells), Some(widths.image)]),
                floats("realigned", &[one, Some(widths.text)]),
                floats("retrieved", &[one, None, Some(widths.text)]),
                floats("scores", &[one, None]),
            ],
            outputs: vec!["prefix".to_owned()],
            activations: spec.activations,
        };
        let ids = |name: &str| InputSpec {
            name: name.to_owned(),
            element: Element::I64,
            shape: vec![None, None],
        };
        let heads = [Some(2 * spec.layers), Some(spec.heads)];
        let decoder_spec = NetworkSpec {
            inputs: vec![
                floats("prefix", &[None, None, Some(parts.width)]),
                ids("ids"),
                ids("positions"),
                floats("mask", &[None, None]),
                floats(
                    "past",
                    &[None, heads[0], heads[1], None, Some(spec.head_dimension)],
                ),
            ],
            outputs: vec!["logits".to_owned(), "present".to_owned()],
            activations: spec.activations,
        };
        let network = load_network(pack, &spec.file, &decoder_spec, engine)?;
        let words = pack.words(spec)?;
        check_vocabulary(pack, spec, network.as_ref(), &words)?;
        Ok(Self {
            prefix: load_network(pack, &parts.file, &prefix_spec, engine)?,
            network,
            words,
            spec: spec.clone(),
            parts: parts.clone(),
            widths,
            cache: Cache::default(),
            hidden: Vec::new(),
        })
    }

    fn prefix_values(&mut self, condition: &Condition<'_>) -> Result<Output, DecoderError> {
        let cells = self.parts.grid[0] * self.parts.grid[1];
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
        self.hidden = std::iter::repeat_n(condition.cells.is_empty(), cells)
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
        let (rows, width) = (tokens.len(), self.parts.width);
        let before = prefix.len() / width / rows;
        let (queries, keys) = (before + 1, self.cache.length + before + 1);
        let mut mask = vec![0f32; queries * keys];
        for (query, row) in mask.chunks_exact_mut(keys).enumerate() {
            for (key, cell) in row.iter_mut().enumerate() {
                let hidden = self.hidden.get(key).copied().unwrap_or(false);
                // The prefix must not see the word behind it.
                if hidden || (query < before && key == keys - 1) {
                    *cell = HIDDEN;
                }
            }
        }
        let positions = vec![self.cache.said as i64; rows];
        let (layers, heads) = (2 * self.spec.layers, self.spec.heads);
        let depth = self.spec.head_dimension;
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
        let block = layers * heads * depth;
        self.cache
            .put(outputs, (rows, keys, block), self.words.size())
    }
}

impl Decoder for PrefixDecoder {
    fn begin(&mut self, condition: &Condition<'_>) -> Result<Logits, DecoderError> {
        self.cache = Cache::default();
        let prefix = self.prefix_values(condition)?;
        // Never absent: the manifest was checked.
        let begin = [i64::from(self.words.begin().unwrap_or_default())];
        self.run(&prefix.values, &begin)
    }

    fn step(&mut self, steps: &[Step]) -> Result<Logits, DecoderError> {
        if self.cache.said >= self.spec.max_tokens {
            return Err(DecoderError::Full(self.spec.max_tokens));
        }
        self.cache.take(steps)?;
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
            grid: Some(self.parts.grid),
            retrieved: self.spec.retrieved,
        }
    }
}
