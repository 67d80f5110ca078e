//! Captions with their embeddings, int8 with one scale a row, and the search for the nearest.

mod search;

pub(crate) use search::dot;
pub use search::{CentredRows, Hit};

use safetensors::Dtype;

use crate::tensor_file::{FieldError, NamedTensor, TensorFile, expect_shape, serialise};

/// Captions and quantised embeddings.
#[derive(Debug, Clone, PartialEq)]
pub struct Datastore {
    /// All captions end to end.
    text: String,
    /// Caption i is `text[offsets[i]..offsets[i + 1]]`; one more entry than captions.
    offsets: Vec<u32>,
    /// Row-major `[captions, dimension]`.
    codes: Vec<i8>,
    /// Embedding i is about `scales[i] * codes[i]`.
    scales: Vec<f32>,
    dimension: usize,
    text_embedding: String,
}

impl Datastore {
    /// Quantises captions with their embeddings of length one.
    ///
    /// # Errors
    /// [`FieldError`] when an embedding has not `dimension` finite numbers, or the captions are
    /// more than 4 GiB.
    pub fn build<'a>(
        rows: impl IntoIterator<Item = (&'a str, &'a [f32])>,
        dimension: usize,
        text_embedding: &str,
    ) -> Result<Self, FieldError> {
        let mut store = Self {
            text: String::new(),
            offsets: vec![0],
            codes: Vec::new(),
            scales: Vec::new(),
            dimension,
            text_embedding: text_embedding.to_owned(),
        };
        for (caption, embedding) in rows {
            expect_shape("embedding", &[embedding.len()], &[dimension])?;
            let peak = embedding.iter().fold(0f32, |peak, v| peak.max(v.abs()));
            if !peak.is_finite() {
                let found = format!("infinite values for {caption:?}");
                return Err(FieldError {
                    field: "embedding",
                    found,
                    expected: "finite numbers".into(),
                });
            }
            let scale = if peak > 0.0 { peak / 127.0 } else { 1.0 };
            // The cast saturates and the quotient is within 127 anyway.
            store
                .codes
                .extend(embedding.iter().map(|v| (v / scale).round() as i8));
            store.scales.push(scale);
            store.text.push_str(caption);
            let end = u32::try_from(store.text.len()).map_err(|_| FieldError {
                field: "captions",
                found: "more than 4 GiB of text".into(),
                expected: "less; split the datastore".into(),
            })?;
            store.offsets.push(end);
        }
        Ok(store)
    }

    /// Reads a datastore file (docs/model-packs.md).
    ///
    /// # Errors
    /// [`FieldError`] for a damaged file, a missing field, or shapes and offsets that do not fit.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FieldError> {
        let file = TensorFile::parse(bytes)?;
        let (shape, codes) = file.raw("embeddings", Dtype::I8, 2)?;
        let (rows, scales) = file.f32("scales", 1)?;
        expect_shape("scales", &rows, &shape[..1])?;
        let (count, offsets) = file.raw("offsets", Dtype::U32, 1)?;
        expect_shape("offsets", &count, &[shape[0] + 1])?;
        let offsets: Vec<u32> = offsets
            .chunks_exact(4)
            .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        let (_, text) = file.raw("captions", Dtype::U8, 1)?;
        let text = std::str::from_utf8(text).map_err(|error| FieldError {
            field: "captions",
            found: error.to_string(),
            expected: "UTF-8".into(),
        })?;
        let ordered = offsets.windows(2).all(|pair| pair[0] <= pair[1]);
        let whole = offsets.first() == Some(&0)
            && offsets.last().map(|&end| end as usize) == Some(text.len());
        if !ordered || !whole || !offsets.iter().all(|&at| text.is_char_boundary(at as usize)) {
            return Err(FieldError {
                field: "offsets",
                found: "positions that do not cut the captions' text".into(),
                expected: "ascending character boundaries from 0 to its end".into(),
            });
        }
        Ok(Self {
            text: text.to_owned(),
            offsets,
            codes: codes.iter().map(|&byte| byte as i8).collect(),
            scales,
            dimension: shape[1],
            text_embedding: file.text("text_embedding")?,
        })
    }

    /// The bytes of a datastore file.
    ///
    /// # Errors
    /// Never for a datastore that was made by this module.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FieldError> {
        let n = self.len();
        serialise(
            &[
                NamedTensor::raw(
                    "embeddings",
                    Dtype::I8,
                    &[n, self.dimension],
                    self.codes.iter().map(|&code| code as u8).collect(),
                ),
                NamedTensor::f32("scales", &[n], &self.scales),
                NamedTensor::u32("offsets", &[n + 1], &self.offsets),
                NamedTensor::raw(
                    "captions",
                    Dtype::U8,
                    &[self.text.len()],
                    self.text.clone().into_bytes(),
                ),
            ],
            &[("text_embedding", self.text_embedding.clone())],
        )
    }

    /// Number of captions.
    pub fn len(&self) -> usize {
        self.scales.len()
    }

    /// Whether there is no caption.
    pub fn is_empty(&self) -> bool {
        self.scales.is_empty()
    }

    /// Length of an embedding.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Identity of the text embedding that made the rows.
    pub fn text_embedding(&self) -> &str {
        &self.text_embedding
    }

    /// The caption of a row; empty for a row that does not exist.
    pub fn caption(&self, row: usize) -> &str {
        match (self.offsets.get(row), self.offsets.get(row + 1)) {
            (Some(&from), Some(&to)) => &self.text[from as usize..to as usize],
            _ => "",
        }
    }

    /// The embedding of a row as floats.
    pub fn embedding(&self, row: usize) -> Vec<f32> {
        let scale = self.scales.get(row).copied().unwrap_or_default();
        self.codes(row)
            .iter()
            .map(|&code| f32::from(code) * scale)
            .collect()
    }

    fn codes(&self, row: usize) -> &[i8] {
        self.codes
            .get(row * self.dimension..(row + 1) * self.dimension)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Datastore {
        let rows = [
            ("Ein Hund läuft", [0.6f32, -0.8]),
            ("", [1.0, 0.0]),
            ("🐕", [0.0, 0.0]),
        ];
        Datastore::build(rows.iter().map(|(c, e)| (*c, e.as_slice())), 2, "text").unwrap()
    }

    #[test]
    fn keeps_captions_and_embeddings() {
        let store = Datastore::from_bytes(&example().to_bytes().unwrap()).unwrap();
        assert_eq!(store, example());
        assert_eq!(
            (store.len(), store.caption(0), store.caption(2)),
            (3, "Ein Hund läuft", "🐕")
        );
        assert_eq!(store.caption(9), "");
        let row = store.embedding(0);
        assert!((row[0] - 0.6).abs() < 0.004 && (row[1] + 0.8).abs() < 1e-6);
    }

    #[test]
    fn damage_is_an_error_or_another_datastore_but_never_a_panic() {
        let bytes = example().to_bytes().unwrap();
        for cut in 0..bytes.len() {
            assert!(
                Datastore::from_bytes(&bytes[..cut]).is_err(),
                "cut at {cut}"
            );
        }
        for at in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                if let Ok(store) = Datastore::from_bytes(&damaged) {
                    (0..store.len())
                        .for_each(|row| assert!(store.caption(row).len() <= damaged.len()));
                }
            }
        }
    }

    #[test]
    fn refuses_rows_of_another_length_and_infinities() {
        let error = Datastore::build([("x", [1.0f32].as_slice())], 2, "t").unwrap_err();
        assert_eq!(
            error.to_string(),
            "embedding: found shape [1], expected shape [2]"
        );
        assert!(Datastore::build([("x", [f32::INFINITY, 0.0].as_slice())], 2, "t").is_err());
    }
}
