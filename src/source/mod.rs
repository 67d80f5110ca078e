//! Where frames come from: a folder, a command that writes MJPEG, a video device, a camera in the
//! network.
//!
//! A source is owned by one thread, which calls [`FrameSource::next_frame`] in a loop. Frames stay
//! encoded until the pipeline takes one, so a frame that is overtaken is never decoded.
//!
//! Each live source watches the age of its newest frame ([`stall::StallDetector`]); [`supervised`]
//! keeps the state of all of them in one place ([`state`]).

use std::time::Duration;

use crate::daemon::shutdown::Shutdown;

use self::state::StateCell;

mod child;
pub mod command;
pub mod folder;
pub mod http;
pub mod mjpeg;
pub mod stall;
pub mod state;
pub mod supervised;
#[cfg(feature = "camera")]
pub mod video;

/// What a source hands over: bytes as the camera made them, or pixels where it has no codec.
#[derive(Debug, Clone, PartialEq)]
pub enum Pixels {
    /// A JPEG or PNG file image.
    Encoded(Vec<u8>),
    /// Decoded 8-bit RGB (a camera without MJPEG).
    Rgb(image::RgbImage),
}

/// One frame on its way to the pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// The picture.
    pub pixels: Pixels,
    /// For the log and the messages: a file name, a device, a command.
    pub origin: String,
    /// When the source received it, on the monotonic clock (since that clock's start).
    pub taken: Duration,
}

/// Why a source has no frame.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The source can't be opened, or has gone: wait and open it again.
    #[error("{origin}: {reason}")]
    Lost {
        /// The device, folder or command.
        origin: String,
        /// What happened and what to do.
        reason: String,
    },
    /// The source is there but has gone quiet, and was closed: wait and open it again.
    #[error("{origin}: {reason}")]
    Stalled {
        /// The device, folder or command.
        origin: String,
        /// For how long, and what is done about it.
        reason: String,
    },
    /// One frame was bad; the next may be good.
    #[error("{origin}: bad frame: {reason}")]
    BadFrame {
        /// The device, folder or command.
        origin: String,
        /// What was wrong with it.
        reason: String,
    },
    /// No frame will ever come again (a finite input is used up).
    #[error("{origin}: no more frames")]
    Ended {
        /// The device, folder or command.
        origin: String,
    },
}

/// A stream of frames with one owner.
pub trait FrameSource: Send {
    /// Its name for logs and messages.
    fn origin(&self) -> &str;

    /// Whether each frame is to be captioned. A camera's aren't: the newest one overtakes those
    /// before it. A folder's are: its next image waits until the pipeline has taken the last one.
    fn every_frame_counts(&self) -> bool {
        false
    }

    /// Waits for the next frame. Returns early with `Ok(None)` once `shutdown` is asked for.
    ///
    /// # Errors
    /// [`SourceError::Lost`] and [`SourceError::Stalled`] ask the caller to back off and call again
    /// (the source reopens itself), [`SourceError::BadFrame`] to call again at once,
    /// [`SourceError::Ended`] to stop.
    fn next_frame(&mut self, shutdown: &Shutdown) -> Result<Option<Frame>, SourceError>;

    /// Closes what is open; the next call of [`Self::next_frame`] opens it again.
    fn restart(&mut self) {}

    /// Where a source says that it's well though it has no frame now (an idle folder). The others'
    /// state follows from what [`Self::next_frame`] returns.
    fn report_to(&mut self, _state: &StateCell) {}
}
