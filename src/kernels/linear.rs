//! Matrix products: activations in f32, weights in int8 (one scale a column) or f32.
//!
//! Weights stay as small as they are in the file. A panel of them, as many columns as a tile of registers is
//! wide, is brought to f32 in a buffer that fits the cache and used for all rows: with the 10 to 17,000 rows of a
//! network's layer the conversion costs little, and f32 copies of all weights are never made. The scale of
//! a column is applied to its sum, so results differ from weights that are scaled first in the last digit
//! only.

use pulp::{Arch, Simd, WithSimd};

use super::{Clamp, GROUP};

/// Weights of a linear map, row-major `[inner, outer]`.
#[derive(Debug, Clone, Copy)]
pub enum Weights<'a> {
    /// Codes and a scale for each column.
    Int8(&'a [i8], &'a [f32]),
    /// As they are.
    F32(&'a [f32]),
}

#[derive(Debug, Clone, PartialEq)]
enum Packed {
    Int8(Vec<i8>),
    F32(Vec<f32>),
}

/// `clamp(a W + bias + residual)` with W `[inner, outer]`, ready to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    inner: usize,
    outer: usize,
    /// `[groups of 16 columns][inner][16]`, zeros beyond the last column.
    packed: Packed,
    /// A scale and a bias for each column, padded likewise.
    scales: Vec<f32>,
    bias: Vec<f32>,
    clamp: Clamp,
}

impl Linear {
    /// Packs weights. `bias` has `outer` numbers, or none.
    ///
    /// Returns `None` when lengths do not fit.
    pub fn new(
        weights: Weights<'_>,
        inner: usize,
        outer: usize,
        bias: &[f32],
        clamp: Clamp,
    ) -> Option<Self> {
        fn pack<T: Copy + Default>(from: &[T], inner: usize, outer: usize) -> Vec<T> {
            let groups = outer.div_ceil(GROUP);
            let mut to = vec![T::default(); groups * inner * GROUP];
            for (group, block) in to.chunks_exact_mut(inner * GROUP).enumerate() {
                let columns = group * GROUP..outer.min((group + 1) * GROUP);
                for (row, cells) in block.chunks_exact_mut(GROUP).enumerate() {
                    let start = row * outer;
                    cells[..columns.len()]
                        .copy_from_slice(&from[start + columns.start..start + columns.end]);
                }
            }
            to
        }
        let count = inner.checked_mul(outer)?;
        let padded = outer.div_ceil(GROUP) * GROUP;
        if count == 0 || !(bias.is_empty() || bias.len() == outer) {
            return None;
        }
        let (packed, mut scales) = match weights {
            Weights::Int8(codes, scales) if codes.len() == count && scales.len() == outer => {
                (Packed::Int8(pack(codes, inner, outer)), scales.to_vec())
            }
            Weights::F32(values) if values.len() == count => {
                (Packed::F32(pack(values, inner, outer)), vec![1.0; outer])
            }
            _ => return None,
        };
        scales.resize(padded, 0.0);
        let mut bias = bias.to_vec();
        bias.resize(padded, 0.0);
        Some(Self {
            inner,
            outer,
            packed,
            scales,
            bias,
            clamp,
        })
    }

    /// Numbers in a row of activations.
    pub fn inner(&self) -> usize {
        self.inner
    }

    /// Numbers in a row of results.
    pub fn outer(&self) -> usize {
        self.outer
    }

    /// Bytes that the weights take.
    pub fn bytes(&self) -> usize {
        let weights = match &self.packed {
            Packed::Int8(codes) => codes.len(),
            Packed::F32(values) => 4 * values.len(),
        };
        weights + 4 * (self.scales.len() + self.bias.len())
    }

    /// Rows of `a` (row-major `[rows, inner]`) to rows of `out` (`[rows, outer]`). `residual`, as long
    /// as `out`, is added before the limits are applied. `buffer` is working memory.
    ///
    /// # Panics
    /// When a slice does not have the length that `rows` asks for.
    pub fn run(
        &self,
        a: &[f32],
        rows: usize,
        residual: Option<&[f32]>,
        out: &mut [f32],
        buffer: &mut Vec<f32>,
    ) {
        self.run_on(Arch::new(), a, rows, residual, out, buffer);
    }

