//! The file as it's written, and the way from there to a checked [`Config`].

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::mqtt::{RawHomeAssistant, RawMqtt};
use super::speech::RawSpeech;
use super::{CommandConfig, Config, ConfigError, FolderConfig, Place, SourceConfig};
use crate::caption::wording::Thresholds;
use crate::daemon::controls::{Detail, Values};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pack: Option<PathBuf>,
    device: Option<RawDevice>,
    source: Spanned<RawSource>,
    #[serde(default, deserialize_with = "duration")]
    interval: Option<Spanned<Duration>>,
    confidence: Option<RawConfidence>,
    enabled: Option<bool>,
    min_confidence: Option<Spanned<f64>>,
    detail: Option<Detail>,
    mqtt: Option<RawMqtt>,
    home_assistant: Option<RawHomeAssistant>,
    speech: Option<RawSpeech>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawConfidence {
    hedge_below: Option<Spanned<f32>>,
    withhold_below: Option<Spanned<f32>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDevice {
    id: Option<Spanned<String>>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Debug)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Folder,
    Command,
    Video,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Existing {
    Skip,
    Caption,
}

/// One struct for all kinds: an enum with a tag would lose the places in the file (serde buffers
/// such values), and with them the line numbers of complaints.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSource {
    kind: Kind,
    path: Option<Spanned<PathBuf>>,
    existing: Option<Spanned<Existing>>,
    #[serde(default, deserialize_with = "duration")]
    poll: Option<Spanned<Duration>>,
    argv: Option<Spanned<Vec<String>>>,
    max_frame_bytes: Option<Spanned<usize>>,
    device: Option<Spanned<PathBuf>>,
    width: Option<Spanned<u32>>,
    height: Option<Spanned<u32>>,
    fps: Option<Spanned<u32>>,
}

pub(super) fn duration<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Spanned<Duration>>, D::Error> {
    let text = Spanned::<String>::deserialize(from)?;
    let span = text.span();
    humantime::parse_duration(text.as_ref())
        .map(|duration| Some(Spanned::new(span, duration)))
        .map_err(|_| {
            serde::de::Error::custom(format!(
                "{:?} is no duration, expected a string such as \"2s\", \"500ms\" or \"1m 30s\"",
                text.as_ref()
            ))
        })
}

impl Raw {
    pub(super) fn check(self, place: &Place, stdout: bool) -> Result<Config, ConfigError> {
        let device = match self.device.and_then(|device| device.id) {
            Some(id) if is_device_id(id.as_ref()) => id.into_inner(),
            Some(id) => {
                return Err(place.invalid(
                    "device.id",
                    id.span(),
                    format!(
                        "{:?} can't be part of a topic, expected 1 to 64 of a-z A-Z 0-9 _ -",
                        id.as_ref()
                    ),
                ));
            }
            None => device_id_of_host(),
        };
        let source = check_source(self.source, place)?;
        let confidence = self.confidence.unwrap_or_default().check(place)?;
        let speech = self.speech.map(|speech| speech.check(place)).transpose()?;
        let mqtt = match self.mqtt {
            Some(mqtt) => Some(mqtt.check(place, &device)?),
            None if stdout || speech.is_some() => None,
            None => {
                return Err(place.invalid(
                    "mqtt",
                    place.text.len()..place.text.len(),
                    "no such section, so captions would go nowhere; add [mqtt] with at least \
                     `host`, or [speech], or run with --stdout",
                ));
            }
        };
        let home_assistant = match self.home_assistant {
            Some(section) => section.check(place, mqtt.is_some())?,
            None => None,
        };
        if let Some(least) = &self.min_confidence
            && !(0.0..=1.0).contains(least.as_ref())
        {
            return Err(place.invalid(
                "min_confidence",
                least.span(),
                format!("{}, expected 0 to 1", least.as_ref()),
            ));
        }
        let defaults = Values::default();
        Ok(Config {
            pack: self.pack.map(|pack| place.path(&pack)),
            device,
            source,
            confidence,
            controls: Values {
                enabled: self.enabled.unwrap_or(defaults.enabled),
                interval: self.interval.map_or(defaults.interval, Spanned::into_inner),
                min_confidence: self
                    .min_confidence
                    .map_or(defaults.min_confidence, |least| *least.as_ref() as f32),
                detail: self.detail.unwrap_or(defaults.detail),
            },
            mqtt,
            home_assistant,
            speech,
        })
    }
}

