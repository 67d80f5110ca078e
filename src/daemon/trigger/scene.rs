//! Whether the scene has changed since the last caption.
//!
//! The newest picture is compared with the one that was captioned last, on a grid of mean
//! brightnesses ([`Small`]). Light that changes as a whole (a cloud, the camera's exposure) is
//! taken out first by matching mean and contrast. What is left is the share of cells that differ.
//!
//! Two limits keep it from chattering (hysteresis): a change begins above the upper one, and is
//! over without a caption if the share falls below the lower one (a bird has flown by). In
//! between the detector waits for the scene to settle, so that the caption is of the person who
//! has come in and not of the blur in the door; but not for longer than two seconds.

use std::time::Duration;

use super::small::Small;

/// So many levels of 255 a cell must differ by. Noise and JPEG leave less than 2 in a cell.
const CELL_DIFFERS: f32 = 12.0;

/// Exposure changes the contrast by less than this; more is another scene.
const MOST_GAIN: f32 = 1.5;

/// The lower limit, as a part of the upper one.
const LOWER: f32 = 0.5;

/// A scene that goes on moving (traffic, leaves) is captioned all the same after so long.
const SETTLE_WITHIN: Duration = Duration::from_secs(2);

/// Compares pictures with the captioned one.
#[derive(Debug)]
pub struct SceneDetector {
    /// Share of cells, in (0, 1].
    upper: f32,
    captioned: Option<Small>,
    /// Since when the share has been over the limit, and the picture at the last look.
    changing: Option<(Duration, Small)>,
}

impl SceneDetector {
    /// `upper`: the share of the picture that must have changed, in (0, 1].
    #[must_use]
    pub fn new(upper: f32) -> Self {
        Self {
            upper,
            captioned: None,
            changing: None,
        }
    }

    /// Looks at a picture at `now`: whether it's to be captioned.
    pub fn look(&mut self, picture: &Small, now: Duration) -> bool {
        let Some(captioned) = &self.captioned else {
            return true;
        };
        let share = changed_share(captioned, picture);
        match self.changing.take() {
            None => {
                if share >= self.upper {
                    self.changing = Some((now, picture.clone()));
                }
                false
            }
            Some(_) if share < self.upper * LOWER => false,
            Some((since, last)) => {
                let settled = changed_share(&last, picture) < self.upper * LOWER;
                let due = settled || now.saturating_sub(since) >= SETTLE_WITHIN;
                if !due {
                    self.changing = Some((since, picture.clone()));
                }
                due
            }
        }
    }

    /// This picture is being captioned, for whatever reason. `None`: nobody knows what it shows.
    pub fn captioned(&mut self, picture: Option<Small>) {
        self.captioned = picture;
        self.changing = None;
    }
}

/// The share of cells that differ, in [0, 1], once `new` has the mean and contrast of `old`.
#[must_use]
pub fn changed_share(old: &Small, new: &Small) -> f32 {
    let (old_mean, old_deviation) = statistics(old);
    let (new_mean, new_deviation) = statistics(new);
    // Without contrast in either (darkness, a lens cap) there's nothing to match.
    let gain = if old_deviation < 1.0 || new_deviation < 1.0 {
        1.0
    } else {
        (old_deviation / new_deviation).clamp(1.0 / MOST_GAIN, MOST_GAIN)
    };
    let different = old
        .0
        .iter()
        .zip(&new.0)
        .filter(|(old, new)| (**old - old_mean - (**new - new_mean) * gain).abs() >= CELL_DIFFERS)
        .count();
    different as f32 / old.0.len() as f32
}

fn statistics(small: &Small) -> (f32, f32) {
    let count = small.0.len() as f32;
    let mean = small.0.iter().sum::<f32>() / count;
    let variance = small.0.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / count;
    (mean, variance.sqrt())
}

#[cfg(test)]
mod tests {
    use super::super::small::{COLUMNS, ROWS};
    use super::*;

    const LOOK: Duration = Duration::from_millis(200);
    const NEVER: [usize; 0] = [];

