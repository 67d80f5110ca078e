//! Where captions go: MQTT, standard output.

use std::io;
use std::time::Duration;

use self::message::CaptionMessage;
use crate::source::Frame;

mod answer;
mod camera;
mod commands;
mod health;
mod home_assistant;
pub mod message;
pub mod mqtt;
mod outbox;
mod picture;
mod spool;
pub mod stdout;
pub mod topics;

pub use camera::{CameraCondition, CameraState};
#[cfg(feature = "web")]
pub(crate) use {health::memory, picture::jpeg, topics::time_stamp};

/// Why a caption wasn't taken.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The message can't be sent as it is; the next one may be fine.
    #[error("a message of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// The whole packet.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The message has no JSON form. A defect of ours: its fields are checked when it's made.
    #[error("the message can't be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The reader has gone for good (a closed pipe).
    #[error("the reader has gone")]
    ReaderGone,
    /// Writing failed.
    #[error("writing failed: {0}")]
    Io(#[from] io::Error),
    /// The picture can't be shown.
    #[error("the picture can't be published: {0}")]
    Picture(String),
}

/// What became of a frame that somebody had asked for.
#[derive(Debug, Clone, Copy)]
pub enum Described<'a> {
    /// It was captioned.
    Caption(&'a CaptionMessage<'a>),
    /// Its caption was kept back: the confidence is below the least one that is wanted.
    Withheld {
        /// In [0, 1].
        confidence: f32,
    },
    /// The frame, or its caption, was bad.
    Failed(&'a str),
}

/// A way out for captions.
///
/// Shared between the pipeline, which publishes, and the main thread, which says goodbye while the
/// pipeline may still be busy with a frame.
pub trait Publisher: Send + Sync {
    /// For the log.
    fn name(&self) -> &str;

    /// Takes a caption. A publisher on a network never waits for it: it keeps what it must and
    /// returns.
    ///
    /// # Errors
    /// When the message can't be taken; a connection that is down is no error.
    fn publish(&self, message: &CaptionMessage<'_>) -> Result<(), PublishError>;

    /// Is told of a picture whose caption is withheld, its confidence being below `min_confidence`: `message`
    /// has no caption. By default nobody is told.
    ///
    /// # Errors
    /// As [`Publisher::publish`].
    fn unsure(&self, _message: &CaptionMessage<'_>) -> Result<(), PublishError> {
        Ok(())
    }

    /// Takes the picture that a caption was made of, for those that show it. By default it goes
    /// nowhere.
    ///
    /// # Errors
    /// When the picture can't be made small enough, or isn't one.
    fn publish_picture(&self, _frame: &Frame) -> Result<(), PublishError> {
        Ok(())
    }

    /// The camera's state has changed. By default it's told to nobody.
    fn camera(&self, _state: &CameraState) {}

    /// What became of a frame that somebody had asked for. By default nobody is told.
    fn described(&self, _outcome: &Described<'_>) {}

    /// Whether there is a connection now; `None` where there is nothing to connect to.
    fn connected(&self) -> Option<bool> {
        None
    }

    /// Says goodbye, within `limit`. Nothing is published afterwards.
    fn close(&self, limit: Duration);
}