    /// [`Linear::run`] on instructions that the caller chooses.
    ///
    /// # Panics
    /// As [`Linear::run`].
    pub fn run_on(
        &self,
        arch: Arch,
        a: &[f32],
        rows: usize,
        residual: Option<&[f32]>,
        out: &mut [f32],
        buffer: &mut Vec<f32>,
    ) {
        assert_eq!(a.len(), rows * self.inner);
        assert_eq!(out.len(), rows * self.outer);
        assert!(residual.is_none_or(|r| r.len() == out.len()));
        arch.dispatch(Run {
            linear: self,
            a,
            rows,
            residual,
            out,
            buffer,
        });
    }

    /// The same in plain Rust, sums in f64.
    pub fn reference(&self, a: &[f32], rows: usize, residual: Option<&[f32]>, out: &mut [f32]) {
        for row in 0..rows {
            for column in 0..self.outer {
                let sum: f64 = (0..self.inner)
                    .map(|k| {
                        let at = (column / GROUP * self.inner + k) * GROUP + column % GROUP;
                        let weight = match &self.packed {
                            Packed::Int8(codes) => f64::from(codes[at]),
                            Packed::F32(values) => f64::from(values[at]),
                        };
                        f64::from(a[row * self.inner + k]) * weight
                    })
                    .sum();
                let at = row * self.outer + column;
                let value = (sum * f64::from(self.scales[column])) as f32
                    + self.bias[column]
                    + residual.map_or(0.0, |r| r[at]);
                out[at] = self.clamp.apply(value);
            }
        }
    }
}

struct Run<'a> {
    linear: &'a Linear,
    a: &'a [f32],
    rows: usize,
    residual: Option<&'a [f32]>,
    out: &'a mut [f32],
    buffer: &'a mut Vec<f32>,
}

impl WithSimd for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Run {
            linear,
            a,
            rows,
            residual,
            out,
            buffer,
        } = self;
        let groups = linear.outer.div_ceil(GROUP);
        if let Packed::Int8(codes) = &linear.packed
            && rows <= FEW_ROWS
            && S::F32_LANES <= GROUP
        {
            return few_rows(simd, linear, codes, a, rows, residual, out);
        }
        let mut group = 0;
        while group < groups {
            let wide = panel_groups::<S>(groups - group);
            let width = wide * GROUP;
            fill(&linear.packed, linear.inner, group, wide, buffer);
            let columns = group * GROUP..(group * GROUP + width).min(linear.outer);
            let panel = Panel {
                inner: linear.inner,
                outer: linear.outer,
                first: columns.start,
                count: columns.len(),
                weights: &buffer[..linear.inner * width],
                scales: &linear.scales[group * GROUP..][..width],
                bias: &linear.bias[group * GROUP..][..width],
                limits: linear.clamp.limits(),
            };
            // Nested `if`s on constants: what the vectors at hand are too short for is not even compiled.
            if S::F32_LANES == 16 {
                match wide {
                    3 => panel.rows::<S, 3, 8>(simd, a, rows, residual, out),
                    2 => panel.rows::<S, 2, 12>(simd, a, rows, residual, out),
                    _ => panel.rows::<S, 1, 12>(simd, a, rows, residual, out),
                }
            } else if S::F32_LANES == 8 {
                panel.rows::<S, 2, 6>(simd, a, rows, residual, out);
            } else if S::F32_LANES == 4 {
                panel.rows::<S, 4, 6>(simd, a, rows, residual, out);
            } else {
                panel.rows::<S, 16, 1>(simd, a, rows, residual, out);
            }
            group += wide;
        }
    }
}

/// Up to so many rows weights are brought to f32 in registers: a panel would be used too seldom to pay.
const FEW_ROWS: usize = 128;

