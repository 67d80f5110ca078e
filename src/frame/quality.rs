//! Whether a frame can be captioned at all: light, contrast, sharpness.
//!
//! Everything is measured on a small grey version of the frame ([`LONG_SIDE`] pixels on its long
//! side), so the numbers don't depend on the camera's resolution, and sensor noise is averaged away
//! in part. A frame from a hall without light, a window that blinds the camera, a lens out of
//! focus or under a finger still gets a fluent caption from any model, and that caption is made up.
//! The limits below and what they let through are measured in docs/benchmarks.md.

use fast_image_resize::{
    FilterType, ImageView as _, ResizeAlg, ResizeOptions, Resizer,
    images::{TypedImage, TypedImageRef},
    pixels::U8x3,
};
use image::RgbImage;
use serde::Serialize;

/// Long side of the grey version, in pixels. Smaller frames stay as they are.
pub const LONG_SIDE: u32 = 160;

/// Above this share of [`FrameQuality::clipped_bright`] a frame is blown out.
pub const MOST_CLIPPED_BRIGHT: f32 = 0.5;
/// Below this [`FrameQuality::highlights`] a frame is too dark.
pub const LEAST_HIGHLIGHTS: f32 = 0.15;
/// Below this [`FrameQuality::highlights`] there is so little light that noise and things can't be
/// told apart: too dark, whatever the other numbers say.
pub const LEAST_LIGHT: f32 = 0.06;
/// Below this [`FrameQuality::detail`] a frame shows nothing.
pub const LEAST_DETAIL: f32 = 0.1;
/// Below this [`FrameQuality::sharpness`] a frame is blurred.
pub const LEAST_SHARPNESS: f32 = 0.6;

/// What a frame is like, apart from what it shows. Grey values are those of the file (with its
/// gamma), from 0 (black) to 1 (white).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct FrameQuality {
    /// Mean of the grey values.
    pub brightness: f32,
    /// Standard deviation of the grey values.
    pub contrast: f32,
    /// The grey value that 95 % of the pixels don't exceed: unlike the mean it stays high in a
    /// night scene with lamps.
    pub highlights: f32,
    /// Share of pixels at 5/255 and below, in [0, 1].
    pub clipped_dark: f32,
    /// Share of pixels at 250/255 and above, in [0, 1].
    pub clipped_bright: f32,
    /// Change of the slope against the slope, along the direction in which the frame is least
    /// sharp, per pixel of the grey version: the root of sum (g(p+u) - 2 g(p) + g(p-u))^2 over
    /// sum ((g(p+u) - g(p-u)) / 2)^2, least of four directions u and of two scales.
    ///
    /// Around 1.4 for photographs; across an edge under a Gaussian blur of s pixels 1 / (s sqrt 2). The
    /// numerator is the energy of the Laplacian, the usual measure of focus (Pech-Pacheco et al.,
    /// ICPR 2000), but of one direction at a time, since motion blurs only one. The denominator
    /// makes it independent of contrast, and of how many edges there are.
    pub sharpness: f32,
    /// The 99th percentile of the slope at a quarter of the size, a pixel there, over
    /// `brightness`: how strong the strongest coarse edges are. A covered lens has none.
    pub detail: f32,
}

/// Why a frame is not worth a caption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flaw {
    /// Too little light.
    Dark,
    /// Half of it is white.
    BlownOut,
    /// Out of focus, or moved.
    Blurred,
    /// Nothing but a plain surface: a finger or cloth on the lens, or a wall before it.
    Covered,
}

/// A frame that can't be measured.
#[derive(Debug, thiserror::Error)]
pub enum QualityError {
    /// A picture without pixels.
    #[error("the picture has no pixels")]
    Empty,
    /// The resizer refused.
    #[error("resize: {0}")]
    Resize(String),
}

