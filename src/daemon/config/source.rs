//! `[source]`.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::check::duration;
use super::mqtt::read_password;
use super::{
    CommandConfig, ConfigError, FolderConfig, LiveConfig, Place, Secret, SnapshotConfig,
    SourceConfig, SourceKind, StreamConfig,
};
use crate::frame::DAEMON_BYTES;
use crate::source::http::HttpSettings;
use crate::source::http::address::Address;
use crate::source::http::client::Credentials;

#[derive(Deserialize, Clone, Copy, PartialEq, Debug)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Folder,
    Command,
    Video,
    HttpSnapshot,
    HttpMjpeg,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Folder => "folder",
            Self::Command => "command",
            Self::Video => "video",
            Self::HttpSnapshot => "http-snapshot",
            Self::HttpMjpeg => "http-mjpeg",
        }
    }
}

use Kind::{Command, Folder, HttpMjpeg, HttpSnapshot, Video};

/// All kinds whose frames come by themselves.
const LIVE: &[Kind] = &[Command, Video, HttpSnapshot, HttpMjpeg];
const HTTP: &[Kind] = &[HttpSnapshot, HttpMjpeg];

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
pub(super) struct RawSource {
    kind: Kind,
    path: Option<Spanned<PathBuf>>,
    existing: Option<Spanned<Existing>>,
    #[serde(default, deserialize_with = "duration")]
    poll: Option<Spanned<Duration>>,
    argv: Option<Spanned<Vec<String>>>,
    max_frame_bytes: Option<Spanned<usize>>,
    max_decode_bytes: Option<Spanned<u64>>,
    device: Option<Spanned<PathBuf>>,
    width: Option<Spanned<u32>>,
    height: Option<Spanned<u32>>,
    fps: Option<Spanned<u32>>,
    url: Option<Spanned<String>>,
    username: Option<Spanned<String>>,
    password_file: Option<Spanned<PathBuf>>,
    #[serde(default, deserialize_with = "duration")]
    stall_after: Option<Spanned<Duration>>,
    frozen_after: Option<Spanned<String>>,
}

/// What a check needs to complain.
struct Section<'a> {
    kind: Kind,
    span: Range<usize>,
    place: &'a Place<'a>,
}

impl Section<'_> {
    fn invalid(&self, key: &str, at: Range<usize>, problem: impl Into<String>) -> ConfigError {
        self.place.invalid(&format!("source.{key}"), at, problem)
    }

    fn missing(&self, key: &str, what: &str) -> ConfigError {
        let problem = format!("is missing; kind = \"{}\" needs {what}", self.kind.name());
        self.invalid(key, self.span.clone(), problem)
    }

    fn path(&self, path: &Path) -> PathBuf {
        self.place.path(path)
    }
}

pub(super) fn check(
    source: Spanned<RawSource>,
    place: &Place,
) -> Result<SourceConfig, ConfigError> {
    let section = Section {
        kind: source.as_ref().kind,
        span: source.span(),
        place,
    };
    let raw = source.into_inner();
    check_kinds(&raw, &section)?;
    let live = live(&raw, &section)?;
    let max_decode_bytes = max_decode_bytes(&raw, &section)?;
    let kind = match section.kind {
        Folder => SourceKind::Folder(FolderConfig {
            path: match &raw.path {
                Some(path) => section.path(path.as_ref()),
                None => return Err(section.missing("path", "the folder")),
            },
            poll: poll(&raw, &section)?,
            caption_existing: matches!(
                raw.existing.map(Spanned::into_inner),
                Some(Existing::Caption)
            ),
        }),
        Command => {
            let max_frame_bytes = max_frame_bytes(&raw, &section)?;
            let argv = raw
                .argv
                .ok_or_else(|| section.missing("argv", "the program and its arguments"))?;
            if argv.as_ref().first().is_none_or(String::is_empty) {
                return Err(section.invalid(
                    "argv",
                    argv.span(),
                    "names no program, expected for instance [\"rpicam-vid\", \"-t\", \"0\", ...]",
                ));
            }
            SourceKind::Command(CommandConfig {
                argv: argv.into_inner(),
                max_frame_bytes,
            })
        }
        HttpSnapshot => SourceKind::HttpSnapshot(SnapshotConfig {
            poll: poll(&raw, &section)?,
            http: http(&raw, &section, live.stall_after)?,
        }),
        HttpMjpeg => SourceKind::HttpMjpeg(StreamConfig {
            http: http(&raw, &section, live.stall_after)?,
        }),
        Video => {
            let device = raw.device.ok_or_else(|| {
                section.missing("device", "the device, for instance \"/dev/v4l/by-id/...\"")
            })?;
            #[cfg(not(feature = "camera"))]
            return Err(section.invalid(
                "device",
                device.span(),
                "this program was built without cameras; build it with --features camera",
            ));
            #[cfg(feature = "camera")]
            SourceKind::Video(super::VideoConfig {
                device: section.path(device.as_ref()),
                width: positive(&section, "width", raw.width, 640)?,
                height: positive(&section, "height", raw.height, 480)?,
                fps: positive(&section, "fps", raw.fps, 15)?,
            })
        }
    };
    Ok(SourceConfig {
        kind,
        live,
        max_decode_bytes,
    })
}