    fn room() -> Small {
        Small(std::array::from_fn(|at| {
            60.0 + (at % COLUMNS * 5) as f32 + (at / COLUMNS * 3) as f32
        }))
    }

    /// The room with somebody `cells` wide in it, at a place.
    fn somebody(at: usize, cells: usize) -> Small {
        let mut small = room();
        for row in 4..ROWS {
            small.0[row * COLUMNS + at..][..cells].fill(20.0);
        }
        small
    }

    fn noisy(small: &Small, seed: u64) -> Small {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut small = small.clone();
        for cell in &mut small.0 {
            *cell += random.f32() * 4.0 - 2.0;
        }
        small
    }

    /// A detector that has captioned the empty room.
    fn detector() -> SceneDetector {
        let mut detector = SceneDetector::new(0.05);
        assert!(detector.look(&room(), Duration::ZERO), "the first is news");
        detector.captioned(Some(room()));
        detector
    }

    /// At which looks (from 1) it asks for captions, when each captioned picture is the new
    /// reference.
    fn captions(detector: &mut SceneDetector, pictures: &[Small]) -> Vec<usize> {
        let mut at = Vec::new();
        for (look, picture) in (1..).zip(pictures) {
            if detector.look(picture, LOOK * look as u32) {
                detector.captioned(Some(picture.clone()));
                at.push(look);
            }
        }
        at
    }

    #[test]
    fn noise_and_light_are_no_change() {
        let mut detector = detector();
        let pictures: Vec<_> = (0..500)
            .map(|look| {
                // Darker and flatter, as when a cloud comes and the exposure follows.
                let light = 1.0 - 0.3 * (look as f32 / 500.0);
                let mut picture = noisy(&room(), look);
                picture.0.iter_mut().for_each(|cell| *cell *= light);
                picture
            })
            .collect();
        assert_eq!(captions(&mut detector, &pictures), NEVER);
    }

    #[test]
    fn who_comes_in_is_captioned_once_and_after_having_stopped() {
        let mut pictures: Vec<_> = (0..5).map(|step| somebody(step * 4, 4)).collect();
        pictures.extend((0..50).map(|seed| noisy(&somebody(16, 4), seed)));
        // Walking at the looks 1 to 5, standing still from the sixth on.
        assert_eq!(captions(&mut detector(), &pictures), [6]);
    }

    #[test]
    fn what_flies_by_is_not_captioned() {
        let pictures = [
            room(),
            somebody(10, 4),
            room(),
            room(),
            somebody(3, 6),
            room(),
        ];
        assert_eq!(captions(&mut detector(), &pictures), NEVER);
    }

    #[test]
    fn around_the_limit_it_does_not_chatter() {
        // 14 cells in a column: 0.032 of the picture a cell of width; between the limits.
        let pictures: Vec<_> = (0..100)
            .map(|look| {
                if look % 2 == 0 {
                    somebody(8, 1)
                } else {
                    room()
                }
            })
            .collect();
        assert_eq!(captions(&mut detector(), &pictures), NEVER);
        // Over the limit once, then between the limits: one caption.
        let mut pictures = vec![somebody(8, 2)];
        pictures.extend((0..100).map(|_| somebody(8, 1)));
        assert_eq!(captions(&mut detector(), &pictures).len(), 1);
    }

    #[test]
    fn a_scene_that_never_settles_is_captioned_in_time() {
        let pictures: Vec<_> = (0..40).map(|look| somebody(look * 7 % 20, 4)).collect();
        let at = captions(&mut detector(), &pictures);
        assert_eq!(at[0], 11, "two seconds after the first change");
        assert!(at.len() >= 3, "{at:?}");
    }

    #[test]
    fn lights_off_is_a_change_and_darkness_is_still() {
        let dark = Small([3.0; COLUMNS * ROWS]);
        let pictures: Vec<_> = (0..20).map(|seed| noisy(&dark, seed)).collect();
        assert_eq!(captions(&mut detector(), &pictures), [2]);
    }
}
