//! Exact search by scanning every row.
//!
//! The scan runs in integers ([`super::kernel`]) and keeps a few times as many rows as are asked
//! for; their scores in floats then give the result, so scores and order are those of a scan in
//! floats.

use std::cmp::Ordering;

use ndarray::Array2;
use pulp::Arch;

use super::{
    Datastore,
    kernel::{self, IntegerQuery},
};

/// A row of the datastore with its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Row in the datastore.
    pub row: usize,
    /// Cosine between the query and the centred row.
    pub score: f32,
}

/// A datastore with what the cosine to CENTRED rows needs beside the codes.
///
/// cos(q, e - m) = (q.e - q.m) / |e - m| for a query of length one, so the rows can stay as they
/// are stored and survive a new realignment; only one number a row depends on the mean m.
pub struct CentredRows {
    store: Datastore,
    mean: Vec<f32>,
    /// 1 / |e - m| for each row; 0 for a row on the mean itself.
    inverse_lengths: Vec<f32>,
}

/// Rows that are scanned for all queries before the next ones are looked at: few enough to stay in
/// the first-level cache at 384 numbers a row, so that memory is read once for all queries.
const BLOCK: usize = 64;

/// The scan in integers keeps this many times the rows that are asked for; their scores in floats
/// then decide. The integers are off by less than 1e-4, so already twice would do.
const SPARE: usize = 4;

impl CentredRows {
    /// Prepares a datastore for a realignment's text mean, of the same dimension.
    pub fn new(store: Datastore, mean: &[f32]) -> Self {
        let inverse_lengths = (0..store.len())
            .map(|row| {
                let square = centred_square(store.codes(row), store.scale(row), mean);
                if square > 0.0 {
                    square.sqrt().recip()
                } else {
                    0.0
                }
            })
            .collect();
        Self {
            store,
            mean: mean.to_vec(),
            inverse_lengths,
        }
    }

    /// The captions.
    pub fn store(&self) -> &Datastore {
        &self.store
    }

    /// The `count` rows with the highest cosine to `query` (length one), best first; rows of equal
    /// score come in the order of the file, so a result can be repeated.
    pub fn nearest(&self, query: &[f32], count: usize) -> Vec<Hit> {
        self.nearest_many(&[query], count).pop().unwrap_or_default()
    }

    /// As [`CentredRows::nearest`] for several queries: each row is read once for all of them.
    pub fn nearest_many(&self, queries: &[impl AsRef<[f32]>], count: usize) -> Vec<Vec<Hit>> {
        let dimension = self.store.dimension();
        let integers: Vec<IntegerQuery> = queries
            .iter()
            .map(|query| IntegerQuery::new(query.as_ref(), dimension))
            .collect();
        let at_mean: Vec<f32> = queries
            .iter()
            .map(|query| dot(query.as_ref(), &self.mean))
            .collect();
        let kept = count.saturating_mul(SPARE).min(self.store.len());
        let mut best: Vec<Best> = queries.iter().map(|_| Best::new(kept)).collect();
        if kept > 0 {
            self.scan(&integers, &at_mean, &mut best);
        }
        let found = best.into_iter().zip(queries).zip(&at_mean);
        found
            .map(|((best, query), &at_mean)| {
                let mut hits = best.finish();
                for hit in &mut hits {
                    hit.score = self.score(query.as_ref(), at_mean, hit.row);
                }
                hits.sort_unstable_by(order);
                hits.truncate(count);
                hits
            })
            .collect()
    }

    /// Offers every row with its score in integers to the best of each query.
    fn scan(&self, queries: &[IntegerQuery], at_mean: &[f32], best: &mut [Best]) {
        let arch = Arch::new();
        let mut scales = [0f32; BLOCK];
        let mut sums = [0i32; BLOCK];
        for start in (0..self.store.len()).step_by(BLOCK) {
            let rows = start..(start + BLOCK).min(self.store.len());
            let codes = self.store.block(rows.clone());
            let stored = self.store.scales(rows.clone());
            stored.zip(&mut scales).for_each(|(from, to)| *to = from);
            let block = Block {
                start,
                scales: &scales[..rows.len()],
                inverse_lengths: &self.inverse_lengths[rows],
            };
            for ((query, &at_mean), best) in queries.iter().zip(at_mean).zip(best.iter_mut()) {
                kernel::products(arch, codes, query, &mut sums);
                block.offer(&sums, query.scale, at_mean, best);
            }
        }
    }

    /// Cosine between a query of length one and a centred row.
    fn score(&self, query: &[f32], at_mean: f32, row: usize) -> f32 {
        let product = mixed_dot(query, self.store.codes(row)) * self.store.scale(row);
        (product - at_mean) * self.inverse_lengths[row]
    }

