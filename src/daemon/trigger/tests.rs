//! The mix of all that can ask for a caption, by fake time.

use std::fs;
use std::io::Cursor;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::SystemTime;

use super::*;
use crate::daemon::clock::FakeClock;
use crate::source::Pixels;

const SECOND: Duration = Duration::from_secs(1);

/// Drives a trigger as the pipeline does, with a frame every 100 ms and captions that take a while.
struct Drive {
    clock: Arc<FakeClock>,
    trigger: Trigger,
    interval: Duration,
    takes: Duration,
    minute: Arc<AtomicU16>,
    root: tempfile::TempDir,
}

impl Drive {
    fn new(config: TriggerConfig) -> Self {
        let clock = Arc::new(FakeClock::new(SystemTime::UNIX_EPOCH));
        let root = tempfile::tempdir().unwrap();
        let minute = Arc::new(AtomicU16::new(12 * 60));
        let local = Arc::clone(&minute);
        let quiet = Quiet::with(
            config.quiet.clone(),
            Box::new(move |_| Some(local.load(Ordering::Relaxed))),
        );
        let thermometer = Thermometer::new(root.path().to_owned());
        let trigger = Trigger::with(
            config,
            thermometer,
            quiet,
            Arc::clone(&clock) as Arc<dyn Clock>,
        );
        Self {
            clock,
            trigger,
            interval: Duration::ZERO,
            takes: Duration::from_millis(100),
            minute,
            root,
        }
    }

    fn frame(&self, brightness: u8) -> Frame {
        let picture = image::RgbImage::from_fn(64, 48, |x, y| {
            image::Rgb([if x < 32 { brightness } else { (x + y) as u8 }; 3])
        });
        let mut bytes = Vec::new();
        picture
            .write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Png)
            .unwrap();
        Frame {
            pixels: Pixels::Encoded(bytes),
            origin: "test".into(),
            taken: self.clock.monotonic(),
        }
    }

    fn wants(&mut self, frame: &Frame, press: Option<Press>) -> Option<Reason> {
        self.trigger
            .wants(frame, press, self.interval, false)
            .unwrap()
    }

    fn caption(&mut self, frame: &Frame) {
        self.trigger.begin(frame);
        self.clock.advance(self.takes);
        self.trigger.end();
    }

    /// The captions of so many seconds, each with its time in milliseconds and its reason.
    fn run(&mut self, seconds: u64, brightness: impl Fn(u128) -> u8) -> Vec<(u128, Reason)> {
        let end = self.clock.monotonic() + Duration::from_secs(seconds);
        let mut captions = Vec::new();
        while self.clock.monotonic() < end {
            let wait = self.trigger.wait(self.interval, false);
            // No longer than to the next frame.
            self.clock.advance(wait.min(Duration::from_millis(100)));
            if !wait.is_zero() {
                continue;
            }
            let now = self.clock.monotonic().as_millis();
            let frame = self.frame(brightness(now));
            match self.wants(&frame, None) {
                Some(reason) => {
                    captions.push((now, reason));
                    self.caption(&frame);
                }
                None => self.clock.advance(Duration::from_millis(100)),
            }
        }
        captions
    }
}

fn config() -> TriggerConfig {
    TriggerConfig::default()
}

#[test]
fn every_so_often() {
    let mut drive = Drive::new(TriggerConfig {
        every: Some(10 * SECOND),
        ..config()
    });
    let captions = drive.run(35, |_| 0);
    let times: Vec<_> = captions.iter().map(|(at, _)| at / 1000).collect();
    assert_eq!(times, [0, 10, 20, 30]);
    // The longer of the two holds.
    drive.interval = 20 * SECOND;
    assert_eq!(drive.run(60, |_| 0).len(), 3);
}

#[test]
fn on_a_change_and_on_time_in_one() {
    let mut drive = Drive::new(TriggerConfig {
        every: Some(60 * SECOND),
        scene_change: Some(0.1),
        ..config()
    });
    let captions = drive.run(130, |now| if now < 20_000 { 10 } else { 200 });
    let seen: Vec<_> = captions
        .iter()
        .map(|(at, reason)| (at / 1000, *reason))
        .collect();
    assert_eq!(
        seen,
        [(0, Reason::Time), (20, Reason::Scene), (80, Reason::Time)]
    );
}

