//! Logistic regression for confidences, and its cross-validation.
//!
//! Newton's method on the penalised likelihood (iteratively reweighted least squares; Hastie,
//! Tibshirani and Friedman, The Elements of Statistical Learning, 4.4.1): a few solutions of a system
//! as large as the number of features.

use anyhow::{Result, bail};
use nalgebra::{DMatrix, DVector};

use crate::caption::confidence::{Feature, Logistic, Term, sigmoid};

/// Penalty on the squared weights, in units of rows: it matters only where rows are few.
const PENALTY: f64 = 1.0;
/// Newton's method doubles the right digits in each step: it's done long before.
const MOST_STEPS: usize = 50;

/// A caption that was accepted or not.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// One value for each feature; none where it isn't known.
    pub values: Vec<Option<f64>>,
    /// Whether a person accepts it.
    pub accepted: bool,
    /// Place of its image: the rows of one image stay together in a cross-validation.
    pub image: usize,
}

/// Fits a regression on all rows. A feature that never varies gets no weight.
///
/// # Errors
/// When all rows were accepted or none was, or a value is not finite.
pub fn fit<'a>(
    features: &[Feature],
    rows: impl Iterator<Item = &'a Row> + Clone,
) -> Result<Logistic> {
    let count = rows.clone().count();
    let accepted = rows.clone().filter(|row| row.accepted).count();
    if accepted == 0 || accepted == count {
        bail!(
            "{accepted} of {count} captions are accepted: a calibration needs accepted and refused ones"
        );
    }
    let mut terms: Vec<Term> = features
        .iter()
        .enumerate()
        .map(|(at, feature)| standard(*feature, rows.clone().filter_map(|row| row.values[at])))
        .collect();
    if terms
        .iter()
        .any(|t| !(t.mean.is_finite() && t.deviation.is_finite()))
    {
        bail!("a feature is not finite");
    }
    let width = terms.len() + 1;
    let mut x = DMatrix::zeros(count, width);
    let mut y = DVector::zeros(count);
    for (at, row) in rows.enumerate() {
        for (column, (term, value)) in terms.iter().zip(&row.values).enumerate() {
            x[(at, column)] = value.map_or(0.0, |v| (v - term.mean) / term.deviation);
        }
        x[(at, width - 1)] = 1.0;
        y[at] = f64::from(u8::from(row.accepted));
    }
    let weights = newton(&x, &y);
    for (term, weight) in terms.iter_mut().zip(weights.iter()) {
        term.weight = *weight;
    }
    Ok(Logistic {
        bias: weights[width - 1],
        terms,
    })
}

/// A feature's mean and deviation, without a weight yet.
fn standard(feature: Feature, values: impl Iterator<Item = f64> + Clone) -> Term {
    let count = values.clone().count().max(1) as f64;
    let mean = values.clone().sum::<f64>() / count;
    let variance = values.map(|v| (v - mean).powi(2)).sum::<f64>() / count;
    Term {
        feature,
        mean,
        deviation: if variance > 0.0 { variance.sqrt() } else { 1.0 },
        weight: 0.0,
    }
}

/// Weights of the columns of `x`, the last of which is the bias and is not penalised.
fn newton(x: &DMatrix<f64>, y: &DVector<f64>) -> DVector<f64> {
    let width = x.ncols();
    let mut penalty = DVector::from_element(width, PENALTY);
    penalty[width - 1] = 0.0;
    let mut weights = DVector::zeros(width);
    for _ in 0..MOST_STEPS {
        let p = (x * &weights).map(sigmoid);
        let gradient = x.tr_mul(&(&p - y)) + penalty.component_mul(&weights);
        let mut weighted = x.clone();
        for (mut row, p) in weighted.row_iter_mut().zip(p.iter()) {
            row *= p * (1.0 - p);
        }
        let hessian = x.tr_mul(&weighted) + DMatrix::from_diagonal(&penalty);
        // Penalised, and with accepted and refused rows it has an inverse unless numbers run out.
        let Some(solver) = hessian.cholesky() else {
            break;
        };
        let step = solver.solve(&gradient);
        weights -= &step;
        if step.amax() < 1e-10 {
            break;
        }
    }
    weights
}

