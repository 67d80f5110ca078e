//! Notices that a source has gone quiet.

use std::sync::Arc;
use std::time::Duration;

use super::SourceError;
use crate::daemon::clock::Clock;

/// Age of the newest whole frame, on the monotonic clock, against a limit.
///
/// Every live source has one and asks it wherever it waits. What counts is whole frames: a camera
/// that sends nothing but torn ones is as good as silent, and is healed the same way.
#[derive(Debug)]
pub struct StallDetector {
    after: Duration,
    clock: Arc<dyn Clock>,
    /// When the source was opened or its newest whole frame came.
    newest: Duration,
}

impl StallDetector {
    /// Complains once the newest frame is `after` old.
    pub fn new(after: Duration, clock: Arc<dyn Clock>) -> Self {
        let newest = clock.monotonic();
        Self {
            after,
            clock,
            newest,
        }
    }

    /// The source was (or is about to be) opened, or a whole frame came: the age is zero again.
    pub fn fresh(&mut self) {
        self.newest = self.clock.monotonic();
    }

    /// How much time is left before the complaint.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.after.saturating_sub(self.age())
    }

    /// The age of the newest frame.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.newest)
    }

    /// The complaint, if it's due. `done` says what the source does about it.
    ///
    /// # Errors
    /// [`SourceError::Stalled`].
    pub fn check(&self, origin: &str, done: &str) -> Result<(), SourceError> {
        if self.age() < self.after {
            return Ok(());
        }
        // The limit and not the age: the same complaint must be the same text to be logged once.
        Err(SourceError::Stalled {
            origin: origin.to_owned(),
            reason: format!(
                "no whole frame for {} (source.stall_after); {done}",
                humantime::format_duration(self.after)
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::clock::FakeClock;
    use std::time::SystemTime;

    #[test]
    fn the_age_of_the_newest_frame_decides_and_the_date_does_not() {
        let clock = Arc::new(FakeClock::new(SystemTime::UNIX_EPOCH));
        let second = Duration::from_secs(1);
        let mut stall = StallDetector::new(10 * second, Arc::clone(&clock) as Arc<dyn Clock>);
        clock.advance(9 * second);
        // Years both ways, as when NTP answers.
        clock.set_wall(SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000));
        stall.check("camera", "").unwrap();
        stall.fresh();
        clock.set_wall(SystemTime::UNIX_EPOCH);
        clock.advance(9 * second);
        stall.check("camera", "").unwrap();
        assert_eq!(stall.left(), second);
        clock.advance(second);
        let error = stall.check("camera", "opening it again").unwrap_err();
        assert!(matches!(error, SourceError::Stalled { .. }));
        let text = error.to_string();
        assert!(text.contains("10s"), "{text}");
        assert!(text.contains("opening it again"), "{text}");
    }
}
