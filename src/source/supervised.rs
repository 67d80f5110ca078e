//! Around every source: keeps its state, and notices a frozen picture.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::state::{CameraState, StateCell};
use super::{Frame, FrameSource, Pixels, SourceError};
use crate::daemon::clock::Clock;
use crate::daemon::shutdown::Shutdown;

/// Passes the frames of a source on and writes its state into a cell.
///
/// A camera whose sensor has died may go on sending its last picture for ever, with no error and
/// no stall, and each caption of it would be a confident falsehood. Sensors have noise, so two
/// pictures of a live camera are never the same byte for byte; the same one for `frozen_after` is
/// held back and told as a stall, until another comes. (A wholly dark picture may repeat too.
/// Nothing is lost with it.)
pub struct Supervised {
    inner: Box<dyn FrameSource>,
    state: StateCell,
    clock: Arc<dyn Clock>,
    frozen_after: Option<Duration>,
    /// Hash of the newest picture, and since when it has been the same.
    same: Option<(u64, Duration)>,
}

impl Supervised {
    /// `frozen_after`: `None` lets the same picture pass for ever (synthetic sources).
    pub fn new(
        mut inner: Box<dyn FrameSource>,
        state: StateCell,
        frozen_after: Option<Duration>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        inner.report_to(&state);
        Self {
            inner,
            state,
            clock,
            frozen_after,
            same: None,
        }
    }

    /// The frozen picture's complaint, if it's due.
    fn check_frozen(&mut self, frame: &Frame) -> Result<(), SourceError> {
        let Some(limit) = self.frozen_after else {
            return Ok(());
        };
        // Each image of a folder is asked for by somebody, the same one twice as well.
        if self.inner.every_frame_counts() {
            return Ok(());
        }
        let mut hasher = DefaultHasher::new();
        match &frame.pixels {
            Pixels::Encoded(bytes) => bytes.hash(&mut hasher),
            Pixels::Rgb(picture) => picture.as_raw().hash(&mut hasher),
        }
        let hash = hasher.finish();
        match self.same {
            Some((known, since)) if known == hash => {
                if frame.taken.saturating_sub(since) < limit {
                    return Ok(());
                }
            }
            _ => {
                self.same = Some((hash, frame.taken));
                return Ok(());
            }
        }
        self.inner.restart();
        Err(SourceError::Stalled {
            origin: self.inner.origin().to_owned(),
            reason: format!(
                "the same picture, byte for byte, for {} (source.frozen_after): the camera is \
                 frozen, or all is dark; opening it again",
                humantime::format_duration(limit)
            ),
        })
    }

    fn set(&self, state: CameraState) {
        self.state
            .set(state, self.clock.monotonic(), self.inner.origin());
    }
}

impl FrameSource for Supervised {
    fn origin(&self) -> &str {
        self.inner.origin()
    }

    fn every_frame_counts(&self) -> bool {
        self.inner.every_frame_counts()
    }

    fn next_frame(&mut self, shutdown: &Shutdown) -> Result<Option<Frame>, SourceError> {
        let mut next = self.inner.next_frame(shutdown);
        if let Ok(Some(frame)) = &next
            && let Err(frozen) = self.check_frozen(frame)
        {
            next = Err(frozen);
        }
        match &next {
            Ok(Some(_)) => self.set(CameraState::Ok),
            // The source's own stall detector says when there were too many of them.
            Ok(None) | Err(SourceError::BadFrame { .. }) => {}
            Err(SourceError::Lost { reason, .. }) => self.set(CameraState::Lost {
                reason: reason.clone(),
            }),
            Err(SourceError::Stalled { reason, .. }) => self.set(CameraState::Stalled {
                reason: reason.clone(),
            }),
            Err(SourceError::Ended { .. }) => self.set(CameraState::Lost {
                reason: "no more frames".into(),
            }),
        }
        next
    }

