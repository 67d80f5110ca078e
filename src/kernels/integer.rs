//! Matrix products in integers: activations are brought to int8 too, each row with a scale of its own.
//!
//! A row's scale is its greatest amount / 127, its codes are rounded to the nearest, half to even. Sums are exact
//! ([`super::dot`]), and what follows is written without fused multiplication: `sum * row scale * column scale + bias
//! + residual`, in this order. So every instruction set gives the same numbers to the last bit.

use super::{
    Clamp, GROUP, Scratch,
    dot::{Dot, Panel, QUAD},
};

/// Bytes of codes that are made before they are used: they stay in the second-level cache.
const BLOCK: usize = 1 << 17;

/// Rows of codes that are made at once at least, however long they are.
const LEAST_ROWS: usize = 32;

/// int8 weights in the order that the instructions take them.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    dot: Dot,
    /// `[groups of 16 columns][quads][16][4]`, zeros beyond the last column and the last inner index.
    codes: Vec<i8>,
    /// 128 times the sum of each column, `[groups * 16]`.
    offsets: Vec<i32>,
    /// Inner length in fours.
    quads: usize,
}

impl Packed {
    /// Of codes in the order `[groups of 16 columns][inner][16]`.
    pub fn new(from: &[i8], inner: usize) -> Self {
        let quads = inner.div_ceil(QUAD);
        let groups = from.len() / (inner * GROUP);
        let mut codes = vec![0; groups * quads * QUAD * GROUP];
        let mut offsets = vec![0; groups * GROUP];
        let blocks = codes.chunks_exact_mut(quads * QUAD * GROUP);
        for (group, to) in blocks.enumerate() {
            let from = &from[group * inner * GROUP..][..inner * GROUP];
            for (k, row) in from.chunks_exact(GROUP).enumerate() {
                for (column, &code) in row.iter().enumerate() {
                    to[(k / QUAD * GROUP + column) * QUAD + k % QUAD] = code;
                    offsets[group * GROUP + column] += 128 * i32::from(code);
                }
            }
        }
        Self {
            dot: Dot::best(),
            codes,
            offsets,
            quads,
        }
    }

    pub fn on(self, dot: Dot) -> Self {
        Self { dot, ..self }
    }

    pub fn bytes(&self) -> usize {
        self.codes.len() + 4 * self.offsets.len()
    }

    /// Code of a weight.
    pub fn code(&self, row: usize, column: usize) -> i8 {
        let cell = (column / GROUP * self.quads + row / QUAD) * GROUP + column % GROUP;
        self.codes[cell * QUAD + row % QUAD]
    }
}

/// A product that is to be run.
pub(super) struct Run<'a> {
    pub packed: &'a Packed,
    pub inner: usize,
    pub outer: usize,
    /// A scale and a bias for each column, padded to whole groups.
    pub scales: &'a [f32],
    pub bias: &'a [f32],
    pub clamp: Clamp,
    pub a: &'a [f32],
    pub residual: Option<&'a [f32]>,
}

impl Run<'_> {
    /// Computes all rows.
    pub fn run(&self, out: &mut [f32], scratch: &mut Scratch) {
        let Scratch { codes, scales, .. } = scratch;
        let (packed, dot) = (self.packed, self.packed.dot);
        let length = packed.quads * QUAD;
        let most = (BLOCK / length).max(LEAST_ROWS);
        let blocks = self.a.chunks(most * self.inner);
        for (index, (a, out)) in blocks.zip(out.chunks_mut(most * self.outer)).enumerate() {
            let rows = a.len() / self.inner;
            // Grown only: every byte that is read is written first.
            if codes.len() < rows * length {
                codes.resize(rows * length, 0);
            }
            scales.resize(rows, 0.0);
            dot.quantise(a, self.inner, &mut codes[..rows * length], scales);
            let groups = self.scales.len() / GROUP;
            let mut group = 0;
            while group < groups {
                let wide = dot.groups(rows, groups - group);
                let columns = group * GROUP..(group + wide) * GROUP;
                let weights = packed.quads * QUAD * GROUP;
                let panel = Panel {
                    codes: &codes[..rows * length],
                    row_scales: scales,
                    weights: &packed.codes[group * weights..][..wide * weights],
                    offsets: &packed.offsets[columns.clone()],
                    scales: &self.scales[columns.clone()],
                    bias: &self.bias[columns.clone()],
                    limits: self.clamp.limits(),
                    quads: packed.quads,
                    residual: self
                        .residual
                        .map(|r| &r[index * most * self.outer..][..out.len()]),
                    columns: (columns.start, columns.end.min(self.outer)),
                    outer: self.outer,
                };
                dot.run(&panel, out);
                group += wide;
            }
        }
    }
}
