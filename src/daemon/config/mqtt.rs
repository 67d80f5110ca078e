//! `[mqtt]`, `[mqtt.tls]` and `[home_assistant]`.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::check::duration;
use super::{ConfigError, Place, Secret};

/// `[mqtt]`.
#[derive(Debug, Clone, PartialEq)]
pub struct MqttConfig {
    /// Name or address of the broker.
    pub host: String,
    /// Its port. Default: 1883, with TLS 8883.
    pub port: u16,
    /// First part of all topics. Default: "captiond".
    pub prefix: String,
    /// User name. Default: none.
    pub username: Option<String>,
    /// The password, read from `password_file` (a file that only the daemon's user and its group
    /// may read) or from `password_credential` (one that systemd hands over). Default: none.
    pub password: Option<Secret>,
    /// MQTT client id; no two clients of one broker may have the same.
    /// Default: "captiond-" and the device id.
    pub client_id: String,
    /// After so long without traffic client and broker check that the other is alive; after one
    /// and a half of it the broker publishes the last will. "5s" to "1h". Default: "30s".
    pub keep_alive: Duration,
    /// Quality of service of captions, events and pictures: 0 (at most once) or 1 (at least once).
    /// Default: 1. (Everything else is always sent with 1.)
    pub qos: u8,
    /// `[mqtt.tls]`. Default: none.
    pub tls: Option<TlsConfig>,
    /// Whether the captioned picture is published. Default: false: pictures stay on the device.
    pub publish_image: bool,
    /// How often `health` is published, "1s" to "1d". Default: "1m".
    pub health_interval: Duration,
    /// The longest wait between two attempts to reach a broker that is away, "1s" to "1h". Default: "1m".
    pub reconnect_max: Duration,
    /// What waits for a broker that is away.
    pub outbox: OutboxConfig,
}

/// The `outbox_` keys of `[mqtt]`.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxConfig {
    /// Events that wait at most; the oldest go first. 1 to 100,000. Default: 1000.
    pub max_entries: usize,
    /// Their bytes, at most. 4 KiB to 1 GiB. Default: 1048576 (1 MiB).
    pub max_bytes: usize,
    /// Events that are older aren't sent any more. Default: "10m".
    pub max_age: Duration,
    /// Folder that keeps them through a restart or a power cut. Default: none, in memory only.
    pub folder: Option<PathBuf>,
}

/// `[mqtt.tls]`: certificates and key as PEM, read when the configuration is.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsConfig {
    /// The authorities that the broker's certificate may come from. Default: those that the
    /// system trusts.
    pub ca: Option<Vec<u8>>,
    /// Our certificate (with those between it and its authority) and its key. Default: none.
    pub client: Option<(Vec<u8>, Secret)>,
}

/// `[home_assistant]` with `enabled = true`.
#[derive(Debug, Clone, PartialEq)]
pub struct HomeAssistantConfig {
    /// The hub's own first part of topics. Default: "homeassistant".
    pub discovery_prefix: String,
}

