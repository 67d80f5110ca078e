//! Model packs: a folder with a `pack.toml` that says everything the chain needs to know about
//! its models. The format is documented in `docs/model-packs.md`.

mod calibration;
pub mod digest;
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
pub use load::Pack;
pub use locate::default_pack;
pub use manifest::*;
pub use phrases::{CAPTION, Phrases};
pub use record::{FileRecord, replace};
use speech::check_speech;
pub use speech::{Correction, DecoderKind, DecoderSpec, GenerationSpec, Method};

use std::path::PathBuf;

/// Why a pack is refused. Every message names the pack, the file and the field, what was found,
/// what was expected, and the way out.
///
/// A cause stands in the middle of its message, so it is no `source()`: whoever prints the chain
/// of an error would print it twice.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// There is no such folder, or no `pack.toml` in it.
    #[error(
        "pack {}: no pack.toml there: {cause}; give a model pack's folder with --pack (docs/model-packs.md says what one is)",
        pack.display()
    )]
    Missing {
        /// The folder that was asked for.
        pack: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// No pack was named and none was found in the usual places.
    #[error("no model pack found; looked in {looked}; name one with --pack or CAPTIOND_PACK")]
    NoDefault {
        /// The places, comma separated.
        looked: String,
    },
    /// A file of the pack can't be read.
    #[error("pack {}: {file}: {cause}; copy the pack again", pack.display())]
    Read {
        /// The pack's folder.
        pack: PathBuf,
        /// The file within it.
        file: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// `pack.toml` is no valid manifest.
    #[error("pack {}: pack.toml{}: {message}", pack.display(), line.map(|l| format!(":{l}")).unwrap_or_default())]
    Manifest {
        /// The pack's folder.
        pack: PathBuf,
        /// One-based line, where known.
        line: Option<usize>,
        /// The parser's words: key, found, expected.
        message: String,
    },
    /// A file or a field does not hold what it has to.
    #[error(transparent)]
    Mismatch(Box<Mismatch>),
    /// A part that this command needs is not in the pack.
    #[error("pack {}: pack.toml has no [{section}]; {remedy}", pack.display())]
    NoPart {
        /// The pack's folder.
        pack: PathBuf,
        /// The section that is needed.
        section: &'static str,
        /// The way out.
        remedy: &'static str,
    },
    /// A network of the pack can't be loaded.
    #[error("pack {}: {file}: {cause}; export it again (models/README.md)", pack.display())]
    Network {
        /// The pack's folder.
        pack: PathBuf,
        /// The file within it.
        file: String,
        /// What the engine said.
        cause: Box<crate::engine::EngineError>,
    },
}

/// A file or a field that does not hold what it has to.
#[derive(Debug, thiserror::Error)]
#[error("pack {}: {file}: {field}: found {found}, expected {expected}; {remedy}", pack.display())]
pub struct Mismatch {
    /// The pack's folder.
    pub pack: PathBuf,
    /// The file within it.
    pub file: String,
    /// The field, tensor or key.
    pub field: String,
    /// What is there.
    pub found: String,
    /// What should be there.
    pub expected: String,
    /// The way out.
    pub remedy: String,
}
