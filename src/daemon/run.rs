//! Running the chain until a shutdown, or until the source has come to its end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::clock::Clock;
use super::log_limit::LogLimit;
use super::newest::NewestSlot;
use super::shutdown::Shutdown;
use super::trigger::demand::{DemandFlag, Press};
use super::trigger::{Reason, Trigger};
use crate::captioner::Describe;
use crate::publish::message::CaptionMessage;
use crate::publish::{PublishError, Publisher};
use crate::source::{Frame, FrameSource, SourceError};

/// Waits between attempts to open a lost source.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A source that gives nothing but bad frames is slowed down from here on, so that it can't keep
/// a core busy.
const BAD_IN_A_ROW: u32 = 10;
const PAUSE_AFTER_BAD: Duration = Duration::from_millis(20);

const LOG_PERIOD: Duration = Duration::from_secs(60);

/// A source that has delivered for so long is steady again: its next loss is retried soon. One that
/// gives a frame and breaks, again and again, is not.
const STEADY: Duration = Duration::from_secs(10);

/// How often a sleeping pipeline looks whether somebody wants a caption.
const LOOK_UP: Duration = Duration::from_millis(100);

/// A shutdown stays under a second: so much for the goodbye to the broker...
const GOODBYE: Duration = Duration::from_millis(700);
/// ...and so much for both threads. A thread that is still in the middle of a frame (or of a
/// camera's stall) is left behind; the end of the process ends it.
const FAREWELL: Duration = Duration::from_millis(900);

/// What the loop itself needs of the configuration.
#[derive(Debug)]
pub struct Settings {
    /// The device's id, for the messages.
    pub device: String,
    /// Least time from the start of one caption to the start of the next.
    pub interval: Duration,
    /// Decides which frames are captioned.
    pub trigger: Trigger,
    /// Pressed by whoever wants a caption now. `None`: nobody can.
    pub demand: Option<DemandFlag>,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Frames that were captioned and handed to the publishers.
    pub captioned: u64,
    /// Frames that were skipped because they or their caption were bad.
    pub bad: u64,
    /// Frames that a newer one overtook.
    pub overtaken: u64,
}

/// Why the daemon ended other than on request.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A thread can't be started.
    #[error("can't start the {name} thread: {source}")]
    Thread {
        /// Which.
        name: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A thread has panicked; its message is on stderr.
    #[error("the {0} thread has panicked")]
    Panicked(&'static str),
}

#[derive(Default)]
struct Counters {
    captioned: AtomicU64,
    bad: AtomicU64,
}

/// Runs until `shutdown`, or until the source has ended and its last frame is captioned.
///
/// # Errors
/// When a thread can't be started or has panicked. Lost sources and brokers are no errors: they
/// are waited for.
pub fn run(
    settings: Settings,
    source: Box<dyn FrameSource>,
    describe: Box<dyn Describe>,
    publishers: Vec<Arc<dyn Publisher>>,
    clock: Arc<dyn Clock>,
    shutdown: &Shutdown,
) -> Result<Tally, RunError> {
    let slot = Arc::new(NewestSlot::new());
    let each = source.every_frame_counts();
    let counters = Arc::new(Counters::default());
    let source_thread = {
        let (slot, clock, shutdown) = (Arc::clone(&slot), Arc::clone(&clock), shutdown.clone());
        let counters = Arc::clone(&counters);
        start("source", &shutdown.clone(), move || {
            feed(source, &slot, &counters, &*clock, &shutdown);
        })?
    };
    let pipeline = Pipeline {
        settings,
        each,
        describe,
        publishers: publishers.clone(),
        clock,
        shutdown: shutdown.clone(),
        counters: Arc::clone(&counters),
    };
    let pipeline_thread = {
        let (slot, shutdown) = (Arc::clone(&slot), shutdown.clone());
        start("pipeline", &shutdown.clone(), move || {
            pipeline.run(&slot);
            // The source's end is the daemon's.
            shutdown.request();
        })?
    };

    shutdown.wait();
    let begun = Instant::now();
    slot.close();
    for publisher in &publishers {
        publisher.close(GOODBYE.saturating_sub(begun.elapsed()));
    }
    for (name, thread) in [("source", source_thread), ("pipeline", pipeline_thread)] {
        while !thread.is_finished() && begun.elapsed() < FAREWELL {
            thread::sleep(Duration::from_millis(5));
        }
        if !thread.is_finished() {
            tracing::debug!(name, "thread left behind at shutdown");
        } else if thread.join().is_err() {
            return Err(RunError::Panicked(name));
        }
    }
    Ok(Tally {
        captioned: counters.captioned.load(Ordering::Relaxed),
        bad: counters.bad.load(Ordering::Relaxed),
        overtaken: slot.overtaken(),
    })
}

/// Asks for a shutdown if its thread panics: half a daemon that looks alive is worse than none.
struct EndWithThread(Shutdown);

impl Drop for EndWithThread {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.request();
        }
    }
}

