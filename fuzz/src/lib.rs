//! Those modules of captiond that read bytes of others, under the names that they know each other by.
//!
//! They are included by path instead of linked with the crate, which would bring the inference library along
//! (fuzz/Cargo.toml). What they take from the rest of the crate and the fuzzers have no use for is a
//! stand-in here: an error type, and nothing else.
#![allow(dead_code, missing_docs, unused_imports)]

#[path = "../../src/tensor_file.rs"]
pub mod tensor_file;

#[path = "../../src/realignment/mod.rs"]
pub mod realignment;

#[path = "../../src/datastore/mod.rs"]
pub mod datastore;

#[path = "../../src"]
pub mod source {
    #[path = "source/mjpeg.rs"]
    pub mod mjpeg;

    #[path = "source/http"]
    pub mod http {
        pub mod address;
        pub mod body;
        pub mod client;
    }
}

#[path = "../../src/daemon"]
pub mod daemon {
    pub mod bell;
    pub mod controls;
    pub mod secret;
}

#[path = "../../src/publish"]
pub mod publish {
    mod commands;
    pub mod topics;

    use std::time::{Duration, SystemTime};

    /// Reads a command and says what was made of it: the settings after it, or the reason against it.
    pub fn command(
        topics: &topics::Topics,
        topic: &str,
        payload: &[u8],
        retained: bool,
        wall: SystemTime,
    ) -> Result<crate::daemon::controls::Values, String> {
        let mut gate = commands::Gate::new(Duration::ZERO);
        let now = (Duration::ZERO, wall);
        let command = commands::parse(topics, topic, payload, retained, &mut gate, now)
            .map_err(|rejected| rejected.problem)?;
        let mut values = crate::daemon::controls::Values::default();
        match command {
            commands::Command::Set(change) => change.apply(&mut values),
            commands::Command::Request(request) => {
                if let commands::Wish::Set(change) = request.what {
                    change.apply(&mut values);
                }
            }
            commands::Command::Describe => {}
        }
        Ok(values)
    }
}

#[path = "../../src/pack"]
pub mod pack {
    mod check;
    mod decoder;
    mod error;
    mod manifest;
    mod phrases;
    mod speech;

    pub(crate) use decoder::PLACEHOLDER;
    pub use decoder::{DecoderKind, DecoderSpec, PrefixParts};
    pub use error::{Mismatch, PackError};
    pub use manifest::*;
    pub use phrases::{CAPTION, Phrases};
    pub use speech::{Correction, GenerationSpec, Method};
}

#[path = "../../src/caption"]
pub mod caption {
    mod corrections;
    pub use corrections::{CorrectionError, Corrections};
}

#[path = "../../src/decoder"]
pub mod decoder {
    mod words;
    pub use words::Words;

    /// Stands in for the decoder's error.
    #[derive(Debug, thiserror::Error)]
    pub enum DecoderError {
        #[error("{0}")]
        Tokenizer(String),
    }
}

#[path = "../../src/engine"]
pub mod engine {
    mod activations;
    pub use activations::Activations;

    /// Stands in for the engine's error: nothing here runs a network.
    #[derive(Debug, thiserror::Error)]
    #[error("no engine")]
    pub struct EngineError;
}

#[path = "../../src/eval/captions/tokenizer/mod.rs"]
pub mod caption_tokenizer;

pub mod pieces;
