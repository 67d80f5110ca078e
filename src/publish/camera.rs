//! Whether the camera works, as it's published on `camera/status`.

use std::time::SystemTime;

use serde_json::json;

use super::message::{SCHEMA, time_stamp};

/// What can be said of a camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CameraCondition {
    /// Frames are coming.
    Ok,
    /// It can't be opened, or has gone.
    Lost,
    /// It's open, but no frame has come for too long.
    Stalled,
}

impl CameraCondition {
    /// As in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Lost => "lost",
            Self::Stalled => "stalled",
        }
    }
}

/// A camera's condition, since when, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CameraState {
    /// The condition.
    pub condition: CameraCondition,
    /// What happened and what to do, for a person; none while it's fine.
    pub reason: Option<String>,
    /// When the condition began, by the wall clock.
    pub since: SystemTime,
}

impl CameraState {
    /// Frames are coming since then.
    #[must_use]
    pub fn ok(since: SystemTime) -> Self {
        Self {
            condition: CameraCondition::Ok,
            reason: None,
            since,
        }
    }

    /// It's gone.
    #[must_use]
    pub fn lost(since: SystemTime, reason: impl Into<String>) -> Self {
        Self {
            condition: CameraCondition::Lost,
            reason: Some(reason.into()),
            since,
        }
    }

    /// It gives no frames.
    #[must_use]
    pub fn stalled(since: SystemTime, reason: impl Into<String>) -> Self {
        Self {
            condition: CameraCondition::Stalled,
            ..Self::lost(since, reason)
        }
    }

    /// The payload of `camera/status`.
    pub(super) fn payload(&self) -> Vec<u8> {
        json!({
            "schema": SCHEMA,
            "state": self.condition.name(),
            "reason": self.reason,
            "since": time_stamp(self.since),
        })
        .to_string()
        .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_json_comes_out() {
        let text = |state: CameraState| String::from_utf8(state.payload()).unwrap();
        assert_eq!(
            text(CameraState::lost(SystemTime::UNIX_EPOCH, "unplugged")),
            r#"{"reason":"unplugged","schema":2,"since":"1970-01-01T00:00:00.000Z","state":"lost"}"#
        );
        let state = CameraState::ok(SystemTime::UNIX_EPOCH);
        assert!(text(state).contains(r#""reason":null"#));
        let state = CameraState::stalled(SystemTime::UNIX_EPOCH, "no frame for 10 s");
        assert!(text(state).contains(r#""state":"stalled""#));
    }
}
