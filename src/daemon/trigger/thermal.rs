//! How warm the board is.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// The temperature of a chip doesn't jump; reading it takes a bus transfer on some boards.
const READ_EVERY: Duration = Duration::from_secs(5);

/// Below the limit by so many kelvins the pauses begin to grow.
const BAND: f32 = 5.0;

/// At the limit and above, so much of `max_duty` is left: it goes on, rarely.
const LEAST: f32 = 0.05;

/// The highest temperature of the kernel's thermal zones.
#[derive(Debug)]
pub struct Thermometer {
    root: PathBuf,
    read: Option<(Duration, Option<f32>)>,
}

impl Thermometer {
    /// `root` is `/sys/class/thermal`, or a test's folder.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root, read: None }
    }

    /// In degrees Celsius; `None` on a machine without sensors.
    pub fn celsius(&mut self, now: Duration) -> Option<f32> {
        match self.read {
            Some((at, celsius)) if now.saturating_sub(at) < READ_EVERY => celsius,
            _ => {
                let celsius = self.read_zones();
                self.read = Some((now, celsius));
                celsius
            }
        }
    }

    fn read_zones(&self) -> Option<f32> {
        let zones = fs::read_dir(&self.root).ok()?;
        zones
            .filter_map(Result::ok)
            .filter(|zone| {
                zone.file_name()
                    .as_encoded_bytes()
                    .starts_with(b"thermal_zone")
            })
            .filter_map(|zone| fs::read_to_string(zone.path().join("temp")).ok())
            .filter_map(|text| text.trim().parse::<f32>().ok())
            .map(|millidegrees| millidegrees / 1000.0)
            // Sensors that are off read -274, 0 or 127 and worse.
            .filter(|celsius| (1.0..126.0).contains(celsius))
            .reduce(f32::max)
    }
}

/// What is left of the allowed duty at a temperature: 1 up to 5 K below the limit, then falling in
/// a straight line. Without a memory it can't swing, unlike a switch.
#[must_use]
pub fn duty_left(celsius: Option<f32>, limit: f32) -> f32 {
    celsius.map_or(1.0, |celsius| ((limit - celsius) / BAND).clamp(LEAST, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hottest_zone_counts_and_broken_sensors_do_not() {
        let root = tempfile::tempdir().unwrap();
        let put = |zone: &str, text: &str| {
            fs::create_dir_all(root.path().join(zone)).unwrap();
            fs::write(root.path().join(zone).join("temp"), text).unwrap();
        };
        let mut thermometer = Thermometer::new(root.path().to_owned());
        assert_eq!(thermometer.celsius(Duration::ZERO), None);
        put("thermal_zone0", "48312\n");
        put("thermal_zone1", "61000\n");
        put("thermal_zone2", "-274000\n");
        put("thermal_zone3", "none\n");
        put("thermal_zone4", "127000\n");
        put("cooling_device0", "99000\n");
        // Not read again before its time.
        assert_eq!(thermometer.celsius(Duration::from_secs(4)), None);
        assert_eq!(thermometer.celsius(Duration::from_secs(5)), Some(61.0));
        let missing = root.path().join("nowhere");
        assert_eq!(Thermometer::new(missing).celsius(Duration::ZERO), None);
    }

    #[test]
    fn the_duty_falls_before_the_limit_and_never_to_nothing() {
        for (celsius, left) in [
            (None, 1.0),
            (Some(20.0), 1.0),
            (Some(75.0), 1.0),
            (Some(77.5), 0.5),
            (Some(80.0), LEAST),
            (Some(100.0), LEAST),
        ] {
            assert_eq!(duty_left(celsius, 80.0), left, "{celsius:?}");
        }
    }
}
