//! Our own words, beside the captions, and captions that are better not said.

use std::time::Duration;

/// What the daemon itself says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phrases {
    /// Repeat was asked for, but nothing has been said.
    pub nothing_yet: String,
    /// Before something that was true some time ago; `{minutes}` is replaced.
    pub minutes_ago: String,
}

impl Default for Phrases {
    /// English.
    fn default() -> Self {
        Self {
            nothing_yet: "Nothing to repeat yet".into(),
            minutes_ago: "{minutes} minutes ago:".into(),
        }
    }
}

/// A text that was true so short a time ago is repeated as it was said.
const STILL_TRUE: Duration = Duration::from_secs(60);

impl Phrases {
    /// What to say when repeat is asked for: `last` and how long ago it was true.
    #[must_use]
    pub fn repeat(&self, last: Option<(&str, Duration)>) -> String {
        match last {
            None => self.nothing_yet.clone(),
            Some((text, age)) if age <= STILL_TRUE => text.to_owned(),
            // What is long gone must not sound like what is there now.
            Some((text, age)) => {
                let minutes = age.as_secs().div_ceil(60).to_string();
                format!("{} {text}", self.minutes_ago.replace("{minutes}", &minutes))
            }
        }
    }
}

/// Words (English, lower case) that could be heard as leave to cross a road.
const LEAVE: [&str; 17] = [
    "safe to",
    "it is safe",
    "cross now",
    "can cross",
    "may cross",
    "clear to",
    "all clear",
    "way is clear",
    "road is clear",
    "street is clear",
    "path is clear",
    "no cars",
    "no traffic",
    "without traffic",
    "green light",
    "traffic light is green",
    "walk sign",
];

/// Whether a text could be heard as leave to cross a road.
///
/// Such a caption is never said, whatever its confidence: being wrong once could kill. The list
/// can't be complete, so nobody may rely on what is said either.
#[must_use]
pub fn sounds_like_leave_to_cross(text: &str) -> bool {
    let words = text
        .split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty());
    let plain = format!(" {} ", words.collect::<Vec<_>>().join(" ").to_lowercase());
    LEAVE.iter().any(|leave| {
        plain.contains(&format!(" {leave} ")) || plain.contains(&format!(" {leave}s "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_text_is_repeated_with_its_age() {
        let phrases = Phrases::default();
        let repeat = |last| phrases.repeat(last);
        assert_eq!(repeat(None), "Nothing to repeat yet");
        assert_eq!(repeat(Some(("a dog", Duration::from_secs(9)))), "a dog");
        assert_eq!(
            repeat(Some(("a dog", Duration::from_secs(90)))),
            "2 minutes ago: a dog"
        );
    }

    #[test]
    fn leave_to_cross_is_recognised_and_streets_are_not() {
        for leave in [
            "It is safe to walk here",
            "The road is clear, you can cross",
            "a street with no cars",
            "A green-light at the crossing",
            "two walk signs over a street",
        ] {
            assert!(sounds_like_leave_to_cross(leave), "{leave}");
        }
        for other in [
            "a man is crossing the street",
            "a busy road with cars",
            "a traffic light above a street",
            "a clear blue sky over a road",
            "a dog lies on a carpet",
        ] {
            assert!(!sounds_like_leave_to_cross(other), "{other}");
        }
        // What we say ourselves.
        let Phrases {
            nothing_yet,
            minutes_ago,
        } = Phrases::default();
        assert!(!sounds_like_leave_to_cross(&nothing_yet));
        assert!(!sounds_like_leave_to_cross(&minutes_ago));
    }
}
