//! Which captions a datastore takes: no repetition, none of a corpus that is measured on, none that
//! says what another says already.

use std::{collections::HashSet, fmt};

use ndarray::{Array2, ArrayView2, s};

use super::corpus::normalise;

/// Captions that are compared with all kept ones at once.
const BLOCK: usize = 256;

/// How many captions were dropped, and why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Dropped {
    /// Nothing but punctuation and white space.
    pub empty: usize,
    /// Said by an earlier caption, or by the datastore, up to case, punctuation and white space.
    pub repeated: usize,
    /// Stand in a corpus that is to be kept out.
    pub in_corpus: usize,
    /// Their embedding is too near to that of an earlier caption or of the datastore.
    pub near_duplicates: usize,
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "dropped {} empty, {} repeated, {} of --not-in, {} near duplicates",
            self.empty, self.repeated, self.in_corpus, self.near_duplicates
        )
    }
}

/// The filter that needs only the captions' text, which comes before they are embedded.
#[derive(Debug, Clone, Default)]
pub struct TextFilter {
    seen: HashSet<String>,
    kept_out: HashSet<String>,
}

impl TextFilter {
    /// Lets every caption pass once.
    pub fn new() -> Self {
        Self::default()
    }

    /// Captions that are there already.
    pub fn already_there<'a>(&mut self, captions: impl IntoIterator<Item = &'a str>) {
        self.seen.extend(captions.into_iter().map(normalise));
    }

    /// Captions that must not come in: those of the data that the pack is measured on.
    pub fn keep_out<'a>(&mut self, captions: impl IntoIterator<Item = &'a str>) {
        self.kept_out.extend(captions.into_iter().map(normalise));
    }

    /// The captions that pass, in order; what did not is counted in `dropped`.
    pub fn pass(&mut self, captions: Vec<String>, dropped: &mut Dropped) -> Vec<String> {
        let passes = |caption: &String| {
            let normal = normalise(caption);
            let reason = if normal.is_empty() {
                &mut dropped.empty
            } else if self.kept_out.contains(&normal) {
                &mut dropped.in_corpus
            } else if !self.seen.insert(normal) {
                &mut dropped.repeated
            } else {
                return true;
            };
            *reason += 1;
            false
        };
        captions.into_iter().filter(passes).collect()
    }
}

/// Centres embeddings on a mean and scales each to length one (all zeros for one on the mean
/// itself): a matrix `[embeddings, dimension]`. Numbers beyond the mean's length are left out.
pub fn centred(embeddings: &[impl AsRef<[f32]>], mean: &[f32]) -> Array2<f32> {
    let mut matrix = Array2::zeros((embeddings.len(), mean.len()));
    for (mut row, embedding) in matrix.outer_iter_mut().zip(embeddings) {
        let pairs = embedding.as_ref().iter().zip(mean);
        row.iter_mut()
            .zip(pairs)
            .for_each(|(to, (e, m))| *to = e - m);
        let length = row.dot(&row).sqrt();
        if length > 0.0 {
            row /= length;
        }
    }
    matrix
}

/// Mean of embeddings of `dimension` numbers; zeros when there is none.
pub fn mean(embeddings: &[impl AsRef<[f32]>], dimension: usize) -> Vec<f32> {
    let mut sum = vec![0f64; dimension];
    for embedding in embeddings {
        let pairs = sum.iter_mut().zip(embedding.as_ref());
        pairs.for_each(|(sum, value)| *sum += f64::from(*value));
    }
    let count = embeddings.len().max(1) as f64;
    sum.into_iter().map(|sum| (sum / count) as f32).collect()
}

