//! TLS with a real broker and certificates that are made here: who is let in, and what the log says
//! of who isn't.

mod support;
#[path = "support/tiny.rs"]
mod tiny;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use support::broker::{Broker, free_port};
use support::certificates::{authority, certificate};
use support::process::{Daemon, be_the_daemon};
use support::{drop_in, folder_config, jpeg, until};
use tiny::Captiond;

#[test]
fn the_daemon_as_a_child() {
    be_the_daemon();
}

/// A broker that speaks TLS with the certificate `name` on the port returned, and plainly on its
/// own.
fn broker(folder: &Path, name: &str, more: &str) -> (Broker, u16) {
    let at = |file: String| folder.join(file).display().to_string();
    let port = free_port();
    let config = format!(
        "allow_anonymous true\nlistener {port} 127.0.0.1\ncertfile {}\nkeyfile {}\n{more}\n",
        at(format!("{name}.pem")),
        at(format!("{name}.key"))
    );
    (Broker::start(free_port(), &config), port)
}

/// The daemon's line about this broker, which must say all of this.
fn refused(folder: &Path, port: u16, tls: &str, parts: &[&str]) {
    let config = folder_config(folder, port, &format!("[mqtt.tls]\n{tls}"));
    let daemon = Daemon::start(folder, &config);
    let line = daemon.wait_for_log("no TLS with the broker at");
    for part in parts {
        assert!(line.contains(part), "{part:?} is not in: {line}");
    }
    assert!(!daemon.log().contains("connected to the broker"));
}

const OURS: &str = "ca_file = \"ca.pem\"\nclient_certificate_file = \"client.pem\"\n\
                    client_key_file = \"client.key\"";

#[test]
fn with_both_certificates_captions_arrive() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    authority(folder, "ca");
    certificate(folder, "server", "IP:127.0.0.1", "2");
    certificate(folder, "client", "DNS:porch", "2");
    let ca = folder.join("ca.pem");
    let more = format!("cafile {}\nrequire_certificate true", ca.display());
    let (broker, port) = broker(folder, "server", &more);
    let subscriber = broker.subscribe();
    let config = folder_config(folder, port, &format!("[mqtt.tls]\n{OURS}"));
    let daemon = Daemon::start(folder, &config);
    drop_in(&folder.join("in"), "a.jpg", &jpeg(100));
    subscriber.wait_for_caption(100);
    let (status, log) = daemon.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    subscriber.wait_for_status("offline");

    // Without ours it isn't let in, and the log names the key.
    refused(
        folder,
        port,
        "ca_file = \"ca.pem\"",
        &["mqtt.tls.client_certificate_file"],
    );
    // TLS spoken to the plain port.
    refused(folder, broker.port, OURS, &["mqtt.port"]);

    // `captiond check` takes the same way.
    let tried = |tls: &str, port| {
        let file = folder.join("check.toml");
        fs::write(
            &file,
            folder_config(folder, port, &format!("[mqtt.tls]\n{tls}")),
        )
        .unwrap();
        let output = Captiond::new(&["check", "--json"])
            .path("--config", &file)
            .output();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let checks = report["checks"].as_array().unwrap();
        let broker = checks.iter().find(|check| check["name"] == "broker");
        broker.unwrap().clone()
    };
    let well = tried(OURS, port);
    assert_eq!(well["state"], "ok", "{well}");
    let without = tried("ca_file = \"ca.pem\"", port);
    assert_eq!(without["state"], "problem", "{without}");
    let found = without["found"].as_str().unwrap();
    assert!(
        found.contains("mqtt.tls.client_certificate_file"),
        "{found}"
    );
    assert!(without["todo"].as_str().unwrap().contains("[mqtt.tls]"));
}

#[test]
fn a_broker_that_cannot_prove_who_it_is_gets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    authority(folder, "ca");
    authority(folder, "other");
    certificate(folder, "server", "IP:127.0.0.1", "2");
    certificate(folder, "elsewhere", "DNS:broker.example", "2");
    certificate(folder, "expired", "IP:127.0.0.1", "0");
    // Valid until this second, and no longer.
    std::thread::sleep(Duration::from_millis(1500));
    let known = "ca_file = \"ca.pem\"";
    let (_server, port) = broker(folder, "server", "");
    refused(
        folder,
        port,
        "ca_file = \"other.pem\"",
        &[
            "an authority that isn't in mqtt.tls.ca_file",
            "UnknownIssuer",
        ],
    );
    let (_elsewhere, port) = broker(folder, "elsewhere", "");
    refused(
        folder,
        port,
        known,
        &["isn't for \"127.0.0.1\"", "mqtt.host"],
    );
    let (_expired, port) = broker(folder, "expired", "");
    refused(folder, port, known, &["expired", "clock"]);
}

#[test]
fn a_key_that_is_not_the_certificate_s_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    authority(folder, "ca");
    certificate(folder, "client", "DNS:porch", "2");
    certificate(folder, "another", "DNS:porch", "2");
    let tls = OURS.replace("client.key", "another.key");
    let config = folder_config(folder, 1, &format!("[mqtt.tls]\n{tls}"));
    let mut daemon = Daemon::start(folder, &config);
    let line = daemon.wait_for_log("don't go together");
    assert!(line.contains("mqtt.tls.client_certificate_file"), "{line}");
    assert!(!line.contains("PRIVATE"), "{line}");
    until("it ends", || (!daemon.alive()).then_some(()));
    // The key may be read by nobody else.
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(folder.join("client.key"), open).unwrap();
    let config = folder_config(folder, 1, &format!("[mqtt.tls]\n{OURS}"));
    let daemon = Daemon::start(folder, &config);
    let line = daemon.wait_for_log("mqtt.tls.client_key_file");
    assert!(line.contains("chmod o="), "{line}");
}
