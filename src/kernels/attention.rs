//! Scaled dot-product attention of several heads (Vaswani et al., arXiv 1706.03762, equation 1):
//! `softmax(q k' scale + mask) v`.
//!
//! Queries, keys and values are read where the projections before them have left them, head by head inside the rows,
//! and keys and values may come in two parts: those that a decoder has kept from earlier words, and the new ones. So
//! nothing is transposed or joined beforehand. For a word or two the products are taken straight from there; for more
//! queries a head's keys and values are brought to the order of the matrix products' tiles.

use pulp::{Arch, Simd, WithSimd};

use super::{GROUP, Scratch, exp::exp, sum, tiles::Panel};

/// Rows of all heads, inside the numbers of a larger array.
#[derive(Debug, Clone, Copy)]
pub struct Heads<'a> {
    /// The array.
    pub values: &'a [f32],
    /// Where the first row of the first head is.
    pub first: usize,
    /// From a sequence to the next.
    pub sequence: usize,
    /// From a head to the next.
    pub head: usize,
    /// From a row to the next.
    pub row: usize,
}

impl<'a> Heads<'a> {
    /// The `depth` numbers of a row, by its sequence, head and number.
    #[inline(always)]
    pub fn row(&self, [sequence, head, row]: [usize; 3], depth: usize) -> &'a [f32] {
        let at = self.first + sequence * self.sequence + head * self.head + row * self.row;
        &self.values[at..at + depth]
    }
}

/// Some of the positions that are attended to.
#[derive(Debug, Clone, Copy)]
pub struct Positions<'a> {
    /// Their keys.
    pub keys: Heads<'a>,
    /// Their values.
    pub values: Heads<'a>,
    /// How many there are.
    pub count: usize,
}

/// What is added to the scaled products, `[sequences or 1, heads or 1, queries or 1, positions]`; a step of 0 where
/// there is one for all.
#[derive(Debug, Clone, Copy)]
pub struct Mask<'a> {
    /// Row-major.
    pub values: &'a [f32],
    /// From a sequence, a head and a query to the next.
    pub steps: [usize; 3],
}

/// One attention of all heads.
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// The instructions to use.
    pub arch: Arch,
    /// How many sequences, each with the same number of queries and positions.
    pub sequences: usize,
    /// How many heads.
    pub heads: usize,
    /// Numbers in a head's row.
    pub depth: usize,
    /// What products of queries and keys are multiplied by.
    pub scale: f32,
    /// Who asks.
    pub queries: Heads<'a>,
    /// How many rows of them.
    pub rows: usize,
    /// What is attended to, one after the other: the mask's positions are in this order.
    pub positions: [Positions<'a>; 2],
    /// Added before the softmax.
    pub mask: Option<Mask<'a>>,
}

/// Up to so many queries a head's keys are not worth being put in another order.
const FEW_QUERIES: usize = 4;

