//! Products of int8 codes: the innermost tile of the integer products, once for each instruction set.
//!
//! This is the one module of the kernels with `unsafe` in it. `pulp` has no integer dot products, and neither the
//! compiler nor a safe crate makes `vpdpbusd` or `sdot` of a plain loop. On AVX-512 with VNNI long products reach 280 to
//! 390 thousand million operations a second where those in f32 reach 50 to 100; the default pack's image tower takes
//! half the time (docs/benchmarks.md, "Kernels").
//!
//! Unsafe are two things only: calling a function of an instruction set, which is done where [`Dot`] has made
//! sure that the machine has it, and loads and stores of vectors, from and to slices of their length.
//!
//! All instruction sets give the same numbers, to the last bit, for finite activations. Sums are exact: for codes of
//! activations in [-127, 127] and any codes of weights no step saturates, and no sum of at most [`MOST_INNER`]
//! products overflows. What follows is a fixed order of single operations without fused multiplication ([`Panel`]).
#![allow(unsafe_code)]

#[cfg(target_arch = "aarch64")]
mod arm;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::{
    iter::Zip,
    ops::Range,
    slice::{ChunksExact, ChunksExactMut, IterMut},
};

use super::GROUP;

/// Rows longer than this could overflow the sums: 2^31 / (127 * 128), rounded down to a power of two.
pub(super) const MOST_INNER: usize = 1 << 16;

/// Codes of a column's inner indices that lie beside each other: what one instruction takes.
pub(super) const QUAD: usize = 4;

/// Rows whose greatest amount is not above this count as zero: 127 divided by less could be infinite.
const NOTHING: f32 = 1e-35;

/// Four inner indices of all columns of a group.
type Cell = [i8; GROUP * QUAD];

/// An instruction set for products of int8 codes, which this machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dot(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(target_arch = "aarch64")]
    NeonDot,
}

/// Rows of activations by some groups of columns: `clamp(sum * row scale * column scale + bias + residual)`.
#[derive(Clone, Copy)]
pub(super) struct Panel<'a> {
    /// `[rows][quads * 4]`, as [`Dot::quantise`] makes them, and a scale for each row.
    pub codes: &'a [u8],
    pub row_scales: &'a [f32],
    /// `[groups][quads][16][4]`.
    pub weights: &'a [i8],
    /// 128 times the sum of each column's codes, `[groups * 16]`.
    pub offsets: &'a [i32],
    /// Of each column, `[groups * 16]`.
    pub scales: &'a [f32],
    pub bias: &'a [f32],
    pub limits: (f32, f32),
    /// Inner length in fours.
    pub quads: usize,
    /// As long as the results.
    pub residual: Option<&'a [f32]>,
    /// The columns among the `outer` of a row of results. The last group may have fewer than sixteen.
    pub columns: (usize, usize),
    pub outer: usize,
}

impl Dot {
    /// All that this machine has, the best first; the last is plain Rust.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
            {
                all.push(Self(Kind::Avx512Vnni));
            }
            if is_x86_feature_detected!("avx2") {
                all.push(Self(Kind::Avx2));
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            if std::arch::is_aarch64_feature_detected!("dotprod") {
                all.push(Self(Kind::NeonDot));
            }
            all.push(Self(Kind::Neon));
        }
        all.push(Self(Kind::Plain));
        all
    }

    /// The best that this machine has.
    pub fn best() -> Self {
        Self::all()[0]
    }

    /// How many groups of columns, of `left`, a panel is best given for so many rows.
    pub(super) fn groups(self, rows: usize, left: usize) -> usize {
        match (rows, left) {
            // So many sums at once that none has to wait for the one before.
            (1..=2, _) => left.min(8),
            (_, 4) => 2,
            _ => left.min(3),
        }
    }

    /// Brings rows of `inner` numbers to codes, `to`, with zeros beyond the ends of the rows, and gives a scale to
    /// each: its greatest amount / 127. Codes are `row * (127 / greatest)`, rounded to the nearest, half to even, in
    /// the form that [`Dot::run`] wants.
    ///
    /// # Panics
    /// When a slice does not have the length that the others ask for.
    pub(super) fn quantise(self, a: &[f32], inner: usize, to: &mut [u8], scales: &mut [f32]) {
        let length = inner.div_ceil(QUAD) * QUAD;
        assert_eq!(a.len(), scales.len() * inner);
        assert_eq!(to.len(), scales.len() * length);
        let rows = a.chunks_exact(inner);
        let lines = rows.zip(to.chunks_exact_mut(length)).zip(scales);
        // SAFETY: `Dot::all` makes these kinds only where the instructions were detected.
        match self.0 {
            Kind::Plain => lines.for_each(|((row, to), scale)| *scale = plain_quantise(row, to)),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { x86::quantise_avx2(lines) },
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni => unsafe { x86::quantise_avx512(lines) },
            #[cfg(target_arch = "aarch64")]
            Kind::Neon | Kind::NeonDot => unsafe { arm::quantise(lines) },
        }
    }

    /// Computes a panel for all rows, into `out` (`[rows][outer]`).
    ///
    /// # Panics
    /// When a slice does not have the length that the others ask for.
    pub(super) fn run(self, panel: &Panel<'_>, out: &mut [f32]) {
        let rows = panel.row_scales.len();
        let groups = panel.groups();
        assert_eq!(panel.codes.len(), rows * panel.quads * QUAD);
        assert_eq!(panel.weights.len(), groups * panel.quads * GROUP * QUAD);
        assert_eq!(panel.offsets.len(), groups * GROUP);
        assert_eq!(panel.scales.len(), groups * GROUP);
        assert_eq!(panel.bias.len(), groups * GROUP);
        assert_eq!(out.len(), rows * panel.outer);
        assert!(panel.residual.is_none_or(|r| r.len() == out.len()));
        assert!(panel.columns.0 <= panel.columns.1 && panel.columns.1 <= panel.outer);
        // SAFETY: `Dot::all` makes these kinds only where the instructions were detected.
        match self.0 {
            Kind::Plain => plain(panel, out),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { x86::avx2(panel, out) },
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni => unsafe { x86::avx512(panel, out) },
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => unsafe { arm::neon(panel, out) },
            #[cfg(target_arch = "aarch64")]
            Kind::NeonDot => unsafe { arm::neon_dot(panel, out) },
        }
    }
}

