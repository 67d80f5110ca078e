//! Kendall's rank correlation, tau-b and tau-c, in O(n log n) (Knight 1966).

/// Both coefficients of one set of pairs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tau {
    /// tau-b: (C - D) / sqrt((n0 - ties x)(n0 - ties y)).
    pub b: f64,
    /// tau-c (Stuart 1953): 2 (C - D) / (n^2 (m - 1) / m), m the smaller number of distinct values.
    pub c: f64,
}

/// Kendall's tau of `x` and `y`. `None` when there are fewer than two pairs, the lengths differ, a
/// value is not a number, or one side is constant.
pub fn kendall(x: &[f64], y: &[f64]) -> Option<Tau> {
    let n = x.len();
    if n < 2 || y.len() != n || x.iter().chain(y).any(|v| v.is_nan()) {
        return None;
    }
    let mut pairs: Vec<(f64, f64)> = x.iter().copied().zip(y.iter().copied()).collect();
    pairs.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let tied = |count: u64| count * (count - 1) / 2;
    let (ties_x, distinct_x) = runs(&pairs, |a, b| a.0 == b.0, tied);
    let (ties_both, _) = runs(&pairs, |a, b| a == b, tied);
    let mut ys: Vec<f64> = pairs.iter().map(|p| p.1).collect();
    let discordant = inversions(&mut ys);
    let sorted: Vec<(f64, f64)> = ys.into_iter().map(|v| (v, 0.0)).collect();
    let (ties_y, distinct_y) = runs(&sorted, |a, b| a.0 == b.0, tied);
    let all = tied(n as u64);
    if ties_x == all || ties_y == all {
        return None;
    }
    // Concordant less discordant, from all pairs less the tied and twice the discordant.
    let balance =
        all as f64 - ties_x as f64 - ties_y as f64 + ties_both as f64 - 2.0 * discordant as f64;
    let m = distinct_x.min(distinct_y) as f64;
    Some(Tau {
        b: balance / ((all - ties_x) as f64).sqrt() / ((all - ties_y) as f64).sqrt(),
        c: 2.0 * balance / ((n as f64).powi(2) * (m - 1.0) / m),
    })
}

/// Sum of `weigh` over the lengths of runs of equal neighbours, and the number of runs.
fn runs(
    sorted: &[(f64, f64)],
    equal: impl Fn(&(f64, f64), &(f64, f64)) -> bool,
    weigh: impl Fn(u64) -> u64,
) -> (u64, u64) {
    sorted.chunk_by(equal).fold((0, 0), |(sum, count), run| {
        (sum + weigh(run.len() as u64), count + 1)
    })
}

/// Sorts and counts the pairs that stood in the wrong order (merge sort).
fn inversions(values: &mut [f64]) -> u64 {
    let n = values.len();
    if n < 2 {
        return 0;
    }
    let (left, right) = values.split_at_mut(n / 2);
    let mut count = inversions(left) + inversions(right);
    let mut merged = Vec::with_capacity(n);
    let (mut i, mut j) = (0, 0);
    while i < left.len() && j < right.len() {
        if left[i] <= right[j] {
            merged.push(left[i]);
            i += 1;
        } else {
            count += (left.len() - i) as u64;
            merged.push(right[j]);
            j += 1;
        }
    }
    merged.extend_from_slice(&left[i..]);
    merged.extend_from_slice(&right[j..]);
    values.copy_from_slice(&merged);
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, pair by pair.
    fn slow(x: &[f64], y: &[f64]) -> Tau {
        let (mut balance, mut free_x, mut free_y) = (0f64, 0f64, 0f64);
        for i in 0..x.len() {
            for j in 0..i {
                let sign = |a: f64, b: f64| if a == b { 0.0 } else { (a - b).signum() };
                let (sx, sy) = (sign(x[i], x[j]), sign(y[i], y[j]));
                balance += sx * sy;
                free_x += sx.abs();
                free_y += sy.abs();
            }
        }
        let distinct = |v: &[f64]| {
            let mut s = v.to_vec();
            s.sort_by(f64::total_cmp);
            s.dedup();
            s.len() as f64
        };
        let m = distinct(x).min(distinct(y));
        Tau {
            b: balance / (free_x * free_y).sqrt(),
            c: 2.0 * balance / ((x.len() as f64).powi(2) * (m - 1.0) / m),
        }
    }

    #[test]
    fn equals_the_definition_with_many_ties() {
        let mut state = 1u64;
        let mut next = |below: u64| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            ((state >> 33) % below) as f64
        };
        for (n, levels) in [(2, 9), (7, 3), (60, 4), (200, 50)] {
            let x: Vec<f64> = (0..n).map(|_| next(levels)).collect();
            let y: Vec<f64> = x.iter().map(|v| v + next(3)).collect();
            let Some(fast) = kendall(&x, &y) else {
                continue;
            };
            let expected = slow(&x, &y);
            assert!(
                (fast.b - expected.b).abs() < 1e-12 && (fast.c - expected.c).abs() < 1e-12,
                "{n}"
            );
        }
    }

    #[test]
    fn perfect_reversed_and_undefined() {
        let up = [1.0, 2.0, 3.0];
        for (y, expected) in [(up, 1.0), ([3.0, 2.0, 1.0], -1.0)] {
            let tau = kendall(&up, &y).unwrap();
            assert!((tau.b - expected).abs() < 1e-12 && (tau.c - expected).abs() < 1e-12);
        }
        assert_eq!(kendall(&up, &[1.0; 3]), None);
        assert_eq!(kendall(&up, &[1.0, 2.0]), None);
        assert_eq!(kendall(&[1.0, f64::NAN], &[1.0, 2.0]), None);
        assert_eq!(kendall(&[], &[]), None);
    }
}
