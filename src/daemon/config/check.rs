//! The file as it's written, and the way from there to a checked [`Config`].

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::source::RawSource;
use super::trigger::RawTrigger;
use super::{Config, ConfigError, MqttConfig, Place, Secret};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pack: Option<PathBuf>,
    device: Option<RawDevice>,
    source: Spanned<RawSource>,
    #[serde(default, deserialize_with = "duration")]
    interval: Option<Spanned<Duration>>,
    trigger: Option<Spanned<RawTrigger>>,
    mqtt: Option<RawMqtt>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDevice {
    id: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMqtt {
    host: Spanned<String>,
    port: Option<Spanned<u16>>,
    prefix: Option<Spanned<String>>,
    username: Option<Spanned<String>>,
    password_file: Option<Spanned<PathBuf>>,
    client_id: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "duration")]
    keep_alive: Option<Spanned<Duration>>,
    qos: Option<Spanned<u8>>,
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
        let source = super::source::check(self.source, place)?;
        let trigger = super::trigger::check(self.trigger, &source, place)?;
        let mqtt = match self.mqtt {
            Some(mqtt) => Some(mqtt.check(place, &device)?),
            None if stdout => None,
            None => {
                return Err(place.invalid(
                    "mqtt",
                    place.text.len()..place.text.len(),
                    "no such section, so captions would go nowhere; add [mqtt] with at least \
                     `host`, or run with --stdout",
                ));
            }
        };
        Ok(Config {
            pack: self.pack.map(|pack| place.path(&pack)),
            device,
            source,
            interval: self.interval.map_or(Duration::ZERO, Spanned::into_inner),
            trigger,
            mqtt,
        })
    }
}

impl RawMqtt {
    fn check(self, place: &Place, device: &str) -> Result<MqttConfig, ConfigError> {
        let text = |key: &str, value: &Spanned<String>, most: usize| {
            let length = value.as_ref().len();
            if length == 0 || length > most || value.as_ref().contains('\0') {
                return Err(place.invalid(
                    &format!("mqtt.{key}"),
                    value.span(),
                    format!("{length} bytes, expected 1 to {most} without NUL"),
                ));
            }
            Ok(())
        };
        text("host", &self.host, 255)?;
        if let Some(port) = &self.port
            && *port.as_ref() == 0
        {
            return Err(place.invalid("mqtt.port", port.span(), "0, expected 1 to 65535"));
        }
        for (key, value) in [("username", &self.username), ("client_id", &self.client_id)] {
            if let Some(value) = value {
                text(key, value, 1024)?;
            }
        }
        if let Some(prefix) = &self.prefix {
            text("prefix", prefix, 256)?;
            let prefix_text = prefix.as_ref();
            if prefix_text.contains(['+', '#'])
                || prefix_text.starts_with('$')
                || prefix_text.split('/').any(str::is_empty)
            {
                return Err(place.invalid(
                    "mqtt.prefix",
                    prefix.span(),
                    format!(
                        "{prefix_text:?} can't begin a topic, expected names joined by `/`, \
                         without `+`, `#`, a leading `$` or an empty name"
                    ),
                ));
            }
        }
        let keep_alive = match &self.keep_alive {
            Some(time) if !(5..=3600).contains(&time.as_ref().as_secs()) => {
                return Err(place.invalid(
                    "mqtt.keep_alive",
                    time.span(),
                    format!(
                        "{}, expected \"5s\" to \"1h\"",
                        humantime::format_duration(*time.as_ref())
                    ),
                ));
            }
            // Whole seconds: MQTT has no finer ones.
            time => Duration::from_secs(time.as_ref().map_or(30, |time| time.as_ref().as_secs())),
        };
        if let Some(qos) = &self.qos
            && *qos.as_ref() > 1
        {
            return Err(place.invalid(
                "mqtt.qos",
                qos.span(),
                format!(
                    "{}, expected 0 or 1 (captions carry a sequence number, so a repeated one is \
                     known without the cost of 2)",
                    qos.as_ref()
                ),
            ));
        }
        let password = match &self.password_file {
            None => None,
            Some(file) if self.username.is_none() => {
                return Err(place.invalid(
                    "mqtt.password_file",
                    file.span(),
                    "a password needs a user; add mqtt.username",
                ));
            }
            Some(file) => Some(
                read_password(&place.path(file.as_ref()))
                    .map_err(|problem| place.invalid("mqtt.password_file", file.span(), problem))?,
            ),
        };
        Ok(MqttConfig {
            host: self.host.into_inner(),
            port: self.port.map_or(1883, Spanned::into_inner),
            prefix: self
                .prefix
                .map_or_else(|| "captiond".into(), Spanned::into_inner),
            username: self.username.map(Spanned::into_inner),
            password,
            client_id: self
                .client_id
                .map_or_else(|| format!("captiond-{device}"), Spanned::into_inner),
            keep_alive,
            qos: self.qos.map_or(1, Spanned::into_inner),
        })
    }
}

/// Refuses a file that everybody may read or change; its text is the password, without the line
/// end that editors add.
pub(super) fn read_password(file: &Path) -> Result<Secret, String> {
    let shown = file.display();
    let unreadable = |error: io::Error| format!("{shown} can't be read: {error}");
    let mode = fs::metadata(file).map_err(unreadable)?.mode();
    if mode & 0o007 != 0 {
        return Err(format!(
            "{shown} is open to every user of this machine (mode {:04o}); run `chmod o= {shown}` \
             and change the password, since it may have been read",
            mode & 0o7777
        ));
    }
    let text = fs::read_to_string(file).map_err(unreadable)?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.is_empty() {
        return Err(format!("{shown} is empty, expected the password in it"));
    }
    if password.contains('\n') {
        return Err(format!(
            "{shown} has more than one line, expected the password alone"
        ));
    }
    Ok(Secret(password.to_owned()))
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