/// Probability of each row by a regression that hasn't seen its image: the images are dealt into
/// `folds` at random.
///
/// # Errors
/// As [`fit`]; also when there are fewer images than folds.
pub fn cross_validated(
    features: &[Feature],
    rows: &[Row],
    folds: usize,
    seed: u64,
) -> Result<Vec<f64>> {
    let fold_of = deal(rows, folds, seed)?;
    let mut probabilities = vec![0.0; rows.len()];
    for fold in 0..folds {
        let others = rows.iter().filter(|row| fold_of[row.image] != fold);
        let logistic = fit(features, others)?;
        for (probability, row) in probabilities.iter_mut().zip(rows) {
            if fold_of[row.image] == fold {
                let value = |feature| row.values[features.iter().position(|f| *f == feature)?];
                *probability = sigmoid(logistic.log_odds(value));
            }
        }
    }
    Ok(probabilities)
}

/// The fold of each image.
fn deal(rows: &[Row], folds: usize, seed: u64) -> Result<Vec<usize>> {
    let places = rows.iter().map(|row| row.image + 1).max().unwrap_or(0);
    let mut images: Vec<usize> = rows.iter().map(|row| row.image).collect();
    images.sort_unstable();
    images.dedup();
    if folds < 2 || images.len() < folds {
        bail!(
            "{folds} folds of {} images: expected at least 2 folds, and an image in each",
            images.len()
        );
    }
    fastrand::Rng::with_seed(seed).shuffle(&mut images);
    let mut fold_of = vec![0; places];
    for (at, image) in images.into_iter().enumerate() {
        fold_of[image] = at % folds;
    }
    Ok(fold_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: Option<f64>, accepted: bool, image: usize) -> Row {
        Row {
            values: vec![value],
            accepted,
            image,
        }
    }

    /// 100 rows at each of two values, of which `first` and `second` are accepted.
    fn two_values(first: usize, second: usize) -> Vec<Row> {
        let at = |value, accepted| {
            (0..100).map(move |i| row(Some(value), i < accepted, i + (value as usize) * 100))
        };
        at(0.0, first).chain(at(1.0, second)).collect()
    }

    #[test]
    fn finds_the_shares_of_two_groups() {
        let rows = two_values(20, 70);
        let found = fit(&[Feature::Score], rows.iter()).unwrap();
        for (value, share) in [(0.0, 0.2), (1.0, 0.7)] {
            let p = sigmoid(found.log_odds(|_| Some(value)));
            // The penalty of one row in 200 draws them together a little.
            assert!((p - share).abs() < 0.01, "{value}: {p}");
        }
        let unknown = sigmoid(found.log_odds(|_| None));
        assert!((unknown - 0.45).abs() < 0.02, "{unknown}");
    }

    #[test]
    fn unknown_and_constant_values_do_no_harm() {
        let mut rows = two_values(20, 70);
        rows.iter_mut().step_by(3).for_each(|r| r.values[0] = None);
        assert!(fit(&[Feature::Score], rows.iter()).is_ok());
        let constant: Vec<Row> = (0..10).map(|i| row(Some(0.5), i < 4, i)).collect();
        let found = fit(&[Feature::Score], constant.iter()).unwrap();
        assert!(found.terms[0].weight.abs() < 1e-9);
        assert!((sigmoid(found.bias) - 0.4).abs() < 1e-9);
    }

    #[test]
    fn one_sided_votes_are_refused() {
        let rows: Vec<Row> = (0..10).map(|i| row(Some(i as f64), true, i)).collect();
        let error = fit(&[Feature::Score], rows.iter()).unwrap_err();
        assert!(error.to_string().contains("10 of 10"), "{error}");
        let rows = two_values(20, 70);
        let few = cross_validated(&[Feature::Score], &rows[..3], 10, 1).unwrap_err();
        assert!(few.to_string().contains("10 folds of 3 images"), "{few}");
    }

    #[test]
    fn no_row_is_judged_by_its_own_image() {
        // Every image is a value of its own: whoever had seen it would know.
        let rows: Vec<Row> = (0..200)
            .map(|i| row(Some(f64::from(i % 2)), i % 20 < 10, i as usize / 2))
            .collect();
        let all = cross_validated(&[Feature::Score], &rows, 10, 1).unwrap();
        assert_eq!(
            all,
            cross_validated(&[Feature::Score], &rows, 10, 1).unwrap()
        );
        assert_ne!(
            all,
            cross_validated(&[Feature::Score], &rows, 10, 2).unwrap()
        );
        // A fold with more accepted rows is judged by others with fewer, so the mean falls short of none.
        assert!(all.iter().all(|p| (0.3..0.7).contains(p)));
        let fold_of = deal(&rows, 10, 1).unwrap();
        for pair in rows.chunks(2) {
            assert_eq!(fold_of[pair[0].image], fold_of[pair[1].image]);
        }
        let mut sizes = [0; 10];
        fold_of.iter().for_each(|fold| sizes[*fold] += 1);
        assert_eq!(sizes, [10; 10]);
    }
}
