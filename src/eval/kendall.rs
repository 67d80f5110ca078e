//! Kendall's rank correlation, tau-b and tau-c, in O(n log n).
//!
//! Pairs are gone through in the order of the first value, with a Fenwick tree (1994) over the ranks of
//! the second; what stands in the tree below and above a pair's rank are its concordant and discordant
//! pairs. Ranks don't change when rows are drawn again, so the bootstrap orders them once and counts
//! with weights ([`Ranked`]).

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
    Ranked::new(x, y)?.tau()
}

/// Pairs put in order, ready to count tau with any weights.
#[derive(Debug, Clone)]
pub struct Ranked {
    /// Rows in the order of x.
    rows: Vec<u32>,
    /// Rank of each place's y among the distinct ones, from 0.
    ranks: Vec<u32>,
    /// Places behind the runs of equal x.
    ends: Vec<u32>,
    /// Distinct values of y.
    levels: usize,
}

impl Ranked {
    /// Orders pairs. `None` when the lengths differ, a value is not a number, or there are more than
    /// u32::MAX.
    pub fn new(x: &[f64], y: &[f64]) -> Option<Self> {
        let count = u32::try_from(x.len()).ok()?;
        if y.len() != x.len() || x.iter().chain(y).any(|v| v.is_nan()) {
            return None;
        }
        let mut rows: Vec<u32> = (0..count).collect();
        let mut rank_of = vec![0; x.len()];
        let mut levels = 0;
        rows.sort_unstable_by(|a, b| y[*a as usize].total_cmp(&y[*b as usize]));
        // Runs are of equal numbers, so that 0 and -0, which total_cmp tells apart, are one value.
        for run in rows.chunk_by(|a, b| y[*a as usize] == y[*b as usize]) {
            for row in run {
                rank_of[*row as usize] = levels;
            }
            levels += 1;
        }
        rows.sort_unstable_by(|a, b| x[*a as usize].total_cmp(&x[*b as usize]));
        let mut end = 0;
        let ends = rows
            .chunk_by(|a, b| x[*a as usize] == x[*b as usize])
            .map(|run| {
                end += run.len() as u32;
                end
            })
            .collect();
        Some(Self {
            ranks: rows.iter().map(|row| rank_of[*row as usize]).collect(),
            rows,
            ends,
            levels: levels as usize,
        })
    }

    /// Tau of all pairs, each once. `None` for fewer than two, or when one side is constant.
    pub fn tau(&self) -> Option<Tau> {
        self.count(|_| 1)
    }

    /// Tau with each pair as often as `weights` says, which has a number for each row. `None` as
    /// [`Ranked::tau`], of what has a weight.
    pub fn weighted(&self, weights: &[u32]) -> Option<Tau> {
        self.count(|row| weights.get(row).copied().unwrap_or(0))
    }

    fn count(&self, weight: impl Fn(usize) -> u32) -> Option<Tau> {
        let mut below = Fenwick::new(self.levels);
        let (mut balance, mut ties_x, mut distinct_x) = (0i64, 0u64, 0u64);
        let mut start = 0;
        for end in &self.ends {
            let run = start..*end as usize;
            let mut together = 0;
            for place in run.clone() {
                let weight = u64::from(weight(self.rows[place] as usize));
                if weight > 0 {
                    let rank = self.ranks[place] as usize;
                    let less = below.sum(rank);
                    let more = below.all - below.sum(rank + 1);
                    balance += (weight * less) as i64 - (weight * more) as i64;
                    together += weight;
                }
            }
            for place in run {
                let weight = u64::from(weight(self.rows[place] as usize));
                below.add(self.ranks[place] as usize, weight);
            }
            ties_x += tied(together);
            distinct_x += u64::from(together > 0);
            start = *end as usize;
        }
        let (n, all) = (below.all, tied(below.all));
        let (mut ties_y, mut distinct_y) = (0, 0);
        for level in 0..self.levels {
            let together = below.sum(level + 1) - below.sum(level);
            ties_y += tied(together);
            distinct_y += u64::from(together > 0);
        }
        if ties_x == all || ties_y == all {
            return None;
        }
        let balance = balance as f64;
        let m = distinct_x.min(distinct_y) as f64;
        let b = balance / ((all - ties_x) as f64).sqrt() / ((all - ties_y) as f64).sqrt();
        let c = 2.0 * balance / ((n as f64).powi(2) * (m - 1.0) / m);
        // Rounding must not carry a perfect order past one.
        Some(Tau {
            b: b.clamp(-1.0, 1.0),
            c: c.clamp(-1.0, 1.0),
        })
    }
}

/// Pairs among so many that are equal.
fn tied(count: u64) -> u64 {
    count * count.saturating_sub(1) / 2
}

