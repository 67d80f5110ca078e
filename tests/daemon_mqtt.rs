//! The daemon against a real broker: what a subscriber sees, and what the log says when the broker
//! is away, refuses us or hangs.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use support::broker::{Broker, PASSWORD, USER, free_port};
use support::process::{Daemon, be_the_daemon};
use support::{drop_in, folder_config, jpeg, until};

#[test]
fn the_daemon_as_a_child() {
    be_the_daemon();
}

#[test]
fn a_subscriber_sees_status_caption_and_event() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), Broker::open());
    let first = broker.subscribe();
    let daemon = Daemon::start(
        folder.path(),
        &folder_config(folder.path(), broker.port, ""),
    );
    let online = first.wait_for_status("online");
    assert_eq!(online.topic, "captiond/porch/status");

    drop_in(&folder.path().join("in"), "a.jpg", &jpeg(100));
    let caption = first.wait_for_caption(100);
    assert_eq!(caption.topic, "captiond/porch/caption");
    let mut message = caption.json();
    let time = message["time"].take();
    assert!(humantime::parse_rfc3339(time.as_str().unwrap()).is_ok());
    message["ms"].take();
    assert!(message["time_synchronised"].take().is_boolean());
    assert_eq!(
        message,
        json!({
            "schema": 2,
            "caption": "a picture 100 wide",
            "verdict": "hedged",
            "reason": null,
            "spoken": "perhaps a picture 100 wide",
            "confidence": 0.75,
            "confidence_calibrated": false,
            "alternatives": [],
            "quality": {"brightness": 0.0, "contrast": 0.0, "highlights": 0.0, "clipped_dark": 0.0,
                        "clipped_bright": 0.0, "sharpness": 0.0, "detail": 0.0},
            "neighbours": [{"caption": "a picture", "score": 0.5}],
            "ms": null,
            "device": "porch",
            "pack": "fake 1.0.0",
            "origin": "a.jpg",
            "time": null,
            "time_synchronised": null,
            "sequence": 1,
        })
    );
    let event = first.wait_for("the event", |message| message.topic.ends_with("/event"));
    assert_eq!(event.topic, "captiond/porch/event");
    assert_eq!(event.json()["event"], "caption");
    assert_eq!(event.json()["caption"], "a picture 100 wide");
    assert_eq!(event.json()["verdict"], "hedged");
    assert_eq!(event.json()["spoken"], "perhaps a picture 100 wide");
    assert_eq!(event.json()["sequence"], 1);
    assert_eq!(event.json()["time"], time);

    // Who comes later gets what is retained, and no event.
    let late = broker.subscribe();
    late.settle();
    let mut kept = late.all();
    kept.sort_by(|a, b| a.topic.cmp(&b.topic));
    let topics: Vec<_> = kept.iter().map(|message| message.topic.as_str()).collect();
    assert_eq!(
        topics,
        [
            "captiond/porch/camera/status",
            "captiond/porch/caption",
            "captiond/porch/caption/text",
            "captiond/porch/detail/state",
            "captiond/porch/enabled/state",
            "captiond/porch/health",
            "captiond/porch/interval/state",
            "captiond/porch/min_confidence/state",
            "captiond/porch/status",
        ]
    );
    let text = late.wait_for("the text", |message| {
        message.topic.ends_with("/caption/text")
    });
    assert_eq!(text.payload, "perhaps a picture 100 wide");
    assert!(kept.iter().all(|message| message.retained), "{kept:?}");

    let (status, log) = daemon.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    first.wait_for_status("offline");
    // An orderly goodbye, not the last will: the broker saw a DISCONNECT.
    until("the broker's log", || {
        broker
            .log()
            .contains("Received DISCONNECT from captiond-porch")
            .then_some(())
    });
    let later = broker.subscribe();
    let status = later.wait_for_status("offline");
    assert!(status.retained);
}

#[test]
fn after_kill_9_the_broker_says_offline() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), Broker::open());
    let subscriber = broker.subscribe();
    let daemon = Daemon::start(
        folder.path(),
        &folder_config(folder.path(), broker.port, ""),
    );
    subscriber.wait_for_status("online");
    daemon.signal(Signal::KILL);
    subscriber.wait_for_status("offline");
    assert!(broker.subscribe().wait_for_status("offline").retained);
}

