//! Time as a trait, so that tests own it.
//!
//! Intervals, back-off and ages use the monotonic clock only: a Raspberry Pi without a battery
//! clock starts in the past and jumps by years once NTP answers. The wall clock is for messages.

use std::fmt::Debug;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::bell::Bell;
use super::shutdown::Shutdown;

/// Files whose presence says that a time server has set the wall clock since the start:
/// systemd-timesyncd makes the first; the second comes from captiond-clock.service (`systemd/`),
/// which waits for any other client. The kernel's own flag would need adjtimex(2), which the unit's
/// ProtectClock= forbids.
pub const SYNCHRONISED: [&str; 2] = [
    "/run/systemd/timesync/synchronized",
    "/run/captiond-clock/synchronised",
];

/// Where the daemon gets its time from.
pub trait Clock: Debug + Send + Sync {
    /// Time since this clock's start; never goes back.
    fn monotonic(&self) -> Duration;

    /// The date, for messages. May jump both ways.
    fn wall(&self) -> SystemTime;

    /// Whether the date is known to be right: a time server has set it since the start.
    fn synchronised(&self) -> bool;

    /// Waits, but no longer than until a shutdown is asked for; true if it was.
    fn wait(&self, duration: Duration, shutdown: &Shutdown) -> bool;

    /// Waits, but no longer than until `bell` is rung after its first `seen` times.
    fn wait_on(&self, duration: Duration, bell: &Bell, seen: u64);
}

/// The operating system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock that starts now.
    #[must_use]
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn synchronised(&self) -> bool {
        SYNCHRONISED.iter().any(|file| Path::new(file).exists())
    }

    fn wait(&self, duration: Duration, shutdown: &Shutdown) -> bool {
        shutdown.wait_timeout(duration)
    }

    fn wait_on(&self, duration: Duration, bell: &Bell, seen: u64) {
        bell.wait(duration, seen);
    }
}

/// A clock for tests: a wait returns at once and moves the time on by what it was asked for.
pub struct FakeClock {
    now: Mutex<FakeNow>,
    on_wait: Box<dyn Fn(usize) + Send + Sync>,
}

#[derive(Debug)]
struct FakeNow {
    monotonic: Duration,
    wall: SystemTime,
    synchronised: bool,
    waits: Vec<Duration>,
}

impl FakeClock {
    /// Starts at monotonic zero and the given date.
    #[must_use]
    pub fn new(wall: SystemTime) -> Self {
        Self::with_hook(wall, |_| ())
    }

    /// The same, and calls `on_wait` with the number of the wait (from 1) inside every wait: the
    /// place where a test lets the world change.
    pub fn with_hook(wall: SystemTime, on_wait: impl Fn(usize) + Send + Sync + 'static) -> Self {
        Self {
            now: Mutex::new(FakeNow {
                monotonic: Duration::ZERO,
                wall,
                synchronised: false,
                waits: Vec::new(),
            }),
            on_wait: Box::new(on_wait),
        }
    }

    /// Moves both clocks on.
    pub fn advance(&self, by: Duration) {
        let mut now = self.lock();
        now.monotonic += by;
        now.wall += by;
    }

    /// Sets the date, as NTP does; the monotonic clock doesn't notice.
    pub fn set_wall(&self, wall: SystemTime) {
        let mut now = self.lock();
        now.wall = wall;
        now.synchronised = true;
    }

    /// Every wait so far, as asked for.
    #[must_use]
    pub fn waits(&self) -> Vec<Duration> {
        self.lock().waits.clone()
    }

    fn pass(&self, duration: Duration) {
        let number = {
            let mut now = self.lock();
            now.monotonic += duration;
            now.wall += duration;
            now.waits.push(duration);
            now.waits.len()
        };
        (self.on_wait)(number);
        // Time costs nothing here, so a loop around a wait must not starve the other threads.
        std::thread::yield_now();
    }

    fn lock(&self) -> MutexGuard<'_, FakeNow> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Debug for FakeClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakeClock")
            .field("now", &*self.lock())
            .finish_non_exhaustive()
    }
}

impl Clock for FakeClock {
    fn monotonic(&self) -> Duration {
        self.lock().monotonic
    }

    fn wall(&self) -> SystemTime {
        self.lock().wall
    }

    fn synchronised(&self) -> bool {
        self.lock().synchronised
    }

    fn wait(&self, duration: Duration, shutdown: &Shutdown) -> bool {
        self.pass(duration);
        shutdown.requested()
    }

    fn wait_on(&self, duration: Duration, _: &Bell, _: u64) {
        self.pass(duration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fake_time_moves_by_what_was_waited_for() {
        let clock = FakeClock::new(SystemTime::UNIX_EPOCH);
        let shutdown = Shutdown::new();
        assert!(!clock.wait(Duration::from_secs(3600), &shutdown));
        assert_eq!(clock.monotonic(), Duration::from_secs(3600));
        assert!(!clock.synchronised());
        clock.set_wall(SystemTime::UNIX_EPOCH);
        assert!(clock.synchronised());
        assert_eq!(clock.monotonic(), Duration::from_secs(3600));
        shutdown.request();
        assert!(clock.wait(Duration::from_secs(1), &shutdown));
    }

    #[test]
    fn a_system_wait_ends_on_shutdown() {
        let shutdown = Shutdown::new();
        shutdown.request();
        assert!(SystemClock::new().wait(Duration::from_secs(600), &shutdown));
    }
}
