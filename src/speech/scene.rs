//! What is worth saying: nothing twice for the same scene.

use std::collections::HashMap;
use std::time::Duration;

/// So many texts are remembered; the rest would be a slow leak.
const REMEMBERED: usize = 64;

/// Remembers what was said, on the monotonic clock.
#[derive(Debug, Default)]
pub struct Scene {
    last: Option<Last>,
    said: HashMap<String, Duration>,
}

#[derive(Debug)]
struct Last {
    key: String,
    text: String,
    /// When it was true for the last time.
    seen: Duration,
}

impl Scene {
    /// Whether to say `text`, which is true `now`.
    ///
    /// Not while it goes on being the last thing said; nor within `hold` of its being said, so that
    /// two captions in turn for one scene are said once each. When it's still true after that, it's
    /// said: otherwise a listener would go on believing what was said in between.
    pub fn is_news(&mut self, text: &str, now: Duration, hold: Duration) -> bool {
        let key = key(text);
        if let Some(last) = self.last.as_mut().filter(|last| last.key == key) {
            let absent = now.saturating_sub(std::mem::replace(&mut last.seen, now));
            if absent <= hold {
                return false;
            }
        } else if self
            .said
            .get(&key)
            .is_some_and(|said| now.saturating_sub(*said) <= hold)
        {
            return false;
        }
        self.said
            .retain(|_, said| now.saturating_sub(*said) <= hold);
        self.said(text, now);
        true
    }

    /// `text`, which is true `now`, is being said, news or not.
    pub fn said(&mut self, text: &str, now: Duration) {
        let key = key(text);
        if self.said.len() >= REMEMBERED
            && let Some(oldest) = self
                .said
                .iter()
                .min_by_key(|(_, said)| **said)
                .map(|(key, _)| key.clone())
        {
            self.said.remove(&oldest);
        }
        self.said.insert(key.clone(), now);
        self.last = Some(Last {
            key,
            text: text.to_owned(),
            seen: now,
        });
    }

    /// Saying `text` has failed: it's news again.
    pub fn forget(&mut self, text: &str) {
        let key = key(text);
        self.said.remove(&key);
        if self.last.as_ref().is_some_and(|last| last.key == key) {
            self.last = None;
        }
    }

    /// The last thing said, and how long ago it was true for the last time.
    #[must_use]
    pub fn last(&self, now: Duration) -> Option<(&str, Duration)> {
        self.last
            .as_ref()
            .map(|last| (last.text.as_str(), now.saturating_sub(last.seen)))
    }
}

/// Two texts that sound alike are one.
fn key(text: &str) -> String {
    let words = text
        .split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_unchanged_scene_is_silent_for_ever_and_news_when_it_comes_back() {
        let mut scene = Scene::default();
        assert!(scene.is_news("A red door", at(0), HOLD));
        for second in (10..36_000).step_by(10) {
            assert!(!scene.is_news("a red door.", at(second), HOLD), "{second}");
        }
        assert_eq!(scene.last(at(36_000)), Some(("A red door", at(10))));
        // Nothing (withheld, no camera) for longer than the hold.
        assert!(scene.is_news("A red door", at(36_100), HOLD));
        // Nobody has heard it.
        scene.forget("a red door");
        assert_eq!(scene.last(at(36_101)), None);
        assert!(scene.is_news("A red door", at(36_101), HOLD));
    }

    #[test]
    fn what_was_said_because_somebody_asked_is_no_news_either() {
        let mut scene = Scene::default();
        assert!(scene.is_news("a dog", at(0), HOLD));
        scene.said("a dog", at(30));
        assert!(!scene.is_news("a dog", at(80), HOLD));
        scene.said("a cat", at(81));
        assert!(!scene.is_news("a cat", at(82), HOLD));
        assert_eq!(scene.last(at(82)), Some(("a cat", at(0))));
    }

    #[test]
    fn two_captions_in_turn_are_said_once_each() {
        let mut scene = Scene::default();
        let mut said = Vec::new();
        for second in 0..60 {
            let text = ["a dog", "a cat"][second as usize % 2];
            if scene.is_news(text, at(second), HOLD) {
                said.push((second, text));
            }
        }
        assert_eq!(said, [(0, "a dog"), (1, "a cat")]);
    }

    #[test]
    fn what_stays_true_is_said_in_the_end() {
        let mut scene = Scene::default();
        assert!(scene.is_news("a dog", at(0), HOLD));
        assert!(scene.is_news("a cat", at(1), HOLD));
        let again = (2..100).find(|second| scene.is_news("a dog", at(*second), HOLD));
        assert_eq!(again, Some(61), "the last word must not stay the wrong one");
    }

    #[test]
    fn memory_is_bounded() {
        let mut scene = Scene::default();
        for number in 0..10_000_u64 {
            assert!(scene.is_news(&format!("text {number}"), at(number / 1000), HOLD));
        }
        assert!(scene.said.len() <= REMEMBERED);
    }
}
