//! The text tower: caption in, embedding out.

use tokenizers::{Tokenizer, TruncationParams};

use super::{EmbeddingError, mean_rows, normalise, shape_fits};
use crate::{
    engine::{Element, Engine, Input, InputSpec, Network, NetworkSpec, Output, Values, shape_text},
    pack::{Pack, PackError, TextPooling, TextTowerSpec},
};

/// Network and tokenizer of a pack's text tower.
pub struct TextTower {
    spec: TextTowerSpec,
    tokenizer: Tokenizer,
    network: Box<dyn Network>,
}

impl TextTower {
    pub(crate) fn load(pack: &Pack, engine: &dyn Engine) -> Result<Self, PackError> {
        let spec = pack.manifest.text_tower.clone();
        let unusable = |error: tokenizers::Error| {
            let expected = "a tokenizer.json of the tokenizers library".to_owned();
            let remedy = "export the tokenizer again (models/README.md)";
            pack.mismatch(
                &spec.tokenizer,
                "content",
                error.to_string(),
                expected,
                remedy,
            )
        };
        let mut tokenizer =
            Tokenizer::from_bytes(pack.bytes(&spec.tokenizer)?).map_err(unusable)?;
        // Length and padding belong to the pack: whatever the file says is replaced.
        tokenizer.with_padding(None);
        let truncation = TruncationParams {
            max_length: spec.max_length,
            ..Default::default()
        };
        tokenizer
            .with_truncation(Some(truncation))
            .map_err(unusable)?;
        let length = spec.pad_id.map(|_| spec.max_length);
        let input = |name: &String| InputSpec {
            name: name.clone(),
            element: Element::I64,
            shape: vec![Some(1), length],
        };
        let network_spec = NetworkSpec {
            inputs: [Some(&spec.input), spec.attention_mask.as_ref()]
                .into_iter()
                .flatten()
                .map(input)
                .collect(),
            outputs: vec![spec.output.clone()],
            activations: spec.activations,
        };
        let network = engine
            .load(&mut pack.reader(&spec.file)?, &network_spec)
            .map_err(|source| pack.network_error(&spec.file, source))?;
        let (one, d) = (Some(1), Some(spec.dimension));
        let expected: &[&[Option<usize>]] = match spec.pooling {
            TextPooling::None => &[&[one, d]],
            _ => &[&[one, None, d]],
        };
        if !shape_fits(&network.output_shape(0), expected) {
            let wanted: Vec<String> = expected.iter().map(|shape| shape_text(shape)).collect();
            return Err(pack.mismatch(
                &spec.file,
                &format!("output {:?}", spec.output),
                format!("shape {}", shape_text(&network.output_shape(0))),
                format!("shape {}", wanted.join(" or ")),
                "mend text_tower.output, pooling or dimension in pack.toml",
            ));
        }
        Ok(Self {
            spec,
            tokenizer,
            network,
        })
    }

    /// Embeds a caption: a vector of `dimension` numbers with length one.
    ///
    /// # Errors
    /// [`EmbeddingError`] when the tokenizer or the network fails, or the output does not have the
    /// shape that the pack promises.
    pub fn embed(&mut self, caption: &str) -> Result<Vec<f32>, EmbeddingError> {
        let mut ids = self.tokens(caption)?;
        let used = ids.len();
        if let Some(pad) = self.spec.pad_id {
            ids.resize(self.spec.max_length, i64::from(pad));
        }
        let mask: Vec<i64> = (0..ids.len())
            .map(|index| i64::from(index < used))
            .collect();
        let shape = [1, ids.len()];
        let mut inputs = vec![Input {
            values: Values::I64(&ids),
            shape: &shape,
        }];
        if self.spec.attention_mask.is_some() {
            inputs.push(Input {
                values: Values::I64(&mask),
                shape: &shape,
            });
        }
        let output = self.network.run_single(&inputs)?;
        let mut embedding = self.pool(&output, &ids, used)?;
        normalise(&mut embedding)?;
        Ok(embedding)
    }

    /// A caption's ids as the network gets them, before padding.
    ///
    /// # Errors
    /// [`EmbeddingError::Tokenizer`] when the tokenizer fails.
    pub fn tokens(&self, caption: &str) -> Result<Vec<i64>, EmbeddingError> {
        let text = format!("{}{caption}", self.spec.prefix);
        let encoding = self
            .tokenizer
            .encode_fast(text, true)
            .map_err(|e| EmbeddingError::Tokenizer(e.to_string()))?;
        Ok(encoding.get_ids().iter().map(|&id| i64::from(id)).collect())
    }

    fn pool(&self, output: &Output, ids: &[i64], used: usize) -> Result<Vec<f32>, EmbeddingError> {
        let dimension = self.spec.dimension;
        let row = |index: usize| output.values[index * dimension..(index + 1) * dimension].to_vec();
        match (self.spec.pooling, output.shape.as_slice()) {
            (TextPooling::None, [1, d]) if *d == dimension => Ok(output.values.clone()),
            (TextPooling::Cls, [1, length, d]) if *d == dimension && *length > 0 => Ok(row(0)),
            (TextPooling::Mean, [1, length, d]) if *d == dimension && *length == ids.len() => {
                Ok(mean_rows(&output.values, dimension, |index| index < used))
            }
            (TextPooling::EndOfText, [1, length, d]) if *d == dimension && *length == ids.len() => {
                let end = self.spec.end_of_text_id.map(i64::from);
                ids.iter()
                    .position(|&id| Some(id) == end)
                    .map(row)
                    .ok_or_else(|| {
                        EmbeddingError::Tokenizer(format!(
                            "no end-of-text token {end:?} in the caption"
                        ))
                    })
            }
            (pooling, _) => Err(EmbeddingError::Output {
                found: output.shape.clone(),
                expected: match pooling {
                    TextPooling::None => format!("[1, {dimension}]"),
                    _ => format!("[1, {}, {dimension}]", ids.len()),
                },
            }),
        }
    }

    /// Another tower over the same weights, for another thread.
    ///
    /// # Errors
    /// When the engine can't set up its working memory.
    pub fn fork(&self) -> Result<Self, EmbeddingError> {
        Ok(Self {
            spec: self.spec.clone(),
            tokenizer: self.tokenizer.clone(),
            network: self.network.fork()?,
        })
    }

    /// Length of the embedding.
    pub fn dimension(&self) -> usize {
        self.spec.dimension
    }
}
