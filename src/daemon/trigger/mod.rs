//! When to caption: every so often, when the scene changes, when somebody asks, or any mix.
//!
//! The pipeline asks [`Trigger::wait`] how long to sleep, takes the newest frame, and asks
//! [`Trigger::wants`] whether to caption it. Whatever captions by itself keeps to `interval`,
//! `max_duty`, the temperature and the quiet hours; a person who asks ([`demand`]) gets an answer
//! at once. Of a source whose every frame counts (a folder) each is captioned, at that pace.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use self::button::Button;
use self::demand::Press;
use self::quiet::{Hours, Quiet};
use self::scene::SceneDetector;
use self::small::Small;
use self::thermal::{Thermometer, duty_left};
use super::clock::Clock;
use crate::frame::Limits;
use crate::source::Frame;

pub mod button;
pub mod demand;
#[cfg(feature = "gpio")]
pub mod gpio;
#[cfg(feature = "input")]
pub mod input;
pub mod quiet;
pub mod scene;
pub mod small;
pub mod thermal;

/// How often the wall clock is looked at to see whether the quiet hours are over. (Not how long
/// they still are: the clock may be set meanwhile.)
const QUIET_LOOK: Duration = Duration::from_secs(20);

/// How long to sleep when nothing captions by itself.
const NOTHING_TO_DO: Duration = Duration::from_secs(3600);

/// `[trigger]` of the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct TriggerConfig {
    /// A caption every so often (from start to start; zero: as fast as it goes), or `None`.
    pub every: Option<Duration>,
    /// A caption when this share of the picture, in (0, 1], has changed, or `None`.
    pub scene_change: Option<f32>,
    /// How often to look for a change. Default: "200ms".
    pub look: Duration,
    /// Share of the time that captioning may take, in (0, 1]. Default: 1.
    pub max_duty: f32,
    /// Degrees Celsius at which captioning has become rare. Default: 80.
    pub max_temperature: f32,
    /// Hours without captions (local time). Default: none.
    pub quiet: Vec<Hours>,
    /// A button on a GPIO line. Default: none. Only with the feature `gpio`.
    #[cfg(feature = "gpio")]
    pub gpio: Option<gpio::GpioConfig>,
    /// A key of an input device. Default: none. Only with the feature `input`.
    #[cfg(feature = "input")]
    pub input: Option<input::InputConfig>,
}

impl Default for TriggerConfig {
    /// As fast as `interval` and the model allow.
    fn default() -> Self {
        Self {
            every: Some(Duration::ZERO),
            scene_change: None,
            look: Duration::from_millis(200),
            max_duty: 1.0,
            max_temperature: 80.0,
            quiet: Vec::new(),
            #[cfg(feature = "gpio")]
            gpio: None,
            #[cfg(feature = "input")]
            input: None,
        }
    }
}

impl TriggerConfig {
    /// The buttons that are configured.
    #[must_use]
    pub fn buttons(&self) -> Vec<Box<dyn Button>> {
        #[cfg(feature = "gpio")]
        let gpio = self.gpio.clone().map(gpio::GpioButton::new);
        #[cfg(feature = "gpio")]
        let gpio = gpio.map(|button| Box::new(button) as Box<dyn Button>);
        #[cfg(not(feature = "gpio"))]
        let gpio = None;
        #[cfg(feature = "input")]
        let key = self.input.clone().map(input::KeyButton::new);
        #[cfg(feature = "input")]
        let key = key.map(|button| Box::new(button) as Box<dyn Button>);
        #[cfg(not(feature = "input"))]
        let key = None;
        [gpio, key].into_iter().flatten().collect()
    }
}

/// Why a frame is captioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It's time again (or each frame counts).
    Time,
    /// The scene has changed.
    Scene,
    /// Somebody has asked.
    Demand,
}

/// Decides. One for each pipeline.
#[derive(Debug)]
pub struct Trigger {
    every: Option<Duration>,
    look: Duration,
    scene: Option<SceneDetector>,
    max_duty: f32,
    max_temperature: f32,
    thermometer: Thermometer,
    quiet: Quiet,
    /// Older frames are not captioned: the camera has stalled since.
    max_age: Option<Duration>,
    /// For the look at a frame.
    limits: Limits,
    clock: Arc<dyn Clock>,
    /// When the last caption was begun.
    begun: Option<Duration>,
    /// Before this nothing captions by itself, for `max_duty`.
    rested: Duration,
    /// When a frame was last looked at for a change.
    looked: Option<Duration>,
}