impl Attention<'_> {
    /// Row-major `[sequences, rows, heads * depth]`.
    ///
    /// # Panics
    /// When a slice is shorter than the numbers and steps ask for.
    pub fn run(&self, out: &mut [f32], scratch: &mut Scratch) {
        assert_eq!(
            out.len(),
            self.sequences * self.rows * self.heads * self.depth
        );
        self.arch.dispatch(Run {
            call: self,
            out,
            scratch,
        });
    }

    /// The same in plain Rust, sums in f64.
    pub fn reference(&self, out: &mut [f32]) {
        let width = self.heads * self.depth;
        for (at, out) in out.chunks_exact_mut(self.depth).enumerate() {
            let (line, head) = (at / self.heads, at % self.heads);
            let place = [line / self.rows, head, line % self.rows];
            assert_eq!(at * self.depth, line * width + head * self.depth);
            let query = self.queries.row(place, self.depth);
            let mut weights: Vec<f64> = self
                .each_position(place)
                .map(|(key, _)| {
                    let products = query.iter().zip(key);
                    let sum: f64 = products.map(|(&q, &k)| f64::from(q) * f64::from(k)).sum();
                    sum * f64::from(self.scale)
                })
                .collect();
            if let Some(mask) = self.mask_row(place) {
                for (weight, &mask) in weights.iter_mut().zip(mask) {
                    *weight += f64::from(mask);
                }
            }
            let peak = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            weights.iter_mut().for_each(|w| *w = (*w - peak).exp());
            let total: f64 = weights.iter().sum();
            for (i, out) in out.iter_mut().enumerate() {
                let values = self.each_position(place).map(|(_, value)| value[i]);
                let mixed: f64 = values.zip(&weights).map(|(v, w)| f64::from(v) * w).sum();
                *out = (mixed / total) as f32;
            }
        }
    }

    /// How many positions there are.
    fn count(&self) -> usize {
        self.positions.iter().map(|part| part.count).sum()
    }

    /// Key and value of each position, for a sequence and a head.
    #[inline(always)]
    fn each_position(
        &self,
        [sequence, head, _]: [usize; 3],
    ) -> impl Iterator<Item = (&[f32], &[f32])> {
        let depth = self.depth;
        self.positions.iter().flat_map(move |part| {
            (0..part.count).map(move |row| {
                let place = [sequence, head, row];
                (part.keys.row(place, depth), part.values.row(place, depth))
            })
        })
    }

    /// A query's part of the mask.
    #[inline(always)]
    fn mask_row(&self, place: [usize; 3]) -> Option<&[f32]> {
        let mask = self.mask?;
        let at: usize = place.iter().zip(mask.steps).map(|(i, step)| i * step).sum();
        Some(&mask.values[at..at + self.count()])
    }
}

struct Run<'a> {
    call: &'a Attention<'a>,
    out: &'a mut [f32],
    scratch: &'a mut Scratch,
}

impl WithSimd for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Run { call, out, scratch } = self;
        let one = call.rows * call.heads * call.depth;
        if one == 0 {
            return;
        }
        for (sequence, out) in out.chunks_exact_mut(one).enumerate() {
            for head in 0..call.heads {
                if call.rows <= FEW_QUERIES {
                    few_queries(simd, call, [sequence, head], out, &mut scratch.scores);
                } else {
                    many_queries(simd, call, [sequence, head], out, scratch);
                }
            }
        }
    }
}

/// One head of one sequence, query by query.
#[inline(always)]
fn few_queries<S: Simd>(
    simd: S,
    call: &Attention<'_>,
    [sequence, head]: [usize; 2],
    out: &mut [f32],
    weights: &mut Vec<f32>,
) {
    let width = call.heads * call.depth;
    for (row, out) in out.chunks_exact_mut(width).enumerate() {
        let place = [sequence, head, row];
        let query = call.queries.row(place, call.depth);
        weights.clear();
        for (key, _) in call.each_position(place) {
            weights.push(dot(simd, query, key) * call.scale);
        }
        softmax(simd, weights, call.mask_row(place));
        let out = &mut out[head * call.depth..][..call.depth];
        out.fill(0.0);
        for ((_, value), &weight) in call.each_position(place).zip(weights.iter()) {
            add_scaled(simd, out, value, weight);
        }
    }
}

/// One head of one sequence, by tiles of matrix products.
#[inline(always)]
fn many_queries<S: Simd>(
    simd: S,
    call: &Attention<'_>,
    [sequence, head]: [usize; 2],
    out: &mut [f32],
    scratch: &mut Scratch,
) {
    let (depth, rows, count) = (call.depth, call.rows, call.count());
    let Scratch {
        queries,
        scores,
        panel,
        ..
    } = scratch;
    queries.clear();
    for row in 0..rows {
        queries.extend_from_slice(call.queries.row([sequence, head, row], depth));
    }
    // Keys `[groups of 16 positions][depth][16]`.
    reserve(panel, count.div_ceil(GROUP) * GROUP * depth);
    panel[count / GROUP * GROUP * depth..].fill(0.0);
    for (at, (key, _)) in call.each_position([sequence, head, 0]).enumerate() {
        let group = &mut panel[at / GROUP * GROUP * depth..][..GROUP * depth];
        for (cells, &value) in group.chunks_exact_mut(GROUP).zip(key) {
            cells[at % GROUP] = value;
        }
    }
    scores.resize(rows * count, 0.0);
    product(
        simd,
        queries,
        (rows, depth),
        panel,
        (count, 0, count),
        call.scale,
        scores,
    );
    for (row, scores) in scores.chunks_exact_mut(count).enumerate() {
        softmax(simd, scores, call.mask_row([sequence, head, row]));
    }
    // Values `[groups of 16 columns][positions][16]`.
    reserve(panel, depth.div_ceil(GROUP) * GROUP * count);
    panel[depth / GROUP * GROUP * count..].fill(0.0);
    for (at, (_, value)) in call.each_position([sequence, head, 0]).enumerate() {
        for (group, part) in value.chunks(GROUP).enumerate() {
            panel[(group * count + at) * GROUP..][..part.len()].copy_from_slice(part);
        }
    }
    let columns = (call.heads * depth, head * depth, depth);
    product(simd, scores, (rows, count), panel, columns, 1.0, out);
}

