//! Tiles of a matrix product: some rows of activations by some vectors of columns, whose sums stay in registers.

use pulp::Simd;

use super::{GROUP, load, store};

/// What [`Panel::few`] works on: codes `[inner][16]`, activations, the first row, and as in [`Linear::run`].
pub(super) type Few<'a, S> = (
    S,
    &'a [[i8; GROUP]],
    &'a [f32],
    usize,
    Option<&'a [f32]>,
    &'a mut [f32],
);

/// Some columns of the weights in f32, and what is done with their sums.
pub(super) struct Panel<'a> {
    pub inner: usize,
    pub outer: usize,
    /// First column and number of columns.
    pub first: usize,
    pub count: usize,
    pub weights: &'a [f32],
    pub scales: &'a [f32],
    pub bias: &'a [f32],
    pub limits: (f32, f32),
}

impl Panel<'_> {
    /// All rows, `MR` at a time; `NV` vectors wide.
    #[inline(always)]
    pub fn rows<S: Simd, const NV: usize, const MR: usize>(
        &self,
        simd: S,
        a: &[f32],
        rows: usize,
        residual: Option<&[f32]>,
        out: &mut [f32],
    ) {
        let mut row = 0;
        while row < rows {
            let left = rows - row;
            if left >= MR {
                row += self.tile::<S, NV, MR>(simd, a, row, residual, out);
                continue;
            }
            row += match left {
                4.. => self.tile::<S, NV, 4>(simd, a, row, residual, out),
                2.. => self.tile::<S, NV, 2>(simd, a, row, residual, out),
                _ => self.tile::<S, NV, 1>(simd, a, row, residual, out),
            };
        }
    }

    /// `MR` rows. Returns `MR`.
    #[inline(always)]
    fn tile<S: Simd, const NV: usize, const MR: usize>(
        &self,
        simd: S,
        a: &[f32],
        row: usize,
        residual: Option<&[f32]>,
        out: &mut [f32],
    ) -> usize {
        let inner = self.inner;
        let (vectors, _) = S::as_simd_f32s(self.weights);
        let rows: [&[f32]; MR] = std::array::from_fn(|i| &a[(row + i) * inner..][..inner]);
        let mut sums = [[simd.splat_f32s(0.0); NV]; MR];
        let vectors = vectors.as_chunks::<NV>().0;
        // Written so that the compiler sees k < inner, the length of every row, and drops its checks.
        for k in 0..inner {
            let Some(weights) = vectors.get(k) else {
                break;
            };
            for i in 0..MR {
                let value = simd.splat_f32s(rows[i][k]);
                for j in 0..NV {
                    sums[i][j] = simd.mul_add_e_f32s(value, weights[j], sums[i][j]);
                }
            }
        }
        self.finish_rows(simd, sums, row, residual, out);
        MR
    }

    /// `MR` rows of one group of columns, whose codes are brought to f32 as they are used. Returns `MR`.
    #[inline(always)]
    pub fn few<S: Simd, const NV: usize, const MR: usize>(
        &self,
        (simd, codes, a, row, residual, out): Few<'_, S>,
    ) -> usize {
        let inner = self.inner;
        let rows: [&[f32]; MR] = std::array::from_fn(|i| &a[(row + i) * inner..][..inner]);
        let mut sums = [[simd.splat_f32s(0.0); NV]; MR];
        for k in 0..inner {
            let Some(codes) = codes.get(k) else {
                break;
            };
            let weights: [f32; GROUP] = std::array::from_fn(|i| f32::from(codes[i]));
            let (weights, _) = S::as_simd_f32s(&weights);
            for i in 0..MR {
                let value = simd.splat_f32s(rows[i][k]);
                for j in 0..NV {
                    sums[i][j] = simd.mul_add_e_f32s(value, weights[j], sums[i][j]);
                }
            }
        }
        self.finish_rows(simd, sums, row, residual, out);
        MR
    }

    /// Stores the sums of `MR` rows from `row` on.
    #[inline(always)]
    fn finish_rows<S: Simd, const NV: usize, const MR: usize>(
        &self,
        simd: S,
        sums: [[S::f32s; NV]; MR],
        row: usize,
        residual: Option<&[f32]>,
        out: &mut [f32],
    ) {
        for (i, sums) in sums.into_iter().enumerate() {
            let start = (row + i) * self.outer + self.first;
            let range = start..start + self.count;
            let residual = residual.map(|residual| &residual[range.clone()]);
            self.finish(simd, sums, residual, &mut out[range]);
        }
    }

    /// Stores a row of sums.
    #[inline(always)]
    fn finish<S: Simd, const NV: usize>(
        &self,
        simd: S,
        mut sums: [S::f32s; NV],
        residual: Option<&[f32]>,
        out: &mut [f32],
    ) {
        let (scales, _) = S::as_simd_f32s(self.scales);
        let (bias, _) = S::as_simd_f32s(self.bias);
        let least = simd.splat_f32s(self.limits.0);
        let most = simd.splat_f32s(self.limits.1);
        for j in 0..NV {
            sums[j] = simd.mul_add_e_f32s(sums[j], scales[j], bias[j]);
        }
        if out.len() == NV * S::F32_LANES {
            let (out, _) = S::as_mut_simd_f32s(out);
            if let Some(residual) = residual {
                let (residual, _) = S::as_simd_f32s(residual);
                for j in 0..NV {
                    sums[j] = simd.add_f32s(sums[j], residual[j]);
                }
            }
            for j in 0..NV {
                out[j] = simd.min_f32s(simd.max_f32s(sums[j], least), most);
            }
            return;
        }
        for (j, out) in out.chunks_mut(S::F32_LANES).enumerate().take(NV) {
            let mut value = sums[j];
            if let Some(residual) = residual {
                let from = j * S::F32_LANES;
                value = simd.add_f32s(value, load(simd, &residual[from..from + out.len()]));
            }
            store(simd, out, simd.min_f32s(simd.max_f32s(value, least), most));
        }
    }
}
