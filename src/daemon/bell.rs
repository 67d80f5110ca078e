//! Something to wait on that isn't the end: "look again, a setting has changed".

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Counts how often it was rung.
///
/// Whoever waits reads the count first, then looks at whatever the bell is about, and waits for a
/// count other than the one read: a ring between the look and the wait is not missed.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Mutex<u64>,
    changed: Condvar,
}

impl Bell {
    /// Wakes everybody who waits.
    pub fn ring(&self) {
        *self.lock() += 1;
        self.changed.notify_all();
    }

    /// How often it was rung so far.
    #[must_use]
    pub fn rung(&self) -> u64 {
        *self.lock()
    }

    /// Waits at most `limit` for a ring after the first `seen` ones.
    pub fn wait(&self, limit: Duration, seen: u64) {
        let start = Instant::now();
        let mut rung = self.lock();
        while *rung == seen {
            let Some(left) = limit
                .checked_sub(start.elapsed())
                .filter(|left| !left.is_zero())
            else {
                return;
            };
            (rung, _) = self
                .changed
                .wait_timeout(rung, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        // A number can't be left half-written by a panic elsewhere.
        self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    #[test]
    fn a_ring_ends_a_long_wait_and_is_not_missed_before_it() {
        let bell = Arc::new(Bell::default());
        let waiter = {
            let (bell, seen) = (Arc::clone(&bell), bell.rung());
            thread::spawn(move || {
                bell.wait(Duration::from_secs(600), seen);
                bell.rung()
            })
        };
        bell.ring();
        assert_eq!(waiter.join().unwrap(), 1);
        // Rung after the count was read, before the wait: returns at once.
        bell.wait(Duration::from_secs(600), 0);
        bell.wait(Duration::ZERO, 1);
    }
}