/// Exactly so long. Old numbers may stay in it.
fn reserve(buffer: &mut Vec<f32>, length: usize) {
    buffer.resize(length, 0.0);
}

/// `a` (row-major `[rows, inner]`) times `weights` (`[groups of 16][inner][16]`) into columns `first..first + count` of
/// `out`, whose rows have `outer` numbers.
#[inline(always)]
fn product<S: Simd>(
    simd: S,
    a: &[f32],
    (rows, inner): (usize, usize),
    weights: &[f32],
    (outer, first, count): (usize, usize, usize),
    scale: f32,
    out: &mut [f32],
) {
    for (group, weights) in weights.chunks_exact(inner * GROUP).enumerate() {
        let panel = Panel {
            inner,
            outer,
            first: first + group * GROUP,
            count: GROUP.min(count - group * GROUP),
            weights,
            scales: &[scale; GROUP],
            bias: &[0.0; GROUP],
            limits: (f32::NEG_INFINITY, f32::INFINITY),
        };
        if S::F32_LANES == 16 {
            panel.rows::<S, 1, 12>(simd, a, rows, None, out);
        } else if S::F32_LANES == 8 {
            panel.rows::<S, 2, 6>(simd, a, rows, None, out);
        } else if S::F32_LANES == 4 {
            panel.rows::<S, 4, 6>(simd, a, rows, None, out);
        } else {
            panel.rows::<S, 16, 1>(simd, a, rows, None, out);
        }
    }
}

#[inline(always)]
fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    let mut sum = simd.splat_f32s(0.0);
    for (&a, &b) in a.iter().zip(b) {
        sum = simd.mul_add_e_f32s(a, b, sum);
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    simd.reduce_sum_f32s(sum) + rest
}

/// `to += from * by`.
#[inline(always)]
fn add_scaled<S: Simd>(simd: S, to: &mut [f32], from: &[f32], by: f32) {
    let ((to, to_rest), (from, from_rest)) = (S::as_mut_simd_f32s(to), S::as_simd_f32s(from));
    let factor = simd.splat_f32s(by);
    for (to, &from) in to.iter_mut().zip(from) {
        *to = simd.mul_add_e_f32s(from, factor, *to);
    }
    for (to, &from) in to_rest.iter_mut().zip(from_rest) {
        *to += from * by;
    }
}

/// Adds the mask, then `exp(x - peak) / sum`.
#[inline(always)]
fn softmax<S: Simd>(simd: S, row: &mut [f32], mask: Option<&[f32]>) {
    if let Some(mask) = mask {
        for (value, mask) in row.iter_mut().zip(mask) {
            *value += mask;
        }
    }
    let (vectors, rest) = S::as_simd_f32s(row);
    let mut peak = simd.splat_f32s(f32::NEG_INFINITY);
    for &vector in vectors {
        peak = simd.max_f32s(peak, vector);
    }
    let peak = rest
        .iter()
        .copied()
        .fold(simd.reduce_max_f32s(peak), f32::max);
    for value in row.iter_mut() {
        *value = exp(*value - peak);
    }
    let share = 1.0 / sum(simd, row);
    for value in row.iter_mut() {
        *value *= share;
    }
}
