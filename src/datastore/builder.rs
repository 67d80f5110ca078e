//! Making a datastore row by row.

use safetensors::Dtype;

use super::{Datastore, FileBytes};
use crate::tensor_file::{FieldError, NamedTensor, expect_shape, serialise};

/// Collects rows for a datastore file.
#[derive(Debug)]
pub struct Builder {
    text: Vec<u8>,
    /// Caption i is `text[offsets[i]..offsets[i + 1]]`.
    offsets: Vec<u32>,
    /// Row-major `[captions, dimension]`, i8.
    codes: Vec<u8>,
    scales: Vec<f32>,
    dimension: usize,
    text_embedding: String,
}

impl Builder {
    /// No row yet. `text_embedding` is the identity of what makes the embeddings.
    pub fn new(dimension: usize, text_embedding: &str) -> Self {
        Self {
            text: Vec::new(),
            offsets: vec![0],
            codes: Vec::new(),
            scales: Vec::new(),
            dimension,
            text_embedding: text_embedding.to_owned(),
        }
    }

    /// Adds a caption with its embedding of length one, quantised to int8 with one scale.
    ///
    /// # Errors
    /// [`FieldError`] when the embedding has not `dimension` finite numbers, or the captions are
    /// more than 4 GiB.
    pub fn push(&mut self, caption: &str, embedding: &[f32]) -> Result<(), FieldError> {
        expect_shape("embedding", &[embedding.len()], &[self.dimension])?;
        // `max` passes over not-a-number, the sum does not.
        let peak = embedding.iter().fold(0f32, |peak, v| peak.max(v.abs()));
        if !embedding.iter().sum::<f32>().is_finite() || !peak.is_finite() {
            let found = format!("infinite or not-a-number values for {caption:?}");
            return Err(FieldError {
                field: "embedding",
                found,
                expected: "finite numbers".into(),
            });
        }
        let scale = if peak > 0.0 { peak / 127.0 } else { 1.0 };
        // The cast saturates and the quotient is within 127 anyway.
        let codes = embedding.iter().map(|v| (v / scale).round() as i8 as u8);
        self.codes.extend(codes);
        self.finish_row(caption, scale)
    }

    /// Adds a row of another datastore as it is, without rounding a second time.
    ///
    /// # Errors
    /// [`FieldError`] when the other's dimension differs or the captions are more than 4 GiB.
    pub fn copy(&mut self, from: &Datastore, row: usize) -> Result<(), FieldError> {
        expect_shape("embeddings", &[from.dimension()], &[self.dimension])?;
        self.codes.extend_from_slice(from.codes(row));
        self.finish_row(from.caption(row), from.scale(row))
    }

    fn finish_row(&mut self, caption: &str, scale: f32) -> Result<(), FieldError> {
        self.scales.push(scale);
        self.text.extend_from_slice(caption.as_bytes());
        let end = u32::try_from(self.text.len()).map_err(|_| FieldError {
            field: "captions",
            found: "more than 4 GiB of text".into(),
            expected: "less; split the datastore".into(),
        })?;
        self.offsets.push(end);
        Ok(())
    }

    /// The datastore.
    ///
    /// # Errors
    /// [`FieldError`] for a dimension of 0.
    pub fn finish(self) -> Result<Datastore, FieldError> {
        let n = self.scales.len();
        let bytes = serialise(
            &[
                NamedTensor::raw("embeddings", Dtype::I8, &[n, self.dimension], self.codes),
                NamedTensor::f32("scales", &[n], &self.scales),
                NamedTensor::u32("offsets", &[n + 1], &self.offsets),
                NamedTensor::raw("captions", Dtype::U8, &[self.text.len()], self.text),
            ],
            &[("text_embedding", self.text_embedding)],
        )?;
        Datastore::from_file(FileBytes::Owned(bytes))
    }
}
