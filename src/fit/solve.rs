//! Closed forms for W (docs: METHOD of ReCap, arXiv 2307.05591; Schönemann 1966 for Procrustes).

use anyhow::{Context as _, Result, bail};
use nalgebra::{DMatrix, SymmetricEigen};

use super::gram::GramSums;
use crate::realignment::{Landmarks, MapKind};

/// Which map, with what it needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MapChoice {
    /// The kind.
    pub kind: MapKind,
    /// The ridge penalty, for ridge and blend.
    pub lambda: f64,
    /// Share of ridge in a blend, in [0, 1].
    pub ridge_share: f64,
    /// How far the images are whitened before Procrustes, in [0, 1]; see [`solve`].
    pub whitening: f64,
    /// Whether the training means are taken off first, as ReCap does.
    pub centred: bool,
}

impl MapChoice {
    /// A choice whose numbers are nought where the kind does not use them; centred, not whitened.
    pub fn new(kind: MapKind, lambda: f64, ridge_share: f64) -> Self {
        let uses_ridge = matches!(kind, MapKind::Ridge | MapKind::Blend);
        Self {
            kind,
            lambda: if uses_ridge { lambda } else { 0.0 },
            ridge_share: if kind == MapKind::Blend {
                ridge_share
            } else {
                0.0
            },
            whitening: 0.0,
            centred: true,
        }
    }

    /// The same, whitened where the kind rotates.
    #[must_use]
    pub fn whitened(self, power: f64) -> Self {
        let rotates = matches!(self.kind, MapKind::Procrustes | MapKind::Blend);
        Self {
            whitening: if rotates { power } else { 0.0 },
            ..self
        }
    }
}

/// Singular values and eigenvalues below this share of the largest count as zero.
const RANK_TOLERANCE: f64 = 1e-12;

/// Solves for W, row-major `[image dimension, text dimension]`, with X and Y centred:
/// - ridge: (X'X + lambda tr(X'X)/d I)^-1 X'Y, OLS with lambda = 0 (minimum norm when X'X is
///   singular);
/// - Procrustes: X'Y = U S V', W = U V' over the directions with S > 0. With a whitening of p the images'
///   directions are evened out first: with A = (X'X / (tr(X'X)/d) + I/100)^(-p/2), A X'Y = U S V' and
///   W = A U V'. 1 is the whole way (as in canonical correlation), 0 none;
/// - blend: (1 - share) Procrustes / |Procrustes| + share ridge / |ridge|, Frobenius norms.
///
/// # Errors
/// When there are fewer than two pairs, lambda is no finite number >= 0, the share lies outside
/// [0, 1], or a decomposition does not converge.
pub fn solve(sums: &GramSums, choice: MapChoice) -> Result<Vec<f64>> {
    let MapChoice {
        kind,
        lambda,
        ridge_share,
        whitening,
        centred,
    } = choice;
    if sums.pairs < 2 {
        bail!(
            "a realignment needs at least two image-caption pairs, found {}",
            sums.pairs
        );
    }
    if !(lambda.is_finite() && lambda >= 0.0) {
        bail!("lambda: found {lambda}, expected a finite number of at least 0");
    }
    if !(0.0..=1.0).contains(&ridge_share) {
        bail!("ridge share: found {ridge_share}, expected 0 to 1");
    }
    if !(0.0..=1.0).contains(&whitening) {
        bail!("whitening: found {whitening}, expected 0 to 1");
    }
    let (xtx, xty) = if centred {
        sums.centred()?
    } else {
        sums.uncentred()?
    };
    let dense = |m: &ndarray::Array2<f64>| {
        DMatrix::from_row_iterator(m.nrows(), m.ncols(), m.iter().copied())
    };
    let xty = dense(&xty);
    let w = match kind {
        MapKind::Ols => regress(dense(&xtx), &xty, 0.0)?,
        MapKind::Ridge => regress(dense(&xtx), &xty, lambda)?,
        MapKind::Procrustes => rotation(dense(&xtx), xty, whitening)?,
        MapKind::Kernel => bail!("a kernel map needs landmarks: solve_kernel"),
        MapKind::Blend => {
            let ridge = regress(dense(&xtx), &xty, lambda)?;
            let rotation = rotation(dense(&xtx), xty, whitening)?;
            let share = |w: &DMatrix<f64>, s: f64| s / w.norm().max(f64::MIN_POSITIVE);
            let (a, b) = (
                share(&rotation, 1.0 - ridge_share),
                share(&ridge, ridge_share),
            );
            rotation * a + ridge * b
        }
    };
    row_major(&w)
}

