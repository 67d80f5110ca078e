//! Decoding of untrusted JPEG and PNG bytes within limits.

use std::io::Cursor;

use image::{
    ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage,
    error::{ImageError, LimitErrorKind},
    metadata::Orientation,
};

use super::jpeg;

/// What a picture may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest side in pixels. Default: 16,384.
    pub side: u32,
    /// Pixels in all. Default: 50 million (a 48-megapixel phone photograph fits).
    pub pixels: u64,
    /// Bytes of memory while decoding. Default: 600 million, which is no further limit: 12 bytes for each of
    /// that many pixels. The daemon's own is [`DAEMON_BYTES`].
    pub bytes: u64,
}

/// What decoding may take in the daemon unless `source.max_decode_bytes` says otherwise: a board of 512 MB has
/// so much beside the model, and a JPEG of 50 million pixels fits.
pub const DAEMON_BYTES: u64 = 160 << 20;

impl Default for Limits {
    fn default() -> Self {
        Self {
            side: 16_384,
            pixels: 50_000_000,
            bytes: 600_000_000,
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
    /// More memory than the limit, from the header alone.
    #[error(
        "{width} x {height} pixels of {bits} bits take {needed} MB to decode, at most {most} MB; scale it down \
         first, or raise source.max_decode_bytes where there is so much memory"
    )]
    TooCostly {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Bits of a pixel, alpha included.
        bits: u16,
        /// Millions of bytes while decoding.
        needed: u64,
        /// The limit, in millions of bytes.
        most: u64,
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
    let needed = cost(&decoder, orientation, bytes, format);
    if needed > limits.bytes {
        return Err(DecodeError::TooCostly {
            width,
            height,
            bits: decoder.color_type().bits_per_pixel(),
            needed: needed.div_ceil(1_000_000),
            most: limits.bytes / 1_000_000,
        });
    }
    let picture = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    // Turned as 8-bit RGB: 16-bit RGBA twice over would be the most expensive moment of all.
    let mut picture = DynamicImage::ImageRgb8(picture.into_rgb8());
    picture.apply_orientation(orientation);
    Ok(picture.into_rgb8())
}

/// Bytes at the most expensive moment: the pixels as they are decoded beside their 8-bit RGB, or that beside
/// its turned copy; for a progressive JPEG all coefficients beside the pixels.
fn cost(
    decoder: &impl ImageDecoder,
    orientation: Orientation,
    bytes: &[u8],
    format: ImageFormat,
) -> u64 {
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    let decoded = decoder.total_bytes();
    let rgb = pixels * 3;
    let converted = match decoder.color_type() {
        ColorType::Rgb8 => decoded,
        _ => decoded + rgb,
    };
    let turned = match orientation {
        Orientation::NoTransforms => rgb,
        _ => 2 * rgb,
    };
    let coefficients = match format {
        ImageFormat::Jpeg => jpeg::coefficients(bytes, pixels),
        _ => 0,
    };
    converted.max(turned).max(decoded + coefficients)
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
    let Some(scan) = jpeg::first_scan(bytes) else {
        return false;
    };
    let tail = &bytes[scan.max(bytes.len().saturating_sub(TAIL))..];
    tail.windows(2).any(|pair| pair == [0xff, 0xd9])
}

fn first_bytes(bytes: &[u8]) -> String {
    bytes
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(" ")
}
