//! BLEU-1 to BLEU-4 (Papineni et al. 2002) as pycocoevalcap 1.2 computes it: the reference length is
//! the one closest to the caption's (the shorter of two), and tiny constants keep divisions defined.

use std::ops::AddAssign;

use super::ngrams::{NGrams, ORDERS, order};

/// Added to what is counted.
const TINY: f64 = 1e-15;
/// Added to what it is divided by.
const SMALL: f64 = 1e-9;

/// What BLEU needs to know of a caption; the corpus's is the sum.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct BleuCounts {
    /// Words of the caption.
    words: f64,
    /// Words of the closest reference.
    reference_words: f64,
    /// n-grams of the caption, by order.
    found: [f64; ORDERS],
    /// Those that a reference has too, each as often as in the reference that has it most often.
    correct: [f64; ORDERS],
}

impl BleuCounts {
    /// Counts a caption against its references, of which there must be at least one.
    pub fn new(caption: &NGrams, references: &[NGrams]) -> Self {
        let words = caption.words;
        let closest = references
            .iter()
            .map(|r| (r.words.abs_diff(words), r.words))
            .min()
            .map_or(0, |(_, length)| length);
        let mut counts = Self {
            words: words as f64,
            reference_words: closest as f64,
            ..Self::default()
        };
        for n in 0..ORDERS {
            counts.found[n] = words.saturating_sub(n) as f64;
        }
        for (ngram, count) in &caption.counts {
            let most = references
                .iter()
                .filter_map(|r| {
                    let at = r.counts.binary_search_by(|(other, _)| other.cmp(ngram));
                    at.ok().map(|at| r.counts[at].1)
                })
                .max();
            counts.correct[order(ngram)] += f64::from(most.unwrap_or(0).min(*count));
        }
        counts
    }

    /// BLEU-1 to BLEU-4: geometric means of the precisions, times the penalty for brevity
    /// exp(1 - reference words / words).
    pub fn bleu(&self) -> [f64; ORDERS] {
        let ratio = (self.words + TINY) / (self.reference_words + SMALL);
        let penalty = if ratio < 1.0 {
            (1.0 - 1.0 / ratio).exp()
        } else {
            1.0
        };
        let mut product = 1.0;
        let mut scores = [0.0; ORDERS];
        for (n, score) in scores.iter_mut().enumerate() {
            product *= (self.correct[n] + TINY) / (self.found[n] + SMALL);
            *score = f64::powf(product, 1.0 / (n + 1) as f64) * penalty;
        }
        scores
    }
}

impl AddAssign for BleuCounts {
    fn add_assign(&mut self, other: Self) {
        self.words += other.words;
        self.reference_words += other.reference_words;
        for n in 0..ORDERS {
            self.found[n] += other.found[n];
            self.correct[n] += other.correct[n];
        }
    }
}
