//! What there is to be seen now: the newest of everything, and nothing older.
//!
//! The daemon's threads put things in and go on; a page takes out what is newest when it asks. No
//! lock is held while anything is read from or written to a socket, decoded or encoded, so a page
//! that is slow, or a hundred of them, can't hold the daemon's threads up.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::caption::wording::Verdict;
use crate::captioner::{Neighbour, StageTimes};
use crate::daemon::clock::Clock;
use crate::frame::FrameQuality;
use crate::publish::message::CaptionMessage;
use crate::publish::{CameraState, Described};
use crate::source::Frame;

/// A page that hasn't asked for so long isn't open any more.
const WATCHED: Duration = Duration::from_secs(15);

/// A camera's frames are copied so often while a page is open...
const LIVE: Duration = Duration::from_millis(500);
/// ...and so often while none is, so that the next one has something to show at once.
const IDLE: Duration = Duration::from_secs(10);

/// Work on frames for the page takes one part in so many of the time at most: a large picture on a
/// small board is shown less often instead of slowing the captions down.
const SHARE: u32 = 5;

/// A frame with a number of its own.
#[derive(Debug, Clone)]
pub(super) struct Numbered {
    pub(super) number: u64,
    pub(super) frame: Arc<Frame>,
}

/// What was said of a frame: what the page shows of a [`CaptionMessage`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Captioned {
    sequence: u64,
    caption: Option<String>,
    #[serde(flatten)]
    verdict: Verdict,
    spoken: String,
    confidence: f32,
    confidence_calibrated: bool,
    alternatives: Vec<Neighbour>,
    quality: FrameQuality,
    ms: StageTimes,
    pack: String,
    origin: String,
    time: String,
    time_synchronised: bool,
}

impl From<&CaptionMessage<'_>> for Captioned {
    fn from(message: &CaptionMessage<'_>) -> Self {
        Self {
            sequence: message.sequence,
            caption: message.caption.map(str::to_owned),
            verdict: message.verdict,
            spoken: message.spoken.to_owned(),
            confidence: message.confidence,
            confidence_calibrated: message.confidence_calibrated,
            alternatives: message.alternatives.to_vec(),
            quality: *message.quality,
            ms: *message.ms,
            pack: message.pack.to_owned(),
            origin: message.origin.to_owned(),
            time: message.time.clone(),
            time_synchronised: message.time_synchronised,
        }
    }
}

/// Everything, at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Differs from what it was before as soon as anything else does.
    pub(super) number: u64,
    pub(super) live: Option<Numbered>,
    /// The newest caption and when it came.
    pub(super) captioned: Option<(Arc<Captioned>, Duration)>,
    /// The picture that it's about; its number is the caption's. (For a moment it's still that of the
    /// caption before.)
    pub(super) picture: Option<Numbered>,
    pub(super) camera: Option<CameraState>,
    /// Why a frame that somebody had asked for got no caption; until the next caption.
    pub(super) refusal: Option<Arc<str>>,
}

/// Holds it.
#[derive(Debug)]
pub(super) struct View {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    seen: Seen,
    watched_until: Duration,
    copied: Option<Duration>,
    /// The work that the newest frame has made so far, by its number.
    work: (u64, Duration),
    closed: bool,
}

impl View {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// A frame goes by. It's copied if a page is open and the last copy was long enough ago, so a
    /// camera costs next to nothing while nobody looks. `each`: copied in any case (a folder's
    /// picture, after which there may be none for days).
    pub(super) fn frame(&self, frame: &Frame, each: bool) {
        let now = self.clock.monotonic();
        {
            let state = self.lock();
            let pause = match now < state.watched_until {
                true => LIVE.max(state.work.1 * SHARE),
                false => IDLE,
            };
            let due = state.copied.is_none_or(|copied| now >= copied + pause);
            if !due && !each {
                return;
            }
        }
        // Outside of the lock: it may be some megabytes.
        let copy = Arc::new(frame.clone());
        self.change(|state| {
            state.copied = Some(now);
            state.seen.live = Some(Numbered {
                number: state.seen.number,
                frame: copy,
            });
        });
    }

    /// The newest caption. Its picture comes with [`View::picture`], right after it.
    pub(super) fn caption(&self, message: &CaptionMessage<'_>) {
        let (captioned, now) = (Arc::new(Captioned::from(message)), self.clock.monotonic());
        self.change(|state| {
            state.seen.captioned = Some((captioned, now));
            state.seen.refusal = None;
        });
    }

    /// The picture of the newest caption.
    pub(super) fn picture(&self, frame: &Frame) {
        let copy = Arc::new(frame.clone());
        self.change(|state| {
            let number = state.seen.captioned.as_ref();
            state.seen.picture = number.map(|(captioned, _)| Numbered {
                number: captioned.sequence,
                frame: copy,
            });
        });
    }

    /// What became of a frame that somebody had asked for.
    pub(super) fn described(&self, outcome: &Described<'_>) {
        let refusal = match outcome {
            Described::Caption(_) => return,
            Described::Withheld { confidence } => {
                format!("Kept back: the confidence {confidence:.2} is below min_confidence.")
            }
            Described::Failed(reason) => format!("No caption: {reason}"),
        };
        self.change(|state| state.seen.refusal = Some(refusal.into()));
    }

