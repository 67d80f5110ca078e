//! "Describe now": the one flag that all who may ask press (MQTT, a signal, a line, a key).

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use signal_hook::consts::SIGUSR2;
use signal_hook::iterator::Signals;

use crate::daemon::bell::Bell;
use crate::daemon::clock::Clock;
use crate::daemon::controls::Controls;

/// A wish that no frame could answer for so long is forgotten: whoever pressed has gone, and a
/// camera that comes back after an hour must not suddenly speak.
/// A request over MQTT is answered by then, too.
pub const EXPIRES: Duration = Duration::from_secs(30);

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
#[derive(Clone)]
pub struct DemandFlag {
    pressed: Arc<Mutex<Option<Press>>>,
    clock: Arc<dyn Clock>,
    /// Rung at each press: the pipeline may be asleep.
    bell: Arc<Bell>,
    listeners: Arc<Mutex<Vec<Listener>>>,
}

/// Called at each press, from the thread that presses.
type Listener = Box<dyn Fn() + Send + Sync>;

impl fmt::Debug for DemandFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DemandFlag")
            .field("pressed", &*self.lock())
            .finish_non_exhaustive()
    }
}

impl DemandFlag {
    /// Nobody wants anything yet. [`Controls::describe`] presses it, and the bell of `controls` is
    /// rung by whoever else does.
    #[must_use]
    pub fn new(controls: &Controls, clock: Arc<dyn Clock>) -> Self {
        let flag = Self {
            pressed: Arc::default(),
            clock,
            bell: Arc::clone(controls.bell()),
            listeners: Arc::default(),
        };
        let pressed = flag.clone();
        controls.on_describe(move || pressed.press("a command"));
        flag
    }

    /// From now on `listener` is called at each press, before the pipeline knows of it. It must not
    /// block, nor register another one.
    pub fn on_press(&self, listener: impl Fn() + Send + Sync + 'static) {
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        listeners.push(Box::new(listener));
    }

    /// Asks for a caption of what the camera sees from now on.
    pub fn press(&self, by: &'static str) {
        {
            let listeners = self.listeners.lock();
            let listeners = listeners.unwrap_or_else(PoisonError::into_inner);
            listeners.iter().for_each(|listener| listener());
        }
        let at = self.clock.monotonic();
        *self.lock() = Some(Press { by, at });
        self.bell.ring();
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
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::SystemTime;

    #[test]
    fn presses_are_one_wish_that_is_taken_once_and_expires() {
        let clock = Arc::new(FakeClock::new(SystemTime::UNIX_EPOCH));
        let controls = Controls::default();
        let flag = DemandFlag::new(&controls, Arc::clone(&clock) as Arc<dyn Clock>);
        let heard = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&heard);
        flag.on_press(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(flag.take(), None);
        flag.press("a");
        assert_eq!(controls.bell().rung(), 1);
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
        // A command presses it too.
        controls.describe();
        assert_eq!(flag.take().unwrap().at, clock.monotonic());
        assert_eq!(controls.bell().rung(), 4);
        assert_eq!(heard.load(Ordering::Relaxed), 4);
    }
}
