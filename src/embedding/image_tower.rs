//! The image tower: frame in, embedding out.

use image::RgbImage;

use super::{EmbeddingError, Preprocessor, mean_rows, normalise, shape_fits};
use crate::{
    engine::{Element, Engine, Input, InputSpec, Network, NetworkSpec, Output, Values, shape_text},
    pack::{ImagePooling, ImageTowerSpec, Pack, PackError},
};

/// What the image tower says of one frame.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageFeatures {
    /// The embedding, of length one.
    pub embedding: Vec<f32>,
    /// The tower's map of the frame itself averaged over a coarse grid, row-major `[cells, dimension]`,
    /// divided by the length of the pooled map (so that, where the cells tile the map evenly, their mean
    /// is the frame's own embedding, without further views). Empty when no grid was asked for.
    pub cells: Vec<f32>,
}

impl ImageFeatures {
    /// Of a clip, from those of its frames: the mean of the embeddings, scaled to length one, and the
    /// mean of the cells divided by the same length, so that their mean stays the embedding.
    ///
    /// # Errors
    /// [`EmbeddingError::Degenerate`] when there is no frame or the embeddings cancel out.
    pub fn mean(frames: &[Self]) -> Result<Self, EmbeddingError> {
        fn mean<'a>(rows: impl Iterator<Item = &'a Vec<f32>>, count: usize) -> Vec<f32> {
            let mut sum: Vec<f32> = Vec::new();
            for row in rows {
                sum.resize(row.len(), 0.0);
                sum.iter_mut().zip(row).for_each(|(s, v)| *s += v);
            }
            sum.iter_mut().for_each(|s| *s /= count as f32);
            sum
        }
        if let [alone] = frames {
            return Ok(alone.clone());
        }
        let mut embedding = mean(frames.iter().map(|f| &f.embedding), frames.len());
        let mut cells = mean(frames.iter().map(|f| &f.cells), frames.len());
        let length = normalise(&mut embedding)?;
        cells.iter_mut().for_each(|v| *v /= length);
        Ok(Self { embedding, cells })
    }
}

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
            outputs: vec![spec.output.clone()],
            activations: spec.activations,
        };
        let network = engine
            .load(&mut pack.reader(&spec.file)?, &network_spec)
            .map_err(|source| pack.network_error(&spec.file, source))?;
        let (one, d) = (Some(1), Some(spec.dimension));
        let expected: &[&[Option<usize>]] = match spec.pooling {
            ImagePooling::None => &[&[one, d]],
            ImagePooling::Cls => &[&[one, None, d]],
            ImagePooling::Average => &[&[one, None, d], &[one, d, None, None]],
        };
        if !shape_fits(&network.output_shape(0), expected) {
            let wanted: Vec<String> = expected.iter().map(|shape| shape_text(shape)).collect();
            return Err(pack.mismatch(
                &spec.file,
                &format!("output {:?}", spec.output),
                format!("shape {}", shape_text(&network.output_shape(0))),
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

    /// Brings a frame and its further views to the tower's input tensors, kept inside; returns that of the
    /// frame itself, `[1, 3, height, width]`.
    ///
    /// # Errors
    /// [`EmbeddingError::Preprocess`] for a picture without pixels.
    pub fn preprocess(&mut self, picture: &RgbImage) -> Result<&[f32], EmbeddingError> {
        Ok(self.preprocessor.run(picture)?)
    }

    /// Embeds a frame: a vector of `dimension` numbers with length one, the mean over the pack's views.
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
        Ok(self.features_preprocessed(None)?.embedding)
    }

    /// As [`ImageTower::embed`], with the frame's own embedding beside it, that of no view but itself:
    /// (frame's own, mean over the views). Where the former is known it is not embedded again.
    ///
    /// # Errors
    /// As [`ImageTower::embed`].
    pub fn embed_beside(
        &mut self,
        picture: &RgbImage,
        known: Option<Vec<f32>>,
    ) -> Result<(Vec<f32>, Vec<f32>), EmbeddingError> {
        self.preprocess(picture)?;
        let own = match known {
            Some(embedding) => ImageFeatures {
                embedding,
                cells: Vec::new(),
            },
            None => self.view(0, None)?,
        };
        let mean = self.mean_with_views(own.clone())?;
        Ok((own.embedding, mean.embedding))
    }

    /// As [`ImageTower::embed_preprocessed`], with the means over a grid of `[rows, columns]` cells.
    ///
    /// # Errors
    /// As [`ImageTower::embed`]; also when there is a grid and the output is no `[1, d, h, w]` map of
    /// at least as many rows and columns.
    pub fn features_preprocessed(
        &mut self,
        grid: Option<[usize; 2]>,
    ) -> Result<ImageFeatures, EmbeddingError> {
        let own = self.view(0, grid)?;
        self.mean_with_views(own)
    }

    /// From the frame's own features to those of all its views. The cells stay the frame's own: a crop's
    /// lie elsewhere.
    fn mean_with_views(&mut self, own: ImageFeatures) -> Result<ImageFeatures, EmbeddingError> {
        let cells = own.cells;
        let mut views = vec![ImageFeatures {
            embedding: own.embedding,
            cells: Vec::new(),
        }];
        for view in 1..self.preprocessor.view_count() {
            views.push(self.view(view, None)?);
        }
        let embedding = ImageFeatures::mean(&views)?.embedding;
        Ok(ImageFeatures { embedding, cells })
    }

    fn view(
        &mut self,
        view: usize,
        grid: Option<[usize; 2]>,
    ) -> Result<ImageFeatures, EmbeddingError> {
        let [height, width] = self.preprocessor.size();
        let shape = [1, 3, height, width];
        let values = Values::F32(self.preprocessor.tensor(view));
        let output = self.network.run_single(&[Input {
            values,
            shape: &shape,
        }])?;
        let mut embedding = pool(&output, self.spec.pooling, self.spec.dimension)?;
        let length = normalise(&mut embedding)?;
        let cells = match grid {
            Some(grid) => {
                let mut cells = average_cells(&output, self.spec.dimension, grid)?;
                cells.iter_mut().for_each(|v| *v /= length);
                cells
            }
            None => Vec::new(),
        };
        Ok(ImageFeatures { embedding, cells })
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

/// Means of a `[1, d, h, w]` map over a grid, row-major `[rows * columns, d]`. Cell (i, j) covers the
/// positions from floor(i h / rows) to ceil((i + 1) h / rows), as adaptive average pooling does.
fn average_cells(
    output: &Output,
    dimension: usize,
    [rows, columns]: [usize; 2],
) -> Result<Vec<f32>, EmbeddingError> {
    let (h, w) = match output.shape.as_slice() {
        [1, d, h, w] if *d == dimension && *h >= rows && *w >= columns => (*h, *w),
        _ => {
            return Err(EmbeddingError::Output {
                found: output.shape.clone(),
                expected: format!("[1, {dimension}, at least {rows}, at least {columns}]"),
            });
        }
    };
    let span =
        |index: usize, of: usize, size: usize| index * size / of..((index + 1) * size).div_ceil(of);
    let mut cells = vec![0f32; rows * columns * dimension];
    for (channel, map) in output.values.chunks_exact(h * w).enumerate() {
        for i in 0..rows {
            for j in 0..columns {
                let (down, across) = (span(i, rows, h), span(j, columns, w));
                let count = (down.len() * across.len()) as f32;
                let sum: f32 = down
                    .map(|y| map[y * w..][across.clone()].iter().sum::<f32>())
                    .sum();
                cells[(i * columns + j) * dimension + channel] = sum / count;
            }
        }
    }
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_means_over_the_map() {
        // Two channels of 3 x 2: the second is the first plus ten.
        let first = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0f32];
        let map = Output {
            values: first
                .iter()
                .copied()
                .chain(first.map(|v| v + 10.0))
                .collect(),
            shape: vec![1, 2, 3, 2],
        };
        let whole = average_cells(&map, 2, [1, 1]).unwrap();
        assert_eq!(whole, [3.5, 13.5]);
        let columns = average_cells(&map, 2, [1, 2]).unwrap();
        assert_eq!(columns, [3.0, 13.0, 4.0, 14.0]);
        // Three rows in two cells share the one in the middle.
        let rows = average_cells(&map, 2, [2, 1]).unwrap();
        assert_eq!(rows, [2.5, 12.5, 4.5, 14.5]);
        assert!(average_cells(&map, 2, [4, 1]).is_err());
    }

    #[test]
    fn a_clip_is_the_mean_of_its_frames() {
        let frame = |embedding: [f32; 2], cells: [f32; 4]| ImageFeatures {
            embedding: embedding.to_vec(),
            cells: cells.to_vec(),
        };
        // Two cells of two channels whose mean is the embedding.
        let frames = [
            frame([1.0, 0.0], [2.0, -1.0, 0.0, 1.0]),
            frame([0.0, 1.0], [0.0, 2.0, 0.0, 0.0]),
        ];
        let clip = ImageFeatures::mean(&frames).unwrap();
        let half = 0.5f32.sqrt();
        let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(close(&clip.embedding, &[half, half]));
        assert!(close(&clip.cells, &[2.0 * half, half, 0.0, half]));
        assert_eq!(ImageFeatures::mean(&frames[..1]).unwrap(), frames[0]);
        let opposite = [frames[0].clone(), frame([-1.0, 0.0], [0.0; 4])];
        assert!(ImageFeatures::mean(&opposite).is_err() && ImageFeatures::mean(&[]).is_err());
    }

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
