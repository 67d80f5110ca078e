//! Topics and messages; `docs/mqtt.md` is their description for subscribers.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::caption::wording::Verdict;
use crate::captioner::{Description, Neighbour, StageTimes};
use crate::daemon::controls::Detail;
use crate::frame::FrameQuality;
use crate::source::Frame;

/// Version of the JSON messages. It rises when a key goes or changes its meaning; a new key alone
/// doesn't raise it.
pub const SCHEMA: u32 = 2;

/// Payload of the status topic while the daemon is connected.
pub const ONLINE: &str = "online";
/// Payload of the status topic otherwise (from us at the end, or the last will).
pub const OFFLINE: &str = "offline";

/// The topics of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    /// `<prefix>/<device>/`, which all of them begin with.
    pub base: String,
    /// Retained: [`ONLINE`] or [`OFFLINE`].
    pub status: String,
    /// Retained: the newest [`CaptionMessage`].
    pub caption: String,
    /// Retained: what may be said of the newest picture, at most [`TEXT_CHARACTERS`] long.
    pub caption_text: String,
    /// Never retained: an [`EventMessage`] for each frame that was described.
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

/// What the topic `caption/text` holds at most: a home hub takes a longer state for `unknown`.
pub const TEXT_CHARACTERS: usize = 255;

/// A text of at most [`TEXT_CHARACTERS`] characters on one line, cut between words, with an
/// ellipsis if it was cut.
#[must_use]
pub fn short_text(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // The end of what fits, with room for the ellipsis, and the end of all.
    let mut ends = line
        .char_indices()
        .map(|(at, _)| at)
        .skip(TEXT_CHARACTERS - 1);
    let (Some(end), Some(_)) = (ends.next(), ends.next()) else {
        return line;
    };
    // A word that is longer than all the room is cut in its middle.
    let cut = if line[end..].starts_with(' ') {
        end
    } else {
        line[..end].rfind(' ').unwrap_or(end)
    };
    format!("{}…", &line[..cut])
}

