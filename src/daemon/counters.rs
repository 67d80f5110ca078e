//! What the daemon counts while it runs, for the health message and the last line of the log.

use std::sync::atomic::{AtomicU64, Ordering};

/// Each number only rises. Shared between the threads that count and those that tell.
#[derive(Debug, Default)]
pub struct Counters {
    captioned: AtomicU64,
    bad: AtomicU64,
    overtaken: AtomicU64,
    withheld: AtomicU64,
}

/// What was done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Frames that were captioned and handed to the publishers.
    pub captioned: u64,
    /// Frames that were skipped because they or their caption were bad.
    pub bad: u64,
    /// Frames that a newer one overtook.
    pub overtaken: u64,
    /// Captions that were kept back because their confidence was below `min_confidence`.
    pub withheld: u64,
}

impl Counters {
    /// One more caption for the publishers.
    pub fn captioned(&self) {
        self.captioned.fetch_add(1, Ordering::Relaxed);
    }

    /// One more frame that couldn't be used.
    pub fn bad(&self) {
        self.bad.fetch_add(1, Ordering::Relaxed);
    }

    /// One more caption kept back.
    pub fn withheld(&self) {
        self.withheld.fetch_add(1, Ordering::Relaxed);
    }

    /// So many frames were overtaken in all.
    pub fn overtaken(&self, in_all: u64) {
        self.overtaken.fetch_max(in_all, Ordering::Relaxed);
    }

    /// The numbers now.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Tally {
            captioned: read(&self.captioned),
            bad: read(&self.bad),
            overtaken: read(&self.overtaken),
            withheld: read(&self.withheld),
        }
    }
}