    fn restart(&mut self) {
        self.inner.restart();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::clock::FakeClock;
    use std::time::SystemTime;

    /// Says what it's told, one second apart, and counts its restarts.
    struct Script {
        items: Vec<Result<&'static str, SourceError>>,
        clock: Arc<FakeClock>,
        restarts: Arc<std::sync::atomic::AtomicU32>,
        every: bool,
    }

    impl FrameSource for Script {
        fn origin(&self) -> &str {
            "script"
        }

        fn every_frame_counts(&self) -> bool {
            self.every
        }

        fn next_frame(&mut self, _: &Shutdown) -> Result<Option<Frame>, SourceError> {
            self.clock.advance(Duration::from_secs(1));
            self.items.remove(0).map(|text| {
                Some(Frame {
                    pixels: Pixels::Encoded(text.into()),
                    origin: "script".into(),
                    taken: self.clock.monotonic(),
                })
            })
        }

        fn restart(&mut self) {
            self.restarts
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    fn supervised(
        items: Vec<Result<&'static str, SourceError>>,
        every: bool,
    ) -> (Supervised, StateCell, Arc<std::sync::atomic::AtomicU32>) {
        let clock = Arc::new(FakeClock::new(SystemTime::UNIX_EPOCH));
        let restarts = Arc::default();
        let script = Script {
            items,
            clock: Arc::clone(&clock),
            restarts: Arc::clone(&restarts),
            every,
        };
        let state = StateCell::new();
        let frozen_after = Some(Duration::from_secs(3));
        let source = Supervised::new(Box::new(script), state.clone(), frozen_after, clock);
        (source, state, restarts)
    }

    fn lost(reason: &str) -> Result<&'static str, SourceError> {
        Err(SourceError::Lost {
            origin: "script".into(),
            reason: reason.into(),
        })
    }

    #[test]
    fn the_state_follows_the_source() {
        let bad = Err(SourceError::BadFrame {
            origin: "script".into(),
            reason: "torn".into(),
        });
        let stalled = Err(SourceError::Stalled {
            origin: "script".into(),
            reason: "quiet".into(),
        });
        let items = vec![lost("unplugged"), Ok("a"), bad, stalled, Ok("b")];
        let (mut source, state, _) = supervised(items, false);
        let mut words = Vec::new();
        for _ in 0..5 {
            let _ = source.next_frame(&Shutdown::new());
            words.push((
                state.current().state.word(),
                state.current().since.as_secs(),
            ));
        }
        assert_eq!(
            words,
            [
                ("lost", 0),
                ("ok", 2),
                ("ok", 2),
                ("stalled", 4),
                ("ok", 5)
            ]
        );
    }

    #[test]
    fn a_frozen_picture_is_held_back_until_it_changes() {
        let items = ["a", "a", "a", "a", "a", "b"].map(Ok).into();
        let (mut source, state, restarts) = supervised(items, false);
        let shutdown = Shutdown::new();
        for _ in 0..3 {
            assert!(source.next_frame(&shutdown).unwrap().is_some());
        }
        // Also after the restart: the same picture is still the same.
        for round in 1..=2 {
            let error = source.next_frame(&shutdown).unwrap_err().to_string();
            assert!(error.contains("byte for byte"), "{error}");
            assert_eq!(state.current().state.word(), "stalled");
            assert_eq!(restarts.load(std::sync::atomic::Ordering::Relaxed), round);
        }
        assert!(source.next_frame(&shutdown).unwrap().is_some());
        assert_eq!(state.current().state, CameraState::Ok);
    }

    #[test]
    fn the_same_image_twice_in_a_folder_is_no_freeze() {
        let (mut source, _, restarts) = supervised(["a"; 9].map(Ok).into(), true);
        for _ in 0..9 {
            assert!(source.next_frame(&Shutdown::new()).unwrap().is_some());
        }
        assert_eq!(restarts.load(std::sync::atomic::Ordering::Relaxed), 0);
    }
}
