//! From the bytes of a file or a camera to upright 8-bit RGB pixels.

mod decode;

pub use decode::{DecodeError, Limits, decode};
