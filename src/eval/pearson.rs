//! Pearson's correlation.

/// Pearson's r of `x` and `y`, each pair as often as `weight` says of its row. `None` when the
/// lengths differ, a value is not finite, or one side is constant among what has a weight.
pub fn pearson(x: &[f64], y: &[f64], weight: impl Fn(usize) -> u32) -> Option<f64> {
    if x.len() != y.len() || x.iter().chain(y).any(|v| !v.is_finite()) {
        return None;
    }
    let counted = || {
        let pairs = x.iter().zip(y).enumerate();
        pairs.filter_map(|(row, (x, y))| {
            let weight = f64::from(weight(row));
            (weight > 0.0).then_some((weight, *x, *y))
        })
    };
    // A constant side is told by its values: rounding can leave it a variance.
    let (_, first_x, first_y) = counted().next()?;
    if counted().all(|(_, x, _)| x == first_x) || counted().all(|(_, _, y)| y == first_y) {
        return None;
    }
    let (mut all, mut sum_x, mut sum_y) = (0.0, 0.0, 0.0);
    for (weight, x, y) in counted() {
        all += weight;
        sum_x += weight * x;
        sum_y += weight * y;
    }
    let (mean_x, mean_y) = (sum_x / all, sum_y / all);
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (weight, x, y) in counted() {
        let (x, y) = (x - mean_x, y - mean_y);
        xx += weight * x * x;
        yy += weight * y * y;
        xy += weight * x * y;
    }
    let r = xy / xx.sqrt() / yy.sqrt();
    r.is_finite().then(|| r.clamp(-1.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::kendall::tests::pairs;

    /// The expected values are scipy 1.17.1's (`scipy.stats.pearsonr`).
    #[test]
    fn equals_scipy() {
        for ((x, y), expected) in [
            (pairs(12, 5, 3, 1), 0.7141684885491866),
            (pairs(3000, 100_000, 4, 3), 0.6720119934710392),
        ] {
            let found = pearson(&x, &y, |_| 1).unwrap();
            assert!((found - expected).abs() < 1e-12, "{found}, {expected}");
        }
    }

    #[test]
    fn weights_are_copies_and_constants_have_none() {
        let (x, y) = ([1.0, 2.0, 4.0, 9.0], [2.0, 1.0, 5.0, 0.0]);
        let weighted = pearson(&x, &y, |row| [2, 1, 3, 0][row]).unwrap();
        let copies = [1.0, 1.0, 2.0, 4.0, 4.0, 4.0];
        let expected = pearson(&copies, &[2.0, 2.0, 1.0, 5.0, 5.0, 5.0], |_| 1).unwrap();
        assert!((weighted - expected).abs() < 1e-12);
        assert_eq!(pearson(&x, &[0.1; 4], |_| 1), None);
        assert_eq!(pearson(&x, &y, |row| u32::from(row == 2)), None);
        assert_eq!(pearson(&x, &y, |_| 0), None);
        assert_eq!(pearson(&x, &[f64::NAN; 4], |_| 1), None);
    }
}
