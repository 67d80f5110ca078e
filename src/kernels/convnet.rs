//! A chain of convolutions, channels last from its first layer to its last.
//!
//! Layers write into a few buffers that live from run to run, so a run allocates nothing. The inverted
//! residual blocks of the MobileNet family (Sandler et al., arXiv 1801.04381) widen a map six times, filter
//! every channel by itself and narrow it again: done whole, the wide map of an early block is megabytes that
//! go to memory and come back. Here a block is run in bands of rows, whose part of the wide map stays in the
//! second-level cache.

use super::{Clamp, Depthwise, Geometry, Linear, Scratch};

/// What a layer does with its input.
#[derive(Debug, Clone)]
pub enum Operation {
    /// A convolution of one position: `[positions, inner]` to `[positions, outer]`.
    Pointwise(Linear),
    /// A convolution over all channels; its rows of weights are in the order (kernel row, kernel column, channel).
    Full(Geometry, Linear),
    /// A convolution of each channel by itself.
    Depthwise(Depthwise),
    /// Adds the other value.
    Add(Clamp),
}

/// A layer. Values are numbered: 0 is the input, i + 1 the result of layer i.
#[derive(Debug, Clone)]
pub struct Layer {
    /// What it does.
    pub operation: Operation,
    /// The value that it reads.
    pub input: usize,
    /// A value of the result's shape that is added to it, for all but [`Operation::Depthwise`].
    pub other: Option<usize>,
}

/// A map's rows, columns and channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// Channels.
    pub channels: usize,
}

impl Shape {
    fn row(self) -> usize {
        self.columns * self.channels
    }

    fn len(self) -> usize {
        self.rows * self.row()
    }
}

/// Floats of a wide map that a band may have: a quarter of a megabyte, within the second-level cache of a
/// Raspberry Pi 4's core.
const BAND: usize = 1 << 16;

/// Positions that a band has at least: for fewer, bringing weights to f32 would cost too much.
const LEAST_POSITIONS: usize = 128;

/// Layers that are run together; the last one's result is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    One(usize),
    /// Widen (where there is such a layer), filter, narrow: the layer that filters.
    Block {
        widen: bool,
        filter: usize,
    },
}

impl Group {
    fn last(self) -> usize {
        match self {
            Self::One(layer) => layer,
            Self::Block { filter, .. } => filter + 1,
        }
    }
}

/// Layers with their plan, ready to run.
#[derive(Debug, Clone)]
pub struct Convnet {
    layers: Vec<Layer>,
    /// One more than layers.
    shapes: Vec<Shape>,
    groups: Vec<Group>,
    /// The buffer of each value that is kept.
    slots: Vec<usize>,
    slot_count: usize,
}

/// Buffers of a run.
#[derive(Debug, Default)]
pub struct Memory {
    slots: Vec<Vec<f32>>,
    wide: Vec<f32>,
    filtered: Vec<f32>,
    scratch: Scratch,
}

impl Convnet {
    /// Plans layers for an input shape. Returns `None` when they do not fit each other; the result is
    /// the last layer's.
    pub fn new(input: Shape, layers: Vec<Layer>) -> Option<Self> {
        let mut shapes = vec![input];
        for layer in &layers {
            let from = *shapes.get(layer.input)?;
            let shape = match &layer.operation {
                Operation::Pointwise(linear) => {
                    (from.channels == linear.inner()).then_some(Shape {
                        channels: linear.outer(),
                        ..from
                    })
                }
                Operation::Full(geometry, linear) => {
                    let taps = geometry.kernel[0] * geometry.kernel[1];
                    let fits = geometry.size == [from.rows, from.columns]
                        && taps * from.channels == linear.inner();
                    let [rows, columns] = geometry.output()?;
                    fits.then_some(Shape {
                        rows,
                        columns,
                        channels: linear.outer(),
                    })
                }
                Operation::Depthwise(depthwise) => {
                    let fits = depthwise.geometry().size == [from.rows, from.columns]
                        && depthwise.channels() == from.channels
                        && layer.other.is_none();
                    let [rows, columns] = depthwise.output();
                    fits.then_some(Shape {
                        rows,
                        columns,
                        channels: from.channels,
                    })
                }
                Operation::Add(_) => layer.other.map(|_| from),
            }?;
            if let Some(other) = layer.other
                && *shapes.get(other)? != shape
            {
                return None;
            }
            shapes.push(shape);
        }
        if layers.is_empty() {
            return None;
        }
        let groups = groups(&layers);
        let (slots, slot_count) = slots(&layers, &groups);
        Some(Self {
            layers,
            shapes,
            groups,
            slots,
            slot_count,
        })
    }

    /// Shape of the input.
    pub fn input(&self) -> Shape {
        self.shapes[0]
    }

    /// Shape of the result.
    pub fn output(&self) -> Shape {
        self.shapes[self.layers.len()]
    }

    /// Bytes that the weights take.
    pub fn bytes(&self) -> usize {
        let layers = self.layers.iter();
        layers
            .map(|layer| match &layer.operation {
                Operation::Pointwise(linear) | Operation::Full(_, linear) => linear.bytes(),
                Operation::Depthwise(depthwise) => depthwise.bytes(),
                Operation::Add(_) => 0,
            })
            .sum()
    }

