//! What Home Assistant is told, held to a schema written from its documentation and to the messages
//! that really come.

#[path = "support/schema.rs"]
mod schema;
mod support;

use std::collections::BTreeSet;

use minijinja::{Environment, context};
use serde_json::{Value, json};
use support::broker::{Broker, Subscriber};
use support::process::{Daemon, be_the_daemon};
use support::{drop_in, folder_config, jpeg, until};

#[test]
fn the_daemon_as_a_child() {
    be_the_daemon();
}

fn device_schema() -> Value {
    serde_json::from_str(include_str!("home_assistant/device.schema.json")).unwrap()
}

fn announcements(subscriber: &Subscriber) -> Vec<Value> {
    let messages = subscriber.on("/config").into_iter();
    messages
        .filter(|message| message.topic == "homeassistant/device/captiond_porch/config")
        .map(|message| message.json())
        .collect()
}

/// A running daemon that has announced itself.
fn announced(more_mqtt: &str) -> (tempfile::TempDir, Broker, Subscriber, Daemon, Value) {
    let (folder, broker) = (tempfile::tempdir().unwrap(), Broker::open());
    let subscriber = broker.subscribe();
    let more = format!("{more_mqtt}\n[home_assistant]\nenabled = true");
    let config = folder_config(folder.path(), broker.port, &more);
    let daemon = Daemon::start(folder.path(), &config);
    let device = until("the announcement", || announcements(&subscriber).pop());
    (folder, broker, subscriber, daemon, device)
}

