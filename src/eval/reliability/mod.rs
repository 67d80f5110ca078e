//! Whether confidences mean what they say.
//!
//! - ECE, the expected calibration error (Guo et al., arXiv 1706.04599): mean distance of confidence and
//!   accepted share over bins, weighted by their rows. Bins of equal width are the published form; bins
//!   of equal count don't let a crowded bin hide what happens in it.
//! - Brier score (1950): mean squared distance of confidence and outcome.
//! - AUROC: probability that an accepted caption has a higher confidence than a refused one, ties half
//!   (Hanley and McNeil 1982).
//! - Risk and coverage (El-Yaniv and Wiener 2010): what share is accepted of the most confident.

pub mod diagram;

use serde::Serialize;

/// Bins of equal count.
const BINS: usize = 15;
/// Bins of equal width.
const WIDE_BINS: usize = 10;
/// Points of the risk-coverage curve.
const COVERAGES: usize = 20;

/// Rows of about the same confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    /// Mean confidence.
    pub confidence: f64,
    /// Share that was accepted.
    pub accepted: f64,
    /// How many.
    pub rows: usize,
}

/// What is left when only the most confident captions are said.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Coverage {
    /// Share that is said.
    pub coverage: f64,
    /// Confidence of the last that is.
    pub confidence: f64,
    /// Accepted share of what is said.
    pub accepted: f64,
}

/// Confidences against what people (or a rule) made of the captions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reliability {
    /// How many.
    pub rows: usize,
    /// Share that was accepted.
    pub accepted: f64,
    /// Mean confidence.
    pub confidence: f64,
    /// Over bins of equal count.
    pub ece: f64,
    /// Over bins of equal width.
    pub ece_equal_width: f64,
    /// Mean squared distance.
    pub brier: f64,
    /// None when all were accepted or none was.
    pub auroc: Option<f64>,
    /// Bins of equal count, the least confident first.
    pub bins: Vec<Bin>,
    /// From the most confident twentieth to all.
    pub coverage: Vec<Coverage>,
}

impl Reliability {
    /// Of rows (confidence, accepted). None when there are none or a confidence is no number.
    pub fn new(rows: &[(f64, bool)]) -> Option<Self> {
        if rows.is_empty() || rows.iter().any(|(p, _)| !p.is_finite()) {
            return None;
        }
        let mut rows = rows.to_vec();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        let count = rows.len();
        let bins: Vec<Bin> = (0..BINS.min(count))
            .map(|at| bin(&rows[at * count / BINS.min(count)..(at + 1) * count / BINS.min(count)]))
            .collect();
        let wide: Vec<Bin> = rows
            .chunk_by(|a, b| wide_bin(a.0) == wide_bin(b.0))
            .map(bin)
            .collect();
        let all = bin(&rows);
        let squares = rows
            .iter()
            .map(|(p, accepted)| (p - outcome(*accepted)).powi(2));
        Some(Self {
            rows: count,
            accepted: all.accepted,
            confidence: all.confidence,
            ece: ece(&bins),
            ece_equal_width: ece(&wide),
            brier: squares.sum::<f64>() / count as f64,
            auroc: auroc(&rows),
            coverage: coverage(&rows),
            bins,
        })
    }

    /// Accepted share of the most confident `share` of the rows, a multiple of a twentieth.
    pub fn accepted_at(&self, share: f64) -> Option<f64> {
        let found = self
            .coverage
            .iter()
            .find(|point| point.coverage > share - 0.5 / COVERAGES as f64);
        found.map(|point| point.accepted)
    }
}

fn outcome(accepted: bool) -> f64 {
    f64::from(u8::from(accepted))
}

fn wide_bin(confidence: f64) -> usize {
    ((confidence * WIDE_BINS as f64) as usize).min(WIDE_BINS - 1)
}

fn bin(rows: &[(f64, bool)]) -> Bin {
    let count = rows.len().max(1) as f64;
    Bin {
        confidence: rows.iter().map(|(p, _)| p).sum::<f64>() / count,
        accepted: rows.iter().filter(|(_, accepted)| *accepted).count() as f64 / count,
        rows: rows.len(),
    }
}

