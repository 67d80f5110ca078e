//! Answers to requests: `request/<name>` is answered on `response/<name>`.

use serde::Serialize;
use serde_json::{Value, json};

use super::message::SCHEMA;

/// It's done, or on its way; `data` is what was asked for.
pub(super) fn ok(id: &Value, data: &Value) -> Vec<u8> {
    json!({"schema": SCHEMA, "id": id, "status": "ok", "data": data})
        .to_string()
        .into_bytes()
}

/// It isn't done.
pub(super) fn error(id: &Value, problem: &str) -> Vec<u8> {
    json!({"schema": SCHEMA, "id": id, "status": "error", "error": problem})
        .to_string()
        .into_bytes()
}

/// As a value, with `f32` numbers as short as they are written elsewhere: 0.8 and not
/// 0.800000011920929. What has no JSON form becomes `null`.
pub(super) fn value(of: &impl Serialize) -> Value {
    let text = serde_json::to_string(of).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}
