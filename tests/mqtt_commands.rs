//! Commands over MQTT: what they do to the running pipeline, how requests are answered, and what is
//! rejected.

mod support;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use captiond::daemon::clock::{Clock, FakeClock, SystemClock};
use captiond::daemon::config::MqttConfig;
use captiond::daemon::controls::Controls;
use captiond::daemon::shutdown::Shutdown;
use captiond::frame::Limits;
use captiond::publish::mqtt::{MqttPublisher, Surroundings};
use captiond::publish::{CameraState, Publisher};
use serde_json::{Value, json};
use support::broker::{Broker, Subscriber};
use support::process::{Daemon, be_the_daemon};
use support::relay::Relay;
use support::{drop_in, folder_config, jpeg, until};

#[test]
fn the_daemon_as_a_child() {
    be_the_daemon();
}

/// A daemon with a folder as its camera, its broker, and somebody who sees everything.
struct Home {
    // Dropped first: it may show its log, which is in the folder.
    daemon: Daemon,
    subscriber: Subscriber,
    broker: Broker,
    folder: tempfile::TempDir,
}

impl Home {
    fn new(more_mqtt: &str) -> Self {
        let (folder, broker) = (tempfile::tempdir().unwrap(), Broker::open());
        let subscriber = broker.subscribe();
        let config = folder_config(folder.path(), broker.port, more_mqtt);
        let daemon = Daemon::start(folder.path(), &config);
        let home = Self {
            folder,
            daemon,
            subscriber,
            broker,
        };
        home.subscriber.wait_for_status("online");
        home.listens();
        home
    }

    /// Waits until the daemon answers.
    fn listens(&self) {
        listens(&self.subscriber);
    }

    fn image(&self, width: u32) {
        drop_in(
            &self.folder.path().join("in"),
            &format!("{width}.jpg"),
            &jpeg(width),
        );
    }

    fn send(&self, topic: &str, payload: &str) {
        self.subscriber
            .send(&format!("captiond/porch/{topic}"), payload);
    }

    fn state(&self, setting: &str, value: &str) {
        let topic = format!("captiond/porch/{setting}/state");
        until(format!("{topic} = {value}"), || {
            (self.subscriber.on(&topic).pop()?.payload == value).then_some(())
        });
    }

    /// The answer to a request with this id.
    fn ask(&self, request: &str, more: Value) -> Value {
        ask(&self.subscriber, request, more)
    }

    /// How often each reason has been counted.
    fn rejected(&self) -> Value {
        self.ask("status", json!({}))["data"]["health"]["rejected"].clone()
    }
}

fn ask(subscriber: &Subscriber, request: &str, more: Value) -> Value {
    let id = format!("{:x}", fastrand::u64(..));
    let mut message = more;
    message["id"] = json!(id);
    let topic = format!("captiond/porch/request/{request}");
    subscriber.send(&topic, message.to_string());
    let answer = subscriber.wait_for(&format!("an answer to {message}"), |message| {
        message.topic.ends_with(&format!("/response/{request}")) && message.json()["id"] == id
    });
    assert!(!answer.retained);
    answer.json()
}

/// `online` comes before the subscription is made, so a request may be too early for it.
fn listens(subscriber: &Subscriber) {
    until("an answer", || {
        subscriber.send("captiond/porch/request/version", "{}");
        std::thread::sleep(Duration::from_millis(300));
        subscriber.on("/response/version").pop()
    });
}

#[test]
fn the_switch_stops_and_starts_captioning() {
    let home = Home::new("");
    home.state("enabled", "ON");
    home.image(100);
    home.subscriber.wait_for_caption(100);
    home.send("enabled/set", "OFF");
    home.state("enabled", "OFF");
    home.image(110);
    // Asked for by hand it's captioned all the same, and only that one.
    home.image(120);
    let answer = home.ask("describe", json!({}));
    assert_eq!(answer["status"], "ok", "{answer}");
    assert_eq!(answer["data"]["caption"], "a picture 110 wide");
    home.subscriber.settle();
    assert_eq!(home.subscriber.on("/event").len(), 2);
    home.send("enabled/set", "ON");
    home.subscriber.wait_for_caption(120);
    // A late subscriber sees the settings as they are.
    let late = home.broker.subscribe();
    let state = late.wait_for("the state", |message| {
        message.topic.ends_with("/enabled/state")
    });
    assert_eq!((state.payload.as_str(), state.retained), ("ON", true));
}

