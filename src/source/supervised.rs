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
/// held back and told as a stall, and the source is opened again once in `frozen_after`, until
/// another picture comes. (A wholly dark picture may repeat too. Nothing is lost with it.)
pub struct Supervised {
    inner: Box<dyn FrameSource>,
    state: StateCell,
    clock: Arc<dyn Clock>,
    frozen_after: Option<Duration>,
    same: Option<Same>,
}

/// The newest picture.
#[derive(Debug, Clone, Copy)]
struct Same {
    hash: u64,
    /// Since when it has been the same; counted anew from the first one after the source was
    /// opened again because of that, since a healed camera may begin with what it had buffered.
    since: Option<Duration>,
    frozen: bool,
}

/// What to do with a frame.
enum Frozen {
    No,
    /// The source was restarted. Not yet again, so the frame is only held back.
    Still,
    /// Now.
    Restart(Duration),
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

    fn look(&mut self, frame: &Frame) -> Frozen {
        // Each image of a folder is asked for by somebody, the same one twice as well.
        let Some(limit) = self.frozen_after.filter(|_| !self.every_frame_counts()) else {
            return Frozen::No;
        };
        let mut hasher = DefaultHasher::new();
        match &frame.pixels {
            Pixels::Encoded(bytes) => bytes.hash(&mut hasher),
            Pixels::Rgb(picture) => picture.as_raw().hash(&mut hasher),
        }
        let hash = hasher.finish();
        match &mut self.same {
            Some(same) if same.hash == hash => {
                let since = *same.since.get_or_insert(frame.taken);
                if frame.taken.saturating_sub(since) >= limit {
                    same.since = None;
                    same.frozen = true;
                    Frozen::Restart(limit)
                } else if same.frozen {
                    Frozen::Still
                } else {
                    Frozen::No
                }
            }
            _ => {
                self.same = Some(Same {
                    hash,
                    since: Some(frame.taken),
                    frozen: false,
                });
                Frozen::No
            }
        }
    }

    /// The next frame that isn't held back.
    fn next_moving(&mut self, shutdown: &Shutdown) -> Result<Option<Frame>, SourceError> {
        loop {
            let Some(frame) = self.inner.next_frame(shutdown)? else {
                return Ok(None);
            };
            match self.look(&frame) {
                Frozen::No => return Ok(Some(frame)),
                Frozen::Still => {}
                Frozen::Restart(limit) => {
                    self.inner.restart();
                    return Err(SourceError::Stalled {
                        origin: self.inner.origin().to_owned(),
                        reason: format!(
                            "the same picture, byte for byte, for {} (source.frozen_after): the \
                             camera is frozen, or all is dark; opening it again",
                            humantime::format_duration(limit)
                        ),
                    });
                }
            }
        }
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
        let next = self.next_moving(shutdown);
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
            [("lost", 0), ("ok", 2), ("ok", 2), ("stalled", 4), ("ok", 5)]
        );
    }

    #[test]
    fn a_frozen_picture_is_held_back_until_it_changes() {
        let items = ["a", "a", "a", "a", "a", "a", "a", "a", "a", "b"]
            .map(Ok)
            .into();
        let (mut source, state, restarts) = supervised(items, false);
        let shutdown = Shutdown::new();
        for _ in 0..3 {
            assert!(source.next_frame(&shutdown).unwrap().is_some());
        }
        // At the fourth and, three that are passed over later, the eighth.
        for round in 1..=2 {
            let error = source.next_frame(&shutdown).unwrap_err().to_string();
            assert!(error.contains("byte for byte"), "{error}");
            assert_eq!(state.current().state.word(), "stalled");
            assert_eq!(restarts.load(std::sync::atomic::Ordering::Relaxed), round);
        }
        let frame = source.next_frame(&shutdown).unwrap().unwrap();
        assert_eq!(frame.pixels, Pixels::Encoded(b"b".to_vec()));
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
