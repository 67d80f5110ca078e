//! From a confidence and a frame's quality to what may be said to a person.
//!
//! Blind people over-trust captions (MacLeod et al., CHI 2017), so a caption that may well be wrong
//! is worded as a guess, and one that is most likely wrong is not said at all. The caption itself
//! stays as it is: evaluations score it, and only what is shown or spoken is worded.

use serde::{Serialize, Serializer, ser::SerializeStruct as _};

use crate::{
    datastore::Datastore,
    frame::{Flaw, FrameQuality},
    pack::{CAPTION, Phrases},
};

/// Default of [`Thresholds::hedge_below`]: of what the default pack then says plainly about six in seven are
/// right (docs/benchmarks.md, Confidence).
pub const HEDGE_BELOW: f32 = 0.7;
/// Default of [`Thresholds::withhold_below`]: what is withheld would be wrong four times in five.
pub const WITHHOLD_BELOW: f32 = 0.25;

/// From which confidence on a caption is said, and how; both in [0, 1].
///
/// A calibrated confidence of p means that a person accepts the caption with probability p. So
/// `hedge_below` = 0.9 lets no caption through without "perhaps" that is wrong more often than once
/// in 10, and those that pass are on the whole right more often than that.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// A caption with a lower confidence is worded as a guess. Default: 0.7.
    pub hedge_below: f32,
    /// A caption with a lower confidence is withheld. Default: 0.25.
    pub withhold_below: f32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            hedge_below: HEDGE_BELOW,
            withhold_below: WITHHOLD_BELOW,
        }
    }
}

/// Thresholds that make no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ThresholdError {
    /// Out of range, or no number.
    #[error("found {found}, expected a probability from 0 to 1")]
    Range {
        /// `hedge_below` or `withhold_below`.
        key: &'static str,
        /// What was given.
        found: f32,
    },
    /// Nothing could ever be hedged.
    #[error(
        "found {withhold}, expected at most hedge_below, which is {hedge}: what is withheld can't be hedged"
    )]
    Order {
        /// `withhold_below`.
        withhold: f32,
        /// `hedge_below`.
        hedge: f32,
    },
}

impl ThresholdError {
    /// The key that is to blame.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Range { key, .. } => key,
            Self::Order { .. } => "withhold_below",
        }
    }
}

impl Thresholds {
    /// The thresholds that are given, the defaults for the others.
    ///
    /// # Errors
    /// [`ThresholdError`] when one is no probability, or `withhold_below` is above `hedge_below`.
    pub fn new(hedge: Option<f32>, withhold: Option<f32>) -> Result<Self, ThresholdError> {
        for (key, given) in [("hedge_below", hedge), ("withhold_below", withhold)] {
            if let Some(found) = given
                && !(0.0..=1.0).contains(&found)
            {
                return Err(ThresholdError::Range { key, found });
            }
        }
        // One key alone moves the other's default along: hedge_below = 0.3 withholds below 0.3.
        let (hedge_below, withhold_below) = match (hedge, withhold) {
            (None, None) => (HEDGE_BELOW, WITHHOLD_BELOW),
            (Some(hedge), None) => (hedge, WITHHOLD_BELOW.min(hedge)),
            (None, Some(withhold)) => (HEDGE_BELOW.max(withhold), withhold),
            (Some(hedge), Some(withhold)) => (hedge, withhold),
        };
        if withhold_below > hedge_below {
            return Err(ThresholdError::Order {
                withhold: withhold_below,
                hedge: hedge_below,
            });
        }
        Ok(Self {
            hedge_below,
            withhold_below,
        })
    }

    /// What may be said of a frame of this quality with this confidence.
    pub fn verdict(&self, quality: &FrameQuality, confidence: f32) -> Verdict {
        if let Some(flaw) = quality.flaw() {
            Verdict::Unsure(flaw.into())
        } else if confidence >= self.hedge_below {
            Verdict::Sure
        } else if confidence >= self.withhold_below {
            Verdict::Hedged
        } else {
            // A confidence that is no number is below everything.
            Verdict::Unsure(Reason::Unfamiliar)
        }
    }
}

/// Why nothing is said of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// [`Flaw::Dark`].
    Dark,
    /// [`Flaw::BlownOut`].
    BlownOut,
    /// [`Flaw::Blurred`].
    Blurred,
    /// [`Flaw::Covered`].
    Covered,
    /// The frame is good, but the confidence is too low.
    #[default]
    Unfamiliar,
    /// The confidence is below the least one that is wanted (`min_confidence`).
    BelowMinimum,
}

impl From<Flaw> for Reason {
    fn from(flaw: Flaw) -> Self {
        match flaw {
            Flaw::Dark => Self::Dark,
            Flaw::BlownOut => Self::BlownOut,
            Flaw::Blurred => Self::Blurred,
            Flaw::Covered => Self::Covered,
        }
    }
}

