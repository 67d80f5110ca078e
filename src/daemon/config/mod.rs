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
use super::controls::Values;
use super::trigger::TriggerConfig;
use crate::caption::wording::Thresholds;
use crate::source::http::HttpSettings;

mod check;
mod mqtt;
mod source;
mod speech;
mod trigger;

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
    /// The broker (`[mqtt]`). May be left out with `[speech]` or `--stdout`.
    pub mqtt: Option<MqttConfig>,
    /// The home hub (`[home_assistant]`). Default: none is told of the device.
    pub home_assistant: Option<HomeAssistantConfig>,
    /// Saying captions aloud (`[speech]`). Default: silent.
    pub speech: Option<SpeechConfig>,
}

/// Where frames come from (`[source]`).
#[derive(Debug, Clone, PartialEq)]
pub struct SourceConfig {
    /// Which kind, and what belongs to it.
    pub kind: SourceKind,
    /// What all kinds but a folder have.
    pub live: LiveConfig,
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

/// A password or a private key. It's never printed: not in the log, not by `{:?}`.
#[derive(Clone, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// Hides it from now on.
    #[must_use]
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself, for the one place that uses it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
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
mod tests {
    use super::*;
    use crate::caption::wording::{HEDGE_BELOW, WITHHOLD_BELOW};
    use crate::daemon::controls::Detail;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    const FOLDER: &str = "[source]\nkind = \"folder\"\npath = \"in\"\n";

    fn load(text: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        load_in(folder.path(), text, true)
    }

    fn load_in(folder: &Path, text: &str, stdout: bool) -> Result<Config, ConfigError> {
        let file = folder.join("captiond.toml");
        fs::write(&file, text).unwrap();
        Config::load(&file, stdout)
    }

    /// Loading must fail, and the message must hold all of `parts`.
    fn refused(text: &str, parts: &[&str]) {
        let message = load(text).expect_err(text).to_string();
        for part in parts.iter().chain(&["captiond.toml:"]) {
            assert!(message.contains(part), "{part:?} is not in: {message}");
        }
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let text = format!("{FOLDER}[mqtt]\nhost = \"broker\"\n[device]\nid = \"porch\"\n");
        let folder = tempfile::tempdir().unwrap();
        let config = load_in(folder.path(), &text, false).unwrap();
        assert_eq!(
            config,
            Config {
                pack: None,
                device: "porch".into(),
                source: SourceConfig {
                    kind: SourceKind::Folder(FolderConfig {
                        path: folder.path().join("in"),
                        caption_existing: false,
                        poll: Duration::from_secs(1),
                    }),
                    live: LiveConfig::default(),
                },
                trigger: TriggerConfig::default(),
                confidence: Thresholds {
                    hedge_below: HEDGE_BELOW,
                    withhold_below: WITHHOLD_BELOW,
                },
                controls: Values {
                    enabled: true,
                    interval: Duration::ZERO,
                    min_confidence: 0.0,
                    detail: Detail::Short,
                },
                mqtt: Some(MqttConfig {
                    host: "broker".into(),
                    port: 1883,
                    prefix: "captiond".into(),
                    username: None,
                    password: None,
                    client_id: "captiond-porch".into(),
                    keep_alive: Duration::from_secs(30),
                    qos: 1,
                    tls: None,
                    publish_image: false,
                    health_interval: Duration::from_secs(60),
                    outbox: OutboxConfig {
                        max_entries: 1000,
                        max_bytes: 1 << 20,
                        max_age: Duration::from_secs(600),
                        folder: None,
                    },
                }),
                home_assistant: None,
                speech: None,
            }
        );
    }

    #[test]
    fn the_example_holds_every_key_and_is_right() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/captiond.toml");
        Config::load(&example, false).unwrap();
        // Its commented keys too, one source at a time.
        let text = fs::read_to_string(&example).unwrap();
        let (before, sources) = text.split_once("# --- folder").unwrap();
        let (_, rest) = sources.split_once("[mqtt]").unwrap();
        // Two ways to use the one kind; TOML wants a key once.
        let sources = sources.replace("#argv = [\"ffmpeg\"", "# argv = [\"ffmpeg\"");
        let uncommented = |text: &str| {
            text.lines()
                .filter_map(|line| {
                    let key = line.strip_prefix('#').unwrap_or(line);
                    (!key.starts_with(' ')).then_some(key)
                })
                // Their files aren't here.
                .filter(|line| {
                    let of_a_file = ["password_", "ca_file", "client_cert", "client_key"];
                    !of_a_file.iter().any(|key| line.starts_with(key))
                })
                .collect::<Vec<_>>()
                .join("\n")
        };
        for source in sources.split_once("[mqtt]").unwrap().0.split("# --- ") {
            let section = source.split_once('\n').unwrap().1;
            let mut all = [before, section, "\n[mqtt]", rest]
                .map(uncommented)
                .join("\n");
            if section.contains("kind = \"folder\"") {
                all = all.replace("scene_change", "#");
            }
            load(&all).unwrap_or_else(|error| panic!("{error} in\n{all}"));
        }
    }