/// Solves for the W of a kernel map, row-major `[landmarks, text dimension]`: kernel ridge regression
/// in Nyström's approximation, (K'K/n + lambda C)^-1 K'Y/n, with K the centred similarities of the
/// training images (whose sums these are) and C the landmarks' own.
///
/// # Errors
/// As [`solve`].
pub fn solve_kernel(sums: &GramSums, landmarks: &Landmarks, lambda: f64) -> Result<Vec<f64>> {
    if sums.pairs < 2 {
        bail!(
            "a realignment needs at least two image-caption pairs, found {}",
            sums.pairs
        );
    }
    if !(lambda.is_finite() && lambda > 0.0) {
        bail!("lambda: found {lambda}, expected a finite number above 0 for a kernel map");
    }
    let (ktk, kty) = sums.centred()?;
    let (m, n) = (landmarks.len(), sums.pairs as f64);
    let mut left = DMatrix::from_row_iterator(m, m, ktk.iter().map(|v| v / n))
        + DMatrix::from_row_slice(m, m, &landmarks.gram()) * lambda;
    // Landmarks that are nearly the same make C singular.
    for i in 0..m {
        left[(i, i)] += lambda * 1e-4;
    }
    let right = DMatrix::from_row_iterator(m, kty.ncols(), kty.iter().map(|v| v / n));
    let factor = left
        .cholesky()
        .context("the similarities are not positive definite; take a larger lambda")?;
    row_major(&factor.solve(&right))
}

fn row_major(w: &DMatrix<f64>) -> Result<Vec<f64>> {
    if !w.iter().all(|v| v.is_finite()) {
        bail!("the solution is not finite; the embeddings hold infinities or not-a-numbers");
    }
    // nalgebra stores columns first; the transpose in that order is W in row-major order.
    Ok(w.transpose().as_slice().to_vec())
}

fn regress(mut xtx: DMatrix<f64>, xty: &DMatrix<f64>, lambda: f64) -> Result<DMatrix<f64>> {
    let d = xtx.nrows();
    let penalty = lambda * xtx.trace() / d as f64;
    let original = (penalty == 0.0).then(|| xtx.clone());
    for i in 0..d {
        xtx[(i, i)] += penalty;
    }
    // Rounding can let Cholesky pass on a singular matrix: the smallest pivot tells.
    if let Some(factor) = xtx.cholesky() {
        let diagonal = factor.l_dirty().diagonal();
        let (least, most) = (diagonal.min(), diagonal.max());
        if original.is_none() || least * least > RANK_TOLERANCE * most * most {
            return Ok(factor.solve(xty));
        }
    }
    let Some(singular) = original else {
        bail!("X'X + penalty is not positive definite; take a larger lambda");
    };
    let eigen = SymmetricEigen::try_new(singular, f64::EPSILON, 0)
        .context("the eigenvalues do not converge")?;
    let most = eigen.eigenvalues.amax();
    let mut projected = eigen.eigenvectors.transpose() * xty;
    for (i, &value) in eigen.eigenvalues.iter().enumerate() {
        let inverse = if value > RANK_TOLERANCE * most {
            1.0 / value
        } else {
            0.0
        };
        projected.row_mut(i).scale_mut(inverse);
    }
    Ok(eigen.eigenvectors * projected)
}

/// What is added to every eigenvalue before whitening, in units of their mean: directions without
/// variance hold noise.
const WHITENING_FLOOR: f64 = 0.01;

/// Procrustes, after whitening by a power.
fn rotation(xtx: DMatrix<f64>, xty: DMatrix<f64>, power: f64) -> Result<DMatrix<f64>> {
    if power == 0.0 {
        return procrustes(xty);
    }
    let mean = xtx.trace() / xtx.nrows() as f64;
    let eigen =
        SymmetricEigen::try_new(xtx, f64::EPSILON, 0).context("the eigenvalues do not converge")?;
    let scale = eigen
        .eigenvalues
        .map(|value| (value.max(0.0) / mean + WHITENING_FLOOR).powf(-power / 2.0));
    let whiten =
        &eigen.eigenvectors * DMatrix::from_diagonal(&scale) * eigen.eigenvectors.transpose();
    Ok(&whiten * procrustes(&whiten * xty)?)
}

