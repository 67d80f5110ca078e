//! Hours in which nothing is captioned unless somebody asks.

use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use crate::daemon::clock::{Trust, trust};

/// Minutes in a day.
const DAY: u16 = 24 * 60;

/// One stretch of the day, by local time; may go through midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    /// First minute of the day that is quiet.
    from: u16,
    /// First minute that isn't any more.
    to: u16,
}

impl Hours {
    /// Reads "22:00-07:00".
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let time = |text: &str| {
            let (hours, minutes) = text.trim().split_once(':')?;
            let number = |text: &str, most: u16| {
                let two = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
                text.parse::<u16>()
                    .ok()
                    .filter(|number| two && *number <= most)
            };
            // 24:00 is the end of a day.
            let time = number(hours, 24)? * 60 + number(minutes, 59)?;
            (time <= DAY).then_some(time)
        };
        let hours = text
            .split_once('-')
            .and_then(|(from, to)| Some((time(from)?, time(to)?)));
        match hours {
            Some((from, to)) if from != to && from < DAY => Ok(Self { from, to }),
            Some(_) => Err(format!(
                "{text:?} has no length; leave it out, or write \"00:00-24:00\""
            )),
            None => Err(format!(
                "{text:?} is no time of day, expected \"22:00-07:00\""
            )),
        }
    }

    /// Whether this minute of the day (from 0) is in it.
    #[must_use]
    pub fn contain(&self, minute: u16) -> bool {
        if self.from < self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }
}

/// Minute of the local day of a date; `None` while the clock can't be trusted.
pub type LocalMinute = Box<dyn Fn(SystemTime) -> Option<u16> + Send>;

/// The quiet hours and the way to the local time.
///
/// While the clock is known to be wrong ([`Trust::Wrong`]) there are none. A board without a battery clock starts with
/// the time of its last shutdown; taken seriously, that could silence a device for a whole day
/// that somebody relies on. To caption in a night by mistake is the smaller harm.
pub struct Quiet {
    hours: Vec<Hours>,
    local: LocalMinute,
}

impl Quiet {
    /// With the system's time zone and what is known of its clock.
    #[must_use]
    pub fn new(hours: Vec<Hours>) -> Self {
        Self::with(hours, Box::new(system_minute))
    }

    /// With another way to the local time.
    #[must_use]
    pub fn with(hours: Vec<Hours>, local: LocalMinute) -> Self {
        Self { hours, local }
    }

    /// Whether it's quiet at this date.
    #[must_use]
    pub fn now(&self, wall: SystemTime) -> bool {
        !self.hours.is_empty()
            && (self.local)(wall)
                .is_some_and(|minute| self.hours.iter().any(|hours| hours.contain(minute)))
    }
}

impl fmt::Debug for Quiet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quiet")
            .field("hours", &self.hours)
            .finish_non_exhaustive()
    }
}

fn system_minute(wall: SystemTime) -> Option<u16> {
    if trust(wall, Path::new("/run")) == Trust::Wrong {
        return None;
    }
    let timestamp = jiff::Timestamp::try_from(wall).ok()?;
    let local = jiff::tz::TimeZone::system().to_datetime(timestamp);
    u16::try_from(i16::from(local.hour()) * 60 + i16::from(local.minute())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(hour: u16, minute: u16) -> u16 {
        hour * 60 + minute
    }

    #[test]
    fn hours_may_go_through_midnight() {
        let night = Hours::parse("22:00-07:00").unwrap();
        for (at, quiet) in [
            (minute(21, 59), false),
            (minute(22, 0), true),
            (minute(23, 59), true),
            (0, true),
            (minute(6, 59), true),
            (minute(7, 0), false),
            (minute(12, 0), false),
        ] {
            assert_eq!(night.contain(at), quiet, "{at}");
        }
        let lunch = Hours::parse("12:30 - 13:15").unwrap();
        assert!(lunch.contain(minute(12, 30)) && !lunch.contain(minute(13, 15)));
        let always = Hours::parse("00:00-24:00").unwrap();
        assert!((0..DAY).all(|minute| always.contain(minute)));
    }

    #[test]
    fn wrong_hours_are_told() {
        for text in [
            "22:00",
            "22-7",
            "25:00-07:00",
            "22:60-07:00",
            "7:00-8:00",
            "22:00-07:0x",
            "",
        ] {
            let error = Hours::parse(text).unwrap_err();
            assert!(error.contains("22:00-07:00"), "{text}: {error}");
        }
        assert!(Hours::parse("24:01-25:00").is_err());
        assert!(Hours::parse("07:00-07:00").unwrap_err().contains("24:00"));
    }

    #[test]
    fn without_a_clock_there_are_no_quiet_hours() {
        let hours = || vec![Hours::parse("00:00-24:00").unwrap()];
        let wall = SystemTime::UNIX_EPOCH;
        assert!(Quiet::with(hours(), Box::new(|_| Some(5))).now(wall));
        assert!(!Quiet::with(hours(), Box::new(|_| None)).now(wall));
        assert!(!Quiet::with(Vec::new(), Box::new(|_| Some(5))).now(wall));
        // The real way, at a date that can't be.
        assert_eq!(system_minute(wall), None);
    }
}
