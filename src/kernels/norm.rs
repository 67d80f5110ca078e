//! Norms of rows.

use pulp::{Arch, Simd, WithSimd};

use super::sum;

/// `(x - mean) / sqrt(variance + epsilon) * gain + shift` of each row: layer normalisation (Ba et al., arXiv
/// 1607.06450). Without a shift the mean isn't taken off, and what stands for the variance is the mean square
/// (Zhang and Sennrich, arXiv 1910.07467).
#[derive(Debug, Clone)]
pub struct Norm {
    gain: Vec<f32>,
    shift: Vec<f32>,
    epsilon: f32,
}

impl Norm {
    /// With as many numbers of gain as a row has, and as many of shift or none; otherwise `None`.
    pub fn new(gain: Vec<f32>, shift: Vec<f32>, epsilon: f32) -> Option<Self> {
        let fits = !gain.is_empty() && (shift.is_empty() || shift.len() == gain.len());
        fits.then_some(Self {
            gain,
            shift,
            epsilon,
        })
    }

    /// Numbers in a row.
    pub fn width(&self) -> usize {
        self.gain.len()
    }

    /// Rows of `from` to rows of `to`.
    ///
    /// # Panics
    /// When the two differ in length.
    pub fn run(&self, arch: Arch, from: &[f32], to: &mut [f32]) {
        assert_eq!(from.len(), to.len());
        arch.dispatch(Run {
            norm: self,
            from,
            to,
        });
    }

    /// The same in plain Rust, sums in f64.
    pub fn reference(&self, from: &[f32], to: &mut [f32]) {
        let width = self.width();
        for (from, to) in from.chunks_exact(width).zip(to.chunks_exact_mut(width)) {
            let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / width as f64;
            let middle = match self.shift.is_empty() {
                true => 0.0,
                false => mean(&mut from.iter().map(|&x| f64::from(x))),
            };
            let square = mean(&mut from.iter().map(|&x| (f64::from(x) - middle).powi(2)));
            let deviation = (square + f64::from(self.epsilon)).sqrt();
            for (i, (&x, to)) in from.iter().zip(to).enumerate() {
                let shift = self.shift.get(i).copied().unwrap_or(0.0);
                let scaled = (f64::from(x) - middle) / deviation * f64::from(self.gain[i]);
                *to = (scaled + f64::from(shift)) as f32;
            }
        }
    }
}

struct Run<'a> {
    norm: &'a Norm,
    from: &'a [f32],
    to: &'a mut [f32],
}

impl WithSimd for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Run { norm, from, to } = self;
        let width = norm.width();
        let share = 1.0 / width as f32;
        for (from, to) in from.chunks_exact(width).zip(to.chunks_exact_mut(width)) {
            let mean = match norm.shift.is_empty() {
                true => 0.0,
                false => sum(simd, from) * share,
            };
            // The squares stand where the results will.
            for (to, x) in to.iter_mut().zip(from) {
                *to = (x - mean) * (x - mean);
            }
            let factor = 1.0 / (sum(simd, to) * share + norm.epsilon).sqrt();
            if norm.shift.is_empty() {
                for ((to, x), gain) in to.iter_mut().zip(from).zip(&norm.gain) {
                    *to = x * factor * gain;
                }
                continue;
            }
            let scales = norm.gain.iter().zip(&norm.shift);
            for ((to, x), (gain, shift)) in to.iter_mut().zip(from).zip(scales) {
                *to = (x - mean) * factor * gain + shift;
            }
        }
    }
}