    /// All centred embeddings, `[rows, dimension]`: four times the size of the codes and more.
    pub fn centred_matrix(&self) -> Array2<f32> {
        let mut matrix = Array2::zeros((self.store.len(), self.mean.len()));
        for (row, mut to) in matrix.outer_iter_mut().enumerate() {
            to.iter_mut()
                .zip(self.centred(row))
                .for_each(|(to, value)| *to = value);
        }
        matrix
    }

    /// The centred embedding of a row, scaled to length one.
    pub fn centred(&self, row: usize) -> Vec<f32> {
        let scale = self.inverse_lengths.get(row).copied().unwrap_or_default();
        self.store
            .embedding(row)
            .iter()
            .zip(&self.mean)
            .map(|(e, m)| (e - m) * scale)
            .collect()
    }
}

/// Better score first, then the order of the file.
fn order(a: &Hit, b: &Hit) -> Ordering {
    b.score.total_cmp(&a.score).then(a.row.cmp(&b.row))
}

/// What turns the sums of some rows into scores.
struct Block<'a> {
    /// The first row.
    start: usize,
    scales: &'a [f32],
    inverse_lengths: &'a [f32],
}

impl Block<'_> {
    /// Offers the rows to one query's best; `sums` has at least as many as there are rows.
    fn offer(&self, sums: &[i32], scale: f32, at_mean: f32, best: &mut Best) {
        let rows = sums
            .iter()
            .zip(self.scales.iter().zip(self.inverse_lengths));
        for (at, (&sum, (row_scale, inverse_length))) in rows.enumerate() {
            let product = sum as f32 * scale * row_scale;
            best.offer(Hit {
                row: self.start + at,
                score: (product - at_mean) * inverse_length,
            });
        }
    }
}

/// The best of the rows that were offered, in the order of the file.
struct Best {
    count: usize,
    /// At most twice `count`; the worse half is thrown away when it is full.
    hits: Vec<Hit>,
    /// Once there were `count`: what a row has to exceed. Equal is not enough, since it comes later.
    floor: Option<f32>,
}

impl Best {
    fn new(count: usize) -> Self {
        Self {
            count,
            hits: Vec::with_capacity(2 * count),
            floor: None,
        }
    }

    #[inline]
    fn offer(&mut self, hit: Hit) {
        if self.floor.is_none_or(|floor| hit.score > floor) {
            self.hits.push(hit);
            if self.hits.len() == 2 * self.count {
                self.keep_best();
            }
        }
    }

    fn keep_best(&mut self) {
        if self.count > 0 && self.hits.len() > self.count {
            self.hits.select_nth_unstable_by(self.count - 1, order);
            self.floor = Some(self.hits[self.count - 1].score);
        }
        self.hits.truncate(self.count);
    }

    fn finish(mut self) -> Vec<Hit> {
        self.keep_best();
        self.hits
    }
}