impl FrameQuality {
    /// Measures a frame.
    ///
    /// # Errors
    /// [`QualityError`] for a picture without pixels.
    pub fn measure(picture: &RgbImage) -> Result<Self, QualityError> {
        let fine = Grey::of(picture)?;
        let count = fine.values.len() as f32;
        let brightness = fine.values.iter().sum::<f32>() / count;
        let square = |value: &f32| (value - brightness) * (value - brightness);
        let contrast = (fine.values.iter().map(square).sum::<f32>() / count).sqrt();
        let share = |of: &dyn Fn(f32) -> bool| {
            fine.values.iter().filter(|value| of(**value)).count() as f32 / count
        };
        let clipped_dark = share(&|value| value <= 5.0 / 255.0);
        let clipped_bright = share(&|value| value >= 250.0 / 255.0);
        let half = fine.halved();
        // Noise hides a strong blur at the full scale and is averaged away at half of it.
        let sharpness = match (fine.sharpness(), half.sharpness()) {
            (Some(fine), Some(half)) => fine.min(half),
            (one, other) => one.or(other).unwrap_or(0.0),
        };
        let mut coarse = half;
        while coarse.width.max(coarse.height) > LONG_SIDE as usize / 4 {
            coarse = coarse.halved();
        }
        Ok(Self {
            brightness,
            contrast,
            highlights: percentile(&mut fine.values.clone(), 0.95),
            clipped_dark,
            clipped_bright,
            sharpness,
            // A black frame's noise is not detail: below one step of 8 bits nothing is.
            detail: percentile(&mut coarse.slopes(), 0.99) / brightness.max(1.0 / 255.0),
        })
    }

    /// What is wrong with the frame, if anything is.
    pub fn flaw(&self) -> Option<Flaw> {
        if self.clipped_bright > MOST_CLIPPED_BRIGHT {
            Some(Flaw::BlownOut)
        } else if self.highlights < LEAST_LIGHT {
            Some(Flaw::Dark)
        } else if self.detail < LEAST_DETAIL {
            Some(Flaw::Covered)
        } else if self.highlights < LEAST_HIGHLIGHTS {
            Some(Flaw::Dark)
        } else if self.sharpness < LEAST_SHARPNESS {
            Some(Flaw::Blurred)
        } else {
            None
        }
    }

    /// Whether every number is one: JSON would silently say `null`.
    pub fn is_finite(&self) -> bool {
        [
            self.brightness,
            self.contrast,
            self.highlights,
            self.clipped_dark,
            self.clipped_bright,
            self.sharpness,
            self.detail,
        ]
        .iter()
        .all(|value| value.is_finite())
    }
}

/// A grey picture, row-major, values in [0, 1]. Neither side is 0.
struct Grey {
    width: usize,
    height: usize,
    values: Vec<f32>,
}

impl Grey {
    /// The small grey version of a frame (BT.601 luma).
    fn of(picture: &RgbImage) -> Result<Self, QualityError> {
        let (width, height) = picture.dimensions();
        if width == 0 || height == 0 {
            return Err(QualityError::Empty);
        }
        let luma = |rgb: &[u8]| {
            let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(f32::from);
            (0.299 * r + 0.587 * g + 0.114 * b) / 255.0
        };
        let long = width.max(height);
        if long <= LONG_SIDE {
            return Ok(Self {
                width: width as usize,
                height: height as usize,
                values: picture.as_raw().chunks_exact(3).map(luma).collect(),
            });
        }
        let scaled = |side: u32| {
            (f64::from(side) * f64::from(LONG_SIDE) / f64::from(long))
                .round()
                .max(1.0) as u32
        };
        let fail = |error: &dyn std::fmt::Display| QualityError::Resize(error.to_string());
        let source = TypedImageRef::<U8x3>::from_buffer(width, height, picture.as_raw())
            .map_err(|error| fail(&error))?;
        let mut small = TypedImage::<U8x3>::new(scaled(width), scaled(height));
        // Of a large frame only so many pixels are read: 16 for one are enough against noise.
        let options = ResizeOptions::new().resize_alg(ResizeAlg::SuperSampling(FilterType::Box, 4));
        Resizer::new()
            .resize_typed(&source, &mut small, &options)
            .map_err(|error| fail(&error))?;
        Ok(Self {
            width: small.width() as usize,
            height: small.height() as usize,
            values: small.pixels().iter().map(|pixel| luma(&pixel.0)).collect(),
        })
    }

