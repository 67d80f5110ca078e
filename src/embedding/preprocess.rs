//! From RGB pixels of any size to the tower's input tensor.

use fast_image_resize::{
    CropBoxError, FilterType, PixelType, ResizeAlg, ResizeError, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};
use image::RgbImage;

use crate::pack::{Channels, ImageTowerSpec, Interpolation, Resize};

/// Why a frame can't be brought to the input size.
#[derive(Debug, thiserror::Error)]
pub enum PreprocessError {
    /// A picture without pixels.
    #[error("the picture has no pixels")]
    Empty,
    /// So long and thin that its shortest edge can't be brought to size in bounded memory.
    #[error(
        "the picture is {width} x {height}, too long and thin; expected at most {MOST_ASPECT} to 1"
    )]
    Thin {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
    },
    /// The resizer refused.
    #[error("resize: {0}")]
    Resize(String),
}

/// Longest side of a picture in shortest ones, where the shortest edge is brought to size: 16,384 x 1
/// pixels would become gigabytes before the crop.
const MOST_ASPECT: u32 = 100;

impl From<ResizeError> for PreprocessError {
    fn from(error: ResizeError) -> Self {
        Self::Resize(error.to_string())
    }
}

impl From<CropBoxError> for PreprocessError {
    fn from(error: CropBoxError) -> Self {
        Self::Resize(error.to_string())
    }
}

/// Crop, resize and normalise, with buffers that live from frame to frame.
pub struct Preprocessor {
    size: [usize; 2],
    resize: Resize,
    shortest_edge: usize,
    options: ResizeOptions,
    /// For each tensor channel: (source channel, scale, shift) with value = byte * scale + shift.
    channels: [(usize, f32, f32); 3],
    resizer: Resizer,
    resized: Image<'static>,
    tensor: Vec<f32>,
}

impl Preprocessor {
    /// Sets up for an image tower.
    pub fn new(spec: &ImageTowerSpec) -> Self {
        let filter = match spec.interpolation {
            Interpolation::Bilinear => FilterType::Bilinear,
            Interpolation::Bicubic => FilterType::CatmullRom,
            Interpolation::Lanczos => FilterType::Lanczos3,
        };
        let [height, width] = spec.size;
        let channel = |tensor_channel: usize| {
            let source = match spec.channels {
                Channels::Rgb => tensor_channel,
                Channels::Bgr => 2 - tensor_channel,
            };
            // (byte / 255 - mean) / std, folded into one multiply-add. Mean and deviation are given
            // in the order of the tensor's channels.
            let std = spec.std[tensor_channel];
            (
                source,
                1.0 / (255.0 * std),
                -spec.mean[tensor_channel] / std,
            )
        };
        Self {
            size: spec.size,
            resize: spec.resize,
            shortest_edge: spec.shortest_edge.unwrap_or(height.min(width)),
            options: ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)),
            channels: [channel(0), channel(1), channel(2)],
            resizer: Resizer::new(),
            resized: Image::new(1, 1, PixelType::U8x3),
            tensor: vec![0.0; 3 * height * width],
        }
    }

    /// Returns the input tensor, row-major `[1, 3, height, width]`.
    ///
    /// # Errors
    /// [`PreprocessError`] for a picture without pixels, or one that is too thin for its shortest edge to be
    /// brought to size.
    pub fn run(&mut self, picture: &RgbImage) -> Result<&[f32], PreprocessError> {
        let (width, height) = picture.dimensions();
        if width == 0 || height == 0 {
            return Err(PreprocessError::Empty);
        }
        if self.resize == Resize::ShortestEdge
            && width.max(height) / width.min(height) >= MOST_ASPECT
        {
            return Err(PreprocessError::Thin { width, height });
        }
        let source = ImageRef::new(width, height, picture.as_raw(), PixelType::U8x3)
            .map_err(|error| PreprocessError::Resize(error.to_string()))?;
        let [out_height, out_width] = self.size;
        let (full_width, full_height) = match self.resize {
            Resize::Stretch => (out_width, out_height),
            Resize::ShortestEdge => shortest_edge_size(width, height, self.shortest_edge),
        };
        if (
            self.resized.width() as usize,
            self.resized.height() as usize,
        ) != (full_width, full_height)
        {
            self.resized = Image::new(full_width as u32, full_height as u32, PixelType::U8x3);
        }
        self.resizer
            .resize(&source, &mut self.resized, &self.options)?;
        // torchvision's centre crop rounds half to even; sides differ by whole pixels only.
        let left = half_to_even(full_width.saturating_sub(out_width));
        let top = half_to_even(full_height.saturating_sub(out_height));
        let bytes = self.resized.buffer();
        let plane = out_height * out_width;
        for (index, (from, scale, shift)) in self.channels.iter().enumerate() {
            let target = &mut self.tensor[index * plane..(index + 1) * plane];
            for (y, row) in target.chunks_exact_mut(out_width).enumerate() {
                let start = ((top + y) * full_width + left) * 3;
                let pixels = bytes[start..start + out_width * 3].chunks_exact(3);
                for (value, pixel) in row.iter_mut().zip(pixels) {
                    *value = f32::from(pixel[*from]) * scale + shift;
                }
            }
        }
        Ok(&self.tensor)
    }

    /// The tensor of the last run (zeros before the first), `[1, 3, height, width]`.
    pub fn tensor(&self) -> &[f32] {
        &self.tensor
    }

    /// Height and width of the input.
    pub fn size(&self) -> [usize; 2] {
        self.size
    }
}