impl MqttConfig {
    /// Whether the password goes over a network for all to read.
    #[must_use]
    pub fn password_is_open(&self) -> bool {
        let here = match self.host.parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => self.host == "localhost",
        };
        self.password.is_some() && self.tls.is_none() && !here
    }

    /// The defaults, with a broker and a device.
    #[must_use]
    pub fn new(host: &str, device: &str) -> Self {
        Self {
            host: host.into(),
            port: 1883,
            prefix: "captiond".into(),
            username: None,
            password: None,
            client_id: format!("captiond-{device}"),
            keep_alive: Duration::from_secs(30),
            qos: 1,
            tls: None,
            publish_image: false,
            health_interval: Duration::from_secs(60),
            reconnect_max: Duration::from_secs(60),
            outbox: OutboxConfig {
                max_entries: 1000,
                max_bytes: 1 << 20,
                max_age: Duration::from_secs(600),
                folder: None,
            },
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMqtt {
    host: Spanned<String>,
    port: Option<Spanned<u16>>,
    prefix: Option<Spanned<String>>,
    username: Option<Spanned<String>>,
    password_file: Option<Spanned<PathBuf>>,
    password_credential: Option<Spanned<String>>,
    client_id: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "duration")]
    keep_alive: Option<Spanned<Duration>>,
    qos: Option<Spanned<u8>>,
    publish_image: Option<bool>,
    #[serde(default, deserialize_with = "duration")]
    health_interval: Option<Spanned<Duration>>,
    #[serde(default, deserialize_with = "duration")]
    reconnect_max: Option<Spanned<Duration>>,
    outbox_max_entries: Option<Spanned<usize>>,
    outbox_max_bytes: Option<Spanned<usize>>,
    #[serde(default, deserialize_with = "duration")]
    outbox_max_age: Option<Spanned<Duration>>,
    outbox_dir: Option<PathBuf>,
    tls: Option<RawTls>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTls {
    ca_file: Option<Spanned<PathBuf>>,
    client_certificate_file: Option<Spanned<PathBuf>>,
    client_key_file: Option<Spanned<PathBuf>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHomeAssistant {
    enabled: Spanned<bool>,
    discovery_prefix: Option<Spanned<String>>,
}

impl RawHomeAssistant {
    pub(super) fn check(
        self,
        place: &Place,
        with_broker: bool,
    ) -> Result<Option<HomeAssistantConfig>, ConfigError> {
        let prefix = self.discovery_prefix;
        if let Some(prefix) = &prefix {
            check_prefix(place, "home_assistant.discovery_prefix", prefix)?;
        }
        if !self.enabled.as_ref() {
            return Ok(None);
        }
        if !with_broker {
            return Err(place.invalid(
                "home_assistant.enabled",
                self.enabled.span(),
                "the hub is reached through a broker; add [mqtt] with at least `host`",
            ));
        }
        Ok(Some(HomeAssistantConfig {
            discovery_prefix: prefix.map_or_else(|| "homeassistant".into(), Spanned::into_inner),
        }))
    }
}

impl RawTls {
    fn check(self, place: &Place) -> Result<TlsConfig, ConfigError> {
        let certificates = |key: &str, file: &Spanned<PathBuf>| {
            let key = format!("mqtt.tls.{key}");
            let path = place.path(file.as_ref());
            let shown = path.display();
            let problem = match fs::read(&path) {
                Ok(pem) if is_pem(&pem, "CERTIFICATE") => return Ok(pem),
                Ok(_) => {
                    format!("{shown} holds no PEM certificate (-----BEGIN CERTIFICATE-----)")
                }
                Err(error) => format!("{shown} can't be read: {error}"),
            };
            Err(place.invalid(&key, file.span(), problem))
        };
        let ca = match &self.ca_file {
            Some(file) => Some(certificates("ca_file", file)?),
            None => None,
        };
        let client = match (&self.client_certificate_file, &self.client_key_file) {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                let chain = certificates("client_certificate_file", certificate)?;
                let invalid =
                    |problem| place.invalid("mqtt.tls.client_key_file", key.span(), problem);
                let path = place.path(key.as_ref());
                let pem = read_private(&path, "make a new key").map_err(invalid)?;
                if !is_pem(pem.as_bytes(), "PRIVATE KEY") {
                    return Err(invalid(format!(
                        "{} holds no PEM key without a password (-----BEGIN PRIVATE KEY-----)",
                        path.display()
                    )));
                }
                Some((chain, Secret::new(pem)))
            }
            (Some(alone), None) => {
                return Err(place.invalid(
                    "mqtt.tls.client_certificate_file",
                    alone.span(),
                    "a certificate needs its key; add client_key_file",
                ));
            }
            (None, Some(alone)) => {
                return Err(place.invalid(
                    "mqtt.tls.client_key_file",
                    alone.span(),
                    "a key needs its certificate; add client_certificate_file",
                ));
            }
        };
        Ok(TlsConfig { ca, client })
    }
}

/// Whether there is a section of this kind; `RSA PRIVATE KEY` is one of `PRIVATE KEY` too.
fn is_pem(bytes: &[u8], kind: &str) -> bool {
    String::from_utf8_lossy(bytes).lines().any(|line| {
        line.strip_prefix("-----BEGIN ")
            .and_then(|line| line.trim_end().strip_suffix("-----"))
            .is_some_and(|found| found.ends_with(kind) && !found.contains("ENCRYPTED"))
    })
}

fn check_prefix(place: &Place, key: &str, prefix: &Spanned<String>) -> Result<(), ConfigError> {
    let text = prefix.as_ref();
    if text.is_empty()
        || text.len() > 256
        || text.contains(['+', '#', '\0'])
        || text.starts_with('$')
        || text.split('/').any(str::is_empty)
    {
        return Err(place.invalid(
            key,
            prefix.span(),
            format!(
                "{text:?} can't begin a topic, expected 1 to 256 bytes, names joined by `/`, without \
                 `+`, `#`, a leading `$` or an empty name"
            ),
        ));
    }
    Ok(())
}

impl RawMqtt {
    pub(super) fn check(self, place: &Place, device: &str) -> Result<MqttConfig, ConfigError> {
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
            check_prefix(place, "mqtt.prefix", prefix)?;
        }
        let between = |key: &str, value: &Option<Spanned<Duration>>, default, least, most| {
            let Some(time) = value else {
                return Ok(Duration::from_secs(default));
            };
            if !(least..=most).contains(&time.as_ref().as_secs()) {
                let shown = |seconds| humantime::format_duration(Duration::from_secs(seconds));
                return Err(place.invalid(
                    &format!("mqtt.{key}"),
                    time.span(),
                    format!(
                        "{}, expected \"{}\" to \"{}\"",
                        humantime::format_duration(*time.as_ref()),
                        shown(least),
                        shown(most)
                    ),
                ));
            }
            // Whole seconds: MQTT has no finer ones.
            Ok(Duration::from_secs(time.as_ref().as_secs()))
        };
        let day = 86_400;
        let keep_alive = between("keep_alive", &self.keep_alive, 30, 5, 3600)?;
        let health_interval = between("health_interval", &self.health_interval, 60, 1, day)?;
        let reconnect_max = between("reconnect_max", &self.reconnect_max, 60, 1, 3600)?;
        let max_age = between("outbox_max_age", &self.outbox_max_age, 600, 1, 30 * day)?;
        let count = |key: &str, value: &Option<Spanned<usize>>, default, least, most| match value {
            Some(value) if !(least..=most).contains(value.as_ref()) => Err(place.invalid(
                &format!("mqtt.{key}"),
                value.span(),
                format!("{}, expected {least} to {most}", value.as_ref()),
            )),
            value => Ok(value.as_ref().map_or(default, |value| *value.as_ref())),
        };
        let outbox = OutboxConfig {
            max_entries: count(
                "outbox_max_entries",
                &self.outbox_max_entries,
                1000,
                1,
                100_000,
            )?,
            max_bytes: count(
                "outbox_max_bytes",
                &self.outbox_max_bytes,
                1 << 20,
                4096,
                1 << 30,
            )?,
            max_age,
            folder: self.outbox_dir.map(|folder| place.path(&folder)),
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
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
        let password = password(
            place,
            self.password_file.as_ref(),
            self.password_credential.as_ref(),
            self.username.is_some(),
            credentials,
        )?;
        let tls = match self.tls {
            Some(tls) => Some(tls.check(place)?),
            None => None,
        };
        if tls.is_some() && self.host.as_ref().contains(':') {
            // The client library would look for a certificate with the address in brackets.
            return Err(place.invalid(
                "mqtt.host",
                self.host.span(),
                "an IPv6 address can't be used with [mqtt.tls]; use the broker's name",
            ));
        }
        let defaults = MqttConfig::new(self.host.as_ref(), device);
        let default_port = if tls.is_some() { 8883 } else { defaults.port };
        Ok(MqttConfig {
            port: self.port.map_or(default_port, Spanned::into_inner),
            prefix: self.prefix.map_or(defaults.prefix, Spanned::into_inner),
            username: self.username.map(Spanned::into_inner),
            password,
            client_id: self
                .client_id
                .map_or(defaults.client_id, Spanned::into_inner),
            keep_alive,
            qos: self.qos.map_or(defaults.qos, Spanned::into_inner),
            tls,
            publish_image: self.publish_image.unwrap_or(defaults.publish_image),
            health_interval,
            reconnect_max,
            outbox,
            host: defaults.host,
        })
    }
}

/// `credentials`: where systemd has put the unit's credentials, if it has any.
fn password(
    place: &Place,
    file: Option<&Spanned<PathBuf>>,
    credential: Option<&Spanned<String>>,
    has_user: bool,
    credentials: Option<OsString>,
) -> Result<Option<Secret>, ConfigError> {
    let given = match (file, credential) {
        (Some(file), _) => Some(("mqtt.password_file", file.span())),
        (None, Some(credential)) => Some(("mqtt.password_credential", credential.span())),
        (None, None) => None,
    };
    if let Some((key, span)) = given
        && !has_user
    {
        return Err(place.invalid(key, span, "a password needs a user; add mqtt.username"));
    }
    secret(place, "mqtt", "password", file, credential, credentials)
}

/// The secret `what` ("password", "token") of a section, from its `<what>_file` or its
/// `<what>_credential`; none if neither is given. `credentials` as in [`password`].
pub(super) fn secret(
    place: &Place,
    section: &str,
    what: &str,
    file: Option<&Spanned<PathBuf>>,
    credential: Option<&Spanned<String>>,
    credentials: Option<OsString>,
) -> Result<Option<Secret>, ConfigError> {
    let invalid = |key: &str, span, problem: String| {
        place.invalid(&format!("{section}.{what}_{key}"), span, problem)
    };
    match (file, credential) {
        (None, None) => Ok(None),
        (Some(_), Some(credential)) => Err(invalid(
            "credential",
            credential.span(),
            format!("there is {what}_file too; remove one of them"),
        )),
        (Some(file), None) => read_secret(&place.path(file.as_ref()), what)
            .map(Some)
            .map_err(|problem| invalid("file", file.span(), problem)),
        (None, Some(credential)) => credential_file(credential.as_ref(), what, credentials)
            .and_then(|path| read_secret(&path, what))
            .map(Some)
            .map_err(|problem| invalid("credential", credential.span(), problem)),
    }
}

fn credential_file(
    name: &str,
    what: &str,
    credentials: Option<OsString>,
) -> Result<PathBuf, String> {
    // One file of that folder, nothing elsewhere.
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(format!("{name:?} is no name of a credential"));
    }
    let folder = credentials.ok_or_else(|| {
        format!(
            "there is no $CREDENTIALS_DIRECTORY: add LoadCredential={name}:FILE to the systemd unit, or \
             use {what}_file"
        )
    })?;
    Ok(Path::new(&folder).join(name))
}