    fn row(&self, y: usize) -> &[f32] {
        &self.values[y * self.width..(y + 1) * self.width]
    }

    /// Half as long and high, each pixel the mean of four; the last row or column of an odd
    /// number is dropped.
    fn halved(&self) -> Self {
        let (width, height) = ((self.width / 2).max(1), (self.height / 2).max(1));
        let mut values = Vec::with_capacity(width * height);
        for y in 0..height {
            let upper = self.row(2 * y);
            let lower = self.row((2 * y + 1).min(self.height - 1));
            values.extend((0..width).map(|x| {
                let (left, right) = (2 * x, (2 * x + 1).min(self.width - 1));
                (upper[left] + upper[right] + lower[left] + lower[right]) / 4.0
            }));
        }
        Self {
            width,
            height,
            values,
        }
    }

    /// See [`FrameQuality::sharpness`]; none where nothing changes in any direction.
    fn sharpness(&self) -> Option<f32> {
        // Step to the next pixel: x, y (a diagonal's is longer by sqrt 2).
        let directions = [(1, 0), (0, 1), (1, 1), (1, -1)];
        directions
            .iter()
            .filter_map(|&(dx, dy)| self.sharpness_along(dx, dy))
            .reduce(f32::min)
    }

    fn sharpness_along(&self, dx: usize, dy: isize) -> Option<f32> {
        let rows = dy.unsigned_abs();
        if self.width <= 2 * dx || self.height <= 2 * rows {
            return None;
        }
        let inner = self.width - 2 * dx;
        let (mut slope, mut bend) = (0f32, 0f32);
        for y in rows..self.height - rows {
            let (before, after) = if dy < 0 {
                (self.row(y + rows), self.row(y - rows))
            } else {
                (self.row(y - rows), self.row(y + rows))
            };
            let triples = before[..inner]
                .iter()
                .zip(&self.row(y)[dx..])
                .zip(&after[2 * dx..]);
            for ((a, b), c) in triples {
                let (first, second) = ((c - a) / 2.0, a - 2.0 * b + c);
                slope += first * first;
                bend += second * second;
            }
        }
        let step = ((dx + rows) as f32).sqrt();
        // A slope below a thousandth of an 8-bit step is rounding: the surface is plain.
        let pixels = (inner * (self.height - 2 * rows)) as f32;
        (slope / pixels > 1e-11).then(|| (bend / slope).sqrt() / step)
    }

    /// Lengths of the gradient, by central differences.
    fn slopes(&self) -> Vec<f32> {
        let (w, h) = (self.width, self.height);
        let mut lengths = Vec::with_capacity(w * h);
        for y in 0..h {
            let row = self.row(y);
            let (above, below) = (self.row(y.saturating_sub(1)), self.row((y + 1).min(h - 1)));
            lengths.extend((0..w).map(|x| {
                let dx = (row[(x + 1).min(w - 1)] - row[x.saturating_sub(1)]) / 2.0;
                let dy = (below[x] - above[x]) / 2.0;
                (dx * dx + dy * dy).sqrt()
            }));
        }
        lengths
    }
}

/// The value that a share of the values doesn't exceed; 0 of none. Reorders them.
fn percentile(values: &mut [f32], share: f32) -> f32 {
    if values.is_empty() {
        return 0.0;
    }
    let at = ((values.len() - 1) as f32 * share).round() as usize;
    *values.select_nth_unstable_by(at, f32::total_cmp).1
}

#[cfg(test)]
#[path = "quality_tests.rs"]
mod tests;
