//! Where captions go: MQTT, standard output.

use std::io;
use std::time::Duration;

use self::message::CaptionMessage;

pub mod message;
pub mod mqtt;
mod outbox;
pub mod stdout;

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

    /// Whether there is a connection now; `None` where there is nothing to connect to.
    fn connected(&self) -> Option<bool> {
        None
    }

    /// Says goodbye, within `limit`. Nothing is published afterwards.
    fn close(&self, limit: Duration);
}