fn procrustes(xty: DMatrix<f64>) -> Result<DMatrix<f64>> {
    let svd = xty
        .try_svd(true, true, f64::EPSILON, 0)
        .context("the singular values do not converge")?;
    let (mut u, v_t) = (
        svd.u.context("no left vectors")?,
        svd.v_t.context("no right vectors")?,
    );
    let most = svd.singular_values.amax();
    for (i, &value) in svd.singular_values.iter().enumerate() {
        if value <= RANK_TOLERANCE * most {
            // The vectors of a zero singular value are arbitrary and would differ from run to run.
            u.column_mut(i).fill(0.0);
        }
    }
    Ok(u * v_t)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(kind: MapKind, lambda: f64) -> MapChoice {
        MapChoice::new(kind, lambda, 0.3)
    }

    struct Random(u64);
    impl Random {
        fn next(&mut self) -> f32 {
            self.0 = self
                .0
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (self.0 >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        }
        fn vector(&mut self, d: usize) -> Vec<f32> {
            (0..d).map(|_| self.next()).collect()
        }
    }

    /// y = x M + shift, with M chosen by hand.
    fn linear_data(n: usize) -> (GramSums, Vec<GramSums>) {
        let mut random = Random(3);
        let mut sums = GramSums::new(3, 2, "i", "t");
        let mut shards = vec![GramSums::new(3, 2, "i", "t"); 3];
        for index in 0..n {
            let x = random.vector(3);
            let captions: Vec<Vec<f32>> = (0..1 + index % 3)
                .map(|_| vec![2.0 * x[0] - x[2] + 0.3, 0.5 * x[1] + x[2] - 0.1])
                .collect();
            let captions: Vec<&[f32]> = captions.iter().map(Vec::as_slice).collect();
            sums.add(&x, &captions).unwrap();
            shards[index % 3].add(&x, &captions).unwrap();
        }
        (sums, shards)
    }

    #[test]
    fn ols_finds_the_map_that_made_the_data() {
        let w = solve(&linear_data(600).0, choose(MapKind::Ols, 0.0)).unwrap();
        let expected = [2.0, 0.0, 0.0, 0.5, -1.0, 1.0];
        assert!(
            w.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5),
            "{w:?}"
        );
    }

    #[test]
    fn whitening_undoes_a_stretch_that_procrustes_alone_cannot() {
        // y is x turned, but x is seen stretched along one axis.
        let (sine, cosine) = 0.7f32.sin_cos();
        let mut random = Random(11);
        let mut sums = GramSums::new(2, 2, "i", "t");
        for _ in 0..400 {
            let x = random.vector(2);
            let y = [cosine * x[0] - sine * x[1], sine * x[0] + cosine * x[1]];
            sums.add(&[20.0 * x[0], x[1]], &[&y]).unwrap();
        }
        // How well W maps (0, 1), the squeezed axis: its share of the length of (20, 0)'s image.
        let squeezed = |power| {
            let w = solve(&sums, choose(MapKind::Procrustes, 0.0).whitened(power)).unwrap();
            let length = |row: &[f64]| row.iter().map(|v| v * v).sum::<f64>().sqrt();
            length(&w[2..]) / (20.0 * length(&w[..2]))
        };
        assert!((squeezed(0.0) - 0.05).abs() < 1e-6, "{}", squeezed(0.0));
        assert!(squeezed(0.5) > 2.0 * squeezed(0.0) && squeezed(1.0) > 2.0 * squeezed(0.5));
        let off = solve(&sums, choose(MapKind::Procrustes, 0.0).whitened(1.5)).unwrap_err();
        assert!(off.to_string().contains("found 1.5"));
    }

    #[test]
    fn without_centring_the_means_are_part_of_the_data() {
        let sums = linear_data(600).0;
        let raw = MapChoice {
            centred: false,
            ..choose(MapKind::Ols, 0.0)
        };
        let (with, without) = (choose(MapKind::Ols, 0.0), raw);
        assert_ne!(solve(&sums, with).unwrap(), solve(&sums, without).unwrap());
    }

    #[test]
    fn ridge_shrinks_towards_nought() {
        let sums = linear_data(600).0;
        let norm = |lambda| {
            solve(&sums, choose(MapKind::Ridge, lambda))
                .unwrap()
                .iter()
                .map(|v| v * v)
                .sum::<f64>()
        };
        assert!(norm(0.0) > norm(0.1) && norm(0.1) > norm(10.0) && norm(1e9) < 1e-6);
    }

    #[test]
    fn procrustes_is_orthogonal_and_finds_a_rotation() {
        let (sine, cosine) = 0.7f32.sin_cos();
        let mut random = Random(5);
        let mut sums = GramSums::new(2, 2, "i", "t");
        for _ in 0..50 {
            let x = random.vector(2);
            sums.add(
                &x,
                &[&[cosine * x[0] - sine * x[1], sine * x[0] + cosine * x[1]]],
            )
            .unwrap();
        }
        let w = solve(&sums, choose(MapKind::Procrustes, 0.0)).unwrap();
        let expected = [cosine, sine, -sine, cosine];
        assert!(
            w.iter()
                .zip(expected)
                .all(|(a, b)| (a - f64::from(b)).abs() < 1e-6),
            "{w:?}"
        );
        let w = solve(&linear_data(100).0, choose(MapKind::Procrustes, 0.0)).unwrap();
        // Semi-orthogonal: W'W = I for d1 > d2.
        let product = |a: usize, b: usize| (0..3).map(|i| w[i * 2 + a] * w[i * 2 + b]).sum::<f64>();
        assert!((product(0, 0) - 1.0).abs() < 1e-12 && product(0, 1).abs() < 1e-12);
    }

    #[test]
    fn a_blend_lies_between_its_ends() {
        let sums = linear_data(300).0;
        let at = |share| solve(&sums, MapChoice::new(MapKind::Blend, 0.1, share)).unwrap();
        let unit = |w: Vec<f64>| {
            let length = w.iter().map(|v| v * v).sum::<f64>().sqrt();
            w.iter().map(|v| v / length).collect::<Vec<f64>>()
        };
        let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(x, y)| (x - y).abs() < 1e-12);
        let (rotation, ridge) = (at(0.0), at(1.0));
        assert!(close(
            &rotation,
            &unit(solve(&sums, choose(MapKind::Procrustes, 0.0)).unwrap())
        ));
        assert!(close(
            &ridge,
            &unit(solve(&sums, choose(MapKind::Ridge, 0.1)).unwrap())
        ));
        let mix: Vec<f64> = rotation
            .iter()
            .zip(&ridge)
            .map(|(a, b)| 0.75 * a + 0.25 * b)
            .collect();
        assert!(close(&at(0.25), &mix));
        assert!(solve(&sums, MapChoice::new(MapKind::Blend, 0.1, 1.5)).is_err());
    }

    #[test]
    fn shards_join_to_the_same_map() {
        let (whole, shards) = linear_data(999);
        let mut joined = GramSums::new(3, 2, "i", "t");
        for shard in shards {
            joined
                .merge(GramSums::from_bytes(&shard.to_bytes().unwrap()).unwrap())
                .unwrap();
        }
        assert_eq!(joined.pairs, whole.pairs);
        for kind in MapKind::LINEAR {
            let (a, b) = (
                solve(&whole, choose(kind, 0.1)).unwrap(),
                solve(&joined, choose(kind, 0.1)).unwrap(),
            );
            let apart = a
                .iter()
                .zip(&b)
                .map(|(x, y)| (x - y).abs())
                .fold(0.0, f64::max);
            assert!(apart < 1e-9, "{kind:?} {apart}");
        }
    }

    #[test]
    fn a_kernel_map_learns_what_no_matrix_can() {
        // y = x0 x1: least squares on x finds nothing.
        let mut random = Random(9);
        let rows: Vec<f32> = (0..60).flat_map(|_| random.vector(2)).collect();
        let landmarks = Landmarks::new(&rows, 2, 4.0).unwrap();
        let (mut lifted, mut plain) = (
            GramSums::new(60, 1, "i", "t"),
            GramSums::new(2, 1, "i", "t"),
        );
        for _ in 0..800 {
            let x = random.vector(2);
            let y: &[f32] = &[x[0] * x[1]];
            lifted.add(&landmarks.similarities(&x), &[y]).unwrap();
            plain.add(&x, &[y]).unwrap();
        }
        let w = solve_kernel(&lifted, &landmarks, 1e-6).unwrap();
        let linear = solve(&plain, choose(MapKind::Ols, 0.0)).unwrap();
        let means = lifted.mean_image();
        let (mut missed, mut missed_linear, mut size) = (0.0, 0.0, 0.0);
        for _ in 0..200 {
            let x = random.vector(2);
            let y = f64::from(x[0] * x[1]) - lifted.mean_text()[0];
            let found: f64 = landmarks
                .similarities(&x)
                .iter()
                .zip(&means)
                .zip(&w)
                .map(|((k, m), w)| (f64::from(*k) - m) * w)
                .sum();
            let straight = f64::from(x[0]) * linear[0] + f64::from(x[1]) * linear[1];
            missed += (found - y).powi(2);
            missed_linear += (straight - y).powi(2);
            size += y * y;
        }
        assert!(missed < 0.05 * size, "{missed} of {size}");
        assert!(missed_linear > 0.8 * size, "{missed_linear} of {size}");
        assert!(solve_kernel(&lifted, &landmarks, 0.0).is_err());
    }

    #[test]
    fn singular_data_and_bad_arguments() {
        let mut sums = GramSums::new(3, 2, "i", "t");
        assert!(solve(&sums, choose(MapKind::Ols, 0.0)).is_err());
        // Two pairs in three dimensions: rank one after centring.
        sums.add(&[1.0, 0.0, 0.0], &[&[1.0, 0.0]]).unwrap();
        sums.add(&[0.0, 1.0, 0.0], &[&[0.0, 1.0]]).unwrap();
        for kind in MapKind::LINEAR {
            assert!(
                solve(&sums, choose(kind, 0.1))
                    .unwrap()
                    .iter()
                    .all(|v| v.is_finite()),
                "{kind:?}"
            );
        }
        assert!(solve(&sums, choose(MapKind::Ridge, -1.0)).is_err());
        assert!(solve(&sums, choose(MapKind::Ridge, f64::NAN)).is_err());
    }
}
