//! Device discovery of Home Assistant: one retained message that says what this device offers and
//! on which topics, so that nobody has to write it down in the hub's configuration.
//!
//! Rules from the MQTT integration's documentation (device discovery since 2024.11): `device`,
//! `origin` and `components` at the root; each component has `platform` and `unique_id`; keys that
//! all components share (availability, `qos`) may stand at the root.

use serde_json::{Value, json};

use super::commands::{PRESS, SETTINGS};
use super::message::{OFFLINE, ONLINE};
use super::topics::Topics;

/// What [`super::message::EventMessage`] may have as its `event`: the hub refuses others.
const EVENTS: [&str; 2] = ["caption", "unsure"];

/// Of `caption`, so many characters are given to the hub as attributes: whatever their script, at
/// most the 16,384 bytes that its recorder keeps.
const ATTRIBUTE_CHARACTERS: usize = 4000;

/// The topic on which the hub says that it has started.
pub(super) fn birth_topic(prefix: &str) -> String {
    format!("{prefix}/status")
}

/// Where the device is announced.
pub(super) fn discovery_topic(prefix: &str, device: &str) -> String {
    format!("{prefix}/device/{}/config", object_id(device))
}

fn object_id(device: &str) -> String {
    format!("captiond_{device}")
}

/// The announcement.
pub(super) fn discovery(topics: &Topics, device: &str, with_image: bool) -> Value {
    let object = object_id(device);
    // The hub's own ids have no capitals and no hyphens.
    let slug = object.to_ascii_lowercase().replace('-', "_");
    let mut components = serde_json::Map::new();
    let mut add = |key: &str, platform: &str, name: &str, more: Value| {
        let mut component = json!({
            "platform": platform,
            "unique_id": format!("{object}_{key}"),
            "default_entity_id": format!("{platform}.{slug}_{key}"),
            "name": name,
        });
        if let (Some(component), Value::Object(more)) = (component.as_object_mut(), more) {
            component.extend(more);
        }
        components.insert(key.to_owned(), component);
    };
    let [enabled, interval, min_confidence, detail] = SETTINGS;
    add(
        "caption",
        "sensor",
        "Caption",
        json!({
            "icon": "mdi:image-text",
            "state_topic": topics.caption_text,
            "json_attributes_topic": topics.caption,
            "json_attributes_template": attributes_template(),
        }),
    );
    add(
        "confidence",
        "sensor",
        "Confidence",
        json!({
            "icon": "mdi:gauge",
            "state_topic": topics.caption,
            "value_template": "{{ (value_json.confidence * 100) | round(0) | int }}",
            "unit_of_measurement": "%",
            "state_class": "measurement",
        }),
    );
    add(
        "camera_problem",
        "binary_sensor",
        "Camera",
        json!({
            "device_class": "problem",
            "entity_category": "diagnostic",
            "state_topic": topics.camera_status,
            "value_template": "{{ 'OFF' if value_json.state == 'ok' else 'ON' }}",
            "json_attributes_topic": topics.camera_status,
        }),
    );
    add(
        "describe",
        "button",
        "Describe now",
        json!({
            "icon": "mdi:comment-question",
            "command_topic": topics.describe,
            "payload_press": PRESS,
        }),
    );
    add(
        enabled,
        "switch",
        "Captioning",
        json!({
            "icon": "mdi:closed-caption",
            "command_topic": topics.set(enabled),
            "state_topic": topics.state(enabled),
            "payload_on": "ON",
            "payload_off": "OFF",
        }),
    );
    add(
        interval,
        "number",
        "Interval",
        json!({
            "entity_category": "config",
            "device_class": "duration",
            "unit_of_measurement": "s",
            "command_topic": topics.set(interval),
            "state_topic": topics.state(interval),
            "min": 0, "max": 86_400, "step": 0.001, "mode": "box",
        }),
    );
    add(
        min_confidence,
        "number",
        "Least confidence",
        json!({
            "icon": "mdi:filter",
            "entity_category": "config",
            "command_topic": topics.set(min_confidence),
            "state_topic": topics.state(min_confidence),
            "min": 0, "max": 1, "step": 0.01, "mode": "box",
        }),
    );
    add(
        detail,
        "select",
        "Detail",
        json!({
            "icon": "mdi:text-long",
            "entity_category": "config",
            "command_topic": topics.set(detail),
            "state_topic": topics.state(detail),
            "options": ["short", "long"],
        }),
    );
    add(
        "event",
        "event",
        "Captioned",
        json!({
            "icon": "mdi:message-image",
            "state_topic": topics.event,
            "event_types": EVENTS,
            // The hub wants the kind under this name.
            "value_template": "{{ dict(value_json, event_type=value_json.event) | to_json }}",
        }),
    );
    add(
        "health",
        "sensor",
        "Running for",
        json!({
            "entity_category": "diagnostic",
            "device_class": "duration",
            "unit_of_measurement": "s",
            "state_topic": topics.health,
            "value_template": "{{ value_json.uptime }}",
            "json_attributes_topic": topics.health,
        }),
    );
    add(
        "waiting",
        "sensor",
        "Messages waiting",
        json!({
            "icon": "mdi:tray-full",
            "entity_category": "diagnostic",
            "state_topic": topics.health,
            "value_template": "{{ value_json.outbox.entries }}",
            "state_class": "measurement",
        }),
    );
    add(
        "dropped",
        "sensor",
        "Messages dropped",
        json!({
            "icon": "mdi:tray-remove",
            "entity_category": "diagnostic",
            "state_topic": topics.health,
            "value_template": "{{ value_json.dropped.total }}",
            "state_class": "total_increasing",
        }),
    );
    if with_image {
        add(
            "image",
            "image",
            "Picture",
            json!({
                "image_topic": topics.image,
                "content_type": "image/jpeg",
            }),
        );
    }
    json!({
        "device": {
            "identifiers": [object],
            "name": format!("captiond {device}"),
            "manufacturer": "captiond",
            "model": "Image captioner",
            "sw_version": env!("CARGO_PKG_VERSION"),
        },
        "origin": {"name": "captiond", "sw_version": env!("CARGO_PKG_VERSION")},
        "availability_topic": topics.status,
        "payload_available": ONLINE,
        "payload_not_available": OFFLINE,
        "qos": 1,
        "components": components,
    })
}

/// The message as it is, or its heart if the whole is more than the recorder keeps.
fn attributes_template() -> String {
    format!(
        "{{% if value | length <= {ATTRIBUTE_CHARACTERS} %}}{{{{ value }}}}{{% else %}}\
         {{{{ dict(schema=value_json.schema, caption=(value_json.caption or '')[:1000] or none, \
         verdict=value_json.verdict, reason=value_json.reason, spoken=value_json.spoken[:1000], \
         confidence=value_json.confidence, time=value_json.time, sequence=value_json.sequence) \
         | to_json }}}}{{% endif %}}"
    )
}
