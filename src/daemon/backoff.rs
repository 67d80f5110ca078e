//! How long to wait before trying again: the one helper for every source and for the broker.

use std::time::Duration;

use super::clock::Clock;
use super::shutdown::Shutdown;

/// Exponential back-off with jitter that a shutdown interrupts.
///
/// Half of each wait is fixed and half is random: a fleet of devices whose broker comes back after
/// a power cut must not call it in step, and no device may call it again at once.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
    random: fastrand::Rng,
}

impl Backoff {
    /// The first wait is up to `first`; each further one doubles, up to `longest`.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            next: first,
            random: fastrand::Rng::new(),
        }
    }

    /// It worked: the next failure starts small again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }

    /// The next wait's length; the one after it will be longer.
    pub fn next_delay(&mut self) -> Duration {
        let ceiling = self.next.min(self.longest);
        self.next = ceiling.saturating_mul(2).min(self.longest);
        ceiling / 2 + ceiling.div_f64(2.0).mul_f64(self.random.f64())
    }

    /// Waits for the next delay; true if a shutdown was asked for meanwhile.
    pub fn wait(&mut self, clock: &dyn Clock, shutdown: &Shutdown) -> bool {
        let delay = self.next_delay();
        clock.wait(delay, shutdown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_again_after_a_reset() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(second, 8 * second);
        for ceiling in [1, 2, 4, 8, 8, 8] {
            let delay = backoff.next_delay();
            assert!(delay >= ceiling * second / 2, "{delay:?} of {ceiling}");
            assert!(delay <= ceiling * second, "{delay:?} of {ceiling}");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= second);
    }

    #[test]
    fn two_devices_do_not_call_in_step() {
        let delays = |()| {
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
            (0..8).map(|_| backoff.next_delay()).collect::<Vec<_>>()
        };
        assert_ne!(delays(()), delays(()));
    }

    #[test]
    fn a_shutdown_ends_the_wait() {
        let shutdown = Shutdown::new();
        shutdown.request();
        let clock = super::super::clock::SystemClock::new();
        let mut backoff = Backoff::new(Duration::from_secs(600), Duration::from_secs(600));
        assert!(backoff.wait(&clock, &shutdown));
    }
}
