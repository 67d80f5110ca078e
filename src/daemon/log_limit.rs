//! The same complaint is logged once and then at most once a period.

use std::collections::HashMap;
use std::time::Duration;

/// Keeps a fault that repeats a thousand times a second from filling the journal (and the SD card).
#[derive(Debug)]
pub struct LogLimit {
    period: Duration,
    seen: HashMap<String, Seen>,
}

#[derive(Debug)]
struct Seen {
    logged: Duration,
    suppressed: u64,
}

/// So many different complaints are remembered; more of them (file names in a message) would be a
/// slow leak, so the oldest are forgotten and may be logged again.
const REMEMBERED: usize = 64;

impl LogLimit {
    /// At most one line a `period` for the same text.
    #[must_use]
    pub fn new(period: Duration) -> Self {
        Self {
            period,
            seen: HashMap::new(),
        }
    }

    /// Whether to log `text` now (monotonic `now`); if so, how often it was kept back before.
    pub fn allow(&mut self, text: &str, now: Duration) -> Option<u64> {
        if let Some(seen) = self.seen.get_mut(text) {
            if now.saturating_sub(seen.logged) < self.period {
                seen.suppressed += 1;
                return None;
            }
            seen.logged = now;
            return Some(std::mem::take(&mut seen.suppressed));
        }
        if self.seen.len() >= REMEMBERED
            && let Some(oldest) = self
                .seen
                .iter()
                .min_by_key(|(_, seen)| seen.logged)
                .map(|(text, _)| text.clone())
        {
            self.seen.remove(&oldest);
        }
        self.seen.insert(
            text.to_owned(),
            Seen {
                logged: now,
                suppressed: 0,
            },
        );
        Some(0)
    }

    /// The fault is over: the next one is news again.
    pub fn reset(&mut self) {
        self.seen.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_counted_and_told_with_the_next_line() {
        let mut limit = LogLimit::new(Duration::from_secs(60));
        assert_eq!(limit.allow("lost", Duration::ZERO), Some(0));
        for second in 1..60 {
            assert_eq!(limit.allow("lost", Duration::from_secs(second)), None);
        }
        assert_eq!(limit.allow("other", Duration::from_secs(59)), Some(0));
        assert_eq!(limit.allow("lost", Duration::from_secs(60)), Some(59));
        assert_eq!(limit.allow("lost", Duration::from_secs(61)), None);
        limit.reset();
        assert_eq!(limit.allow("lost", Duration::from_secs(62)), Some(0));
    }

    #[test]
    fn memory_is_bounded() {
        let mut limit = LogLimit::new(Duration::from_secs(60));
        for number in 0..10_000_u64 {
            limit.allow(&format!("file {number}"), Duration::from_millis(number));
        }
        assert!(limit.seen.len() <= REMEMBERED);
    }
}