#[test]
fn an_interval_holds_captions_back_until_one_is_asked_for() {
    let home = Home::new("");
    home.send("interval/set", "3600");
    home.state("interval", "3600");
    home.image(100);
    home.subscriber.wait_for_caption(100);
    home.image(110);
    home.image(120);
    home.send("describe", "PRESS");
    home.subscriber.wait_for_caption(110);
    home.subscriber.settle();
    assert_eq!(home.subscriber.on("/event").len(), 2);
    // Shortened while the pipeline sleeps: it wakes.
    home.send("interval/set", "0.05");
    home.state("interval", "0.05");
    home.subscriber.wait_for_caption(120);
}

#[test]
fn unsure_captions_are_kept_back_and_counted() {
    let home = Home::new("");
    // The model's confidence is always 0.75.
    home.send("min_confidence/set", "0.8");
    home.state("min_confidence", "0.8");
    home.image(100);
    until("withheld", || {
        // Not faster than commands are taken.
        std::thread::sleep(Duration::from_millis(500));
        let status = home.ask("status", json!({}));
        (status["data"]["health"]["withheld"] == 1).then_some(())
    });
    let answer = home.ask("set", json!({"enabled": false, "detail": "long"}));
    assert_eq!(
        answer["data"],
        json!({"enabled": false, "interval": 0.0, "min_confidence": 0.8, "detail": "long"})
    );
    home.state("detail", "long");
    home.image(110);
    let answer = home.ask("describe", json!({}));
    assert_eq!(
        answer["data"],
        json!({"withheld": true, "confidence": 0.75})
    );
    home.subscriber.settle();
    for topic in ["/caption", "/caption/text"] {
        assert_eq!(home.subscriber.on(topic), [], "{topic}");
    }
    // Not silence: that there was a picture, and why nothing is said of it.
    let events = home.subscriber.on("/event");
    let events: Vec<_> = events.iter().map(|event| event.json()).collect();
    assert_eq!(events.len(), 2, "{events:?}");
    for (event, sequence) in events.iter().zip(1..) {
        assert_eq!(event["event"], "unsure", "{event}");
        assert_eq!(event["reason"], "below-minimum", "{event}");
        assert_eq!(event["caption"], Value::Null, "{event}");
        assert_eq!(event["spoken"], "I am not sure what this is", "{event}");
        assert_eq!(event["confidence"], 0.75, "{event}");
        assert_eq!(event["sequence"], sequence, "{event}");
        assert!(!event.to_string().contains("wide"), "{event}");
    }
    home.ask("set", json!({"enabled": true, "min_confidence": 0.75}));
    home.image(120);
    home.subscriber.wait_for_caption(120);
}