    /// The camera is well again, or not any more.
    pub(super) fn camera(&self, camera: &CameraState) {
        self.change(|state| state.seen.camera = Some(camera.clone()));
    }

    /// Waits until there is something else than `known`, or for `limit`; then all there is. Whoever
    /// asks keeps frames coming for a while.
    pub(super) fn wait(&self, known: Option<u64>, limit: Duration) -> Seen {
        let start = Instant::now();
        let mut state = self.lock();
        state.watched_until = self.clock.monotonic() + WATCHED;
        while known == Some(state.seen.number) && !state.closed {
            let left = limit.saturating_sub(start.elapsed());
            if left.is_zero() {
                break;
            }
            (state, _) = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.seen.clone()
    }

    /// All there is, at once; nobody counts as looking.
    pub(super) fn seen(&self) -> Seen {
        self.lock().seen.clone()
    }

    /// How long it took to measure or to encode the live frame of this number.
    pub(super) fn worked(&self, number: u64, took: Duration) {
        let work = &mut self.lock().work;
        let before = if work.0 == number {
            work.1
        } else {
            Duration::ZERO
        };
        *work = (number, before + took);
    }

    /// Time since this came.
    pub(super) fn age(&self, at: Duration) -> Duration {
        self.clock.monotonic().saturating_sub(at)
    }

    /// Nobody waits any more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        state.seen.number += 1;
        change(&mut state);
        drop(state);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change under this lock is complete before anything that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::clock::FakeClock;
    use crate::source::Pixels;
    use std::thread;
    use std::time::SystemTime;

    fn view() -> (View, Arc<FakeClock>) {
        let clock = Arc::new(FakeClock::new(SystemTime::UNIX_EPOCH));
        let shared = Arc::clone(&clock) as Arc<dyn Clock>;
        (View::new(shared), clock)
    }

    fn frame(origin: &str) -> Frame {
        Frame {
            pixels: Pixels::Encoded(vec![0xFF, 0xD8]),
            origin: origin.into(),
            taken: Duration::ZERO,
        }
    }

    fn live(view: &View) -> String {
        view.seen().live.unwrap().frame.origin.clone()
    }

    #[test]
    fn frames_are_copied_often_only_while_somebody_looks() {
        let (view, clock) = view();
        view.frame(&frame("1"), false);
        clock.advance(LIVE);
        view.frame(&frame("2"), false);
        assert_eq!(live(&view), "1");
        // A folder's is, whoever looks.
        view.frame(&frame("3"), true);
        assert_eq!(live(&view), "3");
        clock.advance(IDLE);
        view.frame(&frame("4"), false);
        assert_eq!(live(&view), "4");
        view.wait(None, Duration::ZERO);
        view.frame(&frame("5"), false);
        assert_eq!(live(&view), "4", "too soon");
        clock.advance(LIVE);
        view.frame(&frame("6"), false);
        assert_eq!(live(&view), "6");
        // Frames that take long to measure come less often.
        view.worked(6, Duration::from_millis(700));
        view.worked(6, Duration::from_millis(300));
        clock.advance(LIVE);
        view.frame(&frame("7"), false);
        assert_eq!(live(&view), "6");
        clock.advance(Duration::from_secs(1) * SHARE);
        view.frame(&frame("8"), false);
        assert_eq!(live(&view), "8");
        // The page was closed.
        clock.advance(WATCHED - LIVE);
        view.frame(&frame("9"), false);
        clock.advance(LIVE);
        view.frame(&frame("10"), false);
        assert_eq!(live(&view), "9");
    }

    #[test]
    fn whoever_waits_is_woken_by_news_and_by_the_end() {
        let (view, _) = view();
        let view = Arc::new(view);
        let known = view.seen().number;
        let waiter = |known| {
            let view = Arc::clone(&view);
            thread::spawn(move || view.wait(Some(known), Duration::from_secs(600)))
        };
        let waiting = waiter(known);
        view.camera(&CameraState::ok(SystemTime::UNIX_EPOCH));
        let seen = waiting.join().unwrap();
        assert!(seen.camera.is_some() && seen.number != known);
        let waiting = waiter(seen.number);
        view.close();
        assert_eq!(waiting.join().unwrap().number, seen.number);
        // A page of an earlier run of the daemon knows a number that isn't ours.
        assert_eq!(
            view.wait(Some(1 << 40), Duration::from_secs(600)).number,
            seen.number
        );
    }

    #[test]
    fn a_refusal_is_shown_until_the_next_caption() {
        let (view, _) = view();
        view.described(&Described::Withheld { confidence: 0.25 });
        let refusal = view.seen().refusal.unwrap();
        assert_eq!(
            &*refusal,
            "Kept back: the confidence 0.25 is below min_confidence."
        );
        view.described(&Described::Failed("broken.jpg: no picture"));
        assert!(view.seen().refusal.unwrap().contains("broken.jpg"));
    }
}