    /// Runs on `input`, channels first (`[channels, rows, columns]`); so is `out`.
    ///
    /// # Panics
    /// When a slice does not have the length that the shapes ask for.
    pub fn run(&self, input: &[f32], out: &mut [f32], memory: &mut Memory) {
        let (first, last) = (self.input(), self.output());
        assert_eq!((input.len(), out.len()), (first.len(), last.len()));
        memory.slots.resize_with(self.slot_count, Vec::new);
        let mut start = std::mem::take(&mut memory.slots[self.slots[0]]);
        start.resize(first.len(), 0.0);
        transpose(input, first.channels, &mut start);
        memory.slots[self.slots[0]] = start;
        for group in &self.groups {
            let value = group.last() + 1;
            let slot = self.slots[value];
            let mut result = std::mem::take(&mut memory.slots[slot]);
            result.resize(self.shapes[value].len(), 0.0);
            match *group {
                Group::One(layer) => self.one(layer, &mut result, memory),
                Group::Block { widen, filter } => self.block(widen, filter, &mut result, memory),
            }
            memory.slots[slot] = result;
        }
        let result = &memory.slots[self.slots[self.layers.len()]];
        transpose(result, last.rows * last.columns, out);
    }

    fn one(&self, index: usize, result: &mut [f32], memory: &mut Memory) {
        let Memory {
            slots,
            wide,
            scratch,
            ..
        } = memory;
        let layer = &self.layers[index];
        let (from, to) = (self.shapes[layer.input], self.shapes[index + 1]);
        let input = &slots[self.slots[layer.input]];
        let other = layer.other.map(|other| slots[self.slots[other]].as_slice());
        match &layer.operation {
            Operation::Pointwise(linear) => {
                linear.run(input, to.rows * to.columns, other, result, scratch);
            }
            Operation::Full(geometry, linear) => {
                // Short rows together: all weights are read once for each batch.
                let batch = (LEAST_POSITIONS / to.columns).clamp(1, to.rows);
                let row = to.columns * linear.inner();
                wide.resize(batch * row, 0.0);
                for (index, out) in result.chunks_mut(batch * to.row()).enumerate() {
                    let rows = out.len() / to.row();
                    for (y, wide) in wide.chunks_exact_mut(row).enumerate().take(rows) {
                        patches(input, geometry, from.channels, index * batch + y, wide);
                    }
                    let at = index * batch * to.row();
                    let other = other.map(|other| &other[at..][..out.len()]);
                    linear.run(&wide[..rows * row], rows * to.columns, other, out, scratch);
                }
            }
            Operation::Depthwise(depthwise) => depthwise.run(input, 0, 0..to.rows, result),
            Operation::Add(clamp) => {
                let other = other.unwrap_or_default();
                for ((sum, a), b) in result.iter_mut().zip(input).zip(other) {
                    *sum = clamp.apply(a + b);
                }
            }
        }
    }

    fn block(&self, widen: bool, filter: usize, result: &mut [f32], memory: &mut Memory) {
        let Memory {
            slots,
            wide,
            filtered,
            scratch,
        } = memory;
        let (middle, narrow) = (&self.layers[filter], &self.layers[filter + 1]);
        let (Operation::Depthwise(depthwise), Operation::Pointwise(narrowing)) =
            (&middle.operation, &narrow.operation)
        else {
            return;
        };
        let (from, to) = (self.shapes[middle.input], self.shapes[filter + 2]);
        let geometry = depthwise.geometry();
        let (kernel, stride, before) =
            (geometry.kernel[0], geometry.strides[0], geometry.before[0]);
        let band = ((BAND / from.row()).saturating_sub(kernel) / stride + 1)
            .max(LEAST_POSITIONS.div_ceil(to.columns));
        let other = narrow
            .other
            .map(|other| slots[self.slots[other]].as_slice());
        let row = to.columns * from.channels;
        // Rows of the wide map that are in the buffer.
        let mut held = 0..0;
        for first in (0..to.rows).step_by(band) {
            let rows = first..(first + band).min(to.rows);
            let needed = (first * stride).saturating_sub(before)
                ..((rows.end - 1) * stride + kernel)
                    .saturating_sub(before)
                    .min(from.rows);
            let input: &[f32] = match widen {
                false => {
                    held = 0..from.rows;
                    &slots[self.slots[middle.input]]
                }
                true => {
                    let layer = &self.layers[filter - 1];
                    let source = &slots[self.slots[layer.input]];
                    let Operation::Pointwise(widening) = &layer.operation else {
                        return;
                    };
                    // What the bands share is kept, the rest computed.
                    let kept = needed.start.clamp(held.start, held.end)..held.end;
                    let length = from.row();
                    wide.copy_within(
                        (kept.start - held.start) * length..(kept.end - held.start) * length,
                        0,
                    );
                    let start = if kept.is_empty() {
                        needed.start
                    } else {
                        kept.end
                    };
                    let start = start.min(needed.end);
                    let kept = kept.len();
                    let count = needed.end.saturating_sub(start);
                    if wide.len() < (kept + count) * length {
                        wide.resize((kept + count) * length, 0.0);
                    }
                    let narrow = from.columns * widening.inner();
                    widening.run(
                        &source[start * narrow..(start + count) * narrow],
                        count * from.columns,
                        None,
                        &mut wide[kept * length..(kept + count) * length],
                        scratch,
                    );
                    held = start - kept..start + count;
                    &wide[..held.len() * length]
                }
            };
            filtered.resize(rows.len() * row, 0.0);
            depthwise.run(input, held.start, rows.clone(), filtered);
            let range = rows.start * to.row()..rows.end * to.row();
            narrowing.run(
                filtered,
                rows.len() * to.columns,
                other.map(|other| &other[range.clone()]),
                &mut result[range],
                scratch,
            );
        }
    }
}

