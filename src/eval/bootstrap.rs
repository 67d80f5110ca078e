//! How far a value would move with another draw of images: the percentile bootstrap (Efron 1979), and
//! the paired bootstrap of two systems (Koehn 2004).
//!
//! Images are drawn with replacement and everything is computed again from what belongs to them: BLEU
//! from the summed counts, other metrics as means of the images' own scores, correlations with people
//! from the drawn images' judgements. CIDEr-D's document frequencies are thus those of the whole set in
//! each draw, as if they were known; that the frequencies would change with the images as well is not
//! part of the interval.

use serde::Serialize;

/// Draws of a bootstrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draws {
    /// How many.
    pub count: usize,
    /// Seed of the random numbers: the same one draws the same images.
    pub seed: u64,
}

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

/// Values of some statistics for a draw of images, given by their places; `None` for what is undefined.
pub type Statistics<'a> = &'a dyn Fn(&[usize]) -> Vec<Option<f64>>;

/// 95 % interval of each of `statistics` over draws of as many images as there are. `None` where the
/// statistic is undefined for all images together, or in every draw; draws without a value are left out.
pub fn intervals(images: usize, draws: Draws, statistics: Statistics<'_>) -> Vec<Option<[f64; 2]>> {
    let whole = statistics(&Vec::from_iter(0..images));
    let mut columns = vec![Vec::with_capacity(draws.count); whole.len()];
    each_draw(images, draws, |chosen| {
        for (column, value) in columns.iter_mut().zip(statistics(chosen)) {
            column.extend(value);
        }
    });
    let defined = columns.into_iter().zip(whole);
    defined
        .map(|(column, whole)| whole.and_then(|_| middle(column)))
        .collect()
}

/// Compares two systems on the same draws of images, statistic by statistic. `None` where one of them
/// is undefined.
pub fn compare(
    images: usize,
    draws: Draws,
    first: Statistics<'_>,
    second: Statistics<'_>,
) -> Vec<Option<Difference>> {
    let less = |chosen: &[usize]| -> Vec<Option<f64>> {
        let pairs = first(chosen).into_iter().zip(second(chosen));
        pairs.map(|(a, b)| Some(a? - b?)).collect()
    };
    let whole = less(&Vec::from_iter(0..images));
    let mut columns = vec![Vec::with_capacity(draws.count); whole.len()];
    each_draw(images, draws, |chosen| {
        for (column, value) in columns.iter_mut().zip(less(chosen)) {
            column.extend(value);
        }
    });
    let compared = columns.into_iter().zip(whole);
    compared
        .map(|(column, whole)| {
            let below = column.iter().filter(|d| **d <= 0.0).count();
            let above = column.iter().filter(|d| **d >= 0.0).count();
            let p = 2.0 * (below.min(above) + 1) as f64 / (column.len() + 1) as f64;
            Some(Difference {
                difference: whole?,
                interval: middle(column)?,
                p: p.min(1.0),
            })
        })
        .collect()
}

fn each_draw(images: usize, draws: Draws, mut each: impl FnMut(&[usize])) {
    let mut random = fastrand::Rng::with_seed(draws.seed);
    let mut chosen = vec![0; images];
    for _ in 0..draws.count {
        chosen.fill_with(|| random.usize(..images));
        each(&chosen);
    }
}

/// The 2.5th and the 97.5th percentile, between the two nearest values.
fn middle(mut values: Vec<f64>) -> Option<[f64; 2]> {
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    Some([0.025, 0.975].map(|share| {
        let at = share * last as f64;
        let value = |i: f64| values[(i as usize).min(last)];
        value(at.floor()) + (at - at.floor()) * (value(at.ceil()) - value(at.floor()))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: Draws = Draws {
        count: 400,
        seed: 7,
    };

    fn mean_of(values: &[f64]) -> impl Fn(&[usize]) -> Vec<Option<f64>> {
        move |chosen| {
            let sum: f64 = chosen.iter().map(|i| values[*i]).sum();
            vec![Some(sum / chosen.len() as f64), None]
        }
    }

    #[test]
    fn intervals_hold_the_value_and_repeat() {
        let values: Vec<f64> = (0..100).map(f64::from).collect();
        let found = intervals(100, DRAWS, &mean_of(&values));
        assert_eq!(found, intervals(100, DRAWS, &mean_of(&values)));
        let [low, high] = found[0].unwrap();
        // The mean of 0 to 99 is 49.5, its standard error 2.9.
        assert!(
            (low - 43.8).abs() < 1.0 && (high - 55.2).abs() < 1.0,
            "{low} {high}"
        );
        assert_eq!(found[1], None);
    }

    #[test]
    fn undefined_draws_are_left_out() {
        // This statistic is undefined in draws without the first image.
        let first = |chosen: &[usize]| vec![chosen.contains(&0).then_some(1.0)];
        assert_eq!(intervals(3, DRAWS, &first), [Some([1.0, 1.0])]);
        assert_eq!(intervals(0, DRAWS, &|_| vec![None]), [None]);
    }

    #[test]
    fn a_system_against_itself_and_against_a_worse_one() {
        let good = mean_of(&[0.9, 0.8, 0.95, 0.7]);
        let bad = mean_of(&[0.1, 0.2, 0.3, 0.1]);
        let same = compare(4, DRAWS, &good, &good);
        let found = same[0].unwrap();
        assert_eq!((found.difference, found.p), (0.0, 1.0));
        assert_eq!(same[1], None);
        let worse = compare(4, DRAWS, &good, &bad)[0].unwrap();
        assert!((worse.difference - 0.6625).abs() < 1e-12);
        assert!(worse.interval[0] > 0.0 && worse.p < 0.01, "{worse:?}");
    }
}