#[test]
fn without_a_broker_it_lives_and_the_newest_caption_arrives_later() {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let mut daemon = Daemon::start(folder.path(), &folder_config(folder.path(), port, ""));
    let line = daemon.wait_for_log("nobody listens at");
    assert!(line.contains(&format!("127.0.0.1:{port}")), "{line}");
    assert!(line.contains("mqtt.host"), "{line}");
    let incoming = folder.path().join("in");
    for width in [110, 120, 130] {
        let path = drop_in(&incoming, &format!("{width}.jpg"), &jpeg(width));
        // Their order is that of their dates.
        let date = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(width));
        fs::File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(date)
            .unwrap();
    }
    assert!(daemon.alive());
    let broker = Broker::open_on(port);
    let subscriber = broker.subscribe();
    subscriber.wait_for_status("online");
    subscriber.wait_for_caption(130);
    // A broker that comes back without its retained messages gets them again.
    drop(broker);
    let broker = Broker::open_on(port);
    let subscriber = broker.subscribe();
    subscriber.wait_for_status("online");
    subscriber.wait_for_caption(130);
    let (status, log) = daemon.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn a_refused_password_is_told_and_tried_again_without_hurry() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), Broker::with_password());
    let file = folder.path().join("password");
    fs::write(&file, "wrong battery\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let user = format!("username = \"{USER}\"\npassword_file = \"password\"");
    let config = folder_config(folder.path(), broker.port, &user);
    let mut daemon = Daemon::start(folder.path(), &config);
    let line = daemon.wait_for_log("refuses user");
    for part in [USER, "127.0.0.1", "mqtt.password_file"] {
        assert!(line.contains(part), "{line}");
    }
    let attempts = || broker.log().matches("New connection from").count();
    until("a second attempt", || (attempts() >= 3).then_some(()));
    let (before, start) = (attempts(), Instant::now());
    std::thread::sleep(Duration::from_secs(2));
    // The shortest wait is 250 ms; measured over what the pause really took.
    let most = before + 1 + start.elapsed().as_millis() as usize / 250;
    assert!(attempts() <= most, "{} attempts", attempts());
    assert!(daemon.alive());
    let (status, log) = daemon.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(
        !log.contains("battery"),
        "the password is in the log: {log}"
    );
    assert_eq!(log.matches("refuses user").count(), 1, "{log}");

    fs::write(&file, PASSWORD).unwrap();
    let daemon = Daemon::start(folder.path(), &config);
    daemon.wait_for_log("connected to the broker");
    let (status, _) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn two_daemons_with_one_client_id_are_told_apart_in_the_log() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), Broker::open());
    let config = folder_config(folder.path(), broker.port, "client_id = \"twin\"");
    let _first = Daemon::start(folder.path(), &config);
    let second = Daemon::start(folder.path(), &config);
    let line = second.wait_for_log("another client has the same id");
    assert!(line.contains("\"twin\""), "{line}");
    assert!(line.contains("mqtt.client_id"), "{line}");
}

#[test]
fn a_frozen_broker_holds_up_neither_the_pipeline_nor_the_end() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), Broker::open());
    let subscriber = broker.subscribe();
    let daemon = Daemon::with(
        folder.path(),
        &folder_config(folder.path(), broker.port, ""),
        Duration::ZERO,
        &[],
    );
    subscriber.wait_for_status("online");
    broker.freeze();
    let incoming = folder.path().join("in");
    for width in 100..160 {
        drop_in(&incoming, &format!("{width}.jpg"), &jpeg(width));
    }
    drop_in(&incoming, "bad.jpg", b"not an image");
    // Dated last or not: all of them are read, so the bad one is too.
    daemon.wait_for_log("bad.jpg");
    let start = Instant::now();
    let (status, log) = daemon.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    assert!(log.contains("last will stands"), "{log}");
    broker.thaw();
    subscriber.wait_for_status("offline");
}

#[test]
fn a_model_that_takes_for_ever_does_not_hold_up_the_end() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), Broker::open());
    let subscriber = broker.subscribe();
    let config = folder_config(folder.path(), broker.port, "");
    let hour = Duration::from_secs(3600);
    let daemon = Daemon::with(folder.path(), &config, hour, &[]);
    subscriber.wait_for_status("online");
    drop_in(&folder.path().join("in"), "a.jpg", &jpeg(100));
    daemon.wait_for_log("the model has a frame");
    let start = Instant::now();
    let (status, log) = daemon.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    subscriber.wait_for_status("offline");
}

#[test]
fn a_command_that_writes_mjpeg_is_a_source() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), Broker::open());
    let frames = folder.path().join("frames.mjpeg");
    fs::write(
        &frames,
        [jpeg(200), b"--boundary\r\n".to_vec(), jpeg(201)].concat(),
    )
    .unwrap();
    let subscriber = broker.subscribe();
    let config = format!(
        "[device]\nid = \"pi\"\n[source]\nkind = \"command\"\nargv = [\"cat\", \"{}\"]\n\
         [mqtt]\nhost = \"127.0.0.1\"\nport = {}\nprefix = \"a/b\"\nqos = 0\n",
        frames.display(),
        broker.port
    );
    let daemon = Daemon::start(folder.path(), &config);
    let caption = subscriber.wait_for_caption(201);
    assert_eq!(caption.topic, "a/b/pi/caption");
    assert_eq!(caption.json()["origin"], "cat");
    // It ends by itself, is started again, and gives its frames again.
    daemon.wait_for_log("the command ended (exit code 0)");
    subscriber.wait_for("the lost camera", |message| {
        message.topic == "a/b/pi/camera/status" && message.json()["state"] == "lost" && {
            let reason = message.json()["reason"].as_str().unwrap().to_owned();
            reason.contains("exit code 0")
        }
    });
    until("a caption after the restart", || {
        let last = subscriber.on("/caption").pop()?;
        (last.json()["sequence"].as_u64()? >= 3).then_some(())
    });
    let (status, log) = daemon.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
}