fn check_source(source: Spanned<RawSource>, place: &Place) -> Result<SourceConfig, ConfigError> {
    let section = source.span();
    let raw = source.into_inner();
    let kind = raw.kind;
    let given = [
        ("path", Kind::Folder, span_of(&raw.path)),
        ("existing", Kind::Folder, span_of(&raw.existing)),
        ("poll", Kind::Folder, span_of(&raw.poll)),
        ("argv", Kind::Command, span_of(&raw.argv)),
        (
            "max_frame_bytes",
            Kind::Command,
            span_of(&raw.max_frame_bytes),
        ),
        ("device", Kind::Video, span_of(&raw.device)),
        ("width", Kind::Video, span_of(&raw.width)),
        ("height", Kind::Video, span_of(&raw.height)),
        ("fps", Kind::Video, span_of(&raw.fps)),
    ];
    for (key, of, span) in given {
        if let Some(span) = span
            && of != kind
        {
            return Err(place.invalid(
                &format!("source.{key}"),
                span,
                format!(
                    "belongs to kind = \"{}\", but source.kind is \"{}\"; remove it or change the \
                     kind",
                    name(of),
                    name(kind)
                ),
            ));
        }
    }
    let missing = |key: &str, what: &str| {
        place.invalid(
            &format!("source.{key}"),
            section.clone(),
            format!("is missing; kind = \"{}\" needs {what}", name(kind)),
        )
    };
    Ok(match kind {
        Kind::Folder => {
            let path = raw.path.ok_or_else(|| missing("path", "the folder"))?;
            if let Some(poll) = &raw.poll
                && *poll.as_ref() < Duration::from_millis(10)
            {
                return Err(place.invalid(
                    "source.poll",
                    poll.span(),
                    "would keep a core busy, expected \"10ms\" or more",
                ));
            }
            SourceConfig::Folder(FolderConfig {
                path: place.path(path.as_ref()),
                caption_existing: matches!(
                    raw.existing.map(Spanned::into_inner),
                    Some(Existing::Caption)
                ),
                poll: raw.poll.map_or(Duration::from_secs(1), Spanned::into_inner),
            })
        }
        Kind::Command => {
            let argv = raw
                .argv
                .ok_or_else(|| missing("argv", "the program and its arguments"))?;
            if argv.as_ref().first().is_none_or(String::is_empty) {
                return Err(place.invalid(
                    "source.argv",
                    argv.span(),
                    "names no program, expected for instance [\"rpicam-vid\", \"-t\", \"0\", ...]",
                ));
            }
            SourceConfig::Command(CommandConfig {
                argv: argv.into_inner(),
                max_frame_bytes: match raw.max_frame_bytes {
                    Some(bytes) if !(1024..=256 << 20).contains(bytes.as_ref()) => {
                        return Err(place.invalid(
                            "source.max_frame_bytes",
                            bytes.span(),
                            format!("{}, expected 1024 to 268435456", bytes.as_ref()),
                        ));
                    }
                    bytes => bytes.map_or(8 << 20, Spanned::into_inner),
                },
            })
        }
        Kind::Video => {
            let device = raw.device.ok_or_else(|| {
                missing("device", "the device, for instance \"/dev/v4l/by-id/...\"")
            })?;
            #[cfg(not(feature = "camera"))]
            return Err(place.invalid(
                "source.device",
                device.span(),
                "this program was built without cameras; build it with --features camera",
            ));
            #[cfg(feature = "camera")]
            SourceConfig::Video(super::VideoConfig {
                device: place.path(device.as_ref()),
                width: positive(place, "width", raw.width, 640)?,
                height: positive(place, "height", raw.height, 480)?,
                fps: positive(place, "fps", raw.fps, 15)?,
            })
        }
    })
}

#[cfg(feature = "camera")]
fn positive(
    place: &Place,
    key: &str,
    value: Option<Spanned<u32>>,
    default: u32,
) -> Result<u32, ConfigError> {
    match value {
        Some(value) if *value.as_ref() == 0 => Err(place.invalid(
            &format!("source.{key}"),
            value.span(),
            "0 makes no picture, expected 1 or more",
        )),
        value => Ok(value.map_or(default, Spanned::into_inner)),
    }
}

impl RawConfidence {
    fn check(self, place: &Place) -> Result<Thresholds, ConfigError> {
        let value = |given: &Option<Spanned<f32>>| given.as_ref().map(|given| *given.as_ref());
        Thresholds::new(value(&self.hedge_below), value(&self.withhold_below)).map_err(|error| {
            let given = match error.key() {
                "hedge_below" => &self.hedge_below,
                _ => &self.withhold_below,
            };
            let span = span_of(given).unwrap_or_default();
            place.invalid(
                &format!("confidence.{}", error.key()),
                span,
                error.to_string(),
            )
        })
    }
}

fn is_device_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

fn device_id_of_host() -> String {
    let uname = rustix::system::uname();
    device_id_from(&uname.nodename().to_string_lossy())
}

fn device_id_from(host: &str) -> String {
    let id: String = host
        .chars()
        .take(64)
        .map(|character| match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' => character,
            _ => '-',
        })
        .collect();
    if id.is_empty() { "camera".into() } else { id }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Folder => "folder",
        Kind::Command => "command",
        Kind::Video => "video",
    }
}

fn span_of<T>(value: &Option<Spanned<T>>) -> Option<Range<usize>> {
    value.as_ref().map(Spanned::span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_name_gives_a_device_id() {
        for (host, id) in [
            ("porch", "porch"),
            ("pi.local", "pi-local"),
            ("küche", "k-che"),
            ("", "camera"),
        ] {
            assert_eq!(device_id_from(host), id);
            assert!(is_device_id(&device_id_from(host)));
        }
        assert!(is_device_id(&device_id_from(&"x".repeat(300))));
    }
}
