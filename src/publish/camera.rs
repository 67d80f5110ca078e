//! Whether the camera works, as it's published on `camera/status`.

use std::time::SystemTime;

use serde_json::json;

use super::message::SCHEMA;
use super::topics::time_stamp;
use crate::daemon::clock::Clock;
use crate::source::state::{self, Report};

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
    /// As a source reports it; `since` by the wall clock as it is now.
    #[must_use]
    pub fn of(report: &Report, clock: &dyn Clock) -> Self {
        let age = clock.monotonic().saturating_sub(report.since);
        let now = clock.wall();
        let since = now.checked_sub(age).unwrap_or(now);
        match &report.state {
            state::CameraState::Ok => Self::ok(since),
            state::CameraState::Lost { reason } => Self::lost(since, reason),
            state::CameraState::Stalled { reason } => Self::stalled(since, reason),
        }
    }

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
    use crate::daemon::clock::FakeClock;
    use std::time::Duration;

    #[test]
    fn a_report_keeps_its_time_by_the_wall_clock() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let clock = FakeClock::new(start);
        clock.advance(Duration::from_secs(60));
        let at = |state, since| {
            let report = Report {
                state,
                since: Duration::from_secs(since),
                number: 1,
            };
            CameraState::of(&report, &clock)
        };
        let reason = || "unplugged".to_owned();
        let since = start + Duration::from_secs(10);
        assert_eq!(at(state::CameraState::Ok, 10), CameraState::ok(since));
        assert_eq!(
            at(state::CameraState::Lost { reason: reason() }, 10),
            CameraState::lost(since, reason())
        );
        assert_eq!(
            at(state::CameraState::Stalled { reason: reason() }, 10),
            CameraState::stalled(since, reason())
        );
    }

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