impl<'a> Panel<'a> {
    fn rows(&self) -> usize {
        self.row_scales.len()
    }

    fn groups(&self) -> usize {
        (self.columns.1 - self.columns.0).div_ceil(GROUP)
    }

    /// The cells of a group of columns, one for each four of inner indices.
    #[inline(always)]
    fn cells(&self, group: usize) -> &'a [Cell] {
        let cells = self.weights.as_chunks().0;
        &cells[group * self.quads..][..self.quads]
    }

    /// A row of activations in fours.
    #[inline(always)]
    fn row(&self, row: usize) -> &'a [[u8; QUAD]] {
        &self.codes.as_chunks().0[row * self.quads..][..self.quads]
    }

    /// Where up to `lanes` results of a row from the panel's `column` on are.
    #[inline(always)]
    fn place(&self, row: usize, column: usize, lanes: usize) -> Range<usize> {
        let first = (self.columns.0 + column).min(self.columns.1);
        let end = (first + lanes).min(self.columns.1);
        row * self.outer + first..row * self.outer + end
    }
}

/// Rows of activations, of codes, and their scales.
type Lines<'a> = Zip<Zip<ChunksExact<'a, f32>, ChunksExactMut<'a, u8>>, IterMut<'a, f32>>;

/// What a row of a greatest amount is multiplied with to have codes, and the scale of these.
#[inline(always)]
fn factor_and_scale(most: f32) -> (f32, f32) {
    match most > NOTHING {
        true => (127.0 / most, most / 127.0),
        false => (0.0, 0.0),
    }
}

/// Brings a row to codes; returns its scale.
pub(super) fn plain_quantise(row: &[f32], to: &mut [u8]) -> f32 {
    let most = row.iter().fold(0.0f32, |most, v| most.max(v.abs()));
    let (factor, scale) = factor_and_scale(most);
    let (to, rest) = to.split_at_mut(row.len());
    for (to, value) in to.iter_mut().zip(row) {
        *to = ((value * factor).round_ties_even() as i8).cast_unsigned();
    }
    rest.fill(0);
    scale
}

fn plain(panel: &Panel<'_>, out: &mut [f32]) {
    let (least, most) = panel.limits;
    for column in 0..panel.columns.1 - panel.columns.0 {
        let cells = panel.cells(column / GROUP);
        for row in 0..panel.rows() {
            let mut sum = 0;
            for (cell, codes) in cells.iter().zip(panel.row(row)) {
                let weights = &cell.as_chunks::<QUAD>().0[column % GROUP];
                for (&weight, &code) in weights.iter().zip(codes) {
                    sum += i32::from(weight) * i32::from(code.cast_signed());
                }
            }
            let at = panel.place(row, column, 1).start;
            let mut value = sum as f32 * panel.row_scales[row] * panel.scales[column];
            value += panel.bias[column];
            if let Some(residual) = panel.residual {
                value += residual[at];
            }
            out[at] = value.max(least).min(most);
        }
    }
}

/// Runs a tile of as many rows as there are left, up to the most that its registers hold.
#[allow(unused_macros)]
macro_rules! tiles {
    ($tile:ident, $rows:expr, $args:tt, $wide:tt, $most:literal $(, $fewer:literal)*) => {{
        let rows = $rows;
        let mut row = 0;
        while row < rows {
            row += match rows - row {
                $($fewer => tiles!(@call $tile, row, $args, $wide, $fewer),)*
                _ => tiles!(@call $tile, row, $args, $wide, $most),
            };
        }
    }};
    (@call $tile:ident, $row:expr, ($($arg:expr),*), ($($wide:literal)?), $most:literal) => {
        $tile::<$most $(, $wide)?>($row, $($arg),*)
    };
}
#[allow(unused_imports)]
use tiles;