fn ece(bins: &[Bin]) -> f64 {
    let rows: usize = bins.iter().map(|bin| bin.rows).sum();
    bins.iter()
        .map(|bin| (bin.confidence - bin.accepted).abs() * bin.rows as f64 / rows as f64)
        .sum()
}

/// By the rank sum of the accepted; `rows` in ascending order.
fn auroc(rows: &[(f64, bool)]) -> Option<f64> {
    let accepted = rows.iter().filter(|(_, accepted)| *accepted).count() as f64;
    let refused = rows.len() as f64 - accepted;
    if accepted == 0.0 || refused == 0.0 {
        return None;
    }
    let (mut before, mut sum) = (0.0, 0.0);
    for run in rows.chunk_by(|a, b| a.0 == b.0) {
        let mean_rank = before + (run.len() as f64 + 1.0) / 2.0;
        sum += mean_rank * run.iter().filter(|(_, accepted)| *accepted).count() as f64;
        before += run.len() as f64;
    }
    Some((sum - accepted * (accepted + 1.0) / 2.0) / (accepted * refused))
}

fn coverage(rows: &[(f64, bool)]) -> Vec<Coverage> {
    (1..=COVERAGES)
        .map(|at| {
            let said = (rows.len() * at).div_ceil(COVERAGES);
            let said = &rows[rows.len() - said..];
            Coverage {
                coverage: said.len() as f64 / rows.len() as f64,
                confidence: said.first().map_or(f64::NAN, |row| row.0),
                accepted: bin(said).accepted,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `rows` at a confidence, of which so many are accepted.
    fn group(confidence: f64, rows: usize, accepted: usize) -> Vec<(f64, bool)> {
        (0..rows).map(|at| (confidence, at < accepted)).collect()
    }

    #[test]
    fn by_hand() {
        let rows = [group(0.15, 60, 12), group(0.85, 40, 30)].concat();
        let found = Reliability::new(&rows).unwrap();
        // 0.6 |0.15 - 0.2| + 0.4 |0.85 - 0.75|
        assert!((found.ece_equal_width - 0.07).abs() < 1e-12, "{found:?}");
        // Of 12 x 10 + 12 x 48 + 30 x 10 + 30 x 48 pairs those at one confidence count half.
        let auroc = (30.0 * 48.0 + 0.5 * (12.0 * 48.0 + 30.0 * 10.0)) / (42.0 * 58.0);
        assert!((found.auroc.unwrap() - auroc).abs() < 1e-12);
        let brier = (12.0 * 0.7225 + 48.0 * 0.0225 + 30.0 * 0.0225 + 10.0 * 0.7225) / 100.0;
        assert!((found.brier - brier).abs() < 1e-12);
        assert!((found.accepted - 0.42).abs() < 1e-12 && (found.confidence - 0.43).abs() < 1e-12);
        assert_eq!(found.accepted_at(0.4), Some(0.75));
        assert_eq!(found.accepted_at(1.0), Some(0.42));
        assert_eq!(found.bins.iter().map(|b| b.rows).sum::<usize>(), 100);
    }

    #[test]
    fn perfect_confidences_have_no_error_and_boastful_ones_all_of_it() {
        let rows = [group(0.0, 30, 0), group(1.0, 30, 30)].concat();
        let found = Reliability::new(&rows).unwrap();
        assert_eq!((found.ece, found.brier, found.auroc), (0.0, 0.0, Some(1.0)));
        let boast = Reliability::new(&group(1.0, 50, 0)).unwrap();
        assert!((boast.ece - 1.0).abs() < 1e-12, "{boast:?}");
        assert_eq!((boast.brier, boast.auroc), (1.0, None));
    }

    #[test]
    fn few_rows_and_none() {
        assert_eq!(Reliability::new(&[]), None);
        assert_eq!(Reliability::new(&[(f64::NAN, true)]), None);
        let one = Reliability::new(&[(0.3, true)]).unwrap();
        assert_eq!((one.bins.len(), one.coverage.len()), (1, COVERAGES));
        assert!((one.ece - 0.7).abs() < 1e-12);
    }
}
