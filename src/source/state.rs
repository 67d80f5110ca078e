//! How the camera is: one small cell that the source writes and anybody may read or listen to.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Whether frames come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CameraState {
    /// Frames come (of a folder: it can be read).
    Ok,
    /// The source can't be opened, or has gone; it's opened again and again.
    Lost {
        /// What happened and what to do.
        reason: String,
    },
    /// The source is there but says nothing new; it's opened again and again.
    Stalled {
        /// For how long, and what was done.
        reason: String,
    },
}

impl CameraState {
    /// "ok", "lost" or "stalled", for messages.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Lost { .. } => "lost",
            Self::Stalled { .. } => "stalled",
        }
    }

    /// Why it's not [`CameraState::Ok`].
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Ok => None,
            Self::Lost { reason } | Self::Stalled { reason } => Some(reason),
        }
    }
}

/// A state and since when it has been so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The state.
    pub state: CameraState,
    /// When it was entered, on the monotonic clock. A new reason alone doesn't move it.
    pub since: Duration,
    /// Counts the reports, from 0: what [`StateCell::wait_for_change`] waits to see grow.
    pub number: u64,
}

/// The current [`Report`]. Clones share it.
///
/// Two ways to hear of a change: [`StateCell::on_change`] calls back on the source's thread (keep
/// it short), [`StateCell::wait_for_change`] waits on one's own.
#[derive(Clone)]
pub struct StateCell(Arc<Inner>);

struct Inner {
    report: Mutex<Report>,
    changed: Condvar,
    listeners: Mutex<Vec<Listener>>,
}

type Listener = Box<dyn Fn(&Report) + Send>;

impl Default for StateCell {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for StateCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StateCell").field(&self.current()).finish()
    }
}

impl StateCell {
    /// Lost, because nothing was seen yet: a camera is well only once it has shown a picture.
    #[must_use]
    pub fn new() -> Self {
        let report = Report {
            state: CameraState::Lost {
                reason: "starting; no picture yet".into(),
            },
            since: Duration::ZERO,
            number: 0,
        };
        Self(Arc::new(Inner {
            report: Mutex::new(report),
            changed: Condvar::new(),
            listeners: Mutex::new(Vec::new()),
        }))
    }

    /// What it is now.
    #[must_use]
    pub fn current(&self) -> Report {
        self.lock().clone()
    }

    /// Calls `listener` with the current report and from now on with each new one, in order.
    pub fn on_change(&self, listener: impl Fn(&Report) + Send + 'static) {
        let mut listeners = self.listeners();
        listener(&self.current());
        listeners.push(Box::new(listener));
    }

    /// Waits up to `limit` for a report with a number above `seen`.
    #[must_use]
    pub fn wait_for_change(&self, seen: u64, limit: Duration) -> Option<Report> {
        let (report, _) = self
            .0
            .changed
            .wait_timeout_while(self.lock(), limit, |report| report.number <= seen)
            .unwrap_or_else(PoisonError::into_inner);
        (report.number > seen).then(|| report.clone())
    }

    /// Enters a state at `now` (monotonic). A change is logged and told; the same again is not.
    /// `origin` is for the log.
    pub fn set(&self, state: CameraState, now: Duration, origin: &str) {
        // Held throughout, so that listeners hear of changes in their order.
        let listeners = self.listeners();
        let report = {
            let mut report = self.lock();
            if report.state == state {
                return;
            }
            if report.state.word() != state.word() {
                report.since = now;
                // Not the reason: whoever waits for the source to come back logs it, and again.
                tracing::info!(source = origin, "camera state: {}", state.word());
            }
            report.state = state;
            report.number += 1;
            report.clone()
        };
        self.0.changed.notify_all();
        for listener in listeners.iter() {
            listener(&report);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Report> {
        // Nothing panics under this lock, so poison carries no information.
        self.0.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<Listener>> {
        // A listener that has panicked has taken the source's thread, and the daemon, with it.
        self.0
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::thread;

    fn lost(reason: &str) -> CameraState {
        CameraState::Lost {
            reason: reason.into(),
        }
    }

    #[test]
    fn a_change_is_told_once_and_since_is_that_of_the_kind() {
        let cell = StateCell::new();
        assert_eq!(cell.current().state.word(), "lost");
        let (told, heard) = channel();
        cell.on_change(move |report| told.send(report.clone()).unwrap());
        let second = Duration::from_secs(1);
        cell.set(CameraState::Ok, second, "camera");
        cell.set(CameraState::Ok, 2 * second, "camera");
        cell.set(lost("unplugged"), 3 * second, "camera");
        cell.set(lost("still not there"), 4 * second, "camera");
        drop(cell);
        let heard: Vec<_> = heard.iter().collect();
        let words: Vec<_> = heard.iter().map(|report| report.state.word()).collect();
        assert_eq!(words, ["lost", "ok", "lost", "lost"]);
        let since: Vec<_> = heard.iter().map(|report| report.since.as_secs()).collect();
        assert_eq!(since, [0, 1, 3, 3]);
        assert_eq!(heard[3].state.reason(), Some("still not there"));
        assert_eq!(heard[1].state.reason(), None);
    }

    #[test]
    fn a_waiter_wakes_at_a_change_and_only_then() {
        let cell = StateCell::new();
        assert_eq!(cell.wait_for_change(0, Duration::from_millis(1)), None);
        let waiter = {
            let cell = cell.clone();
            thread::spawn(move || cell.wait_for_change(0, Duration::from_secs(600)))
        };
        cell.set(CameraState::Ok, Duration::ZERO, "camera");
        let report = waiter.join().unwrap().unwrap();
        assert_eq!((report.state, report.number), (CameraState::Ok, 1));
    }
}
