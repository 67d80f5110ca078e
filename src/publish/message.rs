//! Topics and messages; `docs/mqtt.md` is their description for subscribers.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::captioner::{Description, Neighbour, StageTimes};
use crate::source::Frame;

/// Version of the JSON messages. It rises when a key goes or changes its meaning; a new key alone
/// doesn't raise it.
pub const SCHEMA: u32 = 1;

/// Payload of the status topic while the daemon is connected.
pub const ONLINE: &str = "online";
/// Payload of the status topic otherwise (from us at the end, or the last will).
pub const OFFLINE: &str = "offline";

/// The topics of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    /// Retained: [`ONLINE`] or [`OFFLINE`].
    pub status: String,
    /// Retained: the newest [`CaptionMessage`].
    pub caption: String,
    /// Never retained: an [`EventMessage`] for each caption.
    pub event: String,
}

impl Topics {
    /// The topics below `<prefix>/<device>/`.
    #[must_use]
    pub fn new(prefix: &str, device: &str) -> Self {
        let topic = |name| format!("{prefix}/{device}/{name}");
        Self {
            status: topic("status"),
            caption: topic("caption"),
            event: topic("event"),
        }
    }
}

/// What is said of one frame. There is never image data in it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CaptionMessage<'a> {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The caption.
    pub caption: &'a str,
    /// In [0, 1].
    pub confidence: f32,
    /// Whether the confidence is a calibrated probability of being right. Not yet.
    pub confidence_calibrated: bool,
    /// The nearest datastore captions, best first.
    pub neighbours: &'a [Neighbour],
    /// Milliseconds spent in each stage.
    pub ms: &'a StageTimes,
    /// The device's id.
    pub device: &'a str,
    /// Name and version of the model pack.
    pub pack: &'a str,
    /// File, device or program that the frame came from.
    pub origin: &'a str,
    /// When the frame was received (RFC 3339, UTC), as far as the wall clock is right.
    pub time: String,
    /// Whether a time server has set that clock since the start. `false` from
    /// [`CaptionMessage::new`], for whoever knows to change.
    pub time_synchronised: bool,
    /// Counts the captions of this run of the daemon, from 1.
    pub sequence: u64,
}

/// The short form, for automations.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EventMessage<'a> {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What happened: `caption`.
    pub event: &'static str,
    /// The caption.
    pub caption: &'a str,
    /// In [0, 1].
    pub confidence: f32,
    /// As in [`CaptionMessage`].
    pub confidence_calibrated: bool,
    /// As in [`CaptionMessage`]: the same number for the same frame.
    pub sequence: u64,
    /// As in [`CaptionMessage`].
    pub time: &'a str,
}

/// A description that can't be published.
#[derive(Debug, thiserror::Error)]
#[error("the model's numbers are no numbers (confidence {confidence}); is the pack damaged?")]
pub struct NotANumber {
    confidence: f32,
}

impl<'a> CaptionMessage<'a> {
    /// Puts a message together; `now` is the wall clock at monotonic time `monotonic`.
    ///
    /// # Errors
    /// When a number in the description isn't finite: JSON would silently say `null`.
    pub fn new(
        frame: &'a Frame,
        description: &'a Description,
        device: &'a str,
        pack: &'a str,
        sequence: u64,
        (now, monotonic): (SystemTime, Duration),
    ) -> Result<Self, NotANumber> {
        let confidence = description.confidence;
        let scores = description.neighbours.iter().map(|near| near.score);
        if !scores.chain([confidence]).all(f32::is_finite) {
            return Err(NotANumber { confidence });
        }
        // The frame's own age is known on the monotonic clock only.
        let age = monotonic.saturating_sub(frame.taken);
        Ok(Self {
            schema: SCHEMA,
            caption: &description.caption,
            confidence: confidence.clamp(0.0, 1.0),
            confidence_calibrated: false,
            neighbours: &description.neighbours,
            ms: &description.ms,
            device,
            pack,
            origin: &frame.origin,
            time: time_stamp(now.checked_sub(age).unwrap_or(now)),
            time_synchronised: false,
            sequence,
        })
    }

