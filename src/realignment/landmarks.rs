//! Similarities to landmarks: what a kernel realignment reads in place of the embedding itself.
//!
//! k_j(x) = exp(-gamma |x - c_j|^2) for landmarks c_j among the training images. A linear map of these
//! is kernel ridge regression in Nyström's approximation (Williams and Seeger 2001): still in closed
//! form, and it can say "like these beaches, unlike those pools" where one matrix on x can't.

use safetensors::Dtype;

use crate::tensor_file::{FieldError, NamedTensor, TensorFile, expect_shape};

/// Landmarks in int8 and the kernel's width.
#[derive(Debug, Clone, PartialEq)]
pub struct Landmarks {
    /// Row-major `[landmarks, dimension]`.
    codes: Vec<i8>,
    /// Row j is `scales[j] * codes[j]`.
    scales: Vec<f32>,
    /// |c_j|^2 of the quantised rows.
    squares: Vec<f32>,
    dimension: usize,
    gamma: f64,
}

impl Landmarks {
    /// Quantises rows `[landmarks, dimension]` to int8 with a scale each. Whoever fits on them gets the
    /// quantised ones, so that nothing changes when they come back from a file.
    ///
    /// # Errors
    /// [`FieldError`] when the rows do not fit the dimension or gamma is no positive number.
    pub fn new(rows: &[f32], dimension: usize, gamma: f64) -> Result<Self, FieldError> {
        let mut codes = Vec::with_capacity(rows.len());
        let mut scales = Vec::new();
        for row in rows.chunks_exact(dimension.max(1)) {
            let most = row.iter().fold(0f32, |most, v| most.max(v.abs()));
            let scale = if most > 0.0 { most / 127.0 } else { 1.0 };
            codes.extend(row.iter().map(|v| (v / scale).round() as i8));
            scales.push(scale);
        }
        Self::from_parts(codes, scales, dimension, gamma)
    }

    fn from_parts(
        codes: Vec<i8>,
        scales: Vec<f32>,
        dimension: usize,
        gamma: f64,
    ) -> Result<Self, FieldError> {
        expect_shape("landmarks", &[codes.len()], &[scales.len() * dimension])?;
        if dimension == 0 {
            return Err(FieldError {
                field: "landmarks",
                found: format!("shape [{}, 0]", scales.len()),
                expected: "at least one number in a row".into(),
            });
        }
        if !(gamma.is_finite() && gamma > 0.0) || scales.is_empty() {
            return Err(FieldError {
                field: "gamma",
                found: format!("{gamma} for {} landmarks", scales.len()),
                expected: "a positive number, and at least one landmark".into(),
            });
        }
        let squares = codes
            .chunks_exact(dimension)
            .zip(&scales)
            .map(|(row, scale)| {
                row.iter()
                    .map(|&c| (f32::from(c) * scale).powi(2))
                    .sum::<f32>()
            })
            .collect();
        Ok(Self {
            codes,
            scales,
            squares,
            dimension,
            gamma,
        })
    }

    /// Reads the landmarks of a realignment file.
    ///
    /// # Errors
    /// [`FieldError`] for a missing field or shapes that do not fit together.
    pub fn from_file(file: &TensorFile<'_>) -> Result<Self, FieldError> {
        let (shape, bytes) = file.raw("landmarks", Dtype::I8, 2)?;
        let (count, scales) = file.f32("landmark_scales", 1)?;
        expect_shape("landmark_scales", &count, &shape[..1])?;
        let codes = bytes.iter().map(|&b| b as i8).collect();
        Self::from_parts(codes, scales, shape[1], file.number("gamma")?)
    }

    /// The tensors of a realignment file.
    pub fn tensors(&self) -> [NamedTensor; 2] {
        let bytes = self.codes.iter().map(|&c| c as u8).collect();
        let shape = [self.len(), self.dimension];
        [
            NamedTensor::raw("landmarks", Dtype::I8, &shape, bytes),
            NamedTensor::f32("landmark_scales", &[self.len()], &self.scales),
        ]
    }

    /// k_j(x) for every landmark, x an image embedding.
    pub fn similarities(&self, embedding: &[f32]) -> Vec<f32> {
        let square: f32 = embedding.iter().map(|v| v * v).sum();
        let gamma = self.gamma as f32;
        self.codes
            .chunks_exact(self.dimension)
            .zip(self.scales.iter().zip(&self.squares))
            .map(|(row, (scale, norm))| {
                let dot: f32 = row
                    .iter()
                    .zip(embedding)
                    .map(|(&c, v)| f32::from(c) * v)
                    .sum();
                (-gamma * (square + norm - 2.0 * scale * dot).max(0.0)).exp()
            })
            .collect()
    }

    /// k_i(c_j), row-major `[landmarks, landmarks]`: the kernel ridge's penalty.
    pub fn gram(&self) -> Vec<f64> {
        let rows: Vec<Vec<f32>> = self
            .codes
            .chunks_exact(self.dimension)
            .zip(&self.scales)
            .map(|(row, scale)| row.iter().map(|&c| f32::from(c) * scale).collect())
            .collect();
        rows.iter()
            .flat_map(|row| self.similarities(row))
            .map(f64::from)
            .collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.scales.len()
    }

    /// Never: landmarks are at least one.
    pub fn is_empty(&self) -> bool {
        self.scales.is_empty()
    }

    /// Length of an image embedding.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// The kernel's width, in 1 / squared distance.
    pub fn gamma(&self) -> f64 {
        self.gamma
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_landmark_is_like_itself_and_less_like_what_is_far() {
        let landmarks = Landmarks::new(&[1.0, 0.0, 0.0, 1.0], 2, 0.5).unwrap();
        let found = landmarks.similarities(&[1.0, 0.0]);
        // |x - c|^2 is 0 and 2.
        assert!((found[0] - 1.0).abs() < 1e-3 && (found[1] - (-1f32).exp()).abs() < 1e-3);
        let gram = landmarks.gram();
        assert!((gram[0] - 1.0).abs() < 1e-6 && (gram[1] - gram[2]).abs() < 1e-6);
        assert_eq!((landmarks.len(), landmarks.dimension()), (2, 2));
    }

    #[test]
    fn bad_parts_are_refused() {
        assert!(Landmarks::new(&[1.0, 0.0, 0.0], 2, f64::NAN).is_err());
        assert!(Landmarks::new(&[], 2, 1.0).is_err());
        assert!(Landmarks::new(&[1.0, 0.0], 2, 0.0).is_err());
        // Rows without a number: nothing to cut them into.
        assert!(Landmarks::from_parts(Vec::new(), vec![1.0, 1.0], 0, 1.0).is_err());
    }
}