#[test]
fn requests_are_answered_with_their_id_and_errors_say_why() {
    let home = Home::new("username = \"porch-user\"");
    let version = home.ask("version", json!({}));
    assert_eq!(version["data"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(version["data"]["pack"], Value::Null);
    let config = home.ask("config", json!({}));
    assert_eq!(config["data"]["outbox"]["max_entries"], 1000);
    assert!(!config.to_string().contains("porch-user"), "{config}");
    let now = humantime::format_rfc3339(SystemTime::now()).to_string();
    assert_eq!(home.ask("status", json!({"time": now}))["status"], "ok");

    let old = humantime::format_rfc3339(SystemTime::now() - Duration::from_secs(90)).to_string();
    for (request, more, part) in [
        ("status", json!({"time": old}), "device's clock"),
        ("reboot", json!({}), "describe, status"),
        ("set", json!({"interval": -1}), "`interval`"),
        ("version", json!({"verbose": true}), "\"verbose\""),
    ] {
        let answer = home.ask(request, more);
        assert_eq!(answer["status"], "error", "{answer}");
        assert!(answer["error"].as_str().unwrap().contains(part), "{answer}");
        assert_eq!(answer["data"], Value::Null);
    }
    let bad = home.ask("describe", json!({"id": 1, "time": 5}));
    assert_eq!(bad["status"], "error");
}

#[test]
fn what_is_no_command_changes_nothing_and_is_counted() {
    let home = Home::new("");
    home.send("interval/set", "soon");
    home.send("enabled/set", "");
    home.send("describe", "");
    let line = home
        .daemon
        .wait_for_log("command on \"captiond/porch/interval/set\" rejected");
    assert!(line.contains("expected seconds from 0 to 86400"), "{line}");
    // A megabyte is refused by itself; the connection stays.
    home.send("enabled/set", &"x".repeat(1 << 20));
    home.send("request/status", &"x".repeat(1 << 20));
    let refused = home.subscriber.wait_for("the refusal", |message| {
        message.topic.ends_with("/response/status") && message.json()["status"] == "error"
    });
    let error = refused.json()["error"].as_str().unwrap().to_owned();
    assert!(error.contains("1048576 bytes, at most 4096"), "{error}");
    let rejected = home.rejected();
    assert_eq!(
        (&rejected["malformed"], &rejected["oversized"]),
        (&json!(3), &json!(2))
    );
    home.state("enabled", "ON");
    home.state("interval", "0");
    assert_eq!(home.broker.log().matches("as captiond-porch").count(), 1);
    // Health tells it too, soon and not only after its minute.
    home.subscriber
        .wait_for_health("the rejections", |health| health["rejected"] == rejected);
}

#[test]
fn a_retained_command_is_not_obeyed() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), Broker::open());
    let subscriber = broker.subscribe();
    subscriber.send_retained("captiond/porch/enabled/set", "OFF");
    subscriber.send_retained("captiond/porch/describe", "PRESS");
    subscriber.settle();
    let config = folder_config(folder.path(), broker.port, "");
    let daemon = Daemon::start(folder.path(), &config);
    subscriber.wait_for_health("both", |health| health["rejected"]["retained"] == 2);
    daemon.wait_for_log("publish commands without the retain flag");
    drop_in(&folder.path().join("in"), "a.jpg", &jpeg(100));
    subscriber.wait_for_caption(100);
}

#[test]
fn a_flood_is_cut_off_and_the_daemon_goes_on() {
    let home = Home::new("");
    for number in 0..500 {
        let state = if number % 2 == 0 { "OFF" } else { "ON" };
        home.send("enabled/set", state);
    }
    home.daemon
        .wait_for_log("commands rejected: there are more than");
    let health = home.subscriber.wait_for_health("the flood", |health| {
        health["rejected"]["flooding"].as_u64().unwrap() > 300
    });
    assert_eq!(health["rejected"]["malformed"], 0);
    // One line in the log, however many there were.
    let log = home.daemon.log();
    assert_eq!(log.matches("commands rejected:").count(), 1, "{log}");
    // Slowly, it obeys again.
    until("an answer", || {
        std::thread::sleep(Duration::from_millis(600));
        home.send("request/set", "{\"id\": \"last\", \"enabled\": true}");
        let answers = home.subscriber.on("/response/set");
        answers
            .into_iter()
            .find(|answer| answer.json()["id"] == "last")
    });
    home.state("enabled", "ON");
    home.image(100);
    home.subscriber.wait_for_caption(100);
    assert_eq!(home.broker.log().matches("as captiond-porch").count(), 1);
}

#[test]
fn a_packet_too_large_to_receive_costs_the_commands_only() {
    let home = Home::new("");
    let topic = "captiond/porch/enabled/set";
    // Retained, so the broker would send it again after each subscription.
    home.subscriber.send_retained(topic, "x".repeat(3 << 20));
    let line = home
        .daemon
        .wait_for_log("has sent a packet that is too large");
    assert!(line.contains("no commands are taken"), "{line}");
    until("the second connection", || {
        (home.broker.log().matches("as captiond-porch").count() == 2).then_some(())
    });
    home.image(100);
    home.subscriber.wait_for_caption(100);
    home.subscriber.wait_for_health("counted", |health| {
        health["rejected"]["oversized"] == 1 && health["reconnects"] == 1
    });
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(home.broker.log().matches("as captiond-porch").count(), 2);
}