    #[test]
    fn unknown_keys_and_wrong_types_are_named_with_their_place() {
        refused(
            &format!("{FOLDER}[mqtt]\nhost = \"b\"\nprot = 1883\n"),
            &[":6:1:", "`mqtt.prot`", "unknown field", "`port`"],
        );
        refused(
            &format!("{FOLDER}[mqtt]\nhost = \"b\"\nport = \"1883\"\n"),
            &[":6:8:", "`mqtt.port`", "string \"1883\"", "u16"],
        );
        refused(
            &format!("{FOLDER}[mqtt]\nhost = \"b\"\nport = 70000\n"),
            &[":6:8:", "`mqtt.port`", "70000", "u16"],
        );
        refused(
            &format!("interval = 2\n{FOLDER}"),
            &[":1:12:", "`interval`", "integer `2`", "string"],
        );
        refused(
            &format!("interval = \"2 parsecs\"\n{FOLDER}"),
            &[":1:12:", "`interval`", "2 parsecs", "\"2s\""],
        );
        refused(
            "[source]\nkind = \"carrier pigeon\"\n",
            &[":2:8:", "`source.kind`", "carrier pigeon", "`folder`"],
        );
        refused("[source]\nkind = \n", &[":2:"]);
        refused("interval = \"1s\"\n", &["missing field `source`"]);
        refused(
            "[source]\npath = \"x\"\n",
            &["source", "missing field `kind`"],
        );
    }

    #[test]
    fn keys_of_another_kind_and_missing_ones_are_told() {
        refused(
            &format!("{FOLDER}argv = [\"x\"]\n"),
            &[":4:8:", "`source.argv`", "command", "folder"],
        );
        refused(
            "[source]\nkind = \"folder\"\n",
            &[":1:1:", "`source.path`", "is missing"],
        );
        refused(
            "[source]\nkind = \"command\"\nargv = []\n",
            &[":3:8:", "`source.argv`", "names no program"],
        );
        refused(
            "[source]\nkind = \"command\"\nargv = \"rpicam-vid -t 0\"\n",
            &[":3:8:", "`source.argv`", "sequence"],
        );
        refused(
            "[source]\nkind = \"command\"\nargv = [\"x\"]\nmax_frame_bytes = 5\n",
            &["`source.max_frame_bytes`", "1024"],
        );
        #[cfg(feature = "camera")]
        refused(
            "[source]\nkind = \"video\"\ndevice = \"/dev/video0\"\nfps = 0\n",
            &[":4:7:", "`source.fps`", "1 or more"],
        );
        refused(
            &format!("{FOLDER}poll = \"0s\"\n"),
            &["`source.poll`", "10ms"],
        );
    }

