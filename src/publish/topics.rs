//! The topics of one device, and how a time is written in what is published there.

use std::time::{Duration, SystemTime};

/// The topics of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    /// `<prefix>/<device>/`, which all of them begin with.
    pub base: String,
    /// Retained: [`super::message::ONLINE`] or [`super::message::OFFLINE`].
    pub status: String,
    /// Retained: the newest [`super::message::CaptionMessage`].
    pub caption: String,
    /// Retained: what may be said of the newest picture, at most [`super::message::TEXT_CHARACTERS`] long.
    pub caption_text: String,
    /// Never retained: an [`super::message::EventMessage`] for each frame that was described.
    pub event: String,
    /// Retained: the newest captioned picture, JPEG.
    pub image: String,
    /// Retained: whether the camera works.
    pub camera_status: String,
    /// Retained: what the daemon counts.
    pub health: String,
    /// A press asks for a caption of the next frame.
    pub describe: String,
}

impl Topics {
    /// The topics below `<prefix>/<device>/`.
    #[must_use]
    pub fn new(prefix: &str, device: &str) -> Self {
        let base = format!("{prefix}/{device}/");
        let topic = |name| format!("{base}{name}");
        Self {
            status: topic("status"),
            caption: topic("caption"),
            caption_text: topic("caption/text"),
            event: topic("event"),
            image: topic("image"),
            camera_status: topic("camera/status"),
            health: topic("health"),
            describe: topic("describe"),
            base,
        }
    }

    /// Where a setting is changed.
    #[must_use]
    pub fn set(&self, setting: &str) -> String {
        format!("{}{setting}/set", self.base)
    }

    /// Retained: where a setting's value stands.
    #[must_use]
    pub fn state(&self, setting: &str) -> String {
        format!("{}{setting}/state", self.base)
    }

    /// Never retained: the answers to `request/<name>`.
    #[must_use]
    pub fn response(&self, request: &str) -> String {
        format!("{}response/{request}", self.base)
    }
}

/// RFC 3339 in UTC with milliseconds. A date that this format can't show (a clock that was set to
/// nonsense) becomes the epoch instead of a panic.
pub(crate) fn time_stamp(time: SystemTime) -> String {
    let year_10000 = Duration::from_secs(253_402_300_800);
    let shown = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) if since < year_10000 => time,
        _ => SystemTime::UNIX_EPOCH,
    };
    humantime::format_rfc3339_millis(shown).to_string()
}
