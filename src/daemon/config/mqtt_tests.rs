use super::*;
use std::os::unix::fs::PermissionsExt;

const PEM: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n";

fn load(folder: &Path, lines: &str) -> Result<super::super::Config, String> {
    let file = folder.join("captiond.toml");
    let text =
        format!("[source]\nkind = \"folder\"\npath = \"in\"\n[mqtt]\nhost = \"b\"\n{lines}\n");
    fs::write(&file, text).unwrap();
    super::super::Config::load(&file, false).map_err(|error| error.to_string())
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_credential_of_systemd_is_read_from_its_folder_only() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("mqtt"), "hunter2\n", 0o400);
    let place = Place {
        file: Path::new("captiond.toml"),
        text: "",
    };
    let read = |name: &str, folder: Option<&Path>| {
        let name = Spanned::new(0..0, name.to_owned());
        let folder = folder.map(|folder| folder.as_os_str().to_owned());
        password(&place, None, Some(&name), true, folder).map_err(|error| error.to_string())
    };
    let found = read("mqtt", Some(folder.path())).unwrap().unwrap();
    assert_eq!(found.expose(), "hunter2");
    for name in ["../mqtt", "/etc/shadow", "", ".."] {
        let error = read(name, Some(folder.path())).unwrap_err();
        assert!(error.contains("no name of a credential"), "{error}");
    }
    let error = read("mqtt", None).unwrap_err();
    assert!(error.contains("LoadCredential=mqtt:"), "{error}");
    let error = read("other", Some(folder.path())).unwrap_err();
    assert!(error.contains("can't be read"), "{error}");
    write(&folder.path().join("mqtt"), "hunter2\n", 0o444);
    let error = read("mqtt", Some(folder.path())).unwrap_err();
    assert!(
        error.contains("chmod o=") && !error.contains("hunter2"),
        "{error}"
    );
}

#[test]
fn a_file_and_a_credential_exclude_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "username = \"u\"\npassword_file = \"p\"\npassword_credential = \"p\"";
    let error = load(folder.path(), lines).unwrap_err();
    assert!(
        error.contains(":8:23: `mqtt.password_credential`"),
        "{error}"
    );
}

#[test]
fn tls_takes_certificates_and_a_private_key() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write(&at("ca.pem"), PEM, 0o644);
    write(&at("key.pem"), KEY, 0o640);
    let all = "[mqtt.tls]\nca_file = \"ca.pem\"\nclient_certificate_file = \"ca.pem\"\n\
               client_key_file = \"key.pem\"";
    let mqtt = load(folder.path(), all).unwrap().mqtt.unwrap();
    assert_eq!(mqtt.port, 8883);
    let tls = mqtt.tls.clone().unwrap();
    assert_eq!(tls.ca.as_deref(), Some(PEM.as_bytes()));
    assert_eq!(tls.client.unwrap().1.expose(), KEY);
    assert!(!format!("{mqtt:?}").contains("PRIVATE"));
    // The system's authorities, and a port of one's own.
    let mqtt = load(folder.path(), "port = 1\n[mqtt.tls]")
        .unwrap()
        .mqtt
        .unwrap();
    assert_eq!((mqtt.port, mqtt.tls.unwrap().ca), (1, None));

    let file = folder.path().join("six.toml");
    let text = "[source]\nkind = \"folder\"\npath = \"in\"\n[mqtt]\nhost = \"::1\"\n";
    fs::write(&file, format!("{text}[mqtt.tls]\n")).unwrap();
    let error = super::super::Config::load(&file, false)
        .unwrap_err()
        .to_string();
    assert!(error.contains(":5:8: `mqtt.host`"), "{error}");
    fs::write(&file, text).unwrap();
    super::super::Config::load(&file, false).unwrap();

    let refused = |lines: &str, parts: &[&str]| {
        let error = load(folder.path(), lines).unwrap_err();
        for part in parts {
            assert!(error.contains(part), "{part:?} is not in: {error}");
        }
    };
    write(&at("key.pem"), KEY, 0o644);
    refused(
        all,
        &["`mqtt.tls.client_key_file`", "chmod o=", "make a new key"],
    );
    write(
        &at("key.pem"),
        &KEY.replace("PRIVATE", "ENCRYPTED PRIVATE"),
        0o600,
    );
    refused(all, &["`mqtt.tls.client_key_file`", "without a password"]);
    refused(
        "[mqtt.tls]\nca_file = \"key.pem\"",
        &[":7:11: `mqtt.tls.ca_file`", "no PEM certificate"],
    );
    refused(
        "[mqtt.tls]\nca_file = \"no.pem\"",
        &["no.pem can't be read"],
    );
    refused(
        "[mqtt.tls]\nclient_certificate_file = \"ca.pem\"",
        &["client_certificate_file`", "add client_key_file"],
    );
    refused(
        "[mqtt.tls]\nclient_key_file = \"key.pem\"",
        &["client_key_file`", "add client_certificate_file"],
    );
}

#[test]
fn the_bounds_have_bounds() {
    let folder = tempfile::tempdir().unwrap();
    for (line, parts) in [
        (
            "outbox_max_entries = 0",
            ["`mqtt.outbox_max_entries`", "1 to 100000"],
        ),
        ("outbox_max_bytes = 10", ["`mqtt.outbox_max_bytes`", "4096"]),
        (
            "outbox_max_age = \"0s\"",
            ["`mqtt.outbox_max_age`", "\"1s\" to \"30days\""],
        ),
        (
            "health_interval = \"0s\"",
            ["`mqtt.health_interval`", "\"1s\" to \"1day\""],
        ),
        (
            "[home_assistant]\nenabled = true\ndiscovery_prefix = \"#\"",
            ["`home_assistant.discovery_prefix`", "`#`"],
        ),
    ] {
        let error = load(folder.path(), line).unwrap_err();
        for part in parts {
            assert!(error.contains(part), "{part:?} is not in: {error}");
        }
    }
    let home = |lines| load(folder.path(), lines).unwrap().home_assistant;
    assert_eq!(home("[home_assistant]\nenabled = false"), None);
    let hub = home("[home_assistant]\nenabled = true").unwrap();
    assert_eq!(hub.discovery_prefix, "homeassistant");
}

#[test]
fn the_hub_needs_a_broker() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("captiond.toml");
    let text = "[source]\nkind = \"folder\"\npath = \"in\"\n[home_assistant]\nenabled = true\n";
    fs::write(&file, text).unwrap();
    let error = super::super::Config::load(&file, true)
        .unwrap_err()
        .to_string();
    assert!(error.contains(":5:11: `home_assistant.enabled`"), "{error}");
}

#[test]
fn a_password_without_tls_is_open_unless_the_broker_is_here() {
    for (host, open) in [
        ("broker.lan", true),
        ("10.0.0.2", true),
        ("localhost", false),
        ("127.0.0.1", false),
        ("::1", false),
    ] {
        let mut config = MqttConfig::new(host, "porch");
        assert!(!config.password_is_open());
        config.password = Some(Secret::new("hunter2"));
        assert_eq!(config.password_is_open(), open, "{host}");
        config.tls = Some(TlsConfig {
            ca: None,
            client: None,
        });
        assert!(!config.password_is_open());
    }
}
