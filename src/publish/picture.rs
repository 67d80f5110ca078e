//! The captioned picture as a JPEG that fits into a packet.

use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{DynamicImage, RgbImage};

use super::PublishError;
use crate::frame::{self, Limits, jpeg::without_metadata};
use crate::source::{Frame, Pixels};

/// Longest side and quality of a picture that had to be encoded here: tried in this order.
const SMALLER: [(u32, u8); 3] = [(1280, 80), (640, 75), (320, 60)];

/// The frame as JPEG of at most `limit` bytes: the camera's own picture if it is, without what the camera wrote
/// beside it (place, serial number), else scaled down and encoded. It costs a decoding then, so small
/// frames are the cheap ones.
///
/// # Errors
/// When the frame is no picture, or can't be made small enough.
pub(crate) fn jpeg(frame: &Frame, limit: usize, limits: Limits) -> Result<Vec<u8>, PublishError> {
    let failed = |reason: String| PublishError::Picture(format!("{}: {reason}", frame.origin));
    let decoded;
    let pixels: &RgbImage = match &frame.pixels {
        Pixels::Encoded(bytes) => {
            // Larger files may become small enough, but hardly by so much.
            let own = (bytes.len() <= 2 * limit).then(|| without_metadata(bytes));
            if let Some(own) = own.flatten().filter(|own| own.len() <= limit) {
                return Ok(own);
            }
            decoded = frame::decode(bytes, limits).map_err(|error| failed(error.to_string()))?;
            &decoded
        }
        Pixels::Rgb(pixels) => pixels,
    };
    let mut smallest = usize::MAX;
    for (side, quality) in SMALLER {
        let bytes = encode(pixels, side, quality).map_err(|error| failed(error.to_string()))?;
        if bytes.len() <= limit {
            return Ok(bytes);
        }
        smallest = bytes.len();
    }
    Err(failed(format!(
        "{smallest} bytes at the smallest, at most {limit}"
    )))
}

fn encode(pixels: &RgbImage, side: u32, quality: u8) -> image::ImageResult<Vec<u8>> {
    let mut bytes = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut bytes, quality);
    if pixels.width().max(pixels.height()) <= side {
        pixels.write_with_encoder(encoder)?;
    } else {
        let picture = DynamicImage::from(pixels.clone());
        picture
            .resize(side, side, FilterType::Triangle)
            .write_with_encoder(encoder)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(pixels: Pixels) -> Frame {
        Frame {
            pixels,
            origin: "porch.jpg".into(),
            taken: Default::default(),
        }
    }

    /// Noise, which compresses badly.
    fn noise(width: u32, height: u32) -> RgbImage {
        let mut random = fastrand::Rng::with_seed(7);
        RgbImage::from_fn(width, height, |_, _| {
            image::Rgb([(); 3].map(|()| random.u8(..)))
        })
    }

    fn small_enough(pixels: Pixels, limit: usize) -> Result<Vec<u8>, PublishError> {
        jpeg(&frame(pixels), limit, Limits::default())
    }

    #[test]
    fn a_cameras_own_jpeg_is_passed_on_without_what_it_wrote_beside_it() {
        let bytes = encode(&noise(64, 48), 64, 90).unwrap();
        let found = small_enough(Pixels::Encoded(bytes.clone()), 1 << 18).unwrap();
        let pixels = |bytes: &[u8]| image::load_from_memory(bytes).unwrap();
        assert_eq!(pixels(&found), pixels(&bytes));
        let place = b"52.5 N 13.4 E";
        let comment = [&[0xFF, 0xFE, 0, 15], &place[..]].concat();
        let placed = [&bytes[..2], &comment, &bytes[2..], place].concat();
        assert_eq!(
            small_enough(Pixels::Encoded(placed), 1 << 18).unwrap(),
            found
        );
    }

    #[test]
    fn others_are_encoded_and_made_small_enough() {
        let picture = noise(900, 600);
        let mut png = Vec::new();
        picture
            .write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png)
            .unwrap();
        for pixels in [Pixels::Encoded(png), Pixels::Rgb(picture)] {
            let bytes = small_enough(pixels, 200_000).unwrap();
            assert!(bytes.len() <= 200_000 && bytes.starts_with(&[0xFF, 0xD8]));
            let shown = image::load_from_memory(&bytes).unwrap();
            let (width, height) = (shown.width(), shown.height());
            assert!((width * 2).abs_diff(height * 3) <= 3, "{width} x {height}");
        }
    }

    #[test]
    fn what_is_no_picture_or_stays_too_large_is_told() {
        let text = |pixels, limit| small_enough(pixels, limit).unwrap_err().to_string();
        let error = text(Pixels::Encoded(b"GIF89a".to_vec()), 1 << 18);
        assert!(error.contains("porch.jpg"), "{error}");
        let error = text(Pixels::Rgb(noise(400, 300)), 1000);
        assert!(error.contains("at most 1000"), "{error}");
    }
}
