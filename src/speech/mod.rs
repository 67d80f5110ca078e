//! Saying captions aloud, for an assistive camera: with or without a broker.
//!
//! The pipeline hands a text over and goes on; a thread of its own speaks. The newest text cancels
//! an older one: what is said must be about what is there now. Nothing is said twice for the same
//! scene ([`Scene`]).

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::clock::Clock;
use crate::daemon::config::SpeechConfig;
use crate::daemon::controls::Controls;
use crate::daemon::life::Event;
use crate::daemon::log_limit::LogLimit;
use crate::publish::message::CaptionMessage;
use crate::publish::{Described, PublishError, Publisher};

pub mod dispatcher;
mod phrases;
mod scene;
mod sound;
pub mod voice;

pub use phrases::{Phrases, sounds_like_leave_to_cross};
pub use scene::Scene;
pub use sound::Sound;

use voice::{Job, SpeechError, Voice};

/// How often a program that speaks is looked at.
const LOOK_UP: Duration = Duration::from_millis(50);

/// A program that speaks or plays for longer is stuck (a sound card that is taken or gone).
const SPEECH_LIMIT: Duration = Duration::from_secs(60);
const SOUND_LIMIT: Duration = Duration::from_secs(5);

const LOG_PERIOD: Duration = Duration::from_secs(300);

/// What is said of a caption; `None`: nothing.
///
/// The one place that chooses the text: the sentence in the pack's words, so a guess is spoken as a
/// guess, and a withheld caption not at all.
fn spoken_text<'a>(message: &CaptionMessage<'a>) -> Option<&'a str> {
    let text = message.spoken.trim();
    if text.is_empty() {
        return None;
    }
    if sounds_like_leave_to_cross(text) {
        tracing::debug!(text, "not said: it could be heard as leave to cross a road");
        return None;
    }
    Some(text)
}

/// Speaks captions.
#[derive(Clone)]
pub struct Speech {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    controls: Controls,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    scene: Scene,
    phrases: Phrases,
    hold: Duration,
    /// To be said next.
    text: Option<String>,
    /// The `sequence` of the newest caption that was to be said.
    said: Option<u64>,
    /// To be played next, each once.
    sounds: BTreeSet<Sound>,
    /// To be taken over.
    config: Option<SpeechConfig>,
    closing: bool,
    finished: bool,
}

impl Speech {
    /// Starts the thread that speaks. `controls`: they have the interval between two captions; a
    /// scene that is looked at so rarely isn't called new each time.
    ///
    /// # Errors
    /// When the thread can't be started.
    pub fn start(
        config: SpeechConfig,
        controls: Controls,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            clock,
            controls,
            state: Mutex::new(State {
                scene: Scene::default(),
                phrases: Phrases::default(),
                hold: config.hold,
                text: None,
                said: None,
                sounds: BTreeSet::new(),
                config: None,
                closing: false,
                finished: false,
            }),
            changed: Condvar::new(),
        });
        let owned = Arc::clone(&shared);
        thread::Builder::new()
            .name("speech".into())
            .spawn(move || owned.speak(config))?;
        Ok(Self { shared })
    }

    /// Says the last text again, with its age if it's an old one. Nothing is captioned for that.
    pub fn repeat(&self) {
        let now = self.shared.clock.monotonic();
        self.shared.change(|state| {
            let text = state.phrases.repeat(state.scene.last(now));
            state.text = Some(text);
        });
    }

    /// Plays a sound when nothing is being said, unless it's already waiting.
    pub fn play(&self, sound: Sound) {
        self.shared.change(|state| {
            state.sounds.insert(sound);
        });
    }

    /// The sound for an event of the daemon's life.
    pub fn play_event(&self, event: Event) {
        match event {
            Event::CameraLost => self.play(Sound::CameraLost),
            Event::CameraBack => self.play(Sound::CameraBack),
            Event::BrokerLost => self.play(Sound::BrokerLost),
            Event::Busy => self.play(Sound::Busy),
            // Nothing that a listener needs to know.
            Event::BrokerBack => {}
        }
    }

    /// Takes over another configuration, from the next text on.
    pub fn configure(&self, config: SpeechConfig) {
        self.shared.change(|state| {
            state.hold = config.hold;
            state.config = Some(config);
        });
    }
}

impl Publisher for Speech {
    fn name(&self) -> &str {
        "speech"
    }

    fn publish(&self, message: &CaptionMessage<'_>) -> Result<(), PublishError> {
        let Some(text) = spoken_text(message) else {
            return Ok(());
        };
        let now = self.shared.clock.monotonic();
        let interval = self.shared.controls.values().interval;
        self.shared.change(|state| {
            let hold = state.hold.max(interval.saturating_mul(2));
            if state.scene.is_news(text, now, hold) {
                state.text = Some(text.to_owned());
                state.said = Some(message.sequence);
            }
        });
        Ok(())
    }