impl Reason {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dark => "dark",
            Self::BlownOut => "blown-out",
            Self::Blurred => "blurred",
            Self::Covered => "covered",
            Self::Unfamiliar => "unfamiliar",
            Self::BelowMinimum => "below-minimum",
        }
    }
}

/// How a caption may be said.
///
/// In JSON it's two keys: `verdict` ("sure", "hedged", "unsure") and `reason` (null unless unsure).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it is.
    Sure,
    /// As a guess.
    Hedged,
    /// Not at all.
    Unsure(Reason),
}

impl Default for Verdict {
    /// Of a frame of which nothing is known nothing is said.
    fn default() -> Self {
        Self::Unsure(Reason::default())
    }
}

impl Verdict {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sure => "sure",
            Self::Hedged => "hedged",
            Self::Unsure(_) => "unsure",
        }
    }

    /// Why the caption is withheld; none when it isn't.
    pub fn reason(self) -> Option<Reason> {
        match self {
            Self::Sure | Self::Hedged => None,
            Self::Unsure(reason) => Some(reason),
        }
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut keys = serializer.serialize_struct("Verdict", 2)?;
        keys.serialize_field("verdict", self.name())?;
        keys.serialize_field("reason", &self.reason())?;
        keys.end()
    }
}

/// The sentence that a person may hear. `is_common` says of a word, in small letters, whether the
/// pack's captions write it so; see [`lowered`].
pub fn spoken(
    verdict: Verdict,
    caption: &str,
    phrases: &Phrases,
    is_common: &dyn Fn(&str) -> bool,
) -> String {
    match verdict {
        Verdict::Sure => caption.to_owned(),
        Verdict::Hedged if phrases.hedged.starts_with(CAPTION) => {
            phrases.hedged.replacen(CAPTION, caption, 1)
        }
        Verdict::Hedged => phrases
            .hedged
            .replacen(CAPTION, &lowered(caption, is_common), 1),
        Verdict::Unsure(reason) => match reason {
            Reason::Dark => &phrases.dark,
            Reason::BlownOut => &phrases.blown_out,
            Reason::Blurred => &phrases.blurred,
            Reason::Covered => &phrases.covered,
            Reason::Unfamiliar | Reason::BelowMinimum => &phrases.unfamiliar,
        }
        .clone(),
    }
}

/// The caption with a small first letter, for the middle of a sentence; as it is when its first word
/// is written with a capital anywhere: an acronym or a mixed word (TV, iPhone), or a word that
/// `is_common` doesn't know in small letters (a name, or a noun of a German pack).
pub fn lowered(caption: &str, is_common: &dyn Fn(&str) -> bool) -> String {
    let mut letters = caption.chars();
    let Some(first) = letters.next() else {
        return String::new();
    };
    let word: String = caption
        .chars()
        .take_while(|c| c.is_alphanumeric())
        .collect();
    let small: String = word.to_lowercase();
    let only_the_first = word.chars().skip(1).all(|c| !c.is_uppercase());
    if !first.is_uppercase() || !only_the_first || !is_common(&small) {
        return caption.to_owned();
    }
    first.to_lowercase().chain(letters).collect()
}

/// So many captions are searched for a word: enough to meet every common one, few enough for a
/// datastore of a million.
const SEARCHED: usize = 50_000;