fn start(
    name: &'static str,
    shutdown: &Shutdown,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, RunError> {
    let guard = EndWithThread(shutdown.clone());
    thread::Builder::new()
        .name(name.into())
        .spawn(move || {
            let _guard = guard;
            work();
        })
        .map_err(|source| {
            shutdown.request();
            RunError::Thread { name, source }
        })
}

/// The source thread: from the source into the slot.
fn feed(
    mut source: Box<dyn FrameSource>,
    slot: &NewestSlot<Frame>,
    counters: &Counters,
    clock: &dyn Clock,
    shutdown: &Shutdown,
) {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    let mut limit = LogLimit::new(LOG_PERIOD);
    let (mut steady_from, mut bad_in_a_row) = (None, 0);
    while !shutdown.requested() {
        match source.next_frame(shutdown) {
            Ok(Some(frame)) => {
                bad_in_a_row = 0;
                let now = clock.monotonic();
                if now >= *steady_from.get_or_insert(now + STEADY) {
                    backoff.reset();
                }
                if source.every_frame_counts() {
                    if !slot.put_in_turn(frame) {
                        return;
                    }
                } else {
                    slot.put(frame);
                }
            }
            Ok(None) => return,
            Err(error @ SourceError::BadFrame { .. }) => {
                counters.bad.fetch_add(1, Ordering::Relaxed);
                warn(&mut limit, clock, &format!("frame skipped: {error}"));
                bad_in_a_row += 1;
                if bad_in_a_row >= BAD_IN_A_ROW && clock.wait(PAUSE_AFTER_BAD, shutdown) {
                    return;
                }
            }
            Err(error @ (SourceError::Lost { .. } | SourceError::Stalled { .. })) => {
                steady_from = None;
                warn(&mut limit, clock, &format!("no frames: {error}"));
                if backoff.wait(clock, shutdown) {
                    return;
                }
            }
            Err(error @ SourceError::Ended { .. }) => {
                tracing::info!("{error}");
                slot.finish();
                return;
            }
        }
    }
}

/// The pipeline thread: from the slot through the model to the publishers.
struct Pipeline {
    settings: Settings,
    /// Every frame of the source counts.
    each: bool,
    describe: Box<dyn Describe>,
    publishers: Vec<Arc<dyn Publisher>>,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
    counters: Arc<Counters>,
}

impl Pipeline {
    fn run(mut self, slot: &NewestSlot<Frame>) {
        let mut limit = LogLimit::new(LOG_PERIOD);
        let mut sequence = 0;
        while let Some((frame, reason)) = self.next_frame(slot, &mut limit) {
            tracing::debug!(?reason, origin = frame.origin, "captioning");
            self.settings.trigger.begin(&frame);
            let captioned = self.caption(&frame, sequence + 1, &mut limit);
            self.settings.trigger.end();
            sequence += u64::from(captioned);
        }
    }

    /// Waits for a frame that is to be captioned; `None` at a shutdown or the source's end.
    fn next_frame(
        &mut self,
        slot: &NewestSlot<Frame>,
        limit: &mut LogLimit,
    ) -> Option<(Frame, Reason)> {
        let mut asked = None;
        loop {
            // The wait comes before the look at the slot, so the frame is the newest one after it.
            asked = self.wait(asked)?;
            let frame = slot.take()?;
            // Somebody may have asked, or have given up, while there was no frame.
            let pressed = self.settings.demand.as_ref().and_then(DemandFlag::take);
            let now = self.clock.monotonic();
            asked = pressed.or(asked).filter(|press| !press.expired(now));
            let (interval, trigger) = (self.settings.interval, &mut self.settings.trigger);
            match trigger.wants(&frame, asked, interval, self.each) {
                Ok(Some(reason)) => return Some((frame, reason)),
                Ok(None) => {}
                Err(error) => {
                    self.counters.bad.fetch_add(1, Ordering::Relaxed);
                    let text = format!("frame skipped: {}: {error}", frame.origin);
                    warn(limit, &*self.clock, &text);
                }
            }
        }
    }

    /// Waits until the next frame is of interest: because somebody asks (then it's said who), or
    /// by itself. `None` at a shutdown.
    fn wait(&self, asked: Option<Press>) -> Option<Option<Press>> {
        if asked.is_some() {
            return Some(asked);
        }
        loop {
            let demand = self.settings.demand.as_ref();
            if let Some(press) = demand.and_then(DemandFlag::take) {
                return Some(Some(press));
            }
            let wait = self
                .settings
                .trigger
                .wait(self.settings.interval, self.each);
            if wait.is_zero() {
                return Some(None);
            }
            // Nobody can ask: one long sleep will do.
            let wait = demand.map_or(wait, |_| wait.min(LOOK_UP));
            if self.clock.wait(wait, &self.shutdown) {
                return None;
            }
        }
    }

    /// Captions one frame; false if it was skipped.
    fn caption(&mut self, frame: &Frame, sequence: u64, limit: &mut LogLimit) -> bool {
        let mut skip = |reason: String| {
            self.counters.bad.fetch_add(1, Ordering::Relaxed);
            warn(limit, &*self.clock, &format!("frame skipped: {reason}"));
        };
        let description = match self.describe.describe(frame) {
            Ok(description) => description,
            Err(error) => {
                // {:#}: with the chain of causes.
                skip(format!("{error:#}"));
                return false;
            }
        };
        let message = match CaptionMessage::new(
            frame,
            &description,
            &self.settings.device,
            self.describe.pack(),
            sequence,
            (self.clock.wall(), self.clock.monotonic()),
        ) {
            Ok(message) => message,
            Err(error) => {
                skip(format!("{}: {error}", frame.origin));
                return false;
            }
        };
        for publisher in &self.publishers {
            match publisher.publish(&message) {
                Ok(()) => {}
                Err(PublishError::ReaderGone) => {
                    // As in `captiond run --stdout | head -1`: nothing is left to do.
                    tracing::info!(to = publisher.name(), "the reader has gone; stopping");
                    self.shutdown.request();
                }
                Err(error) => {
                    let text = format!("{}: caption not published: {error}", publisher.name());
                    warn(limit, &*self.clock, &text);
                }
            }
        }
        self.counters.captioned.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(
            sequence,
            origin = frame.origin,
            confidence = description.confidence,
            milliseconds = description.ms.total,
            "{}",
            description.caption
        );
        true
    }
}

fn warn(limit: &mut LogLimit, clock: &dyn Clock, text: &str) {
    if let Some(repeats) = limit.allow(text, clock.monotonic()) {
        tracing::warn!(repeats, "{text}");
    }
}