    /// Whoever asks is answered, also when the scene is as it was.
    fn described(&self, outcome: &Described<'_>) {
        let Described::Caption(message) = outcome else {
            return;
        };
        let Some(text) = spoken_text(message) else {
            return;
        };
        let now = self.shared.clock.monotonic();
        self.shared.change(|state| {
            if state.said != Some(message.sequence) {
                state.scene.said(text, now);
                state.text = Some(text.to_owned());
                state.said = Some(message.sequence);
            }
        });
    }

    fn close(&self, limit: Duration) {
        let start = Instant::now();
        self.shared.change(|state| state.closing = true);
        let mut state = self.shared.lock();
        while !state.finished {
            let left = limit.saturating_sub(start.elapsed());
            if left.is_zero() {
                return;
            }
            state = self.shared.wait(state, left);
        }
    }
}

/// What the thread is to do next.
enum Order {
    Say(String),
    Play(Sound),
    Configure(SpeechConfig),
    /// A program has to be looked at.
    Look,
    End,
}

/// A program of ours that is at work.
struct Busy {
    job: Job,
    since: Instant,
    /// What it says; `None` for a sound.
    text: Option<String>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change under this lock is complete before anything that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout(state, limit);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits for something to do. Text cancels text at once, but waits for a sound to end; a sound
    /// waits for both.
    fn next_order(&self, busy: Option<&Busy>) -> Order {
        let start = Instant::now();
        let mut state = self.lock();
        loop {
            if state.closing {
                return Order::End;
            }
            if let Some(config) = state.config.take() {
                return Order::Configure(config);
            }
            // A sound is short and says that what follows may be missing: it goes first.
            if busy.is_none()
                && let Some(sound) = state.sounds.pop_first()
            {
                return Order::Play(sound);
            }
            if busy.is_none_or(|busy| busy.text.is_some())
                && let Some(text) = state.text.take()
            {
                return Order::Say(text);
            }
            let limit = if busy.is_some() {
                LOOK_UP
            } else {
                Duration::MAX
            };
            let left = limit.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Order::Look;
            }
            state = self.wait(state, left);
        }
    }

    /// The thread.
    fn speak(&self, config: SpeechConfig) {
        let mut sounds = config.sounds.clone();
        let mut voice = Voice::new(config);
        let mut busy: Option<Busy> = None;
        let mut limit = LogLimit::new(LOG_PERIOD);
        let mut failed = |error: SpeechError, said: Option<&str>, now: Duration| {
            if let Some(said) = said {
                // So that it's said once speaking works again.
                self.lock().scene.forget(said);
            }
            let text = error.to_string();
            if let Some(repeats) = limit.allow(&text, now) {
                tracing::warn!(repeats, "nothing is heard: {text}");
            }
        };
        loop {
            let order = self.next_order(busy.as_ref());
            let now = self.clock.monotonic();
            match order {
                Order::End => break,
                Order::Configure(config) => {
                    sounds.clone_from(&config.sounds);
                    voice.cancel();
                    voice = Voice::new(config);
                }
                Order::Say(text) => {
                    // The older one ends here, before the new one starts.
                    busy = None;
                    match voice.say(&text, now) {
                        Ok(job) => busy = job.map(|job| Busy::new(job, Some(text))),
                        Err(error) => failed(error, Some(&text), now),
                    }
                }
                Order::Play(sound) if !sounds.is_empty() => {
                    match Job::start(&sounds, &sound.wav(), "correct speech.sounds") {
                        Ok(job) => busy = Some(Busy::new(job, None)),
                        Err(error) => failed(error, None, now),
                    }
                }
                Order::Play(_) => {}
                Order::Look => {
                    if let Some(mut working) = busy.take() {
                        let limit = working.limit();
                        match working.job.ended() {
                            Ok(true) => {}
                            Ok(false) if working.since.elapsed() >= limit => {
                                failed(working.job.stuck(limit), working.text.as_deref(), now);
                            }
                            Ok(false) => busy = Some(working),
                            Err(error) => failed(error, working.text.as_deref(), now),
                        }
                    }
                }
            }
        }
        drop(busy);
        voice.cancel();
        self.change(|state| state.finished = true);
    }
}

impl Busy {
    fn new(job: Job, text: Option<String>) -> Self {
        Self {
            job,
            since: Instant::now(),
            text,
        }
    }

    fn limit(&self) -> Duration {
        match self.text {
            Some(_) => SPEECH_LIMIT,
            None => SOUND_LIMIT,
        }
    }
}
