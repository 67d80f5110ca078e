//! Everything a closed-form fit needs of the data: X'X, X'Y, sum x, sum y and n, in f64.
//!
//! The sums add up over shards, so a fit can be split over any number of machines and joined
//! exactly, and memory does not grow with n.

use ndarray::{Array1, Array2, ArrayView2, linalg::general_mat_mul};

use crate::tensor_file::{FieldError, NamedTensor, TensorFile, expect_shape, serialise};

/// Images that are collected before one matrix product adds them.
const BLOCK: usize = 256;

/// Sums over image-caption pairs: x is the image's embedding, y its caption's, both of length one.
#[derive(Debug, Clone)]
pub struct GramSums {
    xtx: Array2<f64>,
    xty: Array2<f64>,
    sum_x: Array1<f64>,
    sum_y: Array1<f64>,
    /// n: pairs that were added.
    pub pairs: u64,
    /// Identity of the image embedding.
    pub image_embedding: String,
    /// Identity of the text embedding.
    pub text_embedding: String,
    /// Rows sqrt(m) x of images that wait for the next product, m their number of captions.
    waiting_x: Vec<f64>,
    /// Rows (sum of the image's y) / sqrt(m), so that the product of the two is x (sum y)'.
    waiting_y: Vec<f64>,
}

impl GramSums {
    /// Sums of nothing.
    pub fn new(
        image_dimension: usize,
        text_dimension: usize,
        image_embedding: &str,
        text_embedding: &str,
    ) -> Self {
        Self {
            xtx: Array2::zeros((image_dimension, image_dimension)),
            xty: Array2::zeros((image_dimension, text_dimension)),
            sum_x: Array1::zeros(image_dimension),
            sum_y: Array1::zeros(text_dimension),
            pairs: 0,
            image_embedding: image_embedding.to_owned(),
            text_embedding: text_embedding.to_owned(),
            waiting_x: Vec::new(),
            waiting_y: Vec::new(),
        }
    }

    /// Adds one image with all its captions: as many pairs as captions. The m equal rows x cost as
    /// much as one: m xx' = (sqrt(m) x)(sqrt(m) x)'.
    ///
    /// # Errors
    /// [`FieldError`] when a length does not fit.
    pub fn add(&mut self, image: &[f32], captions: &[&[f32]]) -> Result<(), FieldError> {
        expect_shape("image embedding", &[image.len()], &[self.image_dimension()])?;
        for caption in captions {
            expect_shape(
                "caption embedding",
                &[caption.len()],
                &[self.text_dimension()],
            )?;
        }
        if captions.is_empty() {
            return Ok(());
        }
        let count = captions.len() as f64;
        let root = count.sqrt();
        self.waiting_x
            .extend(image.iter().map(|&v| f64::from(v) * root));
        let mut total = vec![0f64; self.text_dimension()];
        for caption in captions {
            total
                .iter_mut()
                .zip(*caption)
                .for_each(|(t, &v)| *t += f64::from(v));
        }
        self.sum_x
            .iter_mut()
            .zip(image)
            .for_each(|(s, &v)| *s += f64::from(v) * count);
        self.sum_y.iter_mut().zip(&total).for_each(|(s, v)| *s += v);
        self.waiting_y.extend(total.iter().map(|v| v / root));
        self.pairs += captions.len() as u64;
        if self.waiting_x.len() >= BLOCK * self.image_dimension() {
            self.flush()?;
        }
        Ok(())
    }

    /// Adds what waits. Called before the sums are read.
    fn flush(&mut self) -> Result<(), FieldError> {
        let rows = self.waiting_x.len() / self.image_dimension().max(1);
        let shape_error = |_| FieldError {
            field: "sums",
            found: "rows that do not fit".into(),
            expected: "whole rows".into(),
        };
        let x = ArrayView2::from_shape((rows, self.image_dimension()), &self.waiting_x)
            .map_err(shape_error)?;
        let y = ArrayView2::from_shape((rows, self.text_dimension()), &self.waiting_y)
            .map_err(shape_error)?;
        general_mat_mul(1.0, &x.t(), &x, 1.0, &mut self.xtx);
        general_mat_mul(1.0, &x.t(), &y, 1.0, &mut self.xty);
        self.waiting_x.clear();
        self.waiting_y.clear();
        Ok(())
    }

    /// Adds another shard's sums.
    ///
    /// # Errors
    /// [`FieldError`] when they are of other embeddings.
    pub fn merge(&mut self, mut other: Self) -> Result<(), FieldError> {
        let identities = [
            (
                "image_embedding",
                &other.image_embedding,
                &self.image_embedding,
            ),
            (
                "text_embedding",
                &other.text_embedding,
                &self.text_embedding,
            ),
        ];
        for (field, found, expected) in identities {
            if found != expected {
                return Err(FieldError {
                    field,
                    found: found.clone(),
                    expected: expected.clone(),
                });
            }
        }
        expect_shape("xty", other.xty.shape(), self.xty.shape())?;
        other.flush()?;
        self.flush()?;
        self.xtx += &other.xtx;
        self.xty += &other.xty;
        self.sum_x += &other.sum_x;
        self.sum_y += &other.sum_y;
        self.pairs += other.pairs;
        Ok(())
    }

    /// X'X of the centred rows, X'X - n mean_x mean_x', and X'Y likewise; row-major.
    ///
    /// # Errors
    /// Never for sums that were made by [`GramSums::add`].
    pub fn centred(&self) -> Result<(Array2<f64>, Array2<f64>), FieldError> {
        let mut whole = self.clone();
        whole.flush()?;
        let n = self.pairs.max(1) as f64;
        let column = |v: &Array1<f64>| v.clone().insert_axis(ndarray::Axis(1));
        let (x, y) = (column(&self.sum_x), column(&self.sum_y));
        general_mat_mul(-1.0 / n, &x, &x.t(), 1.0, &mut whole.xtx);
        general_mat_mul(-1.0 / n, &x, &y.t(), 1.0, &mut whole.xty);
        Ok((whole.xtx, whole.xty))
    }