/// For each candidate, in order, whether it is kept: its cosine to every row of `earlier` and to
/// every kept candidate before it is at most `limit`. Both matrices have rows of length one
/// ([`centred`]) and the same width. Exact; the time grows with the square of what is kept.
pub fn distinct(earlier: ArrayView2<f32>, candidates: ArrayView2<f32>, limit: f32) -> Vec<bool> {
    let mut keep = vec![true; candidates.nrows()];
    let mut kept: Array2<f32> = Array2::zeros((0, candidates.ncols()));
    for start in (0..candidates.nrows()).step_by(BLOCK) {
        let end = (start + BLOCK).min(candidates.nrows());
        let block = candidates.slice(s![start..end, ..]);
        let near = |rows: ArrayView2<f32>, keep: &mut [bool]| {
            // In parts, so that the products need no memory that grows with the rows.
            for first in (0..rows.nrows()).step_by(4 * BLOCK) {
                let last = (first + 4 * BLOCK).min(rows.nrows());
                let products = block.dot(&rows.slice(s![first..last, ..]).t());
                for (keep, products) in keep.iter_mut().zip(products.outer_iter()) {
                    *keep &= products.iter().all(|&cosine| cosine <= limit);
                }
            }
        };
        near(earlier, &mut keep[start..end]);
        near(kept.view(), &mut keep[start..end]);
        let within = block.dot(&block.t());
        for row in 0..block.nrows() {
            let is_near = |before: usize| keep[start + before] && within[[row, before]] > limit;
            if keep[start + row] && (0..row).any(is_near) {
                keep[start + row] = false;
            }
        }
        for row in (0..block.nrows()).filter(|row| keep[start + row]) {
            // Only fails for rows of another width.
            let _ = kept.push_row(block.row(row));
        }
    }
    keep
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_each_reason() {
        let mut filter = TextFilter::new();
        filter.already_there(["A dog runs."]);
        filter.keep_out(["Two cats ."]);
        let words = [
            "a dog runs",
            "two cats",
            "a bus",
            "A bus!",
            " . ",
            "Two cats sleep",
        ];
        let mut dropped = Dropped::default();
        let kept = filter.pass(words.map(String::from).to_vec(), &mut dropped);
        assert_eq!(kept, ["a bus", "Two cats sleep"]);
        let expected = Dropped {
            empty: 1,
            repeated: 2,
            in_corpus: 1,
            near_duplicates: 0,
        };
        assert_eq!(dropped, expected);
    }

    #[test]
    fn a_near_duplicate_is_measured_against_what_was_kept() {
        // Angles in degrees; cos 20 = 0.94, cos 10 = 0.985.
        let rows = |angles: &[f32]| -> Array2<f32> {
            let rows: Vec<[f32; 2]> = angles
                .iter()
                .map(|a| [a.to_radians().cos(), a.to_radians().sin()])
                .collect();
            centred(&rows, &[0.0, 0.0])
        };
        let earlier = rows(&[90.0]);
        // 10 is dropped for 0, so 20 is measured against 0 alone and stays; 95 is near the datastore.
        let keep = distinct(earlier.view(), rows(&[0.0, 10.0, 20.0, 95.0]).view(), 0.95);
        assert_eq!(keep, [true, false, true, false]);
    }

    #[test]
    fn blocks_change_nothing() {
        // Three full blocks and a rest on a circle, 0.7 degrees apart: every third one is kept at
        // cos 2 degrees, over and over the same circle.
        let angle = |i: usize| (i as f32 * 0.7).to_radians();
        let rows: Vec<[f32; 2]> = (0..3 * BLOCK + 40)
            .map(|i| [angle(i).cos(), angle(i).sin()])
            .collect();
        let rows = centred(&rows, &[0.0, 0.0]);
        let limit = 2f32.to_radians().cos();
        let mut expected: Vec<usize> = Vec::new();
        for i in 0..rows.nrows() {
            if expected
                .iter()
                .all(|&j| rows.row(i).dot(&rows.row(j)) <= limit)
            {
                expected.push(i);
            }
        }
        let keep = distinct(Array2::zeros((0, 2)).view(), rows.view(), limit);
        let kept: Vec<usize> = (0..keep.len()).filter(|&i| keep[i]).collect();
        assert_eq!(kept, expected);
        assert!(kept.len() > 100 && kept.len() < 200, "{}", kept.len());
    }

    #[test]
    fn centres_on_the_mean() {
        let rows = [[1.0f32, 2.0], [3.0, 2.0], [2.0, 2.0]];
        assert_eq!(mean(&rows, 2), [2.0, 2.0]);
        let centred = centred(&rows, &mean(&rows, 2));
        assert_eq!(centred.row(0).to_vec(), [-1.0, 0.0]);
        assert_eq!(centred.row(2).to_vec(), [0.0, 0.0]);
        assert_eq!(mean(&[] as &[[f32; 2]], 2), [0.0, 0.0]);
    }
}
