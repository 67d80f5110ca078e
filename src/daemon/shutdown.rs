//! The request to stop, as a type of its own.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// A request to stop that every thread can see and wait for. Clones share it.
///
/// The race it avoids: a thread reads a flag ("not yet"), the signal sets the flag, and only then
/// does the thread go to sleep, for the full length of a back-off of a minute. Here the flag lives
/// under the mutex of the condition variable, so it can't change between the look and the sleep.
/// A signal handler may not take a mutex; the signals therefore arrive on a thread of their own
/// through signal-hook's self-pipe.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    requested: Mutex<bool>,
    changed: Condvar,
}

impl Shutdown {
    /// Nobody has asked yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everything to stop. Asking twice changes nothing.
    pub fn request(&self) {
        *self.lock() = true;
        self.inner.changed.notify_all();
    }

    /// Whether anybody has asked.
    #[must_use]
    pub fn requested(&self) -> bool {
        *self.lock()
    }

    /// Waits until somebody asks.
    pub fn wait(&self) {
        let mut requested = self.lock();
        while !*requested {
            requested = self
                .inner
                .changed
                .wait(requested)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits at most `limit`; true if somebody has asked.
    #[must_use]
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        let start = Instant::now();
        let mut requested = self.lock();
        while !*requested {
            let Some(left) = limit
                .checked_sub(start.elapsed())
                .filter(|left| !left.is_zero())
            else {
                return false;
            };
            (requested, _) = self
                .inner
                .changed
                .wait_timeout(requested, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    /// From now on SIGTERM and SIGINT ask. A second one ends the process at once, so that Ctrl-C
    /// twice helps even while something hangs.
    ///
    /// # Errors
    /// When the handlers or their thread can't be set up.
    pub fn on_signals(&self) -> io::Result<()> {
        let mut signals = Signals::new([SIGTERM, SIGINT])?;
        let shutdown = self.clone();
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                for signal in signals.forever() {
                    if shutdown.requested() {
                        // Can only fail for a signal without a default action; then the orderly
                        // way continues, which is right as well.
                        let _ = signal_hook::low_level::emulate_default_handler(signal);
                    }
                    tracing::info!(signal, "stopping on a signal");
                    shutdown.request();
                }
            })?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        // A bool can't be left half-written by a panic elsewhere.
        self.inner
            .requested
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_wakes_a_long_wait() {
        let shutdown = Shutdown::new();
        let waiter = {
            let shutdown = shutdown.clone();
            thread::spawn(move || shutdown.wait_timeout(Duration::from_secs(600)))
        };
        shutdown.request();
        assert!(waiter.join().unwrap());
        assert!(shutdown.requested());
        shutdown.wait();
    }

    #[test]
    fn without_a_request_the_wait_ends_by_itself() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.wait_timeout(Duration::from_millis(1)));
        assert!(!shutdown.wait_timeout(Duration::ZERO));
    }
}