/// Sums over the first so many ranks, and additions at one rank, both in O(log ranks).
struct Fenwick {
    tree: Vec<u64>,
    all: u64,
}

impl Fenwick {
    fn new(ranks: usize) -> Self {
        Self {
            tree: vec![0; ranks + 1],
            all: 0,
        }
    }

    fn add(&mut self, rank: usize, weight: u64) {
        self.all += weight;
        let mut at = rank + 1;
        while let Some(node) = self.tree.get_mut(at) {
            *node += weight;
            at += at & at.wrapping_neg();
        }
    }

    /// Of all ranks below `rank`.
    fn sum(&self, rank: usize) -> u64 {
        let (mut at, mut sum) = (rank, 0);
        while at > 0 {
            sum += self.tree[at];
            at &= at - 1;
        }
        sum
    }
}

#[cfg(test)]
pub(crate) mod tests {
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

    fn assert_close(found: Tau, expected: Tau) {
        assert!(
            (found.b - expected.b).abs() < 1e-12 && (found.c - expected.c).abs() < 1e-12,
            "found {found:?}, expected {expected:?}"
        );
    }

    /// Numbers of a linear congruential generator (Knuth's MMIX), below a bound.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % bound
        }
    }

    /// `count` related pairs with at most so many distinct values.
    pub(crate) fn pairs(count: usize, of_x: u64, of_y: u64, seed: u64) -> (Vec<f64>, Vec<f64>) {
        let mut numbers = Numbers(seed);
        (0..count)
            .map(|_| {
                let x = numbers.below(of_x);
                (x as f64, (x * of_y / of_x + numbers.below(of_y)) as f64)
            })
            .unzip()
    }

    /// The expected values are scipy 1.17.1's (`scipy.stats.kendalltau`, variants "b" and "c").
    #[test]
    fn equals_scipy() {
        #[rustfmt::skip]
        let cases = [
            (pairs(12, 5, 3, 1), 0.6363636363636364, 0.6076388888888888),
            (pairs(500, 40, 4, 2), 0.5211167343041808, 0.5460933333333333),
            (pairs(3000, 100_000, 4, 3), 0.5035290537613086, 0.5325955185185185),
            (pairs(20_000, 7, 1000, 4), 0.5336958842408281, 0.5762250608333334),
        ];
        for ((x, y), b, c) in cases {
            assert_close(kendall(&x, &y).unwrap(), Tau { b, c });
        }
    }

    #[test]
    fn equals_the_definition_with_many_ties() {
        for (seed, (count, levels)) in [(7, 3), (20, 4), (60, 4), (200, 50)].iter().enumerate() {
            let (x, y) = pairs(*count, *levels, 3, seed as u64);
            assert_close(kendall(&x, &y).unwrap(), slow(&x, &y));
        }
        // Signed zeros are one number.
        let (x, y) = ([0.0, -0.0, 1.0, 2.0], [1.0, 2.0, -0.0, 0.0]);
        assert_close(kendall(&x, &y).unwrap(), slow(&x, &y));
    }

    #[test]
    fn a_weight_is_so_many_copies() {
        let (x, y) = pairs(50, 9, 4, 5);
        let mut numbers = Numbers(6);
        let weights: Vec<u32> = (0..50).map(|_| numbers.below(4) as u32).collect();
        let copies = |values: &[f64]| -> Vec<f64> {
            let each = values.iter().zip(&weights);
            each.flat_map(|(v, n)| std::iter::repeat_n(*v, *n as usize))
                .collect()
        };
        let ranked = Ranked::new(&x, &y).unwrap();
        assert_close(
            ranked.weighted(&weights).unwrap(),
            kendall(&copies(&x), &copies(&y)).unwrap(),
        );
        assert_eq!(ranked.weighted(&[1; 50]), ranked.tau());
        // Nothing, one pair, and two equal ones have no order.
        let first = |n: u32| ranked.weighted(&[n]);
        assert_eq!((first(0), first(1), first(2)), (None, None, None));
    }

    #[test]
    fn perfect_reversed_and_undefined() {
        let up = [1.0, 2.0, 3.0];
        for (y, expected) in [(up, 1.0), ([3.0, 2.0, 1.0], -1.0)] {
            let (b, c) = (expected, expected);
            assert_close(kendall(&up, &y).unwrap(), Tau { b, c });
        }
        assert_eq!(kendall(&up, &[1.0; 3]), None);
        assert_eq!(kendall(&up, &[1.0, 2.0]), None);
        assert_eq!(kendall(&[1.0, f64::NAN], &[1.0, 2.0]), None);
        assert_eq!(kendall(&[], &[]), None);
    }
}
