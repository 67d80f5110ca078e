//! The configuration file (TOML) and its complaints.
//!
//! Every complaint names the file, the line and column, the key, what was found and what is
//! expected. Everything that can be checked without the model is checked here, before it loads.

use std::fmt;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::check::Raw;
pub use self::mqtt::{HomeAssistantConfig, MqttConfig, OutboxConfig, TlsConfig};
pub use self::speech::{SpeechConfig, Via};
pub use self::web::WebConfig;
use super::controls::Values;
pub use super::secret::Secret;
use super::trigger::TriggerConfig;
use crate::caption::wording::Thresholds;
use crate::frame::Limits;
use crate::source::http::HttpSettings;

mod check;
mod mqtt;
mod source;
mod speech;
mod trigger;
mod web;

/// The whole configuration, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Folder of the model pack. Default: the pack that the program brings along.
    pub pack: Option<PathBuf>,
    /// Name of this device in topics and messages (`[device] id`), of `a-z A-Z 0-9 _ -`.
    /// Default: the host name, with everything else replaced by `-`.
    pub device: String,
    /// Where frames come from (`[source]`).
    pub source: SourceConfig,
    /// From which confidence on a caption is said, and how (`[confidence]`).
    pub confidence: Thresholds,
    /// `interval`, `enabled`, `min_confidence`, `detail`: what the daemon starts with, and what may
    /// be changed while it runs.
    pub controls: Values,
    /// When to caption (`[trigger]`). Default: as fast as `interval` allows.
    pub trigger: TriggerConfig,
    /// The broker (`[mqtt]`). May be left out with `[speech]`, `[web]` or `--stdout`.
    pub mqtt: Option<MqttConfig>,
    /// The home hub (`[home_assistant]`). Default: none is told of the device.
    pub home_assistant: Option<HomeAssistantConfig>,
    /// Saying captions aloud (`[speech]`). Default: silent.
    pub speech: Option<SpeechConfig>,
    /// The installer's page (`[web]`). Default: no port is open.
    pub web: Option<WebConfig>,
}

/// Where frames come from (`[source]`).
#[derive(Debug, Clone, PartialEq)]
pub struct SourceConfig {
    /// Which kind, and what belongs to it.
    pub kind: SourceKind,
    /// What all kinds but a folder have.
    pub live: LiveConfig,
    /// Pictures that take more memory to decode are refused (`max_decode_bytes`). Default: 167772160 (160 MiB).
    pub max_decode_bytes: u64,
}

impl SourceConfig {
    /// What decoding a picture may cost.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            bytes: self.max_decode_bytes,
            ..Limits::default()
        }
    }
}

/// `source.kind` chooses.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceKind {
    /// `kind = "folder"`: each new image of a folder.
    Folder(FolderConfig),
    /// `kind = "command"`: a program that writes MJPEG to its standard output.
    Command(CommandConfig),
    /// `kind = "http-snapshot"`: a picture at an address, fetched again and again.
    HttpSnapshot(SnapshotConfig),
    /// `kind = "http-mjpeg"`: a stream of pictures at an address.
    HttpMjpeg(StreamConfig),
    /// `kind = "video"`: a V4L2 device. Only in a program with cameras (feature `camera`).
    #[cfg(feature = "camera")]
    Video(VideoConfig),
}

/// Of sources whose frames come by themselves.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveConfig {
    /// A source that gives no whole frame for so long is closed and opened again, at least
    /// "500ms". Default: "10s".
    pub stall_after: Duration,
    /// The same picture, byte for byte, for so long is a frozen camera's; `None` ("off") lets it
    /// pass. Default: "30s".
    pub frozen_after: Option<Duration>,
}

impl Default for LiveConfig {
    fn default() -> Self {
        Self {
            stall_after: Duration::from_secs(10),
            frozen_after: Some(Duration::from_secs(30)),
        }
    }
}