#[test]
fn a_still_scene_is_captioned_once() {
    let mut drive = Drive::new(TriggerConfig {
        every: None,
        scene_change: Some(0.1),
        ..config()
    });
    assert_eq!(drive.run(600, |_| 10), [(0, Reason::Scene)]);
}

#[test]
fn a_change_waits_for_the_interval() {
    let mut drive = Drive::new(TriggerConfig {
        every: None,
        scene_change: Some(0.1),
        ..config()
    });
    drive.interval = 30 * SECOND;
    let captions = drive.run(70, |now| if now < 5000 { 10 } else { 200 });
    assert_eq!(captions.len(), 2, "{captions:?}");
    assert!(captions[1].0 >= 30_000, "{captions:?}");
}

#[test]
fn on_demand_alone_and_only_with_a_picture_taken_since() {
    let mut drive = Drive::new(TriggerConfig {
        every: None,
        quiet: vec![Hours::parse("00:00-24:00").unwrap()],
        ..config()
    });
    assert_eq!(drive.run(100, |now| (now / 100) as u8), []);
    drive.interval = 3600 * SECOND;
    let before = drive.frame(0);
    drive.clock.advance(SECOND);
    let press = Press {
        by: "test",
        at: drive.clock.monotonic(),
    };
    assert_eq!(drive.wants(&before, Some(press)), None);
    // At once: in the quiet hours, and whatever the interval.
    for _ in 0..2 {
        let frame = drive.frame(0);
        assert_eq!(drive.wants(&frame, Some(press)), Some(Reason::Demand));
        drive.caption(&frame);
    }
}

#[test]
fn the_duty_is_kept_and_falls_with_the_heat() {
    let mut drive = Drive::new(TriggerConfig {
        max_duty: 0.5,
        ..config()
    });
    drive.takes = SECOND;
    let cool = drive.run(100, |_| 0).len();
    assert!((49..=51).contains(&cool), "{cool}");
    let zone = drive.root.path().join("thermal_zone0");
    fs::create_dir(&zone).unwrap();
    fs::write(zone.join("temp"), "77500").unwrap();
    drive.clock.advance(10 * SECOND);
    // Half of the half.
    let warm = drive.run(100, |_| 0).len();
    assert!((25..=29).contains(&warm), "{warm}");
    fs::write(zone.join("temp"), "91000").unwrap();
    drive.run(10, |_| 0);
    let hot = drive.run(400, |_| 0).len();
    assert!((9..=11).contains(&hot), "{hot}");
    fs::write(zone.join("temp"), "50000").unwrap();
    drive.run(50, |_| 0);
    let cool = drive.run(100, |_| 0).len();
    assert!((49..=51).contains(&cool), "{cool}");
}

#[test]
fn quiet_hours_are_quiet_until_they_are_over() {
    let mut drive = Drive::new(TriggerConfig {
        every: Some(10 * SECOND),
        quiet: vec![Hours::parse("22:00-07:00").unwrap()],
        ..config()
    });
    assert_eq!(drive.run(100, |_| 0).len(), 10);
    drive.minute.store(23 * 60, Ordering::Relaxed);
    assert_eq!(drive.run(100, |_| 0), []);
    drive.minute.store(7 * 60, Ordering::Relaxed);
    assert!(drive.run(100, |_| 0).len() >= 9);
}

#[test]
fn an_old_frame_of_a_camera_is_passed_over() {
    let mut drive = Drive::new(config());
    drive.trigger = drive.trigger.with_max_age(Some(10 * SECOND));
    let frame = drive.frame(0);
    drive.clock.advance(10 * SECOND);
    assert_eq!(drive.wants(&frame, None), Some(Reason::Time));
    drive.clock.advance(SECOND);
    assert_eq!(drive.wants(&frame, None), None);
    // Of a folder each one counts, however long it waited.
    let of_folder = drive.trigger.wants(&frame, None, Duration::ZERO, true);
    assert_eq!(of_folder, Ok(Some(Reason::Time)));
}

#[test]
fn a_damaged_picture_is_no_change() {
    let mut drive = Drive::new(TriggerConfig {
        every: None,
        scene_change: Some(0.1),
        ..config()
    });
    let good = drive.frame(10);
    drive.caption(&good);
    drive.clock.advance(SECOND);
    let torn = Frame {
        pixels: Pixels::Encoded(vec![0xFF, 0xD8, 0xFF]),
        ..good
    };
    let outcome = drive.trigger.wants(&torn, None, Duration::ZERO, false);
    assert!(outcome.unwrap_err().contains("JPEG"));
}