/// The password in a file that nobody else may read or change.
pub(super) fn read_password(file: &Path) -> Result<Secret, String> {
    read_secret(file, "password")
}

fn read_secret(file: &Path, what: &str) -> Result<Secret, String> {
    one_line(
        file,
        &read_private(file, &format!("change the {what}"))?,
        what,
    )
}

/// Refuses a file that everybody may read or change.
fn read_private(file: &Path, remedy: &str) -> Result<String, String> {
    let shown = file.display();
    let unreadable = |error: io::Error| format!("{shown} can't be read: {error}");
    let mode = fs::metadata(file).map_err(unreadable)?.mode();
    if mode & 0o007 != 0 {
        return Err(format!(
            "{shown} is open to every user of this machine (mode {:04o}); run `chmod o= {shown}` \
             and {remedy}, since it may have been read",
            mode & 0o7777
        ));
    }
    fs::read_to_string(file).map_err(unreadable)
}

/// The file's text is the secret, without the line end that editors add.
fn one_line(file: &Path, text: &str, what: &str) -> Result<Secret, String> {
    let shown = file.display();
    let secret = text.strip_suffix('\n').unwrap_or(text);
    let secret = secret.strip_suffix('\r').unwrap_or(secret);
    if secret.is_empty() {
        return Err(format!("{shown} is empty, expected the {what} in it"));
    }
    if secret.contains('\n') {
        return Err(format!(
            "{shown} has more than one line, expected the {what} alone"
        ));
    }
    Ok(Secret::new(secret))
}

#[cfg(test)]
#[path = "mqtt_tests.rs"]
mod tests;
