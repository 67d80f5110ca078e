//! The image tower: frame in, embedding out.

use image::RgbImage;

use super::{EmbeddingError, Preprocessor, mean_rows, normalise, shape_fits};
use crate::{
    engine::{Element, Engine, Input, InputSpec, Network, NetworkSpec, Output, Values, shape_text},
    pack::{ImagePooling, ImageTowerSpec, Pack, PackError},
};

/// Network and preprocessing of a pack's image tower.
pub struct ImageTower {
    spec: ImageTowerSpec,
    preprocessor: Preprocessor,
    network: Box<dyn Network>,
}

impl ImageTower {
    pub(crate) fn load(pack: &Pack, engine: &dyn Engine) -> Result<Self, PackError> {
        let spec = pack.manifest.image_tower.clone();
        let [height, width] = spec.size;
        let network_spec = NetworkSpec {
            inputs: vec![InputSpec {
                name: spec.input.clone(),
                element: Element::F32,
                shape: vec![Some(1), Some(3), Some(height), Some(width)],
            }],
            output: spec.output.clone(),
        };
        let network = engine
            .load(&pack.bytes(&spec.file)?, &network_spec)
            .map_err(|source| pack.network_error(&spec.file, source))?;
        let (one, d) = (Some(1), Some(spec.dimension));
        let expected: &[&[Option<usize>]] = match spec.pooling {
            ImagePooling::None => &[&[one, d]],
            ImagePooling::Cls => &[&[one, None, d]],
            ImagePooling::Average => &[&[one, None, d], &[one, d, None, None]],
        };
        if !shape_fits(&network.output_shape(), expected) {
            let wanted: Vec<String> = expected.iter().map(|shape| shape_text(shape)).collect();
            return Err(pack.mismatch(
                &spec.file,
                &format!("output {:?}", spec.output),
                format!("shape {}", shape_text(&network.output_shape())),
                format!("shape {}", wanted.join(" or ")),
                "mend image_tower.output, pooling or dimension in pack.toml",
            ));
        }
        Ok(Self {
            preprocessor: Preprocessor::new(&spec),
            spec,
            network,
        })
    }

    /// Brings a frame to the tower's input tensor, `[1, 3, height, width]`, kept inside.
    ///
    /// # Errors
    /// [`EmbeddingError::Preprocess`] for a picture without pixels.
    pub fn preprocess(&mut self, picture: &RgbImage) -> Result<&[f32], EmbeddingError> {
        Ok(self.preprocessor.run(picture)?)
    }

    /// Embeds a frame: a vector of `dimension` numbers with length one.
    ///
    /// # Errors
    /// [`EmbeddingError`] when the picture is empty, the network fails, or its output does not
    /// have the shape that the pack promises.
    pub fn embed(&mut self, picture: &RgbImage) -> Result<Vec<f32>, EmbeddingError> {
        self.preprocess(picture)?;
        self.embed_preprocessed()
    }

    /// The second half of [`ImageTower::embed`], on the tensor of the last
    /// [`ImageTower::preprocess`] (so that the two can be timed apart).
    ///
    /// # Errors
    /// As [`ImageTower::embed`].
    pub fn embed_preprocessed(&mut self) -> Result<Vec<f32>, EmbeddingError> {
        let [height, width] = self.preprocessor.size();
        let shape = [1, 3, height, width];
        let values = Values::F32(self.preprocessor.tensor());
        let output = self.network.run(&[Input {
            values,
            shape: &shape,
        }])?;
        let mut embedding = pool(&output, self.spec.pooling, self.spec.dimension)?;
        normalise(&mut embedding)?;
        Ok(embedding)
    }

    /// Another tower over the same weights, for another thread.
    ///
    /// # Errors
    /// When the engine can't set up its working memory.
    pub fn fork(&self) -> Result<Self, EmbeddingError> {
        Ok(Self {
            spec: self.spec.clone(),
            preprocessor: Preprocessor::new(&self.spec),
            network: self.network.fork()?,
        })
    }

    /// Length of the embedding.
    pub fn dimension(&self) -> usize {
        self.spec.dimension
    }
}

fn pool(
    output: &Output,
    pooling: ImagePooling,
    dimension: usize,
) -> Result<Vec<f32>, EmbeddingError> {
    let values = &output.values;
    match (pooling, output.shape.as_slice()) {
        (ImagePooling::None, [1, d]) if *d == dimension => Ok(values.clone()),
        (ImagePooling::Cls, [1, tokens, d]) if *d == dimension && *tokens > 0 => {
            Ok(values[..dimension].to_vec())
        }
        (ImagePooling::Average, [1, tokens, d]) if *d == dimension && *tokens > 0 => {
            Ok(mean_rows(values, dimension, |_| true))
        }
        (ImagePooling::Average, [1, d, h, w]) if *d == dimension && h * w > 0 => {
            let positions = h * w;
            Ok(values
                .chunks_exact(positions)
                .map(|map| map.iter().sum::<f32>() / positions as f32)
                .collect())
        }
        _ => Err(EmbeddingError::Output {
            found: output.shape.clone(),
            expected: match pooling {
                ImagePooling::None => format!("[1, {dimension}]"),
                ImagePooling::Cls => format!("[1, tokens, {dimension}]"),
                ImagePooling::Average => {
                    format!("[1, tokens, {dimension}] or [1, {dimension}, h, w]")
                }
            },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_as_the_pack_says() {
        let tokens = Output {
            values: vec![1.0, 2.0, 3.0, 6.0],
            shape: vec![1, 2, 2],
        };
        assert_eq!(pool(&tokens, ImagePooling::Cls, 2).unwrap(), [1.0, 2.0]);
        assert_eq!(pool(&tokens, ImagePooling::Average, 2).unwrap(), [2.0, 4.0]);
        let map = Output {
            values: vec![1.0, 2.0, 3.0, 6.0],
            shape: vec![1, 2, 1, 2],
        };
        assert_eq!(pool(&map, ImagePooling::Average, 2).unwrap(), [1.5, 4.5]);
        let error = pool(&map, ImagePooling::None, 2).unwrap_err().to_string();
        assert_eq!(error, "output: found shape [1, 2, 1, 2], expected [1, 2]");
    }
}
