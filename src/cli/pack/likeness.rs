//! How alike two sets of embeddings of the same things are.

use ndarray::{Array2, Axis};
use serde::Serialize;

use crate::datastore::dot;

/// How alike two sets of embeddings are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Likeness {
    /// Rows that were compared.
    pub(super) rows: usize,
    /// Mean cosine of the two embeddings of one thing; null when their lengths differ.
    pub(super) mean: Option<f32>,
    /// Its median.
    pub(super) median: Option<f32>,
    /// The smallest.
    pub(super) least: Option<f32>,
    /// Linear centred kernel alignment, which needs no common length: 1 when one set is the other, rotated
    /// and scaled; null for fewer than three rows, or when one set is all the same.
    pub(super) cka: Option<f32>,
    /// Row by row.
    #[serde(skip)]
    pub(super) cosines: Vec<f32>,
}

/// Compares row by row. Rows are of length one.
pub(super) fn likeness(a: &[Vec<f32>], b: &[Vec<f32>]) -> Likeness {
    let one_length = a.iter().zip(b).all(|(x, y)| x.len() == y.len());
    let cosines: Vec<f32> = match one_length {
        true => a.iter().zip(b).map(|(x, y)| dot(x, y)).collect(),
        false => Vec::new(),
    };
    let mut sorted = cosines.clone();
    sorted.sort_by(f32::total_cmp);
    let count = sorted.len() as f32;
    Likeness {
        rows: a.len(),
        mean: (!sorted.is_empty()).then(|| sorted.iter().sum::<f32>() / count),
        median: sorted.get(sorted.len() / 2).copied(),
        least: sorted.first().copied(),
        cka: cka(a, b),
        cosines,
    }
}

/// Linear CKA: |Y'X|^2 / (|X'X| |Y'Y|) of the centred rows (Kornblith et al. 2019, eq. 3), by the n x n
/// products, since there are fewer rows than dimensions squared.
fn cka(a: &[Vec<f32>], b: &[Vec<f32>]) -> Option<f32> {
    if a.len() < 3 {
        return None;
    }
    let (k, l) = (gram(a)?, gram(b)?);
    let inner = |x: &Array2<f64>, y: &Array2<f64>| (x * y).sum();
    let (kk, ll) = (inner(&k, &k), inner(&l, &l));
    (kk > 0.0 && ll > 0.0).then(|| (inner(&k, &l) / (kk.sqrt() * ll.sqrt())) as f32)
}

/// Dot products of the centred rows.
fn gram(rows: &[Vec<f32>]) -> Option<Array2<f64>> {
    let width = rows.first()?.len();
    let flat: Vec<f64> = rows.iter().flatten().copied().map(f64::from).collect();
    let matrix = Array2::from_shape_vec((rows.len(), width), flat).ok()?;
    let centred = &matrix - &matrix.mean_axis(Axis(0))?;
    Some(centred.dot(&centred.t()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(of: &[[f32; 3]]) -> Vec<Vec<f32>> {
        of.iter()
            .map(|row| {
                let length = row.iter().map(|v| v * v).sum::<f32>().sqrt();
                row.iter().map(|v| v / length).collect()
            })
            .collect()
    }

    #[test]
    fn a_rotation_changes_cosines_and_not_the_alignment() {
        let a = rows(&[
            [1.0, 0.2, 0.0],
            [0.3, 1.0, -0.4],
            [0.0, -0.5, 1.0],
            [0.7, 0.7, 0.1],
        ]);
        let same = likeness(&a, &a);
        assert!(same.least.unwrap() > 0.999_999 && same.cka.unwrap() > 0.999_999);
        let turned: Vec<Vec<f32>> = a.iter().map(|r| vec![r[1], r[2], r[0]]).collect();
        let found = likeness(&a, &turned);
        assert!(found.mean.unwrap() < 0.6, "{found:?}");
        assert!(found.cka.unwrap() > 0.999_999, "{found:?}");
        // Another length: nothing but the alignment is left.
        let longer: Vec<Vec<f32>> = a.iter().map(|r| vec![r[0], r[1], r[2], 0.0]).collect();
        let found = likeness(&a, &longer);
        assert_eq!(
            (found.mean, found.least, found.cosines.len()),
            (None, None, 0)
        );
        assert!(found.cka.unwrap() > 0.999_999);
        let other = rows(&[
            [1.0, 0.0, 0.0],
            [0.0, 1.0, 0.0],
            [0.0, 0.9, 0.1],
            [0.0, 0.0, 1.0],
        ]);
        assert!(likeness(&a, &other).cka.unwrap() < 0.9);
        assert_eq!(likeness(&a[..2], &a[..2]).cka, None);
        let flat = vec![a[0].clone(); 4];
        assert_eq!(likeness(&a, &flat).cka, None);
    }
}
