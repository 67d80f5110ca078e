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

/// systemd-timesyncd's folder below `/run`, which is there where it runs.
const TIMESYNC: &str = "systemd/timesync";

/// Files below `/run` whose presence says that a time server has set the wall clock since the start:
/// systemd-timesyncd makes the first; the second comes from captiond-clock.service (`systemd/`),
/// which waits for any other client. The kernel's own flag would need adjtimex(2), which the unit's
/// ProtectClock= forbids.
const SYNCHRONISED: [&str; 2] = [
    "systemd/timesync/synchronized",
    "captiond-clock/synchronised",
];

/// This program was written in 2026: a clock that is earlier is not set.
const WRITTEN: Duration = Duration::from_secs(1_767_225_600);

/// What is known of the date. The one rule for all who need to know: messages say whether it's
/// [`Trust::Set`], quiet hours hold unless it's [`Trust::Wrong`], `captiond check` says which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// A time server has set it since the start.
    Set,
    /// Nobody says that it's right, and nothing that it's wrong: a battery clock, or a client of time servers
    /// that nobody has told us of.
    Unknown,
    /// It's from before this program was written, or systemd-timesyncd runs and hasn't set it yet.
    Wrong,
}

/// What is known of the date `wall`; `run` is `/run`.
#[must_use]
pub fn trust(wall: SystemTime, run: &Path) -> Trust {
    let since = wall.duration_since(SystemTime::UNIX_EPOCH);
    if since.unwrap_or_default() < WRITTEN {
        Trust::Wrong
    } else if SYNCHRONISED.iter().any(|file| run.join(file).exists()) {
        Trust::Set
    } else if run.join(TIMESYNC).exists() {
        Trust::Wrong
    } else {
        Trust::Unknown
    }
}

/// Where the daemon gets its time from.
pub trait Clock: Debug + Send + Sync {
    /// Time since this clock's start; never goes back.
    fn monotonic(&self) -> Duration;

    /// The date, for messages. May jump both ways.
    fn wall(&self) -> SystemTime;

    /// What is known of that date.
    fn trust(&self) -> Trust;

    /// Whether the date is known to be right: a time server has set it since the start.
    fn synchronised(&self) -> bool {
        self.trust() == Trust::Set
    }

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

    fn trust(&self) -> Trust {
        trust(self.wall(), Path::new("/run"))
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

    /// Set by [`FakeClock::set_wall`], whatever the date.
    fn trust(&self) -> Trust {
        let now = self.lock();
        match now.synchronised {
            true => Trust::Set,
            false => trust(now.wall, Path::new("/dev/null")),
        }
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
    fn a_date_is_trusted_by_one_rule() {
        let run = tempfile::tempdir().unwrap();
        let (early, good) = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + WRITTEN);
        let of = |wall| trust(wall, run.path());
        assert_eq!((of(early), of(good)), (Trust::Wrong, Trust::Unknown));
        assert_eq!(of(early - Duration::from_secs(1)), Trust::Wrong);
        // timesyncd is there and knows better than the date.
        std::fs::create_dir_all(run.path().join(TIMESYNC)).unwrap();
        assert_eq!(of(good), Trust::Wrong);
        for file in SYNCHRONISED {
            let file = run.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, "").unwrap();
            assert_eq!((of(early), of(good)), (Trust::Wrong, Trust::Set));
            std::fs::remove_file(&file).unwrap();
        }
    }

    #[test]
    fn a_system_wait_ends_on_shutdown() {
        let shutdown = Shutdown::new();
        shutdown.request();
        assert!(SystemClock::new().wait(Duration::from_secs(600), &shutdown));
    }
}
