//! How far a value would move with another draw of images: the percentile bootstrap (Efron 1979), and
//! the paired bootstrap of two systems (Koehn 2004).
//!
//! Images are drawn with replacement and their scores put together again: BLEU from the summed counts,
//! ROUGE-L and CIDEr-D as means of the images' own scores. CIDEr-D's document frequencies are thus
//! those of the whole set in each draw, as if they were known; that the frequencies would change with
//! the images as well is not part of the interval.

use serde::Serialize;

use super::{ImageScore, NAMES, Values, corpus};

/// A difference between two systems.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    /// First system's value less the second's.
    pub difference: f64,
    /// 95 % interval of the difference.
    pub interval: [f64; 2],
    /// Two-sided: twice the share of draws in which the difference is not on the side that it is on,
    /// the draw at hand counted with them, so never below 2 / (draws + 1).
    pub p: f64,
}

/// 95 % intervals of a corpus's values, in the order of [`NAMES`].
pub fn intervals(scores: &[ImageScore], draws: usize, seed: u64) -> [[f64; 2]; NAMES.len()] {
    let mut columns: [Vec<f64>; NAMES.len()] = Default::default();
    draw(scores.len(), draws, seed, |chosen| {
        let values = corpus(chosen.iter().map(|i| &scores[*i]));
        push(&mut columns, values.array());
    });
    columns.map(middle)
}

/// Compares two systems on the same images, in the order of [`NAMES`].
pub fn compare(
    first: &[ImageScore],
    second: &[ImageScore],
    draws: usize,
    seed: u64,
) -> [Difference; NAMES.len()] {
    let less = |a: Values, b: Values| -> [f64; NAMES.len()] {
        let (a, b) = (a.array(), b.array());
        std::array::from_fn(|i| a[i] - b[i])
    };
    let differences = less(corpus(first), corpus(second));
    let mut columns: [Vec<f64>; NAMES.len()] = Default::default();
    draw(first.len().min(second.len()), draws, seed, |chosen| {
        let a = corpus(chosen.iter().map(|i| &first[*i]));
        let b = corpus(chosen.iter().map(|i| &second[*i]));
        push(&mut columns, less(a, b));
    });
    std::array::from_fn(|i| {
        let column = &columns[i];
        let below = column.iter().filter(|d| **d <= 0.0).count();
        let above = column.iter().filter(|d| **d >= 0.0).count();
        let p = 2.0 * (below.min(above) + 1) as f64 / (column.len() + 1) as f64;
        Difference {
            difference: differences[i],
            interval: middle(column.clone()),
            p: p.min(1.0),
        }
    })
}

fn draw(images: usize, draws: usize, seed: u64, mut each: impl FnMut(&[usize])) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut chosen = vec![0; images];
    for _ in 0..draws {
        chosen.fill_with(|| random.usize(..images));
        each(&chosen);
    }
}

fn push(columns: &mut [Vec<f64>; NAMES.len()], values: [f64; NAMES.len()]) {
    for (column, value) in columns.iter_mut().zip(values) {
        column.push(value);
    }
}

/// The 2.5th and the 97.5th percentile, between the two nearest values.
fn middle(mut values: Vec<f64>) -> [f64; 2] {
    values.sort_unstable_by(f64::total_cmp);
    [0.025, 0.975].map(|share| {
        let at = share * values.len().saturating_sub(1) as f64;
        let value = |i: f64| values.get(i as usize).copied().unwrap_or(f64::NAN);
        value(at.floor()) + (at - at.floor()) * (value(at.ceil()) - value(at.floor()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::captions::Scorer;

    fn scores(captions: &[&str]) -> Vec<ImageScore> {
        let references = [
            vec!["A grey cat sleeps on a chair."],
            vec!["Two boats lie in the harbour."],
            vec!["A child draws with chalk."],
        ];
        Scorer::new(&references).score(captions)
    }

    #[test]
    fn intervals_hold_the_value_and_repeat() {
        let found = scores(&["A cat on a chair", "Boats in the harbour", "A child"]);
        let first = intervals(&found, 200, 7);
        assert_eq!(first, intervals(&found, 200, 7));
        for ([low, high], value) in first.iter().zip(corpus(&found).array()) {
            assert!(low <= high && *low <= value + 1e-9 && value <= *high + 1e-9);
        }
    }

    #[test]
    fn a_system_against_itself_and_against_a_worse_one() {
        let good = scores(&[
            "A grey cat sleeps on a chair",
            "Two boats lie in the harbour",
            "A child draws with chalk",
        ]);
        let bad = scores(&["A bus", "A bus", "A bus"]);
        for same in compare(&good, &good, 100, 1) {
            assert_eq!((same.difference, same.p), (0.0, 1.0));
        }
        for worse in compare(&good, &bad, 199, 1) {
            assert!(worse.difference > 0.0 && worse.p <= 0.02, "{worse:?}");
        }
    }
}