#[test]
fn every_entity_follows_the_documented_rules() {
    let schema = device_schema();
    let (_folder, broker, _subscriber, _daemon, device) = announced("publish_image = true");
    assert_eq!(schema::problems(&schema, &device), Vec::<String>::new());
    assert!(broker.subscribe().on("/config")[0].retained);
    let components = device["components"].as_object().unwrap();
    let keys: Vec<_> = components.keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "camera_problem",
            "caption",
            "confidence",
            "describe",
            "detail",
            "dropped",
            "enabled",
            "event",
            "health",
            "image",
            "interval",
            "min_confidence",
            "waiting",
        ]
    );
    let ids: BTreeSet<_> = components
        .values()
        .map(|component| component["unique_id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), components.len());

    // The schema does refuse: without a required key, with one that isn't known, with a bad one.
    let refused = |change: &dyn Fn(&mut Value), what: &str| {
        let mut changed = device.clone();
        change(&mut changed);
        let problems = schema::problems(&schema, &changed);
        assert!(!problems.is_empty(), "{what} is not refused");
    };
    for key in ["device", "origin", "components"] {
        refused(
            &|device| drop(device.as_object_mut().unwrap().remove(key)),
            key,
        );
    }
    for (name, component) in components {
        for key in [
            "platform",
            "unique_id",
            "state_topic",
            "command_topic",
            "options",
        ] {
            let needed = component.get(key).is_some()
                // With these, where the state stands is optional.
                && !(key == "state_topic" && component.get("command_topic").is_some());
            if needed {
                let remove = |device: &mut Value| {
                    let component = &mut device["components"][name];
                    drop(component.as_object_mut().unwrap().remove(key));
                };
                refused(&remove, &format!("{name} without {key}"));
            }
        }
        refused(
            &|device| device["components"][name]["stat_topic"] = json!("x"),
            name,
        );
        refused(
            &|device| device["components"][name]["unique_id"] = json!("a.b"),
            name,
        );
        refused(
            &|device| device["components"][name]["platform"] = json!("camera"),
            name,
        );
    }
    refused(
        &|device| device["components"]["a.b"] = components["caption"].clone(),
        "a.b",
    );
    refused(
        &|device| device["availability_topic"] = json!("a/#"),
        "a wildcard",
    );
    refused(
        &|device| device["payload_available"] = json!("Online"),
        "Online",
    );
}

#[test]
fn without_a_picture_there_is_no_entity_for_it() {
    let (_folder, _broker, _subscriber, _daemon, device) = announced("");
    assert_eq!(
        schema::problems(&device_schema(), &device),
        Vec::<String>::new()
    );
    assert_eq!(device["components"].get("image"), None);
    assert_eq!(device["components"].as_object().unwrap().len(), 12);
}

/// Renders a template as the hub does.
fn render(template: &Value, payload: &str) -> String {
    let mut environment = Environment::new();
    environment.add_filter("to_json", |value: minijinja::Value| {
        serde_json::to_string(&value).unwrap()
    });
    let value_json: Value = serde_json::from_str(payload).unwrap();
    environment
        .render_str(
            template.as_str().unwrap(),
            context! { value => payload, value_json => value_json },
        )
        .unwrap()
}

#[test]
fn the_templates_fit_the_messages() {
    let (folder, broker, subscriber, _daemon, device) = announced("");
    drop_in(&folder.path().join("in"), "a.jpg", &jpeg(100));
    subscriber.wait_for_caption(100);
    subscriber.wait_for("the event", |message| message.topic.ends_with("/event"));
    subscriber.wait_for_health("health", |_| true);
    let last = |topic: &Value| {
        let topic = topic.as_str().unwrap();
        let messages = subscriber.on(topic);
        messages
            .last()
            .unwrap_or_else(|| panic!("nothing on {topic}"))
            .payload
            .clone()
    };
    let component = |name: &str| device["components"][name].clone();
    assert_eq!(device["availability_topic"], "captiond/porch/status");

    let caption = component("caption");
    assert_eq!(last(&caption["state_topic"]), "perhaps a picture 100 wide");
    let message = last(&caption["json_attributes_topic"]);
    let attributes = render(&caption["json_attributes_template"], &message);
    let attributes: Value = serde_json::from_str(&attributes).unwrap();
    assert_eq!(attributes["neighbours"][0]["caption"], "a picture");
    // One that is larger than the recorder keeps comes without what makes it large.
    let mut large: Value = serde_json::from_str(&message).unwrap();
    large["caption"] = json!("é".repeat(3000));
    large["spoken"] = json!("ü".repeat(3000));
    large["neighbours"] = json!(vec![large["neighbours"][0].clone(); 1000]);
    let attributes = render(&caption["json_attributes_template"], &large.to_string());
    assert!(attributes.len() < 16_384, "{}", attributes.len());
    let attributes: Value = serde_json::from_str(&attributes).unwrap();
    assert_eq!(attributes["confidence"], 0.75);
    assert_eq!(attributes["caption"], "é".repeat(1000));
    assert_eq!(attributes["spoken"], "ü".repeat(1000));
    // A withheld caption is none there too.
    large["caption"] = json!(null);
    let attributes = render(&caption["json_attributes_template"], &large.to_string());
    let attributes: Value = serde_json::from_str(&attributes).unwrap();
    assert_eq!(attributes["caption"], json!(null));

    let confidence = component("confidence");
    let message = last(&confidence["state_topic"]);
    assert_eq!(render(&confidence["value_template"], &message), "75");

    let event = component("event");
    let message = last(&event["state_topic"]);
    let rendered = render(&event["value_template"], &message);
    let rendered: Value = serde_json::from_str(&rendered).unwrap();
    assert!(
        event["event_types"]
            .as_array()
            .unwrap()
            .contains(&rendered["event_type"])
    );
    assert_eq!(rendered["caption"], "a picture 100 wide");
    assert_eq!(event["event_types"], json!(["caption", "unsure"]));

    let camera = component("camera_problem");
    for (state, expected) in [("ok", "OFF"), ("lost", "ON"), ("stalled", "ON")] {
        let message = json!({"state": state}).to_string();
        assert_eq!(render(&camera["value_template"], &message), expected);
    }
    for name in ["health", "waiting", "dropped"] {
        let health = component(name);
        let number = render(&health["value_template"], &last(&health["state_topic"]));
        assert!(number.parse::<u64>().is_ok(), "{name}: {number}");
    }

    // What the hub would send is obeyed, and the state comes back in its words.
    let (enabled, interval) = (component("enabled"), component("interval"));
    let send = |topic: &Value, payload: &Value| {
        subscriber.send(topic.as_str().unwrap(), payload.as_str().unwrap());
    };
    let detail = component("detail");
    until("the settings", || {
        send(&enabled["command_topic"], &enabled["payload_off"]);
        send(&interval["command_topic"], &json!("2.5"));
        send(&detail["command_topic"], &detail["options"][1]);
        std::thread::sleep(std::time::Duration::from_secs(2));
        let states = [&enabled, &interval, &detail].map(|of| last(&of["state_topic"]));
        (states == ["OFF", "2.5", "long"]).then_some(())
    });
    let describe = component("describe");
    drop_in(&folder.path().join("in"), "b.jpg", &jpeg(110));
    send(&describe["command_topic"], &describe["payload_press"]);
    subscriber.wait_for_caption(110);
    drop(broker);
}

#[test]
fn when_the_hub_starts_it_is_told_again() {
    let (_folder, _broker, subscriber, daemon, device) = announced("");
    let before = announcements(&subscriber).len();
    subscriber.send("homeassistant/status", "offline");
    subscriber.settle();
    assert_eq!(announcements(&subscriber).len(), before);
    // Sent before the subscription was made it would be lost, as it would be for the hub.
    let again = until("the announcement again", || {
        subscriber.send("homeassistant/status", "online");
        std::thread::sleep(std::time::Duration::from_secs(6));
        let announcements = announcements(&subscriber);
        (announcements.len() > before).then(|| announcements.last().unwrap().clone())
    });
    assert_eq!(again, device);
    let (status, log) = daemon.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn unless_it_is_wanted_no_hub_is_told() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), Broker::open());
    let subscriber = broker.subscribe();
    let config = folder_config(folder.path(), broker.port, "");
    let _daemon = Daemon::start(folder.path(), &config);
    drop_in(&folder.path().join("in"), "a.jpg", &jpeg(100));
    subscriber.wait_for_caption(100);
    assert_eq!(subscriber.on("/config"), []);
}
