//! Answers to requests: `request/<name>` is answered on `response/<name>`.

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
