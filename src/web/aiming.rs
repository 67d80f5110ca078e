//! What to do with the camera, in words: for whoever stands on the ladder and can't see the screen,
//! and for a screen reader.

use serde::Serialize;

use crate::frame::{
    Flaw, FrameQuality, LEAST_HIGHLIGHTS, LEAST_LIGHT, LEAST_SHARPNESS, MOST_CLIPPED_BRIGHT,
};

/// So many times a limit is still near it: the next cloud or a warmer lens, and captions cease.
const NEAR: f32 = 1.3;

/// How it stands with one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Grade {
    /// Leave it.
    Good,
    /// Captions are made, but it's near the limit.
    Fair,
    /// No caption is made of such a picture.
    Bad,
}

/// One thing, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Judged {
    pub(super) grade: Grade,
    /// What it's like.
    pub(super) word: &'static str,
    /// What to do; empty if nothing.
    pub(super) advice: &'static str,
}

const fn judged(grade: Grade, word: &'static str, advice: &'static str) -> Judged {
    Judged {
        grade,
        word,
        advice,
    }
}

/// Both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Aiming {
    pub(super) light: Judged,
    pub(super) sharpness: Judged,
}

impl Aiming {
    /// Of a frame; bad is what [`FrameQuality::flaw`] says, so the page and the captions agree.
    pub(super) fn of(quality: &FrameQuality) -> Self {
        let flaw = quality.flaw();
        Self {
            light: light(quality, flaw),
            sharpness: sharpness(quality, flaw),
        }
    }
}

fn light(quality: &FrameQuality, flaw: Option<Flaw>) -> Judged {
    match flaw {
        Some(Flaw::BlownOut) => judged(
            Grade::Bad,
            "blown out",
            "Turn the camera away from the light, or shade it.",
        ),
        Some(Flaw::Dark) => judged(Grade::Bad, "too dark", "Add light."),
        _ if quality.clipped_bright * NEAR > MOST_CLIPPED_BRIGHT => judged(
            Grade::Fair,
            "very bright",
            "Nearly half of the picture is white; turn the camera away from the light.",
        ),
        _ if quality.highlights < LEAST_HIGHLIGHTS * NEAR => judged(
            Grade::Fair,
            "dim",
            "A little darker, and captions cease; add light.",
        ),
        _ => judged(Grade::Good, "good", ""),
    }
}

fn sharpness(quality: &FrameQuality, flaw: Option<Flaw>) -> Judged {
    match flaw {
        // In noise everything looks sharp, in white nothing is there.
        Some(Flaw::BlownOut) => judged(Grade::Bad, "unknown", "First the light."),
        Some(Flaw::Dark) if quality.highlights < LEAST_LIGHT => {
            judged(Grade::Bad, "unknown", "First the light.")
        }
        Some(Flaw::Covered) => judged(
            Grade::Bad,
            "nothing to see",
            "Uncover the lens, or aim at something other than a plain wall.",
        ),
        _ if quality.sharpness < LEAST_SHARPNESS => judged(
            Grade::Bad,
            "blurred",
            "Focus or wipe the lens, and keep the camera still.",
        ),
        _ if quality.sharpness < LEAST_SHARPNESS * NEAR => judged(
            Grade::Fair,
            "soft",
            "Focus a little more; blurred pictures get no caption.",
        ),
        _ => judged(Grade::Good, "sharp", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: FrameQuality = FrameQuality {
        brightness: 0.5,
        contrast: 0.2,
        highlights: 0.9,
        clipped_dark: 0.0,
        clipped_bright: 0.0,
        sharpness: 1.4,
        detail: 0.5,
    };

    fn grades(quality: FrameQuality) -> (Grade, Grade) {
        let aiming = Aiming::of(&quality);
        for judged in [aiming.light, aiming.sharpness] {
            // Whoever is told of a fault is told what to do, too.
            assert_eq!(judged.advice.is_empty(), judged.grade == Grade::Good);
        }
        (aiming.light.grade, aiming.sharpness.grade)
    }

    #[test]
    fn it_is_bad_exactly_where_no_caption_is_made() {
        assert_eq!(grades(GOOD), (Grade::Good, Grade::Good));
        let steps = |most: f32| (0..=20).map(move |step| most * step as f32 / 20.0);
        for highlights in steps(1.0) {
            for clipped_bright in steps(1.0) {
                for (sharpness, detail) in steps(2.0).zip(steps(0.5)) {
                    let quality = FrameQuality {
                        highlights,
                        clipped_bright,
                        sharpness,
                        detail,
                        ..GOOD
                    };
                    let (light, sharp) = grades(quality);
                    let bad = light == Grade::Bad || sharp == Grade::Bad;
                    assert_eq!(bad, quality.flaw().is_some(), "{quality:?}");
                }
            }
        }
    }

    #[test]
    fn near_the_limit_it_is_fair() {
        let with = |change: fn(&mut FrameQuality)| {
            let mut quality = GOOD;
            change(&mut quality);
            grades(quality)
        };
        let soft = with(|quality| quality.sharpness = LEAST_SHARPNESS * 1.1);
        assert_eq!(soft, (Grade::Good, Grade::Fair));
        let dim = with(|quality| quality.highlights = LEAST_HIGHLIGHTS * 1.1);
        assert_eq!(dim, (Grade::Fair, Grade::Good));
        let bright = with(|quality| quality.clipped_bright = MOST_CLIPPED_BRIGHT * 0.9);
        assert_eq!(bright, (Grade::Fair, Grade::Good));
    }
}
