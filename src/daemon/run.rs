//! Running the chain until a shutdown, or until the source has come to its end.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::clock::Clock;
use super::controls::Controls;
use super::counters::{Counters, Tally};
use super::life::Life;
use super::log_limit::LogLimit;
use super::newest::{NewestSlot, Taken};
use super::shutdown::Shutdown;
use crate::captioner::Describe;
use crate::publish::message::CaptionMessage;
use crate::publish::{CameraState, Described, PublishError, Publisher};
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

/// Of a camera, a frame that was asked for is no older than this: the one in the slot may be what a
/// camera saw before it stalled.
const FRESH: Duration = Duration::from_secs(2);

/// How long to sleep while there's nothing to wait for but a change of the settings.
const LONG: Duration = Duration::from_secs(3600);

/// What the loop itself needs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The device's id, for the messages.
    pub device: String,
    /// What may change while it runs: read before each frame.
    pub controls: Controls,
    /// Where it counts.
    pub counters: Arc<Counters>,
    /// Who is told how it goes.
    pub life: Arc<Life>,
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
    let life = Arc::clone(&settings.life);
    let slot = Arc::new(NewestSlot::new());
    let counters = Arc::clone(&settings.counters);
    let controls = settings.controls.clone();
    let every_frame_counts = source.every_frame_counts();
    let source_thread = {
        let (slot, clock, shutdown) = (Arc::clone(&slot), Arc::clone(&clock), shutdown.clone());
        let counters = Arc::clone(&counters);
        let (publishers, life) = (publishers.clone(), Arc::clone(&life));
        start("source", &shutdown.clone(), move || {
            // Also when it panics.
            let life = EndOfSource(life);
            let told = Told {
                publishers: &publishers,
                life: &life.0,
            };
            feed(source, &slot, &counters, &told, &*clock, &shutdown);
        })?
    };
    let pipeline = Pipeline {
        settings,
        describe,
        publishers: publishers.clone(),
        clock,
        shutdown: shutdown.clone(),
        every_frame_counts,
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
    controls.wake();
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
    Ok(counters.tally())
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

/// Who hears how it stands with the source.
struct Told<'a> {
    publishers: &'a [Arc<dyn Publisher>],
    life: &'a Life,
}

impl Told<'_> {
    fn camera(&self, state: &CameraState) {
        for publisher in self.publishers {
            publisher.camera(state);
        }
    }
}