    /// The event that goes with this caption.
    #[must_use]
    pub fn event(&self) -> EventMessage<'_> {
        EventMessage {
            schema: self.schema,
            event: "caption",
            caption: self.caption,
            confidence: self.confidence,
            confidence_calibrated: self.confidence_calibrated,
            sequence: self.sequence,
            time: &self.time,
        }
    }
}

/// RFC 3339 in UTC with milliseconds. A date that this format can't show (a clock that was set to
/// nonsense) becomes the epoch instead of a panic.
fn time_stamp(time: SystemTime) -> String {
    let year_10000 = Duration::from_secs(253_402_300_800);
    let shown = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) if since < year_10000 => time,
        _ => SystemTime::UNIX_EPOCH,
    };
    humantime::format_rfc3339_millis(shown).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Pixels;
    use serde_json::json;

    fn frame() -> Frame {
        Frame {
            pixels: Pixels::Encoded(vec![0xFF, 0xD8]),
            origin: "porch.jpg".into(),
            taken: Duration::from_secs(7),
        }
    }

    fn description() -> Description {
        Description {
            caption: "a \"red\" door\nbehind a bicycle".into(),
            confidence: 0.5,
            neighbours: vec![Neighbour {
                caption: "a red door".into(),
                score: 0.25,
            }],
            retrieved: Default::default(),
            candidates: Vec::new(),
            ms: StageTimes {
                embed: 41.5,
                total: 44.0,
                ..StageTimes::default()
            },
        }
    }

    #[test]
    fn the_documented_json_comes_out() {
        let (frame, description) = (frame(), description());
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_602);
        let monotonic = Duration::from_millis(9500);
        let message = CaptionMessage::new(
            &frame,
            &description,
            "porch",
            "default 1.0.0",
            3,
            (now, monotonic),
        )
        .unwrap();
        assert_eq!(
            serde_json::to_value(&message).unwrap(),
            json!({
                "schema": 1,
                "caption": "a \"red\" door\nbehind a bicycle",
                "confidence": 0.5,
                "confidence_calibrated": false,
                "neighbours": [{"caption": "a red door", "score": 0.25}],
                "ms": {"decode": 0.0, "preprocess": 0.0, "embed": 41.5, "realign": 0.0,
                       "retrieve": 0.0, "caption": 0.0, "generate": 0.0, "rerank": 0.0,
                       "total": 44.0},
                "device": "porch",
                "pack": "default 1.0.0",
                "origin": "porch.jpg",
                "time": "2025-12-31T23:59:59.500Z",
                "time_synchronised": false,
                "sequence": 3,
            })
        );
        assert_eq!(
            serde_json::to_value(message.event()).unwrap(),
            json!({
                "schema": 1,
                "event": "caption",
                "caption": "a \"red\" door\nbehind a bicycle",
                "confidence": 0.5,
                "confidence_calibrated": false,
                "sequence": 3,
                "time": "2025-12-31T23:59:59.500Z",
            })
        );
        assert!(!serde_json::to_string(&message).unwrap().contains('\n'));
    }

    #[test]
    fn numbers_that_are_none_are_refused_and_rounding_is_cut_off() {
        let frame = frame();
        let now = (SystemTime::UNIX_EPOCH, Duration::ZERO);
        for bad in [f32::NAN, f32::INFINITY] {
            let mut description = description();
            description.confidence = bad;
            assert!(CaptionMessage::new(&frame, &description, "d", "p", 1, now).is_err());
            description.confidence = 0.5;
            description.neighbours[0].score = bad;
            assert!(CaptionMessage::new(&frame, &description, "d", "p", 1, now).is_err());
        }
        let mut description = description();
        description.confidence = 1.000_000_1;
        let message = CaptionMessage::new(&frame, &description, "d", "p", 1, now).unwrap();
        assert!(message.confidence <= 1.0);
    }

    #[test]
    fn a_mad_clock_does_not_panic() {
        let epoch = SystemTime::UNIX_EPOCH;
        for time in [
            epoch - Duration::from_secs(1),
            epoch + Duration::from_secs(253_402_300_800),
        ] {
            assert_eq!(time_stamp(time), "1970-01-01T00:00:00.000Z");
        }
    }
}
