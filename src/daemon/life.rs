//! What the daemon tells about its life: to the service manager (systemd), and to whoever listens
//! for a lost camera or broker.
//!
//! The watchdog's ping is given by the pipeline thread alone: when a caption is finished, and while
//! it waits for a frame and the source's thread lives. No timer gives it, so a model that hangs
//! ends the pings and systemd starts the daemon again. A camera or broker that is lost doesn't:
//! starting again would not bring it back.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sd_notify::NotifyState;

use super::clock::Clock;

/// A camera or broker that is back so soon isn't called lost: a command that starts again, a
/// broker that restarts.
const CAMERA_GRACE: Duration = Duration::from_secs(3);
const BROKER_GRACE: Duration = Duration::from_secs(10);

/// The longest sleep of the pipeline thread, however patient the watchdog is.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// The status line is for people (`systemctl status`); its count of captions may be so old.
const STATUS_PERIOD: Duration = Duration::from_secs(10);

/// systemd shows one line; a reason longer than that is in the log.
const STATUS_CHARACTERS: usize = 200;

/// Something that a person near the device should notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// No frames for longer than a moment.
    CameraLost,
    /// Frames again, after [`Event::CameraLost`].
    CameraBack,
    /// No connection to the broker for longer than a moment.
    BrokerLost,
    /// Connected again, after [`Event::BrokerLost`].
    BrokerBack,
    /// Somebody has asked for a caption, and will have to wait for it.
    Busy,
}