/// The source thread: from the source into the slot.
fn feed(
    mut source: Box<dyn FrameSource>,
    slot: &NewestSlot<Frame>,
    counters: &Counters,
    told: &Told<'_>,
    clock: &dyn Clock,
    shutdown: &Shutdown,
) {
    // `None`: nothing is known yet.
    let mut camera: Option<Result<(), String>> = None;
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    let mut limit = LogLimit::new(LOG_PERIOD);
    let (mut lost, mut bad_in_a_row) = (false, 0);
    while !shutdown.requested() {
        match source.next_frame(shutdown) {
            Ok(Some(frame)) => {
                if std::mem::take(&mut lost) {
                    tracing::info!(source = source.origin(), "frames are coming again");
                }
                if camera != Some(Ok(())) {
                    camera = Some(Ok(()));
                    told.camera(&CameraState::ok(clock.wall()));
                }
                bad_in_a_row = 0;
                told.life.source_delivers();
                backoff.reset();
                if source.every_frame_counts() {
                    if !slot.put_in_turn(frame) {
                        return;
                    }
                } else {
                    slot.put(frame);
                    counters.overtaken(slot.overtaken());
                }
            }
            Ok(None) => return,
            Err(error @ SourceError::BadFrame { .. }) => {
                counters.bad();
                warn(&mut limit, clock, &format!("frame skipped: {error}"));
                bad_in_a_row += 1;
                if bad_in_a_row >= BAD_IN_A_ROW && clock.wait(PAUSE_AFTER_BAD, shutdown) {
                    return;
                }
            }
            Err(error @ SourceError::Lost { .. }) => {
                lost = true;
                let reason = Err(error.to_string());
                if camera.as_ref() != Some(&reason) {
                    told.camera(&CameraState::lost(clock.wall(), error.to_string()));
                    camera = Some(reason);
                }
                told.life.source_lost(&error.to_string());
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
    every_frame_counts: bool,
}

/// Why a frame is captioned now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The interval is over.
    Regular,
    /// Somebody has asked.
    Asked,
}

impl Pipeline {
    fn run(mut self, slot: &NewestSlot<Frame>) {
        let mut limit = LogLimit::new(LOG_PERIOD);
        let mut last = None;
        let mut sequence = 0;
        loop {
            // The wait comes before the look at the slot, so the frame is the newest one after it.
            let Some(turn) = self.wait_for_turn(last) else {
                return;
            };
            let Some((frame, turn)) = self.take(slot, turn) else {
                return;
            };
            last = Some(self.clock.monotonic());
            self.settings.life.captioning();
            if self.caption(&frame, turn, sequence + 1, &mut limit) {
                sequence += 1;
            }
            self.settings.life.progress(sequence);
        }
    }

    /// Waits until a frame may be captioned; `last` is when the last one was begun. `None` at a
    /// shutdown.
    fn wait_for_turn(&self, last: Option<Duration>) -> Option<Turn> {
        let controls = &self.settings.controls;
        loop {
            let seen = controls.bell().rung();
            if self.shutdown.requested() {
                return None;
            }
            if controls.take_describe() {
                return Some(Turn::Asked);
            }
            let values = controls.values();
            let wait = if values.enabled {
                let due = last.map_or(Duration::ZERO, |last| last.saturating_add(values.interval));
                due.saturating_sub(self.clock.monotonic())
            } else {
                LONG
            };
            if wait.is_zero() {
                return Some(Turn::Regular);
            }
            let life = &self.settings.life;
            life.waiting();
            // In pieces: a sign of life has to be given meanwhile.
            let piece = wait.min(life.longest_sleep());
            self.clock.wait_on(piece, controls.bell(), seen);
        }
    }

    /// The next frame; `None` at a shutdown or the source's end.
    fn wait_for_frame(&self, slot: &NewestSlot<Frame>) -> Option<Frame> {
        let life = &self.settings.life;
        loop {
            life.waiting();
            match slot.take_within(life.longest_sleep()) {
                Taken::Value(frame) => return Some(frame),
                Taken::NothingYet => {}
                Taken::End => return None,
            }
        }
    }

    /// The next frame, and why it's captioned: both may have changed while there was none.
    fn take(&self, slot: &NewestSlot<Frame>, mut turn: Turn) -> Option<(Frame, Turn)> {
        let controls = &self.settings.controls;
        loop {
            let frame = self.wait_for_frame(slot)?;
            if controls.take_describe() {
                turn = Turn::Asked;
            }
            let age = self.clock.monotonic().saturating_sub(frame.taken);
            match turn {
                Turn::Asked if !self.every_frame_counts && age > FRESH => {}
                Turn::Regular if !controls.values().enabled => {
                    turn = self.wait_for_turn(None)?;
                    // A camera's frame is old by now; the next one comes by itself.
                    if self.every_frame_counts {
                        return Some((frame, turn));
                    }
                }
                turn => return Some((frame, turn)),
            }
        }
    }

    /// Captions one frame; false if nothing was published of it.
    fn caption(&mut self, frame: &Frame, turn: Turn, sequence: u64, limit: &mut LogLimit) -> bool {
        let answer = |outcome: Described<'_>| {
            if turn == Turn::Asked {
                for publisher in &self.publishers {
                    publisher.described(&outcome);
                }
            }
        };
        let counters = &self.settings.counters;
        let mut skip = |reason: String| {
            counters.bad();
            warn(limit, &*self.clock, &format!("frame skipped: {reason}"));
            answer(Described::Failed(&reason));
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
        let confidence = message.confidence;
        // Read after the model has run: what was set meanwhile holds for this caption too.
        if confidence < self.settings.controls.values().min_confidence {
            counters.withheld();
            tracing::debug!(origin = frame.origin, confidence, "caption withheld");
            answer(Described::Withheld { confidence });
            return false;
        }
        for publisher in &self.publishers {
            let published = publisher.publish(&message);
            match published.and_then(|()| publisher.publish_picture(frame)) {
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
        counters.captioned();
        answer(Described::Caption(&message));
        tracing::debug!(
            sequence,
            origin = frame.origin,
            confidence,
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
