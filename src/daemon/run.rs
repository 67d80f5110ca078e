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
use super::trigger::demand::{DemandFlag, Press};
use super::trigger::{Reason, Trigger};
use crate::captioner::Describe;
use crate::publish::message::CaptionMessage;
use crate::publish::{Described, PublishError, Publisher};
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
/// A source that has delivered for so long is steady again: its next loss is retried soon. One that
/// gives a frame and breaks, again and again, is not.
const STEADY: Duration = Duration::from_secs(10);

/// A shutdown stays under a second: so much for the goodbye to the broker...
const GOODBYE: Duration = Duration::from_millis(700);
/// ...and so much for both threads. A thread that is still in the middle of a frame (or of a
/// camera's stall) is left behind; the end of the process ends it.
const FAREWELL: Duration = Duration::from_millis(900);

/// How long to sleep while there's nothing to wait for but a change of the settings.
const LONG: Duration = Duration::from_secs(3600);

/// What the loop itself needs.
#[derive(Debug)]
pub struct Settings {
    /// The device's id, for the messages.
    pub device: String,
    /// What may change while it runs: read before each frame.
    pub controls: Controls,
    /// Where it counts.
    pub counters: Arc<Counters>,
    /// Who is told how it goes.
    pub life: Arc<Life>,
    /// Decides which frames are captioned.
    pub trigger: Trigger,
    /// Pressed by whoever wants a caption now.
    pub demand: DemandFlag,
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
        let life = Arc::clone(&life);
        start("source", &shutdown.clone(), move || {
            // Also when it panics.
            let _end = EndOfSource(life);
            feed(source, &slot, &counters, &*clock, &shutdown);
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
            // What the source is like, its state (`source::state`) says to whoever wants to know.
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
    describe: Box<dyn Describe>,
    publishers: Vec<Arc<dyn Publisher>>,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
    every_frame_counts: bool,
}

impl Pipeline {
    fn run(mut self, slot: &NewestSlot<Frame>) {
        let mut limit = LogLimit::new(LOG_PERIOD);
        let mut sequence = 0;
        while let Some((frame, reason)) = self.next_frame(slot, &mut limit) {
            tracing::debug!(?reason, origin = frame.origin, "captioning");
            self.settings.life.captioning();
            self.settings.trigger.begin(&frame);
            let published = self.caption(&frame, reason, sequence + 1, &mut limit);
            self.settings.trigger.end();
            sequence += u64::from(published);
            let captioned = self.settings.counters.tally().captioned;
            self.settings.life.progress(captioned);
        }
    }

    /// Waits for a frame that is to be captioned; `None` at a shutdown or the source's end.
    fn next_frame(
        &mut self,
        slot: &NewestSlot<Frame>,
        limit: &mut LogLimit,
    ) -> Option<(Frame, Reason)> {
        let each = self.every_frame_counts;
        let (mut asked, mut held) = (None, None);
        loop {
            // The wait comes before the look at the slot, so the frame is the newest one after it.
            asked = self.wait(asked)?;
            let frame = match held.take() {
                Some(frame) => frame,
                None => self.wait_for_frame(slot)?,
            };
            // While there was no frame somebody may have asked, or have given up, or have changed
            // the settings.
            let now = self.clock.monotonic();
            let pressed = self.settings.demand.take();
            asked = pressed.or(asked).filter(|press| !press.expired(now));
            let values = self.settings.controls.values();
            if asked.is_none() && !values.enabled {
                // A camera's frame is old by then; the next one comes by itself.
                held = each.then_some(frame);
                continue;
            }
            let trigger = &mut self.settings.trigger;
            match trigger.wants(&frame, asked, values.interval, each) {
                Ok(Some(reason)) => return Some((frame, reason)),
                Ok(None) => {}
                Err(error) => {
                    self.settings.counters.bad();
                    let text = format!("frame skipped: {}: {error}", frame.origin);
                    warn(limit, &*self.clock, &text);
                }
            }
        }
    }

    /// Waits until the next frame is of interest: because somebody asks (then it's said who), or
    /// by itself. `None` at a shutdown.
    fn wait(&self, asked: Option<Press>) -> Option<Option<Press>> {
        let Settings {
            controls,
            demand,
            trigger,
            life,
            ..
        } = &self.settings;
        loop {
            // Before the look at what the bell is about, so that no ring is missed.
            let seen = controls.bell().rung();
            if self.shutdown.requested() {
                return None;
            }
            if let Some(press) = demand.take().or(asked) {
                return Some(Some(press));
            }
            let values = controls.values();
            let wait = if values.enabled {
                trigger.wait(values.interval, self.every_frame_counts)
            } else {
                LONG
            };
            if wait.is_zero() {
                return Some(None);
            }
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

    /// Captions one frame; false if nothing was said of it, not even that it is withheld.
    fn caption(
        &mut self,
        frame: &Frame,
        reason: Reason,
        sequence: u64,
        limit: &mut LogLimit,
    ) -> bool {
        let answer = |outcome: Described<'_>| {
            if reason == Reason::Demand {
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
            let unfamiliar = self.describe.unfamiliar();
            message.withhold(&unfamiliar);
            for publisher in &self.publishers {
                if let Err(error) = publisher.unsure(&message) {
                    let text = format!("{}: event not published: {error}", publisher.name());
                    warn(limit, &*self.clock, &text);
                }
            }
            answer(Described::Withheld { confidence });
            return true;
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
