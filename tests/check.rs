//! `captiond check`, the real program, on devices that are well and on such that aren't.

mod support;
#[path = "support/tiny.rs"]
mod tiny;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;
use support::broker::{Broker, free_port};
use support::jpeg;
use tiny::{Captiond, whole_pack};

/// The exit code and the report.
fn check(config: &Path, words: &[&str]) -> (i32, Value) {
    let output = Captiond::new(&["check", "--json"])
        .path("--config", config)
        .args(words)
        .output();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}\n{errors}"));
    (output.status.code().unwrap(), report)
}

fn part<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().unwrap();
    let mut found = checks.iter().filter(|check| check["name"] == name);
    let part = found
        .next()
        .unwrap_or_else(|| panic!("no {name} in {report}"));
    assert!(found.next().is_none(), "{name} twice in {report}");
    part
}

/// Whatever isn't as it should be comes with what to do, and nothing else does.
fn assert_todos(report: &Value) {
    for check in report["checks"].as_array().unwrap() {
        let todo = check["todo"].as_str().unwrap();
        assert_eq!(todo.is_empty(), check["state"] == "ok", "{check}");
        assert_ne!(check["found"], "");
    }
}

#[test]
fn a_device_that_is_well_has_no_problems() {
    let folder = tempfile::tempdir().unwrap();
    let pack = whole_pack(folder.path());
    let broker = Broker::open();
    let picture = folder.path().join("a.jpg");
    fs::write(&picture, jpeg(100)).unwrap();
    let config = folder.path().join("captiond.toml");
    let text = format!(
        "[source]\nkind = \"command\"\nargv = [\"cat\", {picture:?}, {picture:?}]\n\
         [mqtt]\nhost = \"127.0.0.1\"\nport = {}\n\
         [speech]\nvia = \"command\"\ncommand = [\"cat\"]\n",
        broker.port
    );
    fs::write(&config, text).unwrap();
    let subscriber = broker.subscribe();
    let (code, report) = check(&config, &["--pack", pack.path().to_str().unwrap()]);
    assert_eq!((code, &report["ok"]), (0, &Value::Bool(true)), "{report}");
    assert_todos(&report);
    for (name, found) in [
        ("configuration", "captiond.toml is right"),
        ("pack", "a caption takes"),
        ("source", "100 x 24"),
        ("broker", "lets us in"),
        ("clock", ""),
        ("disk", ""),
        ("permissions", ""),
        ("speech", "cat speaks"),
    ] {
        let part = part(&report, name);
        assert_ne!(part["state"], "problem", "{part}");
        assert!(part["found"].as_str().unwrap().contains(found), "{part}");
    }
    // Nobody has noticed.
    subscriber.settle();
    assert!(subscriber.all().is_empty(), "{:?}", subscriber.all());
}

#[test]
fn what_is_wrong_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("captiond.toml");
    let text = format!(
        "pack = \"no-pack\"\n[source]\nkind = \"folder\"\npath = \"no-folder\"\n\
         [mqtt]\nhost = \"127.0.0.1\"\nport = {}\n\
         [speech]\nvia = \"command\"\ncommand = [\"no-such-speaker\"]\n",
        free_port()
    );
    fs::write(&config, text).unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o666)).unwrap();
    let (code, report) = check(&config, &[]);
    assert_eq!((code, &report["ok"]), (1, &Value::Bool(false)), "{report}");
    assert_todos(&report);
    for (name, found) in [
        ("pack", "no-pack"),
        ("source", "no-folder"),
        ("broker", "127.0.0.1:"),
        ("speech", "no-such-speaker"),
        ("permissions", "every user may change"),
    ] {
        let part = part(&report, name);
        assert_eq!(part["state"], "problem", "{part}");
        assert!(part["found"].as_str().unwrap().contains(found), "{part}");
    }

    // The same for people: one line each, and what to do below it.
    let output = Captiond::new(&["check"]).path("--config", &config).output();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("PROBLEM  speech: no-such-speaker: "),
        "{text}"
    );
    assert!(text.contains("         to do: install it"), "{text}");
    assert!(text.ends_with("5 problems.\n"), "{text}");
}

#[test]
fn wrong_password_and_camera_that_sends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::with_password();
    let config = folder.path().join("captiond.toml");
    let text = format!(
        "[source]\nkind = \"command\"\nargv = [\"echo\", \"no jpeg\"]\n\
         [mqtt]\nhost = \"127.0.0.1\"\nport = {}\nusername = \"somebody\"\n",
        broker.port
    );
    fs::write(&config, text).unwrap();
    let (code, report) = check(&config, &[]);
    assert_eq!(code, 1);
    assert_eq!(part(&report, "source")["state"], "problem");
    let broker = part(&report, "broker");
    assert_eq!(broker["state"], "problem");
    assert!(broker["todo"].as_str().unwrap().contains("mqtt.username"));
    // Not set up, so not asked about.
    assert!(!report.to_string().contains("speech"), "{report}");
}

#[test]
fn the_file_alone_is_checked_where_nothing_is_connected() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("captiond.toml");
    let text = "pack = \"no-pack\"\n[source]\nkind = \"folder\"\npath = \"no-folder\"\n[speech]\n";
    fs::write(&config, text).unwrap();
    let (code, report) = check(&config, &["--config-only"]);
    assert_eq!(code, 0, "{report}");
    assert_eq!(report["checks"].as_array().unwrap().len(), 1);

    fs::write(&config, text.replace("kind", "knid")).unwrap();
    for words in [&["--config-only"][..], &[]] {
        let (code, report) = check(&config, words);
        assert_eq!(code, 1);
        let found = part(&report, "configuration")["found"].as_str().unwrap();
        assert!(
            found.contains("captiond.toml:3:1: `source.knid`"),
            "{found}"
        );
        assert_eq!(report["checks"].as_array().unwrap().len(), 1);
    }

    fs::write(&config, text.replace("[speech]\n", "")).unwrap();
    let (code, report) = check(&config, &["--config-only"]);
    assert_eq!(code, 0);
    assert_eq!(part(&report, "configuration")["state"], "warning");

    // Without a name it's about the installed file, alone.
    let output = Captiond::new(&["check", "--config"]).output();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("/etc/captiond/captiond.toml"), "{text}");
    assert_eq!(text.matches("configuration:").count(), 1);
    assert!(!text.contains("pack:"), "{text}");
}

#[cfg(feature = "web")]
#[test]
fn the_pages_address_is_tried() {
    let folder = tempfile::tempdir().unwrap();
    let pack = whole_pack(folder.path());
    let token = folder.path().join("token");
    fs::write(&token, "q7Jx2mV0sLzT4bWn").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = folder.path().join("captiond.toml");
    for (listen, state, found) in [
        (
            format!("127.0.0.1:{}", free_port()),
            "ok",
            "only this device",
        ),
        (
            format!("0.0.0.0:{}", free_port()),
            "warning",
            "without encryption",
        ),
        (taken.local_addr().unwrap().to_string(), "problem", "in use"),
    ] {
        let text = format!(
            "[source]\nkind = \"folder\"\npath = \"in\"\n\
             [web]\nlisten = \"{listen}\"\ntoken_file = \"token\"\n"
        );
        fs::write(&config, text).unwrap();
        let (_, report) = check(&config, &["--pack", pack.path().to_str().unwrap()]);
        assert_todos(&report);
        let page = part(&report, "page");
        assert_eq!(page["state"], state, "{page}");
        assert!(page["found"].as_str().unwrap().contains(found), "{page}");
        // With a page captions go somewhere.
        assert_eq!(part(&report, "configuration")["state"], "ok", "{report}");
    }
}