/// Joins the layers of inverted residual blocks, where nothing else reads the values between them.
fn groups(layers: &[Layer]) -> Vec<Group> {
    let readers = |value: usize| {
        let all = layers.iter();
        all.filter(|layer| layer.input == value || layer.other == Some(value))
            .count()
    };
    // The value that a layer makes goes to the next layer and nowhere else.
    let passes = |layer: usize| {
        readers(layer + 1) == 1
            && layers
                .get(layer + 1)
                .is_some_and(|next| next.input == layer + 1)
    };
    let pointwise = |layer: usize| {
        layers
            .get(layer)
            .is_some_and(|layer| matches!(layer.operation, Operation::Pointwise(_)))
    };
    let depthwise = |layer: usize| {
        layers
            .get(layer)
            .is_some_and(|layer| matches!(layer.operation, Operation::Depthwise(_)))
    };
    let mut groups = Vec::new();
    let mut at = 0;
    while at < layers.len() {
        let widen = pointwise(at) && layers[at].other.is_none() && passes(at) && depthwise(at + 1);
        let filter = at + usize::from(widen);
        if depthwise(filter) && passes(filter) && pointwise(filter + 1) {
            groups.push(Group::Block { widen, filter });
            at = filter + 2;
        } else {
            groups.push(Group::One(at));
            at += 1;
        }
    }
    groups
}

/// A buffer for each value that is kept: one that nothing reads any more is used again.
fn slots(layers: &[Layer], groups: &[Group]) -> (Vec<usize>, usize) {
    let last_use = |value: usize| {
        let uses = layers
            .iter()
            .rposition(|layer| layer.input == value || layer.other == Some(value));
        match uses {
            _ if value == layers.len() => layers.len(),
            Some(layer) => layer,
            None => 0,
        }
    };
    let mut slots = vec![0; layers.len() + 1];
    // The value that each buffer holds.
    let mut held = vec![0];
    for group in groups {
        let value = group.last() + 1;
        // A buffer is free when its value's last reader is before this group's first layer.
        let begin = match *group {
            Group::One(layer) => layer,
            Group::Block { widen, filter } => filter - usize::from(widen),
        };
        let free = held.iter().position(|&old| last_use(old) < begin);
        let slot = free.unwrap_or(held.len());
        match free {
            Some(slot) => held[slot] = value,
            None => held.push(value),
        }
        slots[value] = slot;
    }
    (slots, held.len())
}

/// Row-major `[rows, length / rows]` turned over.
fn transpose(from: &[f32], rows: usize, to: &mut [f32]) {
    let columns = from.len() / rows;
    // Blocks, so that neither side jumps through memory.
    const SIDE: usize = 16;
    for top in (0..rows).step_by(SIDE) {
        for left in (0..columns).step_by(SIDE) {
            for row in top..(top + SIDE).min(rows) {
                let line = &from[row * columns..][..columns];
                for column in left..(left + SIDE).min(columns) {
                    to[column * rows + row] = line[column];
                }
            }
        }
    }
}

/// What the kernel sees at each position of row `y`: `[columns][kernel rows][kernel columns][channels]`.
fn patches(input: &[f32], geometry: &Geometry, channels: usize, y: usize, to: &mut [f32]) {
    let [rows, columns] = geometry.size;
    let [high, wide] = geometry.kernel;
    let run = wide * channels;
    for (x, patch) in to.chunks_exact_mut(high * run).enumerate() {
        let left = x * geometry.strides[1];
        // Kernel columns that lie within the input.
        let first = geometry.before[1].saturating_sub(left).min(wide);
        let end = (columns + geometry.before[1])
            .saturating_sub(left)
            .min(wide);
        for (ky, line) in patch.chunks_exact_mut(run).enumerate() {
            let row = (y * geometry.strides[0] + ky).wrapping_sub(geometry.before[0]);
            if row >= rows || first >= end {
                line.fill(0.0);
                continue;
            }
            let from = (row * columns + left + first - geometry.before[1]) * channels;
            let length = (end - first) * channels;
            line[..first * channels].fill(0.0);
            line[first * channels..][..length].copy_from_slice(&input[from..from + length]);
            line[end * channels..].fill(0.0);
        }
    }
}
