//! Exact search by scanning every row.

use super::Datastore;

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

impl CentredRows {
    /// Prepares a datastore for a realignment's text mean, of the same dimension.
    pub fn new(store: Datastore, mean: &[f32]) -> Self {
        let inverse_lengths = (0..store.len())
            .map(|row| {
                let square: f32 = store
                    .embedding(row)
                    .iter()
                    .zip(mean)
                    .map(|(e, m)| (e - m) * (e - m))
                    .sum();
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
        let at_mean = dot(query, &self.mean);
        let mut hits: Vec<Hit> = (0..self.store.len())
            .map(|row| {
                let product = mixed_dot(query, self.store.codes(row)) * self.store.scales[row];
                Hit {
                    row,
                    score: (product - at_mean) * self.inverse_lengths[row],
                }
            })
            .collect();
        let order = |a: &Hit, b: &Hit| b.score.total_cmp(&a.score).then(a.row.cmp(&b.row));
        let count = count.min(hits.len());
        if count > 0 && count < hits.len() {
            hits.select_nth_unstable_by(count - 1, order);
        }
        hits.truncate(count);
        hits.sort_unstable_by(order);
        hits
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

fn mixed_dot(query: &[f32], codes: &[i8]) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0f32; LANES];
    let (a_blocks, b_blocks) = (query.chunks_exact(LANES), codes.chunks_exact(LANES));
    let rest: f32 = a_blocks
        .remainder()
        .iter()
        .zip(b_blocks.remainder())
        .map(|(x, &y)| x * f32::from(y))
        .sum();
    for (x, y) in a_blocks.zip(b_blocks) {
        for lane in 0..LANES {
            lanes[lane] += x[lane] * f32::from(y[lane]);
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