/// torchvision's rule: the short side becomes `edge`, the long side is cut to a whole number.
fn shortest_edge_size(width: u32, height: u32, edge: usize) -> (usize, usize) {
    let (w, h) = (width as usize, height as usize);
    if w <= h {
        (edge, edge * h / w)
    } else {
        (edge * w / h, edge)
    }
}

fn half_to_even(spare: usize) -> usize {
    let half = spare / 2;
    if spare % 2 == 1 && half % 2 == 1 {
        half + 1
    } else {
        half
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(resize: Resize, channels: Channels) -> ImageTowerSpec {
        ImageTowerSpec {
            file: String::new(),
            input: String::new(),
            output: String::new(),
            pooling: crate::pack::ImagePooling::None,
            dimension: 1,
            size: [4, 4],
            resize,
            shortest_edge: None,
            interpolation: Interpolation::Bilinear,
            mean: [0.5, 0.25, 0.0],
            std: [0.5, 1.0, 1.0],
            channels,
        }
    }

    #[test]
    fn normalises_each_channel_into_its_own_plane() {
        let picture = RgbImage::from_pixel(4, 4, image::Rgb([255, 0, 51]));
        let mut rgb = Preprocessor::new(&spec(Resize::Stretch, Channels::Rgb));
        let tensor = rgb.run(&picture).unwrap();
        assert!((tensor[0] - 1.0).abs() < 1e-6 && (tensor[16] + 0.25).abs() < 1e-6);
        assert!((tensor[32] - 0.2).abs() < 1e-6);
        let mut bgr = Preprocessor::new(&spec(Resize::Stretch, Channels::Bgr));
        assert!((bgr.run(&picture).unwrap()[0] - (0.2 - 0.5) / 0.5).abs() < 1e-6);
    }

    #[test]
    fn crops_the_centre_of_a_wide_picture() {
        // Left third black, middle third white, right third black: only white survives the crop.
        let picture = RgbImage::from_fn(12, 4, |x, _| {
            image::Rgb([if (4..8).contains(&x) { 255 } else { 0 }; 3])
        });
        let mut p = Preprocessor::new(&spec(Resize::ShortestEdge, Channels::Rgb));
        assert!(
            p.run(&picture).unwrap()[..16]
                .iter()
                .all(|v| (v - 1.0).abs() < 1e-6)
        );
    }

    #[test]
    fn one_pixel_wide_pictures_and_empty_ones() {
        for resize in [Resize::Stretch, Resize::ShortestEdge] {
            let mut p = Preprocessor::new(&spec(resize, Channels::Rgb));
            assert_eq!(p.run(&RgbImage::new(1, 3)).unwrap().len(), 48);
            assert!(matches!(
                p.run(&RgbImage::new(0, 3)),
                Err(PreprocessError::Empty)
            ));
            // As a crop a line needs its shortest edge brought to size: that has a limit.
            for (width, height) in [(16_384, 1), (1, 16_384)] {
                let line = p.run(&RgbImage::new(width, height));
                match resize {
                    Resize::Stretch => assert_eq!(line.unwrap().len(), 48),
                    Resize::ShortestEdge => {
                        assert!(matches!(line, Err(PreprocessError::Thin { .. })));
                    }
                }
            }
        }
    }
}