#[test]
fn a_broker_that_has_forgotten_the_session_is_subscribed_to_again() {
    let (folder, relay) = (tempfile::tempdir().unwrap(), Relay::new());
    let config = folder_config(folder.path(), relay.port, "");
    let daemon = Daemon::start(folder.path(), &config);
    for round in 0..2 {
        // Not the one before it: it knows nothing of any session.
        let broker = Broker::open();
        let subscriber = broker.subscribe();
        relay.to(broker.port);
        subscriber.wait_for_status("online");
        listens(&subscriber);
        let answer = ask(&subscriber, "set", json!({"interval": round + 5}));
        assert_eq!(answer["data"]["interval"], f64::from(round + 5));
        relay.cut();
    }
    assert_eq!(daemon.log().matches("connected to the broker").count(), 2);
}

#[test]
fn the_picture_is_published_when_the_configuration_says_so() {
    let home = Home::new("publish_image = true");
    home.image(100);
    home.subscriber.wait_for_caption(100);
    let image = home.subscriber.wait_for("the picture", |message| {
        message.topic == "captiond/porch/image"
    });
    assert_eq!(image.bytes, jpeg(100));
    assert!(home.broker.subscribe().on("/image")[0].retained);
}

/// A publisher alone, with nothing behind it.
fn publisher(broker: &Broker, clock: Arc<dyn Clock>, shutdown: &Shutdown) -> MqttPublisher {
    let config = MqttConfig {
        port: broker.port,
        ..MqttConfig::new("127.0.0.1", "porch")
    };
    let around = Surroundings {
        device: "porch".into(),
        home_assistant: None,
        controls: Controls::default(),
        counters: Arc::default(),
        clock,
        shutdown: shutdown.clone(),
        limits: Limits::default(),
    };
    MqttPublisher::start(config, around).unwrap()
}

#[test]
fn the_camera_s_state_is_retained() {
    let (broker, shutdown) = (Broker::open(), Shutdown::new());
    let publisher = publisher(&broker, Arc::new(SystemClock::new()), &shutdown);
    let since = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    publisher.camera(&CameraState::ok(since));
    publisher.camera(&CameraState::lost(since, "unplugged"));
    let subscriber = broker.subscribe();
    let state = subscriber.wait_for("lost", |message| {
        message.topic.ends_with("/camera/status") && message.json()["state"] == "lost"
    });
    assert_eq!(
        state.json(),
        json!({"schema": 2, "state": "lost", "reason": "unplugged", "since": "2026-01-01T00:00:00.000Z"})
    );
    publisher.camera(&CameraState::stalled(since, "no frame for 10 s"));
    subscriber.wait_for("stalled", |message| {
        message.topic.ends_with("/camera/status") && message.json()["state"] == "stalled"
    });
    let late = broker.subscribe();
    assert!(late.on("/camera/status")[0].retained);
    shutdown.request();
    publisher.close(Duration::from_secs(30));
}

#[test]
fn the_camera_s_state_follows_a_clock_that_is_set_later() {
    let (broker, shutdown) = (Broker::open(), Shutdown::new());
    // A board without a battery clock: the date of its last shutdown, until a time server answers.
    let date = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let clock = Arc::new(FakeClock::new(date(1_000_000_000)));
    let publisher = publisher(&broker, Arc::clone(&clock) as Arc<dyn Clock>, &shutdown);
    publisher.camera(&CameraState::lost(date(1_000_000_000), "unplugged"));
    let subscriber = broker.subscribe();
    let told = |since: &str| {
        until(since, || {
            let newest = subscriber.on("/camera/status").pop()?.json();
            (newest["since"] == since).then_some(())
        });
    };
    told("2001-09-09T01:46:40.000Z");
    clock.advance(Duration::from_secs(60));
    // 60 seconds have passed since, whatever the date.
    clock.set_wall(date(1_800_000_060));
    told("2027-01-15T08:00:00.000Z");
    clock.set_wall(date(1_000_000_060));
    told("2001-09-09T01:46:40.000Z");
    shutdown.request();
    publisher.close(Duration::from_secs(30));
}