/// `kind = "folder"`.
#[derive(Debug, Clone, PartialEq)]
pub struct FolderConfig {
    /// The folder. It may appear later.
    pub path: PathBuf,
    /// "skip" or "caption" the images that are there at the start. Default: "skip".
    pub caption_existing: bool,
    /// How often to look. Default: "1s".
    pub poll: Duration,
}

/// `kind = "command"`.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandConfig {
    /// Program and arguments, one string each; no shell is involved.
    pub argv: Vec<String>,
    /// Larger frames are refused. Default: 8388608 (8 MiB).
    pub max_frame_bytes: usize,
}

/// `kind = "http-snapshot"`.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotConfig {
    /// From the start of one request to the start of the next. Default: "1s".
    pub poll: Duration,
    /// Address, user and password (`url`, `username`, `password_file`), `max_frame_bytes`.
    pub http: HttpSettings,
}

/// `kind = "http-mjpeg"`.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamConfig {
    /// As in [`SnapshotConfig`].
    pub http: HttpSettings,
}

/// `kind = "video"`.
#[cfg(feature = "camera")]
#[derive(Debug, Clone, PartialEq)]
pub struct VideoConfig {
    /// `/dev/v4l/by-id/...` (follows the camera through a replug) or `/dev/videoN`.
    pub device: PathBuf,
    /// Wanted width; the nearest that the camera offers is used. Default: 640.
    pub width: u32,
    /// Wanted height. Default: 480.
    pub height: u32,
    /// Wanted frames a second. Default: 15.
    pub fps: u32,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file itself can't be read.
    #[error("{}: can't be read: {source}; name the configuration with --config FILE", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something in the file is wrong.
    #[error("{}:{line}:{column}: {key}{problem}", file.display(), key = Named(key))]
    Invalid {
        /// The file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
        /// Dotted key; empty if the file isn't TOML at that place.
        key: String,
        /// What was found, what is expected, what to do.
        problem: String,
    },
}

struct Named<'a>(&'a str);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            Ok(())
        } else {
            write!(f, "`{}`: ", self.0)
        }
    }
}

impl Config {
    /// Reads and checks `file`. Relative paths in it start at its folder. `stdout`: captions go
    /// to standard output as well, so `[mqtt]` may be left out.
    ///
    /// # Errors
    /// [`ConfigError`], which says where and what to do.
    pub fn load(file: &Path, stdout: bool) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(file).map_err(|source| ConfigError::Unreadable {
            file: file.to_owned(),
            source,
        })?;
        let place = Place { file, text: &text };
        let raw: Raw = toml::Deserializer::parse(&text)
            .map_err(|error| place.toml_error("", &error))
            .and_then(|deserializer| {
                serde_path_to_error::deserialize(deserializer)
                    .map_err(|error| place.toml_error(&error.path().to_string(), error.inner()))
            })?;
        raw.check(&place, stdout)
    }
}

/// Knows where in the file something stands.
struct Place<'a> {
    file: &'a Path,
    text: &'a str,
}

impl Place<'_> {
    fn path(&self, path: &Path) -> PathBuf {
        match self.file.parent() {
            Some(folder) => folder.join(path),
            None => path.to_owned(),
        }
    }

    fn invalid(&self, key: &str, at: Range<usize>, problem: impl Into<String>) -> ConfigError {
        let before = self.text.get(..at.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        ConfigError::Invalid {
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            key: key.to_owned(),
            problem: problem.into(),
        }
    }

    fn toml_error(&self, path: &str, error: &toml::de::Error) -> ConfigError {
        let at = error.span().unwrap_or(self.text.len()..self.text.len());
        // `Spanned` leaves steps of its own in the path ("$__serde_spanned_private_value").
        let key = path
            .split('.')
            .filter(|step| !step.is_empty() && !step.starts_with("$__serde_spanned"))
            .collect::<Vec<_>>()
            .join(".");
        self.invalid(&key, at, error.message())
    }
}

#[cfg(test)]
mod tests;
