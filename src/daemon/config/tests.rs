//! Tests of whole configurations.

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
                max_decode_bytes: 160 << 20,
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
                reconnect_max: Duration::from_secs(60),
                outbox: OutboxConfig {
                    max_entries: 1000,
                    max_bytes: 1 << 20,
                    max_age: Duration::from_secs(600),
                    folder: None,
                },
            }),
            home_assistant: None,
            speech: None,
            web: None,
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
                let of_a_file = [
                    "password_",
                    "ca_file",
                    "client_cert",
                    "client_key",
                    "token_credential",
                ];
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
        // The page's token is needed.
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        fs::write(&token, "0123456789abcdef").unwrap();
        fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(all.contains("\"/etc/captiond/web-token\""));
        let all = all.replace("/etc/captiond/web-token", token.to_str().unwrap());
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
        (
            "max_decode_bytes = 1",
            ["source.max_decode_bytes", "1048576"],
        ),
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
    let text =
        format!("{FOLDER}[mqtt]\nhost = \"b\"\nusername = \"u\"\npassword_file = \"password\"\n");
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