/// Whether a datastore's captions have a word as it's written here. The first caption that has it
/// ends the search, so that only rare words cost more than a look.
pub fn is_written(store: &Datastore, word: &str) -> bool {
    let captions = store.captions().take(SEARCHED);
    captions
        .filter(|caption| caption.contains(word))
        .any(|caption| {
            caption
                .split(|c: char| !c.is_alphanumeric())
                .any(|w| w == word)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: FrameQuality = FrameQuality {
        brightness: 0.45,
        contrast: 0.2,
        highlights: 0.8,
        clipped_dark: 0.01,
        clipped_bright: 0.0,
        sharpness: 1.4,
        detail: 0.7,
    };

    #[test]
    fn the_thresholds_part_the_verdicts() {
        let thresholds = Thresholds::new(Some(0.9), Some(0.5)).unwrap();
        let unfamiliar = Verdict::Unsure(Reason::Unfamiliar);
        for (confidence, verdict) in [
            (1.0, Verdict::Sure),
            (0.9, Verdict::Sure),
            (0.89, Verdict::Hedged),
            (0.5, Verdict::Hedged),
            (0.49, unfamiliar),
            (0.0, unfamiliar),
            (f32::NAN, unfamiliar),
        ] {
            assert_eq!(
                thresholds.verdict(&GOOD, confidence),
                verdict,
                "{confidence}"
            );
        }
        // A bad frame is named as what it is, however sure the model is of it.
        let flawed = [
            (
                FrameQuality {
                    highlights: 0.01,
                    ..GOOD
                },
                Reason::Dark,
            ),
            (
                FrameQuality {
                    clipped_bright: 0.9,
                    ..GOOD
                },
                Reason::BlownOut,
            ),
            (
                FrameQuality {
                    sharpness: 0.1,
                    ..GOOD
                },
                Reason::Blurred,
            ),
            (
                FrameQuality {
                    detail: 0.01,
                    ..GOOD
                },
                Reason::Covered,
            ),
        ];
        for (quality, reason) in flawed {
            for confidence in [0.0, 0.6, 1.0] {
                let found = thresholds.verdict(&quality, confidence);
                assert_eq!(found, Verdict::Unsure(reason));
                assert_eq!(found.reason().map(Reason::name), Some(reason.name()));
            }
        }
    }

    #[test]
    fn thresholds_that_make_no_sense_are_refused() {
        assert_eq!(Thresholds::new(None, None), Ok(Thresholds::default()));
        for bad in [-0.1, 1.1, f32::NAN] {
            assert_eq!(
                Thresholds::new(Some(bad), None).unwrap_err().key(),
                "hedge_below"
            );
            assert_eq!(
                Thresholds::new(None, Some(bad)).unwrap_err().key(),
                "withhold_below"
            );
        }
        let order = Thresholds::new(Some(0.3), Some(0.6)).unwrap_err();
        assert_eq!(order.key(), "withhold_below");
        // One alone is never out of order with a default.
        let low = Thresholds::new(Some(0.1), None).unwrap();
        assert_eq!((low.hedge_below, low.withhold_below), (0.1, 0.1));
        let high = Thresholds::new(None, Some(0.95)).unwrap();
        assert_eq!((high.hedge_below, high.withhold_below), (0.95, 0.95));
    }

    #[test]
    fn in_json_a_verdict_is_two_keys() {
        let json = |verdict| serde_json::to_value::<Verdict>(verdict).unwrap();
        assert_eq!(
            json(Verdict::Hedged),
            serde_json::json!({"verdict": "hedged", "reason": null})
        );
        assert_eq!(
            json(Verdict::Unsure(Reason::BlownOut)),
            serde_json::json!({"verdict": "unsure", "reason": "blown-out"})
        );
        for reason in [Reason::Dark, Reason::BlownOut, Reason::Unfamiliar] {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.name());
        }
    }

    #[test]
    fn the_sentence_fits_the_verdict() {
        let phrases = Phrases::default();
        let say = |verdict| spoken(verdict, "A cup on a table", &phrases, &|_| true);
        assert_eq!(say(Verdict::Sure), "A cup on a table");
        assert_eq!(say(Verdict::Hedged), "perhaps a cup on a table");
        let sentences = [
            (Reason::Dark, &phrases.dark),
            (Reason::BlownOut, &phrases.blown_out),
            (Reason::Blurred, &phrases.blurred),
            (Reason::Covered, &phrases.covered),
            (Reason::Unfamiliar, &phrases.unfamiliar),
        ];
        for (reason, sentence) in sentences {
            assert_eq!(say(Verdict::Unsure(reason)), *sentence);
        }
        let behind = Phrases {
            hedged: "{caption}, perhaps".into(),
            ..phrases
        };
        assert_eq!(
            spoken(Verdict::Hedged, "A cup", &behind, &|_| true),
            "A cup, perhaps"
        );
    }

    #[test]
    fn the_first_letter_is_lowered_unless_its_word_wants_it() {
        let rows: [(&str, &[f32]); 3] = [
            ("A TV beside a Christmas tree", &[1.0]),
            ("Two men on a station's platform", &[1.0]),
            ("The stations of an old railway line", &[1.0]),
        ];
        let store = Datastore::build(rows, 1, "t").unwrap();
        let lowered = |caption| lowered(caption, &|word| is_written(&store, word));
        for (caption, expected) in [
            ("A dog", "a dog"),
            ("Old men", "old men"),
            ("Men, three of them", "men, three of them"),
            // Never seen in small letters, or not alone.
            ("Christmas lights", "Christmas lights"),
            ("Rail", "Rail"),
            ("Stat", "Stat"),
            // Acronyms and the like.
            ("TV on a wall", "TV on a wall"),
            ("McA", "McA"),
            // Nothing to lower.
            ("a dog", "a dog"),
            ("7 dogs", "7 dogs"),
            ("", ""),
            ("\u{1f415}", "\u{1f415}"),
        ] {
            assert_eq!(lowered(caption), expected);
        }
    }
}