/// Refuses keys that belong to other kinds: who sets them expects something of them.
fn check_kinds(raw: &RawSource, section: &Section) -> Result<(), ConfigError> {
    let given: [(&str, &[Kind], _); 14] = [
        ("path", &[Folder], span_of(&raw.path)),
        ("existing", &[Folder], span_of(&raw.existing)),
        ("poll", &[Folder, HttpSnapshot], span_of(&raw.poll)),
        ("argv", &[Command], span_of(&raw.argv)),
        (
            "max_frame_bytes",
            &[Command, HttpSnapshot, HttpMjpeg],
            span_of(&raw.max_frame_bytes),
        ),
        ("device", &[Video], span_of(&raw.device)),
        ("width", &[Video], span_of(&raw.width)),
        ("height", &[Video], span_of(&raw.height)),
        ("fps", &[Video], span_of(&raw.fps)),
        ("url", HTTP, span_of(&raw.url)),
        ("username", HTTP, span_of(&raw.username)),
        ("password_file", HTTP, span_of(&raw.password_file)),
        ("stall_after", LIVE, span_of(&raw.stall_after)),
        ("frozen_after", LIVE, span_of(&raw.frozen_after)),
    ];
    for (key, of, span) in given {
        if let Some(span) = span
            && !of.contains(&section.kind)
        {
            let of: Vec<_> = of
                .iter()
                .map(|kind| format!("\"{}\"", kind.name()))
                .collect();
            let problem = format!(
                "belongs to kind = {}, but source.kind is \"{}\"; remove it or change the kind",
                of.join(" or "),
                section.kind.name()
            );
            return Err(section.invalid(key, span, problem));
        }
    }
    Ok(())
}

fn live(raw: &RawSource, section: &Section) -> Result<LiveConfig, ConfigError> {
    let defaults = LiveConfig::default();
    let stall_after = match &raw.stall_after {
        Some(time) if *time.as_ref() < Duration::from_millis(500) => {
            return Err(section.invalid(
                "stall_after",
                time.span(),
                "would take a hiccup for a stall, expected \"500ms\" or more",
            ));
        }
        time => time
            .as_ref()
            .map_or(defaults.stall_after, |time| *time.as_ref()),
    };
    let frozen_after = match &raw.frozen_after {
        None => defaults.frozen_after,
        Some(text) if text.as_ref() == "off" => None,
        Some(text) => match humantime::parse_duration(text.as_ref()) {
            Ok(time) if time >= Duration::from_secs(1) => Some(time),
            _ => {
                return Err(section.invalid(
                    "frozen_after",
                    text.span(),
                    format!(
                        "{:?}, expected a duration of \"1s\" or more such as \"30s\", or \"off\"",
                        text.as_ref()
                    ),
                ));
            }
        },
    };
    Ok(LiveConfig {
        stall_after,
        frozen_after,
    })
}

fn poll(raw: &RawSource, section: &Section) -> Result<Duration, ConfigError> {
    match &raw.poll {
        Some(poll) if *poll.as_ref() < Duration::from_millis(10) => Err(section.invalid(
            "poll",
            poll.span(),
            "would keep a core busy, expected \"10ms\" or more",
        )),
        poll => Ok(poll
            .as_ref()
            .map_or(Duration::from_secs(1), |poll| *poll.as_ref())),
    }
}

fn max_frame_bytes(raw: &RawSource, section: &Section) -> Result<usize, ConfigError> {
    match &raw.max_frame_bytes {
        Some(bytes) if !(1024..=256 << 20).contains(bytes.as_ref()) => Err(section.invalid(
            "max_frame_bytes",
            bytes.span(),
            format!("{}, expected 1024 to 268435456", bytes.as_ref()),
        )),
        bytes => Ok(bytes.as_ref().map_or(8 << 20, |bytes| *bytes.as_ref())),
    }
}

fn max_decode_bytes(raw: &RawSource, section: &Section) -> Result<u64, ConfigError> {
    match &raw.max_decode_bytes {
        Some(bytes) if !(1 << 20..=1 << 30).contains(bytes.as_ref()) => Err(section.invalid(
            "max_decode_bytes",
            bytes.span(),
            format!("{}, expected 1048576 to 1073741824", bytes.as_ref()),
        )),
        bytes => Ok(bytes.as_ref().map_or(DAEMON_BYTES, |bytes| *bytes.as_ref())),
    }
}

fn http(
    raw: &RawSource,
    section: &Section,
    stall_after: Duration,
) -> Result<HttpSettings, ConfigError> {
    let url = raw
        .url
        .as_ref()
        .ok_or_else(|| section.missing("url", "the address, for instance \"http://camera/\""))?;
    let address = Address::parse(url.as_ref())
        .map_err(|problem| section.invalid("url", url.span(), problem))?;
    let credentials = match (&raw.username, &raw.password_file) {
        (None, None) => None,
        (Some(username), file) => {
            if username.as_ref().contains(':') {
                return Err(section.invalid(
                    "username",
                    username.span(),
                    "basic authentication knows no user with `:` in the name",
                ));
            }
            let password = match file {
                // Some cameras have a user without a password.
                None => Secret::new(""),
                Some(file) => read_password(&section.path(file.as_ref()))
                    .map_err(|problem| section.invalid("password_file", file.span(), problem))?,
            };
            Some(Credentials {
                username: username.as_ref().clone(),
                password,
            })
        }
        (None, Some(file)) => {
            let problem = "a password needs a user; add source.username";
            return Err(section.invalid("password_file", file.span(), problem));
        }
    };
    Ok(HttpSettings {
        address,
        credentials,
        max_frame: max_frame_bytes(raw, section)?,
        stall_after,
    })
}

#[cfg(feature = "camera")]
fn positive(
    section: &Section,
    key: &str,
    value: Option<Spanned<u32>>,
    default: u32,
) -> Result<u32, ConfigError> {
    match value {
        Some(value) if *value.as_ref() == 0 => {
            Err(section.invalid(key, value.span(), "0 makes no picture, expected 1 or more"))
        }
        value => Ok(value.map_or(default, Spanned::into_inner)),
    }
}

fn span_of<T>(value: &Option<Spanned<T>>) -> Option<Range<usize>> {
    value.as_ref().map(Spanned::span)
}