/// What is said of one frame. There is never image data in it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CaptionMessage<'a> {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The caption; none when it is withheld, so that nobody shows it by mistake.
    pub caption: Option<&'a str>,
    /// `verdict` and `reason`.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The sentence for a person: the caption, the caption as a guess, or why there is none.
    pub spoken: &'a str,
    /// In [0, 1].
    pub confidence: f32,
    /// Whether the confidence is the probability that a person accepts the caption.
    pub confidence_calibrated: bool,
    /// Captions that say something else, best first; empty when all agree or it is withheld.
    pub alternatives: &'a [Neighbour],
    /// Light, contrast, sharpness of the frame.
    pub quality: &'a FrameQuality,
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
    /// What happened: `caption`, or `unsure` when there is none to be said.
    pub event: &'static str,
    /// As in [`CaptionMessage`].
    pub caption: Option<&'a str>,
    /// As in [`CaptionMessage`].
    #[serde(flatten)]
    pub verdict: Verdict,
    /// As in [`CaptionMessage`].
    pub spoken: &'a str,
    /// As in [`CaptionMessage`], if the long form is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alternatives: Option<&'a [Neighbour]>,
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
        let near = description
            .neighbours
            .iter()
            .chain(&description.alternatives);
        let scores = near.map(|near| near.score);
        if !scores.chain([confidence]).all(f32::is_finite) || !description.quality.is_finite() {
            return Err(NotANumber { confidence });
        }
        let withheld = description.verdict.reason().is_some();
        // The frame's own age is known on the monotonic clock only.
        let age = monotonic.saturating_sub(frame.taken);
        Ok(Self {
            schema: SCHEMA,
            caption: (!withheld).then_some(&description.caption),
            verdict: description.verdict,
            spoken: &description.spoken,
            confidence: confidence.clamp(0.0, 1.0),
            confidence_calibrated: description.calibrated,
            // Beside no caption they would look like the better ones.
            alternatives: match withheld {
                true => &[],
                false => &description.alternatives,
            },
            quality: &description.quality,
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

    /// The event that goes with this caption; [`Detail::Long`] adds the alternatives.
    #[must_use]
    pub fn event(&self, detail: Detail) -> EventMessage<'_> {
        EventMessage {
            schema: self.schema,
            event: match self.verdict {
                Verdict::Sure | Verdict::Hedged => "caption",
                Verdict::Unsure(_) => "unsure",
            },
            caption: self.caption,
            verdict: self.verdict,
            spoken: self.spoken,
            alternatives: match detail {
                Detail::Short => None,
                Detail::Long => Some(self.alternatives),
            },
            confidence: self.confidence,
            confidence_calibrated: self.confidence_calibrated,
            sequence: self.sequence,
            time: &self.time,
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caption::wording::Reason;
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
            quality: quality(),
            verdict: Verdict::Hedged,
            spoken: "perhaps a \"red\" door\nbehind a bicycle".into(),
            alternatives: vec![Neighbour {
                caption: "a garden gate".into(),
                score: 0.125,
            }],
            neighbours: vec![Neighbour {
                caption: "a red door".into(),
                score: 0.25,
            }],
            ms: StageTimes {
                embed: 41.5,
                total: 44.0,
                ..StageTimes::default()
            },
            ..Description::default()
        }
    }

    fn quality() -> FrameQuality {
        FrameQuality {
            brightness: 0.5,
            contrast: 0.25,
            highlights: 0.875,
            clipped_dark: 0.0,
            clipped_bright: 0.0625,
            sharpness: 1.5,
            detail: 0.75,
        }
    }

    /// As JSON.
    fn quality_json() -> serde_json::Value {
        json!({"brightness": 0.5, "contrast": 0.25, "highlights": 0.875, "clipped_dark": 0.0,
               "clipped_bright": 0.0625, "sharpness": 1.5, "detail": 0.75})
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
                "schema": 2,
                "caption": "a \"red\" door\nbehind a bicycle",
                "verdict": "hedged",
                "reason": null,
                "spoken": "perhaps a \"red\" door\nbehind a bicycle",
                "confidence": 0.5,
                "confidence_calibrated": false,
                "alternatives": [{"caption": "a garden gate", "score": 0.125}],
                "quality": quality_json(),
                "neighbours": [{"caption": "a red door", "score": 0.25}],
                "ms": {"decode": 0.0, "quality": 0.0, "preprocess": 0.0, "embed": 41.5, "realign": 0.0,
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
            serde_json::to_value(message.event(Detail::Short)).unwrap(),
            json!({
                "schema": 2,
                "event": "caption",
                "caption": "a \"red\" door\nbehind a bicycle",
                "verdict": "hedged",
                "reason": null,
                "spoken": "perhaps a \"red\" door\nbehind a bicycle",
                "confidence": 0.5,
                "confidence_calibrated": false,
                "sequence": 3,
                "time": "2025-12-31T23:59:59.500Z",
            })
        );
        assert!(!serde_json::to_string(&message).unwrap().contains('\n'));
        let long = serde_json::to_value(message.event(Detail::Long)).unwrap();
        assert_eq!(
            long["alternatives"],
            json!([{"caption": "a garden gate", "score": 0.125}])
        );
    }

    #[test]
    fn a_withheld_caption_is_nowhere_in_the_messages() {
        let frame = frame();
        let now = (SystemTime::UNIX_EPOCH, Duration::ZERO);
        let description = Description {
            verdict: Verdict::Unsure(Reason::BlownOut),
            spoken: "too bright".into(),
            calibrated: true,
            ..description()
        };
        let message = CaptionMessage::new(&frame, &description, "d", "p", 1, now).unwrap();
        let json = serde_json::to_value(&message).unwrap();
        assert_eq!(json["caption"], json!(null));
        assert_eq!(json["verdict"], "unsure");
        assert_eq!(json["reason"], "blown-out");
        assert_eq!(json["spoken"], "too bright");
        assert_eq!(json["confidence_calibrated"], true);
        assert_eq!(json["alternatives"], json!([]));
        assert_eq!(json["quality"], quality_json());
        let event = serde_json::to_value(message.event(Detail::Short)).unwrap();
        assert_eq!(event["event"], "unsure");
        assert_eq!(event["caption"], json!(null));
        assert_eq!(event["reason"], "blown-out");
        assert_eq!(event["spoken"], "too bright");
        for text in [json.to_string(), event.to_string()] {
            assert!(
                !text.contains("bicycle") && !text.contains("gate"),
                "{text}"
            );
        }
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
            description.neighbours.clear();
            assert!(CaptionMessage::new(&frame, &description, "d", "p", 1, now).is_ok());
            description.alternatives[0].score = bad;
            assert!(CaptionMessage::new(&frame, &description, "d", "p", 1, now).is_err());
            description.alternatives.clear();
            description.quality.sharpness = bad;
            assert!(CaptionMessage::new(&frame, &description, "d", "p", 1, now).is_err());
        }
        let mut description = description();
        description.confidence = 1.000_000_1;
        let message = CaptionMessage::new(&frame, &description, "d", "p", 1, now).unwrap();
        assert!(message.confidence <= 1.0);
    }

    #[test]
    fn a_text_is_cut_between_words() {
        assert_eq!(short_text("a red\ndoor "), "a red door");
        let just = "é".repeat(255);
        assert_eq!(short_text(&just), just);
        let one_word = short_text(&"é".repeat(256));
        assert_eq!(one_word, format!("{}…", "é".repeat(254)));
        for words in 40..70 {
            let text = "door ".repeat(words);
            let short = short_text(&text);
            assert!(short.chars().count() <= TEXT_CHARACTERS, "{short}");
            let whole = text.trim() == short;
            assert_eq!(whole, text.trim().len() <= TEXT_CHARACTERS);
            assert!(whole || short.ends_with("door…"), "{short}");
        }
        // 254 characters that end a word: nothing of it is lost.
        let text = format!("{} {} door", "a".repeat(200), "b".repeat(53));
        assert_eq!(
            short_text(&text),
            format!("{} {}…", "a".repeat(200), "b".repeat(53))
        );
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