    #[test]
    fn of_a_camera_in_the_network_everything_is_checked() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("password");
        fs::write(&secret, "hunter2\n").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o640)).unwrap();
        let text = "[source]\nkind = \"http-snapshot\"\nurl = \"http://cam:8080/a?pwd=x\"\n";
        let user = "username = \"me\"\npassword_file = \"password\"\npoll = \"5s\"\n";
        let config = load_in(folder.path(), &format!("{text}{user}"), true).unwrap();
        let SourceKind::HttpSnapshot(snapshot) = &config.source.kind else {
            panic!("{config:?}");
        };
        assert_eq!(snapshot.poll, Duration::from_secs(5));
        assert_eq!(snapshot.http.address.to_string(), "http://cam:8080/a");
        assert_eq!(snapshot.http.stall_after, Duration::from_secs(10));
        let credentials = snapshot.http.credentials.as_ref().unwrap();
        assert_eq!(credentials.password.expose(), "hunter2");
        assert!(!format!("{config:?}").contains("hunter2"));

        fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
        let error = load_in(folder.path(), &format!("{text}{user}"), true);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("`source.password_file`"), "{error}");
        for (line, parts) in [
            (
                "password_file = \"p\"",
                ["password_file", "source.username"],
            ),
            ("username = \"a:b\"", ["source.username", "`:`"]),
            ("stall_after = \"1ms\"", ["source.stall_after", "500ms"]),
            (
                "frozen_after = \"never\"",
                ["source.frozen_after", "\"off\""],
            ),
            ("argv = [\"x\"]", ["source.argv", "\"command\""]),
            ("max_frame_bytes = 1", ["source.max_frame_bytes", "1024"]),
        ] {
            refused(&format!("{text}{line}\n"), &[":4:", parts[0], parts[1]]);
        }
        let text = "[source]\nkind = \"http-mjpeg\"\n";
        refused(text, &["source.url", "is missing"]);
        for (url, part) in [("https://cam/", "ffmpeg"), ("cam", "http://host/path")] {
            refused(
                &format!("{text}url = \"{url}\"\n"),
                &[":3:7:", "source.url", part],
            );
        }
        refused(
            &format!("{FOLDER}stall_after = \"10s\"\n"),
            &["source.stall_after"],
        );
        let off = format!("{text}url = \"http://cam\"\nfrozen_after = \"off\"\n");
        assert_eq!(load(&off).unwrap().source.live.frozen_after, None);
    }

    #[test]
    fn triggers_mix_and_replace_the_default() {
        let source = "[source]\nkind = \"command\"\nargv = [\"x\"]\n[trigger]\n";
        let trigger = |lines: &str| load(&format!("{source}{lines}")).unwrap().trigger;
        assert_eq!(trigger(""), TriggerConfig::default());
        let still = trigger("scene_change = 0.05\n");
        assert_eq!((still.every, still.scene_change), (None, Some(0.05)));
        let both = trigger("scene_change = 0.05\nevery = \"10m\"\n");
        assert_eq!(both.every, Some(Duration::from_secs(600)));
        assert_eq!(trigger("every = \"off\"\n").every, None);
        assert_eq!(
            trigger("quiet = [\"22:00-07:00\", \"13:00-14:00\"]")
                .quiet
                .len(),
            2
        );
        for (line, parts) in [
            ("every = \"often\"", ["trigger.every", "\"10s\""]),
            ("scene_change = 0", ["trigger.scene_change", "0.001"]),
            ("max_duty = nan", ["trigger.max_duty", "0.001"]),
            ("max_duty = 1.5", ["trigger.max_duty", "1.5"]),
            ("look = \"1ms\"", ["trigger.look", "20ms"]),
            ("max_temperature = 200", ["trigger.max_temperature", "110"]),
            ("quiet = [\"22-7\"]", ["trigger.quiet", "22:00-07:00"]),
            ("evry = \"1s\"", ["trigger.evry", "unknown field"]),
        ] {
            refused(&format!("{source}{line}\n"), &[":5:", parts[0], parts[1]]);
        }
        refused(
            &format!("{FOLDER}[trigger]\nscene_change = 0.1\n"),
            &[":5:16:", "trigger.scene_change", "folder"],
        );
    }

    #[test]
    fn what_the_broker_would_choke_on_is_refused_here() {
        for (line, parts) in [
            ("prefix = \"a/+\"", ["`mqtt.prefix`", "`+`"]),
            ("prefix = \"/a\"", ["`mqtt.prefix`", "empty name"]),
            ("prefix = \"$SYS\"", ["`mqtt.prefix`", "`$`"]),
            ("qos = 2", ["`mqtt.qos`", "0 or 1"]),
            ("keep_alive = \"1s\"", ["`mqtt.keep_alive`", "\"5s\""]),
            ("port = 0", ["`mqtt.port`", "1 to 65535"]),
            ("client_id = \"\"", ["`mqtt.client_id`", "1 to"]),
        ] {
            let text = format!("{FOLDER}[mqtt]\nhost = \"b\"\n{line}\n");
            refused(&text, &[":6:", parts[0], parts[1]]);
        }
        refused(
            &format!("{FOLDER}[device]\nid = \"a/b\"\n"),
            &[":5:6:", "`device.id`", "a/b"],
        );
    }

    #[test]
    fn the_thresholds_are_probabilities_in_order() {
        let load = |keys: &str| load(&format!("{FOLDER}[confidence]\n{keys}"));
        let given = load("hedge_below = 0.9\nwithhold_below = 0.5\n").unwrap();
        let expected = Thresholds {
            hedge_below: 0.9,
            withhold_below: 0.5,
        };
        assert_eq!(given.confidence, expected);
        // Whole numbers are numbers.
        assert_eq!(
            load("hedge_below = 1\n").unwrap().confidence.hedge_below,
            1.0
        );
        for (keys, parts) in [
            (
                "hedge_below = 90\n",
                [":5:15:", "`confidence.hedge_below`", "90", "0 to 1"],
            ),
            (
                "withhold_below = -0.1\n",
                [":5:18:", "`confidence.withhold_below`", "-0.1", "0 to 1"],
            ),
            (
                "hedge_below = 0.5\nwithhold_below = 0.6\n",
                [
                    ":6:18:",
                    "`confidence.withhold_below`",
                    "0.6",
                    "hedge_below, which is 0.5",
                ],
            ),
            (
                "hedge_below = \"high\"\n",
                [":5:15:", "`confidence.hedge_below`", "high", "f32"],
            ),
            (
                "hegde_below = 0.5\n",
                [
                    ":5:1:",
                    "`confidence.hegde_below`",
                    "unknown field",
                    "`hedge_below`",
                ],
            ),
        ] {
            refused(&format!("{FOLDER}[confidence]\n{keys}"), &parts);
        }
    }

    #[test]
    fn speech_needs_no_broker_and_has_the_documented_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("{FOLDER}[speech]\n");
        let config = load_in(folder.path(), &text, false).unwrap();
        assert_eq!(config.mqtt, None);
        let speech = SpeechConfig {
            via: Via::Auto,
            command: Vec::new(),
            rate: 0,
            voice: None,
            language: "en".into(),
            socket: None,
            hold: Duration::from_secs(60),
            sounds: Vec::new(),
        };
        assert_eq!(config.speech, Some(speech));
        for (line, parts) in [
            ("via = \"pigeon\"", ["`speech.via`", "`espeak-ng`"]),
            ("via = \"command\"", ["`speech.via`", "speech.command"]),
            (
                "command = [\"cat\"]",
                ["`speech.command`", "via = \"command\""],
            ),
            ("sounds = []", ["`speech.sounds`", "aplay"]),
            ("rate = 101", ["`speech.rate`", "-100 to 100"]),
            ("rate = 1000", ["`speech.rate`", "i8"]),
            ("voice = \"-x\"", ["`speech.voice`", "letters"]),
            ("language = \"en\\nQUIT\"", ["`speech.language`", "letters"]),
        ] {
            refused(&format!("{text}{line}\n"), &[":5:", parts[0], parts[1]]);
        }
    }

    #[test]
    fn without_a_broker_stdout_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        assert!(load_in(folder.path(), FOLDER, true).unwrap().mqtt.is_none());
        let error = load_in(folder.path(), FOLDER, false)
            .unwrap_err()
            .to_string();
        assert!(error.contains("--stdout"), "{error}");
    }

    #[test]
    fn the_password_comes_from_a_private_file() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("password");
        let text = format!(
            "{FOLDER}[mqtt]\nhost = \"b\"\nusername = \"u\"\npassword_file = \"password\"\n"
        );
        let load = |content: &str, mode| {
            fs::write(&secret, content).unwrap();
            fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
            load_in(folder.path(), &text, false).map(|config| config.mqtt.unwrap())
        };
        let mqtt = load("hunter2 \n", 0o640).unwrap();
        assert_eq!(mqtt.password.as_ref().unwrap().expose(), "hunter2 ");
        assert!(!format!("{mqtt:?}").contains("hunter2"));

        let refused = |content, mode, part: &str| {
            let error = load(content, mode).unwrap_err().to_string();
            assert!(error.contains(":7:17: `mqtt.password_file`"), "{error}");
            assert!(error.contains(part), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        };
        refused("hunter2", 0o644, "chmod o=");
        refused("\n", 0o600, "is empty");
        refused("hunter2\nhunter3\n", 0o600, "more than one line");
        fs::remove_file(&secret).unwrap();
        let error = load_in(folder.path(), &text, false)
            .unwrap_err()
            .to_string();
        assert!(error.contains("can't be read"), "{error}");

        let text = text.replace("username = \"u\"\n", "");
        let error = load_in(folder.path(), &text, false)
            .unwrap_err()
            .to_string();
        assert!(error.contains("mqtt.username"), "{error}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Config::load(Path::new("no/such.toml"), true).unwrap_err();
        assert!(error.to_string().contains("no/such.toml"), "{error}");
        assert!(error.to_string().contains("--config"), "{error}");
    }
}