/// The way to the service manager.
type Tell = Box<dyn Fn(&[NotifyState<'_>]) + Send + Sync>;
type Listener = Box<dyn Fn(Event) + Send + Sync>;

/// The daemon's state as others see it. Shared by all threads.
pub struct Life {
    clock: Arc<dyn Clock>,
    tell: Option<Tell>,
    watchdog: Option<Duration>,
    state: Mutex<State>,
    listeners: Mutex<Vec<Listener>>,
}

#[derive(Debug, Default)]
struct State {
    ready: bool,
    captioning: bool,
    stopping: bool,
    source_ended: bool,
    pinged: Option<Duration>,
    captions: u64,
    camera: Fault,
    broker: Fault,
    status: String,
    status_at: Duration,
}

/// Something that may be down for a while.
#[derive(Debug, Default)]
struct Fault {
    since: Option<Duration>,
    reason: String,
    told: bool,
}

impl Fault {
    fn begin(&mut self, now: Duration, reason: &str) {
        self.since.get_or_insert(now);
        if self.reason != reason {
            reason.clone_into(&mut self.reason);
        }
    }

    fn end(&mut self) {
        self.since = None;
        self.reason.clear();
    }

    /// `Some(true)` once when it has lasted for longer than `grace`, `Some(false)` once when it is
    /// over after that.
    fn news(&mut self, now: Duration, grace: Duration) -> Option<bool> {
        let down = self
            .since
            .is_some_and(|since| now.saturating_sub(since) >= grace);
        let changed = down && !self.told || self.told && self.since.is_none();
        changed.then(|| {
            self.told = down;
            down
        })
    }
}

impl Life {
    /// Tells the service manager of the environment (`NOTIFY_SOCKET`, `WATCHDOG_USEC`), if any.
    #[must_use]
    pub fn from_environment(clock: Arc<dyn Clock>) -> Self {
        let tell = std::env::var_os("NOTIFY_SOCKET").is_some().then(|| {
            let tell: Tell = Box::new(|states| {
                if let Err(error) = sd_notify::notify(states) {
                    // systemd starts the daemon again if it hears nothing; the log then says why.
                    tracing::debug!(%error, "the service manager can't be told");
                }
            });
            tell
        });
        let watchdog =
            sd_notify::watchdog_enabled().filter(|limit| tell.is_some() && !limit.is_zero());
        Self::new(clock, tell, watchdog)
    }

    /// Tells nobody.
    #[must_use]
    pub fn untold(clock: Arc<dyn Clock>) -> Self {
        Self::new(clock, None, None)
    }

    fn new(clock: Arc<dyn Clock>, tell: Option<Tell>, watchdog: Option<Duration>) -> Self {
        Self {
            clock,
            tell,
            watchdog,
            state: Mutex::default(),
            listeners: Mutex::default(),
        }
    }

    /// Calls `listener` with each event; it must not block.
    pub fn listen(&self, listener: impl Fn(Event) + Send + Sync + 'static) {
        lock(&self.listeners).push(Box::new(listener));
    }

    /// How long the pipeline thread may sleep between two calls of [`Life::waiting`].
    #[must_use]
    pub fn longest_sleep(&self) -> Duration {
        self.watchdog
            .map_or(LONGEST_SLEEP, |limit| (limit / 4).min(LONGEST_SLEEP))
    }

    /// The pipeline has nothing to do: it waits for a frame, or for the next one's time.
    pub fn waiting(&self) {
        let mut state = lock(&self.state);
        // A source that has ended leaves the pipeline nothing to wait for.
        if !state.source_ended {
            self.alive(&mut state);
        }
    }

    /// The model has a frame.
    pub fn captioning(&self) {
        lock(&self.state).captioning = true;
    }

    /// The pipeline has finished a frame; `captions` were published so far.
    pub fn progress(&self, captions: u64) {
        let mut state = lock(&self.state);
        state.captions = captions;
        state.captioning = false;
        self.alive(&mut state);
    }

    /// The source has no frames; asked again and again until it has.
    pub fn source_lost(&self, reason: &str) {
        lock(&self.state)
            .camera
            .begin(self.clock.monotonic(), reason);
    }

    /// The source has delivered a frame.
    pub fn source_delivers(&self) {
        lock(&self.state).camera.end();
    }

    /// The source's thread is gone.
    pub fn source_ended(&self) {
        lock(&self.state).source_ended = true;
    }

    /// A look at the state from outside of the pipeline, every second or so: tells the listeners
    /// what is new and keeps the status line. `broker`: whether it's connected; `None` without one.
    pub fn look(&self, broker: Option<bool>) {
        let now = self.clock.monotonic();
        let mut state = lock(&self.state);
        match broker {
            Some(false) => state.broker.begin(now, "not connected"),
            _ => state.broker.end(),
        }
        let camera = state.camera.news(now, CAMERA_GRACE).map(|lost| match lost {
            true => Event::CameraLost,
            false => Event::CameraBack,
        });
        let broker = state.broker.news(now, BROKER_GRACE).map(|lost| match lost {
            true => Event::BrokerLost,
            false => Event::BrokerBack,
        });
        let urgent = camera.is_some() || broker.is_some();
        if state.ready && !state.stopping {
            self.tell_status(&mut state, now, urgent);
        }
        drop(state);
        for event in [camera, broker].into_iter().flatten() {
            self.call_listeners(event);
        }
    }

    /// Somebody has asked for a caption. While the model is at work on another frame the answer
    /// takes its time, and the listeners hear of it.
    pub fn asked(&self) {
        let busy = lock(&self.state).captioning;
        if busy {
            self.call_listeners(Event::Busy);
        }
    }

    fn call_listeners(&self, event: Event) {
        for listener in lock(&self.listeners).iter() {
            listener(event);
        }
    }

    /// The configuration is being read again. systemd 253 and newer want the time with it.
    pub fn reloading(&self) {
        let status = NotifyState::Status("reading the configuration and the model pack again");
        match NotifyState::monotonic_usec_now() {
            Ok(time) => self.tell(&[NotifyState::Reloading, time, status]),
            Err(_) => self.tell(&[NotifyState::Reloading, status]),
        }
    }

    /// Reading it again is over, with or without success.
    pub fn reloaded(&self) {
        let mut state = lock(&self.state);
        state.status.clear();
        if state.ready {
            self.tell(&[NotifyState::Ready]);
            self.tell_status(&mut state, self.clock.monotonic(), true);
        }
    }

    /// The daemon is about to end.
    pub fn stopping(&self) {
        lock(&self.state).stopping = true;
        self.tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }

    /// READY at the first sign of life, and the watchdog's ping, at most eight times a period.
    fn alive(&self, state: &mut State) {
        let now = self.clock.monotonic();
        if !std::mem::replace(&mut state.ready, true) {
            self.tell(&[NotifyState::Ready]);
            self.tell_status(state, now, true);
        }
        let Some(limit) = self.watchdog else { return };
        let due = state
            .pinged
            .is_none_or(|pinged| now.saturating_sub(pinged) >= limit / 8);
        if due {
            state.pinged = Some(now);
            self.tell(&[NotifyState::Watchdog]);
        }
    }

    fn tell_status(&self, state: &mut State, now: Duration, urgent: bool) {
        if self.tell.is_none() || !urgent && now.saturating_sub(state.status_at) < STATUS_PERIOD {
            return;
        }
        let mut status = match state.captions {
            0 => "waiting for the first frame".to_owned(),
            1 => "1 caption".to_owned(),
            many => format!("{many} captions"),
        };
        for (name, fault) in [("no frames", &state.camera), ("broker", &state.broker)] {
            if fault.since.is_some() {
                status.push_str(&format!("; {name}: {}", fault.reason));
            }
        }
        let status: String = status
            .chars()
            .map(|character| {
                if character.is_control() {
                    ' '
                } else {
                    character
                }
            })
            .take(STATUS_CHARACTERS)
            .collect();
        if state.status != status {
            self.tell(&[NotifyState::Status(&status)]);
            state.status = status;
        }
        state.status_at = now;
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        if let Some(tell) = &self.tell {
            tell(states);
        }
    }
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Life")
            .field("watchdog", &self.watchdog)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change under these locks is complete before anything that could panic.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::clock::FakeClock;
    use std::time::SystemTime;

    struct Told {
        life: Life,
        clock: Arc<FakeClock>,
        lines: Arc<Mutex<Vec<String>>>,
    }

    fn told(watchdog: Option<Duration>) -> Told {
        let clock = Arc::new(FakeClock::new(SystemTime::UNIX_EPOCH));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        let tell: Tell = Box::new(move |states| {
            lock(&kept).extend(states.iter().map(ToString::to_string));
        });
        Told {
            life: Life::new(Arc::clone(&clock) as Arc<dyn Clock>, Some(tell), watchdog),
            clock,
            lines,
        }
    }

    impl Told {
        fn news(&self) -> Vec<String> {
            std::mem::take(&mut *lock(&self.lines))
        }

        fn pass(&self, seconds: u64) {
            self.clock.advance(Duration::from_secs(seconds));
        }
    }

    #[test]
    fn ready_once_and_pings_with_progress_only() {
        let told = told(Some(Duration::from_secs(40)));
        told.life.look(None);
        assert!(told.news().is_empty(), "nothing before the pipeline runs");
        told.life.waiting();
        let first = [
            "READY=1",
            "STATUS=waiting for the first frame",
            "WATCHDOG=1",
        ];
        assert_eq!(told.news(), first);
        // No ping for a busy loop, and none for the look from outside.
        told.life.waiting();
        told.pass(100);
        told.life.look(None);
        assert!(told.news().is_empty());
        told.life.progress(1);
        assert_eq!(told.news(), ["WATCHDOG=1"]);
        // The source's thread has gone: waiting is no progress any more, finishing a frame is.
        told.life.source_ended();
        told.pass(100);
        told.life.waiting();
        assert!(told.news().is_empty());
        told.life.progress(2);
        assert_eq!(told.news(), ["WATCHDOG=1"]);
        assert!(told.life.longest_sleep() <= Duration::from_secs(10));
    }

    #[test]
    fn a_lost_camera_is_told_after_a_moment_and_pings_go_on() {
        let told = told(Some(Duration::from_secs(40)));
        let events = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&events);
        told.life.listen(move |event| lock(&kept).push(event));
        told.life.progress(3);
        told.news();

        told.life.source_lost("camera: unplugged");
        told.life.look(None);
        assert!(lock(&events).is_empty(), "too early");
        told.pass(2);
        told.life.source_delivers();
        told.life.look(None);
        assert!(lock(&events).is_empty(), "it was back in time");

        told.life.source_lost("camera: unplugged");
        told.pass(3);
        told.life.source_lost("camera:\nunplugged");
        told.life.look(None);
        told.life.look(None);
        assert_eq!(*lock(&events), [Event::CameraLost]);
        let status = "STATUS=3 captions; no frames: camera: unplugged";
        assert_eq!(told.news(), [status]);
        told.pass(60);
        told.life.waiting();
        assert_eq!(told.news(), ["WATCHDOG=1"]);
        told.life.source_delivers();
        told.life.look(None);
        assert_eq!(*lock(&events), [Event::CameraLost, Event::CameraBack]);
        assert_eq!(told.news(), ["STATUS=3 captions"]);
    }

    #[test]
    fn a_lost_broker_is_told_only_if_there_is_to_be_one() {
        let told = told(None);
        let events = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&events);
        told.life.listen(move |event| lock(&kept).push(event));
        told.life.waiting();
        for connected in [None, Some(true)] {
            told.life.look(connected);
            told.pass(3600);
            told.life.look(connected);
        }
        assert!(lock(&events).is_empty());
        told.life.look(Some(false));
        told.pass(10);
        told.life.look(Some(false));
        told.life.look(Some(true));
        // Nothing keeps the model from answering at once.
        told.life.asked();
        told.life.captioning();
        told.life.asked();
        told.life.progress(1);
        told.life.asked();
        assert_eq!(
            *lock(&events),
            [Event::BrokerLost, Event::BrokerBack, Event::Busy]
        );
    }

    #[test]
    fn reloading_and_stopping_are_told() {
        let told = told(None);
        told.life.waiting();
        told.news();
        told.life.reloading();
        let lines = told.news();
        assert_eq!(lines[0], "RELOADING=1");
        assert!(lines[1].starts_with("MONOTONIC_USEC="), "{lines:?}");
        told.life.reloaded();
        assert_eq!(
            told.news(),
            ["READY=1", "STATUS=waiting for the first frame"]
        );
        told.life.stopping();
        assert_eq!(told.news(), ["STOPPING=1", "STATUS=stopping"]);
        told.pass(60);
        told.life.look(None);
        assert!(told.news().is_empty());
    }
}
