//! Decoding of untrusted JPEG and PNG bytes within limits.

use std::io::Cursor;

use image::{
    DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage,
    error::{ImageError, LimitErrorKind},
};

/// What a picture may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest side in pixels. Default: 16,384.
    pub side: u32,
    /// Pixels in all. Default: 50 million (a 48-megapixel phone photograph fits).
    pub pixels: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            side: 16_384,
            pixels: 50_000_000,
        }
    }
}

/// Why a picture can't be used. The caller adds the file's name.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Zero bytes: often a camera or a copy that was cut off at the start.
    #[error("the file is empty (0 bytes)")]
    Empty,
    /// Neither JPEG nor PNG.
    #[error("not a JPEG or PNG picture (it starts with {0})")]
    Format(String),
    /// More pixels than the limit, from the header alone.
    #[error(
        "{width} x {height} pixels is over the limit of {side} a side and {pixels} in all; scale it down first"
    )]
    TooLarge {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// The limit a side.
        side: u32,
        /// The limit in all.
        pixels: u64,
    },
    /// The data ends early or is damaged.
    #[error("damaged or cut off {format}: {reason}")]
    Damaged {
        /// "JPEG" or "PNG".
        format: &'static str,
        /// The decoder's words.
        reason: String,
    },
}

/// Decodes JPEG (grey, YCbCr, RGB, CMYK) or PNG (any depth, alpha dropped) to upright 8-bit RGB.
///
/// The EXIF orientation is applied. The size is checked against `limits` from the header, before
/// any pixel is allocated.
///
/// # Errors
/// [`DecodeError`]; never panics and never allocates beyond the limits, whatever the bytes.
pub fn decode(bytes: &[u8], limits: Limits) -> Result<RgbImage, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    let format = match image::guess_format(bytes) {
        Ok(format @ (ImageFormat::Jpeg | ImageFormat::Png)) => format,
        _ => return Err(DecodeError::Format(first_bytes(bytes))),
    };
    let name = if format == ImageFormat::Jpeg {
        "JPEG"
    } else {
        "PNG"
    };
    let damaged = |error: ImageError| DecodeError::Damaged {
        format: name,
        reason: error.to_string(),
    };
    if format == ImageFormat::Jpeg && !ends_like_a_jpeg(bytes) {
        // The decoder fills what is missing with grey: for a person who trusts the caption, half a
        // picture must not look like a whole one.
        let reason = "the end marker is missing".to_owned();
        return Err(DecodeError::Damaged {
            format: name,
            reason,
        });
    }

    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(allocation_limits(limits));
    let mut decoder = match reader.into_decoder() {
        Ok(decoder) => decoder,
        Err(ImageError::Limits(error)) => {
            return Err(limit_error(&error.kind(), bytes, format, limits));
        }
        Err(error) => return Err(damaged(error)),
    };
    let (width, height) = decoder.dimensions();
    check_size(width, height, limits)?;
    let orientation = decoder.orientation().map_err(damaged)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    picture.apply_orientation(orientation);
    Ok(picture.into_rgb8())
}

fn check_size(width: u32, height: u32, limits: Limits) -> Result<(), DecodeError> {
    let pixels = u64::from(width) * u64::from(height);
    if width > limits.side || height > limits.side || pixels > limits.pixels {
        return Err(DecodeError::TooLarge {
            width,
            height,
            side: limits.side,
            pixels: limits.pixels,
        });
    }
    Ok(())
}

fn allocation_limits(limits: Limits) -> image::Limits {
    let mut inner = image::Limits::default();
    inner.max_image_width = Some(limits.side);
    inner.max_image_height = Some(limits.side);
    // Up to eight bytes a pixel (16-bit RGBA) and the decoder's own buffers.
    inner.max_alloc = Some(limits.pixels.saturating_mul(12));
    inner
}

/// The decoder refused by a limit before it told the size: read the size again for the message.
fn limit_error(
    kind: &LimitErrorKind,
    bytes: &[u8],
    format: ImageFormat,
    limits: Limits,
) -> DecodeError {
    let size = if format == ImageFormat::Png {
        // IHDR is always the first chunk: signature (8), length (4), "IHDR", width, height.
        let number = |at: usize| {
            let four = bytes.get(at..at + 4)?;
            Some(u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
        };
        number(16).zip(number(20))
    } else {
        let mut unlimited = ImageReader::with_format(Cursor::new(bytes), format);
        unlimited.no_limits();
        unlimited.into_dimensions().ok()
    };
    match size {
        Some((width, height)) => DecodeError::TooLarge {
            width,
            height,
            side: limits.side,
            pixels: limits.pixels,
        },
        None => DecodeError::Damaged {
            format: if format == ImageFormat::Jpeg {
                "JPEG"
            } else {
                "PNG"
            },
            reason: format!("over the decoder's limits ({kind:?})"),
        },
    }
}

/// Cameras and some editors pad after the end marker, so it is looked for in the last bytes, but
/// only in the picture's own: the thumbnail in an EXIF segment has an end marker too.
fn ends_like_a_jpeg(bytes: &[u8]) -> bool {
    const TAIL: usize = 64 * 1024;
    let Some(scan) = first_scan(bytes) else {
        return false;
    };
    let tail = &bytes[scan.max(bytes.len().saturating_sub(TAIL))..];
    tail.windows(2).any(|pair| pair == [0xff, 0xd9])
}

/// Where the segments before the first scan end; `None` when the bytes end within them.
fn first_scan(bytes: &[u8]) -> Option<usize> {
    let mut at = 2;
    loop {
        match (bytes.get(at)?, bytes.get(at + 1)?) {
            (0xff, 0xff) => at += 1,
            (0xff, 0x01 | 0xd0..=0xd8) => at += 2,
            (0xff, marker) if !matches!(marker, 0x00 | 0xd9 | 0xda) => {
                let length = u16::from_be_bytes([*bytes.get(at + 2)?, *bytes.get(at + 3)?]);
                at += 2 + usize::from(length);
            }
            // The scan, or nothing that a segment starts with: the decoder will say what.
            _ => return Some(at),
        }
    }
}

fn first_bytes(bytes: &[u8]) -> String {
    bytes
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(" ")
}