/// All columns for a few rows, straight from the codes.
#[inline(always)]
fn few_rows<S: Simd>(
    simd: S,
    linear: &Linear,
    codes: &[i8],
    a: &[f32],
    rows: usize,
    residual: Option<&[f32]>,
    out: &mut [f32],
) {
    let groups = codes.as_chunks::<GROUP>().0.chunks_exact(linear.inner);
    for (group, codes) in groups.enumerate() {
        let first = group * GROUP;
        let panel = Panel {
            inner: linear.inner,
            outer: linear.outer,
            first,
            count: GROUP.min(linear.outer - first),
            weights: &[],
            scales: &linear.scales[first..][..GROUP],
            bias: &linear.bias[first..][..GROUP],
            limits: linear.clamp.limits(),
        };
        let mut row = 0;
        while row < rows {
            let left = rows - row;
            let args = (simd, codes, a, row, residual, &mut *out);
            row += if S::F32_LANES == 16 {
                match left {
                    12.. => panel.few::<S, 1, 12>(args),
                    8.. => panel.few::<S, 1, 8>(args),
                    5.. => panel.few::<S, 1, 5>(args),
                    2.. => panel.few::<S, 1, 2>(args),
                    _ => panel.few::<S, 1, 1>(args),
                }
            } else if S::F32_LANES == 8 {
                match left {
                    5.. => panel.few::<S, 2, 5>(args),
                    2.. => panel.few::<S, 2, 2>(args),
                    _ => panel.few::<S, 2, 1>(args),
                }
            } else if S::F32_LANES == 4 {
                match left {
                    5.. => panel.few::<S, 4, 5>(args),
                    2.. => panel.few::<S, 4, 2>(args),
                    _ => panel.few::<S, 4, 1>(args),
                }
            } else {
                panel.few::<S, 16, 1>(args)
            };
        }
    }
}

/// How many groups the next panel has, of `left`. Vectors of 16 numbers make the best tile three wide: its panel
/// is smaller than one of four, so more of it stays in the first-level cache.
#[inline(always)]
fn panel_groups<S: Simd>(left: usize) -> usize {
    if S::F32_LANES < GROUP {
        return 1;
    }
    match left {
        4 => 2,
        left => left.min(3),
    }
}

/// Brings `wide` groups of weights to f32, `[inner][wide * 16]`.
#[inline(always)]
fn fill(packed: &Packed, inner: usize, group: usize, wide: usize, buffer: &mut Vec<f32>) {
    let width = wide * GROUP;
    if buffer.len() < inner * width {
        buffer.resize(inner * width, 0.0);
    }
    for part in 0..wide {
        let range = (group + part) * inner * GROUP..(group + part + 1) * inner * GROUP;
        let rows = buffer[..inner * width].chunks_exact_mut(width);
        match packed {
            Packed::Int8(codes) => {
                for (to, from) in rows.zip(codes[range].as_chunks::<GROUP>().0) {
                    let to = &mut to[part * GROUP..][..GROUP];
                    for (to, &code) in to.iter_mut().zip(from) {
                        *to = f32::from(code);
                    }
                }
            }
            Packed::F32(values) => {
                for (to, from) in rows.zip(values[range].as_chunks::<GROUP>().0) {
                    to[part * GROUP..][..GROUP].copy_from_slice(from);
                }
            }
        }
    }
}

/// What [`Panel::few`] works on: codes `[inner][16]`, activations, the first row, and as in [`Linear::run`].
type Few<'a, S> = (
    S,
    &'a [[i8; GROUP]],
    &'a [f32],
    usize,
    Option<&'a [f32]>,
    &'a mut [f32],
);

/// Some columns of the weights in f32, and what is done with their sums.
struct Panel<'a> {
    inner: usize,
    outer: usize,
    /// First column and number of columns.
    first: usize,
    count: usize,
    weights: &'a [f32],
    scales: &'a [f32],
    bias: &'a [f32],
    limits: (f32, f32),
}

impl Panel<'_> {
    /// All rows, `MR` at a time; `NV` vectors wide.
    #[inline(always)]
    fn rows<S: Simd, const NV: usize, const MR: usize>(
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
    fn few<S: Simd, const NV: usize, const MR: usize>(
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

/// A whole vector, or the beginning of one.
#[inline(always)]
pub(crate) fn load<S: Simd>(simd: S, from: &[f32]) -> S::f32s {
    match S::as_simd_f32s(from) {
        ([whole], []) => *whole,
        _ => simd.partial_load_f32s(from),
    }
}

#[inline(always)]
pub(crate) fn store<S: Simd>(simd: S, to: &mut [f32], value: S::f32s) {
    if to.len() == S::F32_LANES {
        S::as_mut_simd_f32s(to).0[0] = value;
    } else {
        simd.partial_store_f32s(to, value);
    }
}