    /// X'X and X'Y as they are, row-major.
    ///
    /// # Errors
    /// As [`GramSums::centred`].
    pub fn uncentred(&self) -> Result<(Array2<f64>, Array2<f64>), FieldError> {
        let mut whole = self.clone();
        whole.flush()?;
        Ok((whole.xtx, whole.xty))
    }

    /// Mean of the images' embeddings over the pairs.
    pub fn mean_image(&self) -> Vec<f64> {
        self.sum_x
            .iter()
            .map(|s| s / self.pairs.max(1) as f64)
            .collect()
    }

    /// Mean of the captions' embeddings over the pairs.
    pub fn mean_text(&self) -> Vec<f64> {
        self.sum_y
            .iter()
            .map(|s| s / self.pairs.max(1) as f64)
            .collect()
    }

    /// Length of an image embedding.
    pub fn image_dimension(&self) -> usize {
        self.sum_x.len()
    }

    /// Length of a text embedding.
    pub fn text_dimension(&self) -> usize {
        self.sum_y.len()
    }

    /// Reads a file of partial sums.
    ///
    /// # Errors
    /// [`FieldError`] for a damaged file or fields that do not fit together.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FieldError> {
        let file = TensorFile::parse(bytes)?;
        let (image, sum_x) = file.f64("sum_x", 1)?;
        let (text, sum_y) = file.f64("sum_y", 1)?;
        let (d1, d2) = (image[0], text[0]);
        let mut sums = Self::new(
            d1,
            d2,
            &file.text("image_embedding")?,
            &file.text("text_embedding")?,
        );
        let matrix =
            |name: &'static str, expected: [usize; 2]| -> Result<Array2<f64>, FieldError> {
                let (shape, values) = file.f64(name, 2)?;
                expect_shape(name, &shape, &expected)?;
                Array2::from_shape_vec((shape[0], shape[1]), values).map_err(|error| FieldError {
                    field: name,
                    found: error.to_string(),
                    expected: "a matrix".into(),
                })
            };
        sums.xtx = matrix("xtx", [d1, d1])?;
        sums.xty = matrix("xty", [d1, d2])?;
        sums.sum_x = sum_x.into();
        sums.sum_y = sum_y.into();
        sums.pairs = file.number("pairs")?;
        Ok(sums)
    }

    /// The bytes of a file of partial sums.
    ///
    /// # Errors
    /// Never for sums that were made by this module.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FieldError> {
        let mut whole = self.clone();
        whole.flush()?;
        let (d1, d2) = (self.image_dimension(), self.text_dimension());
        let values = |matrix: &Array2<f64>| matrix.iter().copied().collect::<Vec<_>>();
        serialise(
            &[
                NamedTensor::f64("xtx", &[d1, d1], &values(&whole.xtx)),
                NamedTensor::f64("xty", &[d1, d2], &values(&whole.xty)),
                NamedTensor::f64("sum_x", &[d1], &self.sum_x.to_vec()),
                NamedTensor::f64("sum_y", &[d2], &self.sum_y.to_vec()),
            ],
            &[
                ("pairs", self.pairs.to_string()),
                ("image_embedding", self.image_embedding.clone()),
                ("text_embedding", self.text_embedding.clone()),
            ],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_sums_written_out() {
        let mut sums = GramSums::new(2, 2, "i", "t");
        sums.add(&[1.0, 2.0], &[&[1.0, 0.0], &[0.0, 3.0]]).unwrap();
        sums.add(&[-1.0, 0.5], &[&[2.0, 2.0]]).unwrap();
        sums.add(&[9.0, 9.0], &[]).unwrap();
        assert_eq!(sums.pairs, 3);
        assert_eq!(sums.mean_image(), [1.0 / 3.0, 1.5]);
        assert_eq!(sums.mean_text(), [1.0, 5.0 / 3.0]);
        let rows = [
            ([1.0, 2.0], [1.0, 0.0]),
            ([1.0, 2.0], [0.0, 3.0]),
            ([-1.0, 0.5], [2.0, 2.0]),
        ];
        let (mx, my) = (sums.mean_image(), sums.mean_text());
        let (xtx, xty) = sums.centred().unwrap();
        for i in 0..2 {
            for j in 0..2 {
                let a: f64 = rows
                    .iter()
                    .map(|(x, _): &([f64; 2], [f64; 2])| (x[i] - mx[i]) * (x[j] - mx[j]))
                    .sum();
                let b: f64 = rows
                    .iter()
                    .map(|(x, y)| (x[i] - mx[i]) * (y[j] - my[j]))
                    .sum();
                assert!((xtx[[i, j]] - a).abs() < 1e-12 && (xty[[i, j]] - b).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn refuses_other_lengths_and_other_embeddings() {
        let mut sums = GramSums::new(2, 1, "i", "t");
        assert!(sums.add(&[1.0], &[&[1.0]]).is_err());
        assert!(sums.add(&[1.0, 2.0], &[&[1.0, 2.0]]).is_err());
        let error = sums.merge(GramSums::new(2, 1, "i", "other")).unwrap_err();
        assert_eq!(error.to_string(), "text_embedding: found other, expected t");
        let bytes = sums.to_bytes().unwrap();
        for cut in (0..bytes.len()).step_by(7) {
            assert!(GramSums::from_bytes(&bytes[..cut]).is_err());
        }
    }
}
