//! From RGB pixels of any size to the tower's input tensor.

use fast_image_resize::{
    CropBoxError, FilterType, ImageView as _, ResizeAlg, ResizeError, ResizeOptions, Resizer,
    images::{TypedImage, TypedImageRef},
    pixels::U8x3,
};
use image::RgbImage;

use super::views::{self, View};
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
    views: &'static [View],
    size: [usize; 2],
    resize: Resize,
    shortest_edge: usize,
    options: ResizeOptions,
    /// For each tensor channel: (source channel, scale, shift) with value = byte * scale + shift.
    channels: [(usize, f32, f32); 3],
    resizer: Resizer,
    resized: TypedImage<'static, U8x3>,
    /// One input tensor after another, in the order of the views.
    tensors: Vec<f32>,
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
        let views = views::of(spec.views);
        Self {
            views,
            size: spec.size,
            resize: spec.resize,
            shortest_edge: spec.shortest_edge.unwrap_or(height.min(width)),
            options: ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)),
            channels: [channel(0), channel(1), channel(2)],
            resizer: Resizer::new(),
            resized: TypedImage::new(1, 1),
            tensors: vec![0.0; views.len() * 3 * height * width],
        }
    }

    /// Makes the input tensors of all views and returns that of the frame itself, row-major
    /// `[1, 3, height, width]`.
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
        let [out_height, out_width] = self.size;
        let length = 3 * out_height * out_width;
        for (index, view) in self.views.iter().enumerate() {
            if *view == View::Mirror {
                let (before, after) = self.tensors.split_at_mut(index * length);
                let rows = before[..length].chunks_exact(out_width);
                for (target, row) in after.chunks_exact_mut(out_width).zip(rows) {
                    target
                        .iter_mut()
                        .zip(row.iter().rev())
                        .for_each(|(t, v)| *t = *v);
                }
            } else {
                self.bring_to_size(&view.part(picture))?;
                self.normalise(index);
            }
        }
        Ok(&self.tensors[..length])
    }

    /// Resizes into `resized`.
    fn bring_to_size(&mut self, picture: &RgbImage) -> Result<(), PreprocessError> {
        let (width, height) = picture.dimensions();
        let source = TypedImageRef::<U8x3>::from_buffer(width, height, picture.as_raw())
            .map_err(|error| PreprocessError::Resize(error.to_string()))?;
        let (full_width, full_height) = match self.resize {
            Resize::Stretch => (self.size[1], self.size[0]),
            Resize::ShortestEdge => shortest_edge_size(width, height, self.shortest_edge),
        };
        if (
            self.resized.width() as usize,
            self.resized.height() as usize,
        ) != (full_width, full_height)
        {
            self.resized = TypedImage::new(full_width as u32, full_height as u32);
        }
        // Typed: the other call brings the code for every kind of pixel along, four megabytes.
        self.resizer
            .resize_typed(&source, &mut self.resized, &self.options)?;
        Ok(())
    }

    /// Cuts the centre out of `resized` and puts it into a view's tensor.
    fn normalise(&mut self, view: usize) {
        let [out_height, out_width] = self.size;
        let full_width = self.resized.width() as usize;
        let full_height = self.resized.height() as usize;
        // torchvision's centre crop rounds half to even; sides differ by whole pixels only.
        let left = half_to_even(full_width.saturating_sub(out_width));
        let top = half_to_even(full_height.saturating_sub(out_height));
        let pixels = self.resized.pixels();
        let plane = out_height * out_width;
        let tensor = &mut self.tensors[view * 3 * plane..(view + 1) * 3 * plane];
        for (index, (from, scale, shift)) in self.channels.iter().enumerate() {
            let target = &mut tensor[index * plane..(index + 1) * plane];
            for (y, row) in target.chunks_exact_mut(out_width).enumerate() {
                let start = (top + y) * full_width + left;
                let pixels = &pixels[start..start + out_width];
                for (value, pixel) in row.iter_mut().zip(pixels) {
                    *value = f32::from(pixel.0[*from]) * scale + shift;
                }
            }
        }
    }

    /// A view's tensor of the last run (zeros before the first), `[1, 3, height, width]`.
    ///
    /// # Panics
    /// When there is no such view.
    pub fn tensor(&self, view: usize) -> &[f32] {
        let length = 3 * self.size[0] * self.size[1];
        &self.tensors[view * length..(view + 1) * length]
    }

    /// Number of views of a frame; the first is the frame itself.
    pub fn view_count(&self) -> usize {
        self.views.len()
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
    use crate::{engine::Activations, pack::Views};

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
            views: Views::One,
            activations: Activations::F32,
        }
    }

    fn with_views(resize: Resize, views: Views) -> Preprocessor {
        Preprocessor::new(&ImageTowerSpec {
            views,
            ..spec(resize, Channels::Rgb)
        })
    }

    /// A picture without any symmetry.
    fn slope(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            image::Rgb([(x * 9) as u8, (y * 11) as u8, (x * y) as u8])
        })
    }

    #[test]
    fn the_mirror_image_is_the_frame_from_right_to_left() {
        let picture = slope(13, 9);
        for resize in [Resize::Stretch, Resize::ShortestEdge] {
            let mut p = with_views(resize, Views::Mirrored);
            let frame = p.run(&picture).unwrap().to_vec();
            assert_eq!((p.view_count(), p.tensor(0)), (2, frame.as_slice()));
            for (row, mirrored) in frame.chunks(4).zip(p.tensor(1).chunks(4)) {
                assert!(row.iter().rev().eq(mirrored));
            }
            assert_ne!(p.tensor(0), p.tensor(1));
            // With the channels and rows where they were.
            let alone = with_views(resize, Views::One)
                .run(&picture)
                .unwrap()
                .to_vec();
            assert_eq!(alone, frame);
        }
    }

    #[test]
    fn a_crop_becomes_what_a_frame_of_its_pixels_becomes() {
        let picture = slope(20, 12);
        for resize in [Resize::Stretch, Resize::ShortestEdge] {
            let mut p = with_views(resize, Views::Crops);
            p.run(&picture).unwrap();
            assert_eq!(p.view_count(), 5);
            let corners = [(0, 0), (5, 0), (0, 3), (5, 3)];
            for (view, (x, y)) in (1..).zip(corners) {
                let part = image::imageops::crop_imm(&picture, x, y, 15, 9).to_image();
                let mut one = with_views(resize, Views::One);
                assert_eq!(one.run(&part).unwrap(), p.tensor(view), "{x}, {y}");
            }
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