impl Trigger {
    /// With the board's sensors and time zone.
    pub fn new(config: TriggerConfig, clock: Arc<dyn Clock>) -> Self {
        let thermometer = Thermometer::new(PathBuf::from("/sys/class/thermal"));
        let quiet = Quiet::new(config.quiet.clone());
        Self::with(config, thermometer, quiet, clock)
    }

    /// With others, for tests.
    pub fn with(
        config: TriggerConfig,
        thermometer: Thermometer,
        quiet: Quiet,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            every: config.every,
            look: config.look,
            scene: config.scene_change.map(SceneDetector::new),
            max_duty: config.max_duty,
            max_temperature: config.max_temperature,
            thermometer,
            quiet,
            max_age: None,
            limits: Limits::default(),
            clock,
            begun: None,
            rested: Duration::ZERO,
            looked: None,
        }
    }

    /// What a look at a frame may cost.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Frames that are older than `max_age` are passed over. For live sources only.
    #[must_use]
    pub fn with_max_age(mut self, max_age: Option<Duration>) -> Self {
        self.max_age = max_age;
        self
    }

    /// How long to sleep before the next frame is of interest; zero: take it now. `interval`: least
    /// time from the start of one caption to the start of the next. `each`: every frame counts.
    #[must_use]
    pub fn wait(&self, interval: Duration, each: bool) -> Duration {
        if self.quiet.now(self.clock.wall()) {
            return QUIET_LOOK;
        }
        let due = self.time_due(each).into_iter().chain(self.look_due());
        let Some(due) = due.min() else {
            return NOTHING_TO_DO;
        };
        due.max(self.earliest(interval))
            .saturating_sub(self.clock.monotonic())
    }

    /// Whether to caption this frame, and why. A frame that can't be looked at is an error, to be
    /// told and skipped.
    ///
    /// # Errors
    /// When the picture can't be decoded, in words.
    pub fn wants(
        &mut self,
        frame: &Frame,
        press: Option<Press>,
        interval: Duration,
        each: bool,
    ) -> Result<Option<Reason>, String> {
        let now = self.clock.monotonic();
        if let Some(press) = press {
            // What the camera saw before is not what was asked about.
            return Ok((each || frame.taken >= press.at).then_some(Reason::Demand));
        }
        let old = self
            .max_age
            .is_some_and(|most| now.saturating_sub(frame.taken) > most);
        if old && !each {
            return Ok(None);
        }
        // It may have become early (the interval was changed) or quiet since the wait.
        if now < self.earliest(interval) || self.quiet.now(self.clock.wall()) {
            return Ok(each.then_some(Reason::Time));
        }
        if self.time_due(each).is_some_and(|due| now >= due) {
            return Ok(Some(Reason::Time));
        }
        if self.look_due().is_none_or(|due| now < due) {
            return Ok(None);
        }
        self.looked = Some(now);
        let small = Small::of(frame, self.limits)?;
        let changed = self
            .scene
            .as_mut()
            .is_some_and(|scene| scene.look(&small, now));
        Ok(changed.then_some(Reason::Scene))
    }

    /// This frame is about to be captioned.
    pub fn begin(&mut self, frame: &Frame) {
        self.begun = Some(self.clock.monotonic());
        if let Some(scene) = &mut self.scene {
            // A picture that can't be decoded is no reference: the next one is news.
            scene.captioned(Small::of(frame, self.limits).ok());
        }
    }

    /// It's done (or has failed): now comes the rest that `max_duty` asks for.
    pub fn end(&mut self) {
        let now = self.clock.monotonic();
        let took = now.saturating_sub(self.begun.unwrap_or(now));
        let celsius = self.thermometer.celsius(now);
        let duty = self.max_duty * duty_left(celsius, self.max_temperature);
        self.rested = now + took.mul_f32(1.0 / duty - 1.0);
    }

    fn earliest(&self, interval: Duration) -> Duration {
        let after = self
            .begun
            .map_or(Duration::ZERO, |begun| begun.saturating_add(interval));
        after.max(self.rested)
    }

    fn time_due(&self, each: bool) -> Option<Duration> {
        let every = match self.every {
            None if each => Duration::ZERO,
            every => every?,
        };
        Some(
            self.begun
                .map_or(Duration::ZERO, |begun| begun.saturating_add(every)),
        )
    }

    fn look_due(&self) -> Option<Duration> {
        self.scene.as_ref()?;
        Some(
            self.looked
                .map_or(Duration::ZERO, |looked| looked + self.look),
        )
    }
}

#[cfg(test)]
mod tests;