/// |scale * codes - mean|^2, in lanes as [`dot`].
fn centred_square(codes: &[u8], scale: f32, mean: &[f32]) -> f32 {
    const LANES: usize = 16;
    let square = |code: u8, mean: f32| {
        let difference = f32::from(code as i8) * scale - mean;
        difference * difference
    };
    let mut lanes = [0f32; LANES];
    let (a_blocks, b_blocks) = (codes.chunks_exact(LANES), mean.chunks_exact(LANES));
    let rest: f32 = a_blocks
        .remainder()
        .iter()
        .zip(b_blocks.remainder())
        .map(|(&code, &mean)| square(code, mean))
        .sum();
    for (codes, means) in a_blocks.zip(b_blocks) {
        for lane in 0..LANES {
            lanes[lane] += square(codes[lane], means[lane]);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// Dot product in sixteen lanes: the compiler turns them into vector instructions, which a single
/// running sum forbids because it would change the order of additions.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0f32; LANES];
    let (a_blocks, b_blocks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a_blocks
        .remainder()
        .iter()
        .zip(b_blocks.remainder())
        .map(|(x, y)| x * y)
        .sum();
    for (x, y) in a_blocks.zip(b_blocks) {
        for lane in 0..LANES {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// As [`dot`], of floats with codes.
fn mixed_dot(query: &[f32], codes: &[u8]) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0f32; LANES];
    let (a_blocks, b_blocks) = (query.chunks_exact(LANES), codes.chunks_exact(LANES));
    let rest: f32 = a_blocks
        .remainder()
        .iter()
        .zip(b_blocks.remainder())
        .map(|(x, &y)| x * f32::from(y as i8))
        .sum();
    for (x, y) in a_blocks.zip(b_blocks) {
        for lane in 0..LANES {
            lanes[lane] += x[lane] * f32::from(y[lane] as i8);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deterministic pseudo-random vectors of length one.
    fn vectors(count: usize, dimension: usize) -> Vec<Vec<f32>> {
        let mut state = 7u64;
        let mut next = || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        (0..count)
            .map(|_| {
                let mut v: Vec<f32> = (0..dimension).map(|_| next()).collect();
                crate::embedding::normalise(&mut v).unwrap();
                v
            })
            .collect()
    }

    #[test]
    fn finds_what_floats_would_find() {
        let (rows, mean) = (vectors(500, 37), vec![0.05f32; 37]);
        let captions: Vec<String> = (0..rows.len()).map(|i| i.to_string()).collect();
        let pairs = captions
            .iter()
            .map(String::as_str)
            .zip(rows.iter().map(Vec::as_slice));
        let centred = CentredRows::new(Datastore::build(pairs, 37, "t").unwrap(), &mean);
        let mut agreed = 0;
        for query in vectors(40, 37) {
            let exact = |row: &Vec<f32>| {
                let c: Vec<f32> = row.iter().zip(&mean).map(|(e, m)| e - m).collect();
                dot(&query, &c) / dot(&c, &c).sqrt()
            };
            let hits = centred.nearest(&query, 13);
            let mut scores: Vec<(usize, f32)> = rows.iter().map(exact).enumerate().collect();
            scores.sort_by(|a, b| b.1.total_cmp(&a.1));
            assert!((hits[0].score - exact(&rows[hits[0].row])).abs() < 0.01);
            assert!(hits.windows(2).all(|pair| pair[0].score >= pair[1].score));
            agreed += hits
                .iter()
                .filter(|h| scores[..13].iter().any(|s| s.0 == h.row))
                .count();
        }
        // Recall of the true 13 nearest. Random vectors lie far closer together than captions do.
        assert!(agreed as f32 / (40.0 * 13.0) > 0.95, "{agreed}");
    }

    /// What `nearest` gave before the scan ran in integers.
    fn by_floats(rows: &CentredRows, query: &[f32], count: usize) -> Vec<Hit> {
        let at_mean = dot(query, &rows.mean);
        let mut hits: Vec<Hit> = (0..rows.store.len())
            .map(|row| Hit {
                row,
                score: rows.score(query, at_mean, row),
            })
            .collect();
        hits.sort_by(order);
        hits.truncate(count);
        hits
    }

    #[test]
    fn rows_and_scores_are_those_of_a_scan_in_floats() {
        // More than a block, and not a multiple of one.
        let rows = vectors(3 * BLOCK + 17, 50);
        let pairs = rows.iter().map(|row| ("x", row.as_slice()));
        let store = Datastore::build(pairs, 50, "t").unwrap();
        let centred = CentredRows::new(store, &[0.02; 50]);
        let queries = vectors(11, 50);
        for count in [1, 13, 100, 1000] {
            let together = centred.nearest_many(&queries, count);
            for (query, hits) in queries.iter().zip(&together) {
                assert_eq!(*hits, by_floats(&centred, query, count));
                assert_eq!(*hits, centred.nearest(query, count));
            }
        }
        assert!(centred.nearest_many(&[] as &[Vec<f32>], 5).is_empty());
    }

    #[test]
    fn equal_rows_come_in_the_order_of_the_file() {
        let (a, b) = ([0.6f32, 0.8], [0.8f32, 0.6]);
        let rows = (0..500).map(|row| ("x", if row % 3 == 0 { &a[..] } else { &b[..] }));
        let centred = CentredRows::new(Datastore::build(rows, 2, "t").unwrap(), &[0.0, 0.1]);
        let found: Vec<usize> = centred.nearest(&a, 7).iter().map(|hit| hit.row).collect();
        assert_eq!(found, [0, 3, 6, 9, 12, 15, 18]);
    }

    #[test]
    fn a_query_of_another_length_or_without_numbers_does_not_panic() {
        let store = Datastore::build([("a", [1.0f32, 0.0].as_slice())], 2, "t").unwrap();
        let rows = CentredRows::new(store, &[0.0, 0.0]);
        for query in [&[][..], &[1.0; 9][..], &[f32::NAN, 0.0][..]] {
            assert_eq!(rows.nearest(query, 1).len(), 1);
        }
    }

    #[test]
    fn asks_for_more_than_there_is_and_for_nothing() {
        let row = [1.0f32, 0.0];
        let store = Datastore::build([("a", row.as_slice())], 2, "t").unwrap();
        let rows = CentredRows::new(store, &[0.0, 0.0]);
        assert_eq!(rows.nearest(&row, 10).len(), 1);
        assert!(rows.nearest(&row, 0).is_empty());
        let empty = CentredRows::new(Datastore::build([], 2, "t").unwrap(), &[0.0, 0.0]);
        assert!(empty.nearest(&row, 3).is_empty());
    }
}
