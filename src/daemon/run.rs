//! Running the chain until a shutdown, or until the source has come to its end.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::clock::Clock;
use super::life::Life;
use super::log_limit::LogLimit;
use super::newest::{NewestSlot, Taken};
use super::shutdown::Shutdown;
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

/// How often the main thread looks at the daemon's state.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// A shutdown stays under a second: so much for the goodbye to the broker...
const GOODBYE: Duration = Duration::from_millis(700);
/// ...and so much for both threads. A thread that is still in the middle of a frame (or of a
/// camera's stall) is left behind; the end of the process ends it.
const FAREWELL: Duration = Duration::from_millis(900);

/// What the loop itself needs of the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The device's id, for the messages.
    pub device: String,
    /// Least time from the start of one caption to the start of the next.
    pub interval: Duration,
}

/// Settings that a running daemon is to take over, at its next frame. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct NewSettings(Arc<Mutex<Option<Settings>>>);

impl NewSettings {
    /// From the next frame on (or within ten seconds, for a shorter interval).
    pub fn put(&self, settings: Settings) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(settings);
    }

    fn take(&self) -> Option<Settings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// How a running daemon is watched and changed from outside.
#[derive(Debug, Clone)]
pub struct Supervision {
    /// Who is told how it goes.
    pub life: Arc<Life>,
    /// What a reload changes.
    pub settings: NewSettings,
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
    let supervision = Supervision {
        life: Arc::new(Life::untold(Arc::clone(&clock))),
        settings: NewSettings::default(),
    };
    run_supervised(
        settings,
        source,
        describe,
        publishers,
        clock,
        shutdown,
        supervision,
    )
}

/// As [`run`], told to a service manager and open to new settings.
///
/// # Errors
/// As [`run`].
pub fn run_supervised(
    settings: Settings,
    source: Box<dyn FrameSource>,
    describe: Box<dyn Describe>,
    publishers: Vec<Arc<dyn Publisher>>,
    clock: Arc<dyn Clock>,
    shutdown: &Shutdown,
    supervision: Supervision,
) -> Result<Tally, RunError> {
    let life = Arc::clone(&supervision.life);
    let slot = Arc::new(NewestSlot::new());
    let counters = Arc::new(Counters::default());
    let source_thread = {
        let (slot, clock, shutdown) = (Arc::clone(&slot), Arc::clone(&clock), shutdown.clone());
        let (counters, life) = (Arc::clone(&counters), Arc::clone(&life));
        start("source", &shutdown.clone(), move || {
            // Also when it panics.
            let life = EndOfSource(life);
            feed(source, &slot, &counters, &*clock, &shutdown, &life.0);
        })?
    };
    let pipeline = Pipeline {
        settings,
        describe,
        publishers: publishers.clone(),
        clock,
        shutdown: shutdown.clone(),
        counters: Arc::clone(&counters),
        supervision,
    };
    let pipeline_thread = {
        let (slot, shutdown) = (Arc::clone(&slot), shutdown.clone());
        start("pipeline", &shutdown.clone(), move || {
            pipeline.run(&slot);
            // The source's end is the daemon's.
            shutdown.request();
        })?
    };

    while !shutdown.wait_timeout(LOOK_PERIOD) {
        life.look(publishers.iter().find_map(|to| to.connected()));
    }
    life.stopping();
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

/// Says that the source's thread is gone.
struct EndOfSource(Arc<Life>);

impl Drop for EndOfSource {
    fn drop(&mut self) {
        self.0.source_ended();
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
    life: &Life,
) {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    let mut limit = LogLimit::new(LOG_PERIOD);
    let (mut lost, mut bad_in_a_row) = (false, 0);
    while !shutdown.requested() {
        match source.next_frame(shutdown) {
            Ok(Some(frame)) => {
                if std::mem::take(&mut lost) {
                    tracing::info!(source = source.origin(), "frames are coming again");
                }
                bad_in_a_row = 0;
                life.source_delivers();
                backoff.reset();
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
            Err(error @ SourceError::Lost { .. }) => {
                lost = true;
                life.source_lost(&error.to_string());
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
    describe: Box<dyn Describe>,
    publishers: Vec<Arc<dyn Publisher>>,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
    counters: Arc<Counters>,
    supervision: Supervision,
}

impl Pipeline {
    fn run(mut self, slot: &NewestSlot<Frame>) {
        let mut limit = LogLimit::new(LOG_PERIOD);
        let mut last = None;
        let mut sequence = 0;
        loop {
            // The wait comes before the look at the slot, so the frame is the newest one after it.
            if last.is_some_and(|last| self.wait_for_turn(last)) {
                return;
            }
            let frame = loop {
                self.supervision.life.waiting();
                match slot.take_within(self.supervision.life.longest_sleep()) {
                    Taken::Value(frame) => break frame,
                    Taken::NothingYet => {}
                    Taken::End => return,
                }
            };
            last = Some(self.clock.monotonic());
            if self.caption(&frame, sequence + 1, &mut limit) {
                sequence += 1;
            }
            self.supervision.life.progress(sequence);
        }
    }

    /// Waits until an interval after `last`, in pieces: a sign of life has to be given meanwhile,
    /// and the interval may become another. True if a shutdown was asked for.
    fn wait_for_turn(&mut self, last: Duration) -> bool {
        loop {
            if let Some(settings) = self.supervision.settings.take() {
                self.settings = settings;
            }
            let next = last.saturating_add(self.settings.interval);
            let early = next.saturating_sub(self.clock.monotonic());
            if early.is_zero() {
                return false;
            }
            self.supervision.life.waiting();
            let piece = early.min(self.supervision.life.longest_sleep());
            if self.clock.wait(piece, &self.shutdown) {
                return true;
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
        let mut message = match CaptionMessage::new(
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
        message.time_synchronised = self.clock.synchronised();
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
