//! Matrix products: activations in f32, weights in int8 (one scale a column) or f32. [`Linear::in_integers`] makes one
//! whose activations are brought to int8, too ([`super::integer`]).
//!
//! Weights stay as small as they are in the file. A panel of them, as many columns as a tile of registers is
//! wide, is brought to f32 in a buffer that fits the cache and used for all rows: with the 10 to 17,000 rows of a
//! network's layer the conversion costs little, and f32 copies of all weights are never made. The scale of
//! a column is applied to its sum, so results differ from weights that are scaled first in the last digit
//! only.

use pulp::{Arch, Simd, WithSimd};

use super::{
    Clamp, Dot, GROUP, Scratch,
    dot::{MOST_INNER, plain_quantise},
    integer,
    tiles::Panel,
};

/// Weights of a linear map, row-major `[inner, outer]`.
#[derive(Debug, Clone, Copy)]
pub enum Weights<'a> {
    /// Codes and a scale for each column.
    Int8(&'a [i8], &'a [f32]),
    /// As they are.
    F32(&'a [f32]),
}

#[derive(Debug, Clone)]
enum Packed {
    Int8(Vec<i8>),
    F32(Vec<f32>),
    /// For activations in int8.
    Integer(integer::Packed),
}

/// `clamp(a W + bias + residual)` with W `[inner, outer]`, ready to run.
#[derive(Debug, Clone)]
pub struct Linear {
    arch: Arch,
    inner: usize,
    outer: usize,
    /// `[groups of 16 columns][inner][16]`, zeros beyond the last column; [`integer::Packed`] has its own order.
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
        // Never -0: then no result is, and limits treat all results alike on every machine.
        let mut bias: Vec<f32> = bias.iter().map(|bias| bias + 0.0).collect();
        bias.resize(padded, 0.0);
        Some(Self {
            arch: Arch::new(),
            inner,
            outer,
            packed,
            scales,
            bias,
            clamp,
        })
    }

    /// The same on other instructions than this machine's best.
    pub fn on(self, arch: Arch) -> Self {
        Self { arch, ..self }
    }

    /// The same on other instructions for sums of int8 products, of those that the machine has.
    pub fn on_dot(mut self, dot: Dot) -> Self {
        if let Packed::Integer(packed) = self.packed {
            self.packed = Packed::Integer(packed.on(dot));
        }
        self
    }

    /// The same with activations brought to int8, a scale for each row, and sums in integers. Weights in f32
    /// stay as they are, and so do rows of more than 65,536 numbers.
    pub fn in_integers(mut self) -> Self {
        if let Packed::Int8(codes) = &self.packed
            && self.inner <= MOST_INNER
        {
            self.packed = Packed::Integer(integer::Packed::new(codes, self.inner));
        }
        self
    }

    /// Whether activations are brought to int8.
    pub fn is_in_integers(&self) -> bool {
        matches!(self.packed, Packed::Integer(_))
    }

    /// Whether integers make it faster, once more than a third: a row's `inner` numbers are brought to codes and its
    /// `outer` sums to f32, which the products have to outweigh.
    pub fn pays_in_integers(&self) -> bool {
        self.inner * self.outer >= LEAST_GAIN * (self.inner + self.outer)
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
            Packed::Integer(packed) => packed.bytes(),
        };
        weights + 4 * (self.scales.len() + self.bias.len())
    }

    /// Rows of `a` (row-major `[rows, inner]`) to rows of `out` (`[rows, outer]`). `residual`, as long
    /// as `out`, is added before the limits are applied.
    ///
    /// # Panics
    /// When a slice does not have the length that `rows` asks for.
    pub fn run(
        &self,
        a: &[f32],
        rows: usize,
        residual: Option<&[f32]>,
        out: &mut [f32],
        scratch: &mut Scratch,
    ) {
        assert_eq!(a.len(), rows * self.inner);
        assert_eq!(out.len(), rows * self.outer);
        assert!(residual.is_none_or(|r| r.len() == out.len()));
        if let Packed::Integer(packed) = &self.packed {
            let run = integer::Run {
                packed,
                inner: self.inner,
                outer: self.outer,
                scales: &self.scales,
                bias: &self.bias,
                clamp: self.clamp,
                a,
                residual,
            };
            return run.run(out, scratch);
        }
        self.arch.dispatch(Run {
            linear: self,
            a,
            rows,
            residual,
            out,
            buffer: &mut scratch.panel,
        });
    }

    /// The same in plain Rust, sums in f64; in integers, to the last bit what [`Linear::run`] gives.
    pub fn reference(&self, a: &[f32], rows: usize, residual: Option<&[f32]>, out: &mut [f32]) {
        if let Packed::Integer(packed) = &self.packed {
            return self.integer_reference(packed, a, residual, out);
        }
        for row in 0..rows {
            for column in 0..self.outer {
                let sum: f64 = (0..self.inner)
                    .map(|k| {
                        let at = (column / GROUP * self.inner + k) * GROUP + column % GROUP;
                        let weight = match &self.packed {
                            Packed::Int8(codes) => f64::from(codes[at]),
                            Packed::F32(values) => f64::from(values[at]),
                            Packed::Integer(_) => f64::NAN,
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

    fn integer_reference(
        &self,
        packed: &integer::Packed,
        a: &[f32],
        residual: Option<&[f32]>,
        out: &mut [f32],
    ) {
        let mut codes = vec![0; self.inner];
        let rows = a.chunks_exact(self.inner);
        for (row, (a, out)) in rows.zip(out.chunks_exact_mut(self.outer)).enumerate() {
            let scale = plain_quantise(a, &mut codes);
            for (column, out) in out.iter_mut().enumerate() {
                let products = codes.iter().enumerate();
                let sum: i32 = products
                    .map(|(k, &code)| {
                        i32::from(code.cast_signed()) * i32::from(packed.code(k, column))
                    })
                    .sum();
                let value = sum as f32 * scale * self.scales[column] + self.bias[column];
                let residual = residual.map_or(0.0, |r| r[row * self.outer + column]);
                *out = self.clamp.apply(value + residual);
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

/// See [`Linear::pays_in_integers`]; by measurement on AVX-512 (docs/benchmarks.md, "Kernels").
const LEAST_GAIN: usize = 17;

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
            // Has loops of its own.
            Packed::Integer(_) => {}
        }
    }
}
