//! Model packs: a folder with a `pack.toml` that says everything the chain needs to know about
//! its models. The format is documented in `docs/model-packs.md`.

mod calibration;
mod check;
mod decoder;
pub mod digest;
mod error;
pub mod fetch;
pub mod fields;
pub mod install;
mod load;
mod locate;
mod manifest;
mod phrases;
mod record;
mod speech;
pub mod verify;

pub use calibration::{CalibrationFile, Chain, Standing};
pub(crate) use decoder::PLACEHOLDER;
pub use decoder::{DecoderKind, DecoderSpec, PrefixParts};
pub use error::{Mismatch, PackError};
pub use load::Pack;
pub use locate::default_pack;
pub use manifest::*;
pub use phrases::{CAPTION, Phrases};
pub use record::{FileRecord, replace};
pub use speech::{Correction, GenerationSpec, Method};
