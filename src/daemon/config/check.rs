//! The file as it's written, and the way from there to a checked [`Config`].

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::mqtt::{RawHomeAssistant, RawMqtt};
use super::source::RawSource;
use super::speech::RawSpeech;
use super::trigger::RawTrigger;
use super::web::RawWeb;
use super::{Config, ConfigError, Place};
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
    trigger: Option<Spanned<RawTrigger>>,
    mqtt: Option<RawMqtt>,
    home_assistant: Option<RawHomeAssistant>,
    speech: Option<RawSpeech>,
    web: Option<Spanned<RawWeb>>,
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
        let confidence = self.confidence.unwrap_or_default().check(place)?;
        let speech = self.speech.map(|speech| speech.check(place)).transpose()?;
        let web = self
            .web
            .map(|web| super::web::check(web, place))
            .transpose()?;
        let source = super::source::check(self.source, place)?;
        let trigger = super::trigger::check(self.trigger, &source, place)?;
        let mqtt = match self.mqtt {
            Some(mqtt) => Some(mqtt.check(place, &device)?),
            None if stdout || speech.is_some() || web.is_some() => None,
            None => {
                return Err(place.invalid(
                    "mqtt",
                    place.text.len()..place.text.len(),
                    "no such section, so captions would go nowhere; add [mqtt] with at least \
                     `host`, or [speech] or [web], or run with --stdout",
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
            trigger,
            mqtt,
            home_assistant,
            speech,
            web,
        })
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
            let span = given.as_ref().map(Spanned::span).unwrap_or_default();
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
