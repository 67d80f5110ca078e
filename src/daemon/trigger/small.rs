//! A picture made so small that two can be compared for next to nothing.

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::frame::{self, Limits};
use crate::source::{Frame, Pixels};

/// Cells across.
pub const COLUMNS: usize = 24;
/// Cells down.
pub const ROWS: usize = 18;

/// Mean brightness (0 to 255) of each cell of a grid over the picture, row by row. A cell of a
/// 640 x 480 picture is the mean of 700 pixels, so the sensor's noise is gone.
#[derive(Debug, Clone, PartialEq)]
pub struct Small(pub [f32; COLUMNS * ROWS]);

impl Small {
    /// Of a frame. A JPEG is decoded in grey only, which costs two thirds of colour: the chroma is
    /// neither transformed nor converted.
    ///
    /// # Errors
    /// When the picture can't be decoded within the limits, in words.
    pub fn of(frame: &Frame, limits: Limits) -> Result<Self, String> {
        match &frame.pixels {
            Pixels::Encoded(bytes) if bytes.starts_with(&[0xFF, 0xD8]) => of_jpeg(bytes, limits),
            Pixels::Encoded(bytes) => {
                let picture = frame::decode(bytes, limits).map_err(|e| e.to_string())?;
                Ok(of_rgb(&picture))
            }
            Pixels::Rgb(picture) => Ok(of_rgb(picture)),
        }
    }
}

fn of_jpeg(bytes: &[u8], limits: Limits) -> Result<Small, String> {
    let side = limits.side as usize;
    let options = DecoderOptions::default()
        .jpeg_set_out_colorspace(ColorSpace::Luma)
        .set_max_width(side)
        .set_max_height(side);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let damaged = |error| format!("damaged or cut off JPEG: {error:?}");
    decoder.decode_headers().map_err(damaged)?;
    let (width, height) = decoder.dimensions().ok_or("a JPEG without a size")?;
    // Before a pixel is allocated.
    let pixels = (width * height) as u64;
    let needed = pixels + frame::jpeg::coefficients(bytes, pixels);
    if pixels > limits.pixels || needed > limits.bytes {
        return Err(format!("{width} x {height} pixels are too many"));
    }
    let luma = decoder.decode().map_err(damaged)?;
    if luma.len() != width * height {
        return Err("the JPEG's colours can't be turned into grey".into());
    }
    Ok(shrink(width, height, |at| f32::from(luma[at])))
}

/// The green channel stands for the brightness: it's most of it.
fn of_rgb(picture: &image::RgbImage) -> Small {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let raw = picture.as_raw();
    shrink(width, height, |at| f32::from(raw[at * 3 + 1]))
}

fn shrink(width: usize, height: usize, pixel: impl Fn(usize) -> f32) -> Small {
    let mut cells = [0.0; COLUMNS * ROWS];
    if width == 0 || height == 0 {
        return Small(cells);
    }
    for (row, line) in cells.chunks_exact_mut(COLUMNS).enumerate() {
        let rows = span(row, ROWS, height);
        for (column, cell) in line.iter_mut().enumerate() {
            let columns = span(column, COLUMNS, width);
            let count = (rows.len() * columns.len()) as f32;
            let sum: f32 = rows
                .clone()
                .map(|y| columns.clone().map(|x| pixel(y * width + x)).sum::<f32>())
                .sum();
            *cell = sum / count;
        }
    }
    Small(cells)
}

/// The pixels of a cell: at least one, also of a picture with fewer pixels than cells.
fn span(cell: usize, cells: usize, pixels: usize) -> std::ops::Range<usize> {
    let start = cell * pixels / cells;
    start..((cell + 1) * pixels / cells).max(start + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::codecs::jpeg::JpegEncoder;
    use std::time::Duration;

    fn frame(pixels: Pixels) -> Frame {
        Frame {
            pixels,
            origin: "test".into(),
            taken: Duration::ZERO,
        }
    }

    fn encoded(picture: image::DynamicImage) -> Vec<u8> {
        let mut bytes = Vec::new();
        picture
            .write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 95))
            .unwrap();
        bytes
    }

    #[test]
    fn jpeg_png_and_pixels_of_one_picture_agree() {
        let grey = image::GrayImage::from_fn(250, 130, |x, y| image::Luma([(x / 2 + y) as u8]));
        let picture = image::DynamicImage::ImageLuma8(grey);
        let mut png = Vec::new();
        picture
            .write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png)
            .unwrap();
        let small = |pixels| Small::of(&frame(pixels), Limits::default()).unwrap();
        let exact = small(Pixels::Rgb(picture.to_rgb8()));
        assert_eq!(small(Pixels::Encoded(png)), exact);
        for jpeg in [encoded(picture.clone()), encoded(picture.to_rgb8().into())] {
            let of_jpeg = small(Pixels::Encoded(jpeg));
            for (one, other) in of_jpeg.0.iter().zip(&exact.0) {
                assert!((one - other).abs() < 1.5, "{one} and {other}");
            }
        }
        assert!(exact.0[0] < 20.0 && exact.0[COLUMNS * ROWS - 1] > 230.0);
    }

    #[test]
    fn pictures_of_any_size_have_all_cells() {
        for (width, height) in [(1, 1), (3, 2), (24, 18), (25, 19), (641, 7)] {
            let white = image::RgbImage::from_pixel(width, height, image::Rgb([255; 3]));
            let small = Small::of(&frame(Pixels::Rgb(white)), Limits::default()).unwrap();
            assert_eq!(small.0, [255.0; COLUMNS * ROWS]);
        }
    }

    #[test]
    fn what_is_no_picture_is_an_error() {
        let good = encoded(image::RgbImage::new(64, 64).into());
        for bytes in [&b"GIF89a"[..], &good[..20], b"\xFF\xD8\xFF\xD9", b""] {
            let pixels = Pixels::Encoded(bytes.to_vec());
            assert!(
                Small::of(&frame(pixels), Limits::default()).is_err(),
                "{bytes:?}"
            );
        }
    }
}
