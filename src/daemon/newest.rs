//! The slot between a source and the pipeline.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Holds one frame at most. A slow model meets the newest frame of a live source, never a queue of
/// old ones: in a queue every caption would be about a scene that is further and further gone.
#[derive(Debug)]
pub struct NewestSlot<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    held: Option<T>,
    overtaken: u64,
    /// Nothing more will be put in; what is held may still be taken.
    finished: bool,
    /// Shutdown: nothing is given out any more.
    closed: bool,
}

/// What [`NewestSlot::take_within`] has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken<T> {
    /// It was there, or came in time.
    Value(T),
    /// The time is over.
    NothingYet,
    /// The slot is closed, or finished and empty.
    End,
}

impl<T> Default for NewestSlot<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> NewestSlot<T> {
    /// An empty slot.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: Mutex::new(State {
                held: None,
                overtaken: 0,
                finished: false,
                closed: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Puts a live frame in; one that is still there is overtaken (dropped and counted).
    pub fn put(&self, value: T) {
        let mut state = self.lock();
        if state.held.replace(value).is_some() {
            state.overtaken += 1;
        }
        self.changed.notify_all();
    }

    /// Waits until the slot is empty, then puts the value in: for a source whose every frame
    /// counts. False if the slot was closed instead.
    pub fn put_in_turn(&self, value: T) -> bool {
        let mut state = self.lock();
        while state.held.is_some() && !state.closed {
            state = self.wait(state);
        }
        if state.closed {
            return false;
        }
        state.held = Some(value);
        self.changed.notify_all();
        true
    }

    /// Waits for a value and takes it. `None` once the slot is closed, or finished and empty.
    pub fn take(&self) -> Option<T> {
        loop {
            match self.take_within(Duration::MAX) {
                Taken::Value(value) => return Some(value),
                Taken::NothingYet => {}
                Taken::End => return None,
            }
        }
    }

    /// As [`NewestSlot::take`], but waits for `limit` at most.
    pub fn take_within(&self, limit: Duration) -> Taken<T> {
        let start = Instant::now();
        let mut state = self.lock();
        loop {
            if state.closed {
                return Taken::End;
            }
            if let Some(value) = state.held.take() {
                self.changed.notify_all();
                return Taken::Value(value);
            }
            if state.finished {
                return Taken::End;
            }
            let left = limit.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Taken::NothingYet;
            }
            (state, _) = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The source has come to its end: the pipeline may take what is held and then ends.
    pub fn finish(&self) {
        self.lock().finished = true;
        self.changed.notify_all();
    }

    /// Shutdown: wakes both sides and gives nothing out any more.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// How many frames were overtaken by a newer one before the pipeline took them.
    #[must_use]
    pub fn overtaken(&self) -> u64 {
        self.lock().overtaken
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code that can panic runs under this lock, so poison carries no information.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    #[test]
    fn the_newest_wins_and_the_overtaken_are_counted() {
        let slot = NewestSlot::new();
        for frame in 1..=5 {
            slot.put(frame);
        }
        assert_eq!(slot.take(), Some(5));
        assert_eq!(slot.overtaken(), 4);
    }

    #[test]
    fn in_turn_nothing_is_overtaken() {
        let slot = Arc::new(NewestSlot::new());
        let source = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || {
                for frame in 0..1000 {
                    assert!(slot.put_in_turn(frame));
                }
                slot.finish();
            })
        };
        let mut taken = Vec::new();
        while let Some(frame) = slot.take() {
            taken.push(frame);
        }
        source.join().unwrap();
        assert_eq!(taken, (0..1000).collect::<Vec<_>>());
        assert_eq!(slot.overtaken(), 0);
    }

    #[test]
    fn closing_wakes_both_sides() {
        let slot = Arc::new(NewestSlot::<u8>::new());
        let taker = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || slot.take())
        };
        slot.close();
        assert_eq!(taker.join().unwrap(), None);

        let full = Arc::new(NewestSlot::new());
        full.put(1);
        let putter = {
            let full = Arc::clone(&full);
            thread::spawn(move || full.put_in_turn(2))
        };
        full.close();
        assert!(!putter.join().unwrap());
        assert_eq!(full.take(), None);
    }
}
