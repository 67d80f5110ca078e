//! "Describe now": the one flag that all who may ask press (MQTT, a signal, a line, a key).

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use signal_hook::consts::SIGUSR2;
use signal_hook::iterator::Signals;

use crate::daemon::clock::Clock;

/// A wish that no frame could answer for so long is forgotten: whoever pressed has gone, and a
/// camera that comes back after an hour must not suddenly speak.
pub const EXPIRES: Duration = Duration::from_secs(10);

/// Somebody wants a caption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Press {
    /// Who, for the log.
    pub by: &'static str,
    /// When, on the monotonic clock. Only a picture that was taken since answers it.
    pub at: Duration,
}

impl Press {
    /// Whether it's too old to be answered.
    #[must_use]
    pub fn expired(&self, now: Duration) -> bool {
        now.saturating_sub(self.at) > EXPIRES
    }
}

/// The flag. Clones share it. However often it's pressed before it's taken, it's one wish.
#[derive(Debug, Clone)]
pub struct DemandFlag {
    pressed: Arc<Mutex<Option<Press>>>,
    clock: Arc<dyn Clock>,
}

impl DemandFlag {
    /// Nobody wants anything.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            pressed: Arc::default(),
            clock,
        }
    }

    /// Asks for a caption of what the camera sees from now on.
    pub fn press(&self, by: &'static str) {
        let at = self.clock.monotonic();
        *self.lock() = Some(Press { by, at });
    }

    /// Takes the wish, if there is one that is not too old.
    #[must_use]
    pub fn take(&self) -> Option<Press> {
        let now = self.clock.monotonic();
        self.lock().take().filter(|press| !press.expired(now))
    }

    /// Whether somebody waits.
    #[must_use]
    pub fn pressed(&self) -> bool {
        let now = self.clock.monotonic();
        self.lock().is_some_and(|press| !press.expired(now))
    }

    /// From now on SIGUSR2 (`systemctl kill -s SIGUSR2 captiond`) presses it.
    ///
    /// # Errors
    /// When the handler or its thread can't be set up.
    pub fn on_signal(&self) -> io::Result<()> {
        let mut signals = Signals::new([SIGUSR2])?;
        let flag = self.clone();
        thread::Builder::new()
            .name("describe signal".into())
            .spawn(move || {
                for _ in signals.forever() {
                    tracing::info!("SIGUSR2: describing the next picture");
                    flag.press("SIGUSR2");
                }
            })?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Press>> {
        // Nothing panics under this lock, so poison carries no information.
        self.pressed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::clock::FakeClock;
    use std::time::SystemTime;

    #[test]
    fn presses_are_one_wish_that_is_taken_once_and_expires() {
        let clock = Arc::new(FakeClock::new(SystemTime::UNIX_EPOCH));
        let flag = DemandFlag::new(Arc::clone(&clock) as Arc<dyn Clock>);
        assert_eq!(flag.take(), None);
        flag.press("a");
        clock.advance(Duration::from_secs(1));
        flag.clone().press("b");
        assert!(flag.pressed());
        let press = flag.take().unwrap();
        assert_eq!((press.by, press.at), ("b", Duration::from_secs(1)));
        assert_eq!(flag.take(), None);
        flag.press("c");
        clock.advance(EXPIRES + Duration::from_millis(1));
        assert!(!flag.pressed());
        assert_eq!(flag.take(), None);
    }
}
