//! From the bytes of a file or a camera to upright 8-bit RGB pixels, and whether they are good
//! enough to be captioned.

mod decode;
pub mod jpeg;
mod quality;

pub use decode::{DAEMON_BYTES, DecodeError, Limits, decode};
pub use quality::{
    Flaw, FrameQuality, LEAST_HIGHLIGHTS, LEAST_LIGHT, LEAST_SHARPNESS, MOST_CLIPPED_BRIGHT,
    QualityError,
};
