//! From pixels or words to an embedding of length one.

mod image_tower;
mod preprocess;
mod text_tower;
mod views;

pub use image_tower::{ImageFeatures, ImageTower};
pub use preprocess::{PreprocessError, Preprocessor};
pub use text_tower::TextTower;

use crate::engine::EngineError;

/// Why a frame or a caption has no embedding.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddingError {
    /// The frame can't be brought to the input size.
    #[error(transparent)]
    Preprocess(#[from] PreprocessError),
    /// The network failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The tokenizer failed.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The output's shape is not what the pooling needs.
    #[error("output: found shape {found:?}, expected {expected}")]
    Output {
        /// The shape of the output.
        found: Vec<usize>,
        /// The shape that the pooling and the dimension ask for.
        expected: String,
    },
    /// The network gave infinities, not-a-numbers or all zeros.
    #[error("the embedding is {0}; the model file or the machine's arithmetic is at fault")]
    Degenerate(&'static str),
}

/// Scales a vector to length one and returns the length that it had.
///
/// # Errors
/// [`EmbeddingError::Degenerate`] when it has no finite, positive length.
pub(crate) fn normalise(vector: &mut [f32]) -> Result<f32, EmbeddingError> {
    let square: f32 = vector.iter().map(|v| v * v).sum();
    if !square.is_finite() {
        return Err(EmbeddingError::Degenerate("not finite"));
    }
    if square <= 0.0 {
        return Err(EmbeddingError::Degenerate("all zeros"));
    }
    let length = square.sqrt();
    let scale = length.recip();
    vector.iter_mut().for_each(|v| *v *= scale);
    Ok(length)
}

/// Whether a declared output shape can be one of `expected`; an unknown dimension (`None`) on
/// either side fits anything.
pub(crate) fn shape_fits(found: &[Option<usize>], expected: &[&[Option<usize>]]) -> bool {
    expected.iter().any(|shape| {
        shape.len() == found.len()
            && shape
                .iter()
                .zip(found)
                .all(|(e, f)| e.is_none() || f.is_none() || e == f)
    })
}

/// Mean over the middle axis of row-major `[1, rows, width]`, for the rows that `keep` admits.
fn mean_rows(values: &[f32], width: usize, keep: impl Fn(usize) -> bool) -> Vec<f32> {
    let mut sum = vec![0f32; width];
    let mut count = 0f32;
    for (index, row) in values.chunks_exact(width).enumerate() {
        if keep(index) {
            sum.iter_mut().zip(row).for_each(|(s, v)| *s += v);
            count += 1.0;
        }
    }
    sum.iter_mut().for_each(|s| *s /= count.max(1.0));
    sum
}
