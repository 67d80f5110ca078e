//! Attention of several heads, from the projections to the joined heads; and the keys and values that a decoder keeps.
//!
//! Looked for are the nodes around a Softmax: heads split off by Reshape and Transpose, products with the transposed
//! keys, a scale before or behind them, a mask, the product with the values, heads put together again. Keys and values
//! may stand behind those of a cache `[sequences, parts, heads, positions, depth]`, and a Concat of all of these is the
//! cache of the next call.

use std::cell::RefCell;

use tract_onnx::{pb::NodeProto, tract_hir::internal::*};

use super::{
    filled,
    graph::{Graph, integer, integers},
    op::{Work, op},
    values,
};
use crate::kernels::{Arch, Attention, Heads, Mask, Positions, Scratch};

thread_local! {
    /// Working memory of the loops.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::default());
}

/// Puts [`Attend`]s in the place of attentions, and [`Keep`]s where the cache grows.
pub(super) fn fuse(
    graph: &mut Graph<'_>,
    ops: &mut Vec<(String, Box<dyn InferenceOp>)>,
) -> TractResult<()> {
    for index in 0..graph.len() {
        let found = match graph.node(index).op_type.as_str() {
            "Softmax" => attention(graph, index)?,
            "Concat" => cache(graph, index)?.map(|(inputs, keep)| (index, inputs, op(keep))),
            _ => None,
        };
        if let Some((last, inputs, op)) = found {
            let name = format!("captiond.attention.{index}");
            let output = graph.node(last).output[0].clone();
            graph.replace(last, &name, inputs, &output);
            ops.push((name, op));
        }
    }
    Ok(())
}

/// Which of the op's inputs has some heads, and which part of its rows: `[sequences, rows, parts * heads * depth]`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Place {
    input: usize,
    part: usize,
    parts: usize,
}

/// How rows are split into heads.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Split {
    heads: usize,
    depth: usize,
    /// Whatever rows there are, they are one sequence.
    one_sequence: bool,
}

/// A value `[sequences, heads, rows, depth]` of the graph, and what it was made from.
struct View {
    value: String,
    part: usize,
    parts: usize,
    split: Split,
    /// What its numbers are multiplied by.
    scale: f32,
    /// A cache whose entry of this number stands before it.
    past: Option<(String, usize)>,
}

/// Names of inputs, each once.
#[derive(Default)]
struct Inputs(Vec<String>);

impl Inputs {
    fn number(&mut self, name: &str) -> usize {
        self.0.iter().position(|n| n == name).unwrap_or_else(|| {
            self.0.push(name.to_owned());
            self.0.len() - 1
        })
    }

    fn place(&mut self, view: &View) -> Place {
        Place {
            input: self.number(&view.value),
            part: view.part,
            parts: view.parts,
        }
    }
}

/// The attention around a Softmax: the node that puts its heads together, the op's inputs, and the op.
#[allow(clippy::type_complexity)]
fn attention(
    graph: &Graph<'_>,
    softmax: usize,
) -> TractResult<Option<(usize, Vec<String>, Box<dyn InferenceOp>)>> {
    let node = graph.node(softmax);
    if !matches!(integer(node, "axis"), Some(-1 | 3)) || node.input.len() != 1 {
        return Ok(None);
    }
    let (products, mask) = match graph.maker(&node.input[0], "Add") {
        None => (node.input[0].clone(), None),
        // The products are the side that stands on a MatMul.
        Some(add) => {
            let [a, b] = add.input.as_slice() else {
                return Ok(None);
            };
            let is_product = |name| -> TractResult<bool> {
                Ok(graph.maker(scaled(graph, name)?.0, "MatMul").is_some())
            };
            match (is_product(a)?, is_product(b)?) {
                (true, false) => (a.clone(), Some(b.clone())),
                (false, true) => (b.clone(), Some(a.clone())),
                _ => return Ok(None),
            }
        }
    };
    let (products, scale) = scaled(graph, &products)?;
    let Some([query, key]) = graph.maker(products, "MatMul").map(two_inputs) else {
        return Ok(None);
    };
    // Forward: the product with the values, and the heads put together.
    let behind = |name: &str, kind: &str| {
        let next = graph.only_reader(name)?;
        (graph.node(next).op_type == kind).then_some(next)
    };
    let Some(mix) = behind(&node.output[0], "MatMul") else {
        return Ok(None);
    };
    let [weights, value] = two_inputs(graph.node(mix));
    let Some(turn) = behind(&graph.node(mix).output[0], "Transpose") else {
        return Ok(None);
    };
    let Some(join) = behind(&graph.node(turn).output[0], "Reshape") else {
        return Ok(None);
    };
    if weights != node.output[0] || integers(graph.node(turn), "perm") != Some(&[0, 2, 1, 3]) {
        return Ok(None);
    }
    let (Some(query), Some(key), Some(value), Some(joined)) = (
        view(graph, query, Turned::No)?,
        view(graph, key, Turned::Yes)?,
        view(graph, value, Turned::No)?,
        shape_constant(graph, graph.node(join))?,
    ) else {
        return Ok(None);
    };
    let split = query.split;
    let width = (split.heads * split.depth) as i64;
    let fits = key.split == split
        && value.split == split
        && query.past.is_none()
        && value.scale == 1.0
        && matches!(joined[..], [_, _, last] if last == width);
    let mut inputs = Inputs::default();
    let past = match (&key.past, &value.past) {
        (None, None) => None,
        (Some((one, keys)), Some((other, values))) if one == other => Some(Past {
            input: inputs.number(one),
            keys: *keys,
            values: *values,
        }),
        _ => return Ok(None),
    };
    if !fits {
        return Ok(None);
    }
    let attend = Attend {
        split,
        scale: scale * query.scale * key.scale,
        queries: inputs.place(&query),
        keys: inputs.place(&key),
        values: inputs.place(&value),
        past,
        mask: mask.map(|name| inputs.number(&name)),
        inputs: inputs.0.len(),
    };
    Ok(Some((join, inputs.0, op(attend))))
}

/// A Concat of what a cache's entries are now, in their order.
fn cache(graph: &Graph<'_>, concat: usize) -> TractResult<Option<(Vec<String>, Keep)>> {
    let node = graph.node(concat);
    if integer(node, "axis") != Some(1) || node.input.len() < 2 {
        return Ok(None);
    }
    let mut inputs = Inputs::default();
    let mut split = None;
    let mut entries = Vec::new();
    for (number, name) in node.input.iter().enumerate() {
        let Some(unsqueeze) = graph.maker(name, "Unsqueeze") else {
            return Ok(None);
        };
        let at_1 = match unsqueeze.input.get(1) {
            Some(axes) => numbers(graph, axes)?.as_deref() == Some(&[1]),
            None => integers(unsqueeze, "axes") == Some(&[1]),
        };
        let Some(view) = view(graph, &unsqueeze.input[0], Turned::No)? else {
            return Ok(None);
        };
        match &view.past {
            Some((past, entry)) if at_1 && *entry == number && view.scale == 1.0 => {
                if inputs.number(past) != 0 {
                    return Ok(None);
                }
            }
            _ => return Ok(None),
        }
        if *split.get_or_insert(view.split) != view.split {
            return Ok(None);
        }
        entries.push(inputs.place(&view));
    }
    Ok(split.map(|split| {
        let inputs = inputs.0;
        let keep = Keep {
            split,
            entries,
            inputs: inputs.len(),
        };
        (inputs, keep)
    }))
}

/// Whether the last two axes are exchanged, as those of keys before the product.
#[derive(Clone, Copy, PartialEq)]
enum Turned {
    No,
    Yes,
}

/// Goes back from heads to the rows that they were split from.
fn view(graph: &Graph<'_>, name: &str, turned: Turned) -> TractResult<Option<View>> {
    let (name, scale) = scaled(graph, name)?;
    let with_scale = |view: Option<View>| {
        view.map(|view| View {
            scale: view.scale * scale,
            ..view
        })
    };
    if let Some(node) = graph.maker(name, "Transpose") {
        let from = &node.input[0];
        return match (integers(node, "perm"), turned) {
            (Some([0, 2, 1, 3]), Turned::No) | (Some([0, 2, 3, 1]), Turned::Yes) => {
                Ok(with_scale(split_rows(graph, from, 0, 1)?))
            }
            (Some([0, 1, 3, 2]), Turned::Yes) => Ok(with_scale(view(graph, from, Turned::No)?)),
            _ => Ok(None),
        };
    }
    if turned == Turned::Yes {
        return Ok(None);
    }
    // Queries, keys and values made in one product: `[parts, sequences, heads, rows, depth]`.
    if let Some(node) = graph.maker(name, "Gather")
        && integer(node, "axis").unwrap_or(0) == 0
        && let Some(turn) = graph.maker(&node.input[0], "Transpose")
        && integers(turn, "perm") == Some(&[2, 0, 3, 1, 4])
        && let Some(&[part]) = numbers(graph, &node.input[1])?.as_deref()
    {
        let made = split_rows(
            graph,
            &turn.input[0],
            usize::try_from(part).unwrap_or(usize::MAX),
            3,
        )?;
        return Ok(with_scale(made));
    }
    if let Some(node) = graph.maker(name, "Concat")
        && matches!(integer(node, "axis"), Some(2 | -2))
        && let [before, new] = node.input.as_slice()
        && let Some(gather) = graph.maker(before, "Gather")
        && integer(gather, "axis") == Some(1)
        && let Some(&[entry]) = numbers(graph, &gather.input[1])?.as_deref()
        && let Ok(entry) = usize::try_from(entry)
        && let Some(new) = view(graph, new, Turned::No)?
        && new.past.is_none()
        && new.scale * scale == 1.0
    {
        let past = Some((gather.input[0].clone(), entry));
        return Ok(Some(View { past, ..new }));
    }
    Ok(None)
}

/// A Reshape of rows to `[sequences, rows, heads, depth]`, or with `parts` before the heads if there are several.
fn split_rows(
    graph: &Graph<'_>,
    name: &str,
    part: usize,
    parts: usize,
) -> TractResult<Option<View>> {
    let Some(node) = graph.maker(name, "Reshape") else {
        return Ok(None);
    };
    let Some(shape) = shape_constant(graph, node)? else {
        return Ok(None);
    };
    let (sequences, heads, depth) = match (shape.as_slice(), parts) {
        (&[sequences, _, heads, depth], 1) => (sequences, heads, depth),
        (&[sequences, _, found, heads, depth], _) if found == parts as i64 => {
            (sequences, heads, depth)
        }
        _ => return Ok(None),
    };
    let (Ok(heads), Ok(depth)) = (usize::try_from(heads), usize::try_from(depth)) else {
        return Ok(None);
    };
    // 0 keeps as many sequences as there are.
    let fits = matches!(sequences, 0 | 1) && heads > 0 && depth > 0 && part < parts;
    let (value, by) = scaled(graph, &node.input[0])?;
    Ok(fits.then(|| View {
        value: value.to_owned(),
        part,
        parts,
        split: Split {
            heads,
            depth,
            one_sequence: sequences == 1,
        },
        scale: by,
        past: None,
    }))
}

/// What a value is made of by products with (or divisions by) single numbers, and their product.
fn scaled<'g>(graph: &'g Graph<'_>, name: &'g str) -> TractResult<(&'g str, f32)> {
    let (mut name, mut scale) = (name, 1.0);
    loop {
        let made = [("Mul", false), ("Div", true)];
        let found = made.into_iter().find_map(|(kind, divides)| {
            let node = graph.maker(name, kind)?;
            Some((node, divides))
        });
        let Some((node, divides)) = found else {
            return Ok((name, scale));
        };
        let [a, b] = two_inputs(node);
        let single = |name: &str| -> TractResult<Option<f32>> {
            let tensor = graph.floats(name)?.filter(|tensor| tensor.len() == 1);
            Ok(match tensor {
                Some(tensor) => values::<f32>(&tensor)?.first().copied(),
                None => None,
            })
        };
        match (single(a)?, single(b)?) {
            (None, Some(by)) if divides => (name, scale) = (a, scale / by),
            (None, Some(by)) => (name, scale) = (a, scale * by),
            (Some(by), None) if !divides => (name, scale) = (b, scale * by),
            _ => return Ok((name, scale)),
        }
    }
}

/// Both inputs of a node that takes two.
fn two_inputs(node: &NodeProto) -> [&str; 2] {
    match node.input.as_slice() {
        [a, b] => [a, b],
        _ => ["", ""],
    }
}

/// The shape that a Reshape asks for, where it is written down.
fn shape_constant(graph: &Graph<'_>, node: &NodeProto) -> TractResult<Option<Vec<i64>>> {
    match node.input.get(1) {
        Some(shape) => numbers(graph, shape),
        None => Ok(None),
    }
}

/// Whole numbers that stand in the graph.
fn numbers(graph: &Graph<'_>, name: &str) -> TractResult<Option<Vec<i64>>> {
    match graph.constant(name)? {
        Some(tensor) if tensor.datum_type() == i64::datum_type() => {
            Ok(Some(values::<i64>(&tensor)?.to_vec()))
        }
        _ => Ok(None),
    }
}

/// Entries of a cache.
#[derive(Debug, Clone, Copy)]
struct Past {
    input: usize,
    keys: usize,
    values: usize,
}

/// `softmax(q k' scale + mask) v` of all heads; `[sequences, rows, heads * depth]`.
#[derive(Debug)]
struct Attend {
    split: Split,
    scale: f32,
    queries: Place,
    keys: Place,
    values: Place,
    past: Option<Past>,
    mask: Option<usize>,
    inputs: usize,
}

impl Split {
    fn width(self) -> usize {
        self.heads * self.depth
    }

    /// Sequences and rows of an input.
    fn rows(self, place: Place, shape: &[usize]) -> TractResult<[usize; 2]> {
        let &[sequences, rows, width] = shape else {
            bail!("expected rows of sequences, found {shape:?}");
        };
        ensure!(
            width == place.parts * self.width(),
            "expected rows of {}, found {shape:?}",
            place.parts * self.width()
        );
        Ok(match self.one_sequence {
            true => [1, sequences * rows],
            false => [sequences, rows],
        })
    }

    fn heads<'a>(self, place: Place, values: &'a [f32], rows: usize) -> Heads<'a> {
        let width = place.parts * self.width();
        Heads {
            values,
            first: place.part * self.width(),
            sequence: rows * width,
            head: self.depth,
            row: width,
        }
    }
}

/// Positions that a cache `[sequences, entries, heads, positions, depth]` has.
fn kept(split: Split, sequences: usize, shape: &[usize], entries: usize) -> TractResult<usize> {
    match *shape {
        [s, e, heads, count, depth]
            if s == sequences && e >= entries && heads == split.heads && depth == split.depth =>
        {
            Ok(count)
        }
        _ => {
            bail!("a cache of {sequences} sequences and {split:?} has another shape than {shape:?}")
        }
    }
}

impl Work for Attend {
    const NAME: &'static str = "captiond.Attention";

    fn inputs(&self) -> usize {
        self.inputs
    }

    fn output_shape(&self, inputs: &[&[TDim]]) -> TractResult<TVec<TDim>> {
        let [sequences, rows, _] = inputs[self.queries.input] else {
            bail!(
                "expected rows of sequences, found {:?}",
                inputs[self.queries.input]
            );
        };
        let width = self.split.width().to_dim();
        Ok(match self.split.one_sequence {
            true => tvec!(1.to_dim(), sequences.clone() * rows, width),
            false => tvec!(sequences.clone(), rows.clone(), width),
        })
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let split = self.split;
        let [sequences, rows] = split.rows(self.queries, inputs[self.queries.input].shape())?;
        let part = |place: Place| -> TractResult<(Heads<'_>, [usize; 2])> {
            let input = &inputs[place.input];
            let [sequences, rows] = split.rows(place, input.shape())?;
            let heads = split.heads(place, values::<f32>(input)?, rows);
            Ok((heads, [sequences, rows]))
        };
        let (keys, of_keys) = part(self.keys)?;
        let (new_values, of_values) = part(self.values)?;
        ensure!(
            of_keys == of_values && of_keys[0] == sequences,
            "keys of {of_keys:?} sequences and rows, values of {of_values:?}"
        );
        let new = Positions {
            keys,
            values: new_values,
            count: of_keys[1],
        };
        let past = match self.past {
            None => Positions { count: 0, ..new },
            Some(past) => {
                let input = &inputs[past.input];
                let shape = input.shape();
                let count = kept(split, sequences, shape, past.keys.max(past.values) + 1)?;
                let block = split.width() * count;
                let numbers = values::<f32>(input)?;
                let entry = |entry: usize| Heads {
                    values: numbers,
                    first: entry * block,
                    sequence: shape[1] * block,
                    head: count * split.depth,
                    row: split.depth,
                };
                Positions {
                    keys: entry(past.keys),
                    values: entry(past.values),
                    count,
                }
            }
        };
        let count = past.count + new.count;
        let mask = match self.mask {
            None => None,
            Some(mask) => mask_of(&inputs[mask], [sequences, split.heads, rows], count)?,
        };
        filled(&[sequences, rows, split.width()], |out| {
            let attention = Attention {
                arch: Arch::new(),
                sequences,
                heads: split.heads,
                depth: split.depth,
                scale: self.scale,
                queries: part(self.queries)?.0,
                rows,
                positions: [past, new],
                mask,
            };
            SCRATCH.with_borrow_mut(|scratch| attention.run(out, scratch));
            Ok(())
        })
    }
}

/// A mask that may have ones for sequences, heads and rows, and fewer axes; none if it has one number for all positions,
/// which changes no softmax.
fn mask_of(mask: &Tensor, whole: [usize; 3], count: usize) -> TractResult<Option<Mask<'_>>> {
    let shape = mask.shape();
    let mut sizes = [1; 4];
    let Some(missing) = sizes.len().checked_sub(shape.len()) else {
        bail!("a mask of shape {shape:?}");
    };
    sizes[missing..].copy_from_slice(shape);
    if sizes[3] == 1 && count != 1 {
        return Ok(None);
    }
    let fits = sizes[..3]
        .iter()
        .zip(whole)
        .all(|(&size, whole)| size == 1 || size == whole);
    ensure!(
        fits && sizes[3] == count,
        "a mask of shape {shape:?} for {whole:?} sequences, heads and rows and {count} positions"
    );
    let mut steps = [0; 3];
    let mut step = count;
    for axis in (0..3).rev() {
        if sizes[axis] > 1 {
            steps[axis] = step;
        }
        step *= sizes[axis];
    }
    Ok(Some(Mask {
        values: values::<f32>(mask)?,
        steps,
    }))
}

/// The cache of the next call: each entry's positions, and the new ones behind them.
#[derive(Debug)]
struct Keep {
    split: Split,
    /// Of the new positions; the cache is input 0.
    entries: Vec<Place>,
    inputs: usize,
}

impl Work for Keep {
    const NAME: &'static str = "captiond.Cache";

    fn inputs(&self) -> usize {
        self.inputs
    }

    fn output_shape(&self, inputs: &[&[TDim]]) -> TractResult<TVec<TDim>> {
        let (mut shape, new): (TVec<TDim>, _) = (inputs[0].into(), inputs[self.entries[0].input]);
        let (Some(count), [sequences, rows, _]) = (shape.get_mut(3), new) else {
            bail!("a cache of shape {:?} for rows {new:?}", inputs[0]);
        };
        *count += match self.split.one_sequence {
            true => sequences.clone() * rows,
            false => rows.clone(),
        };
        Ok(shape)
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let split = self.split;
        let first = self.entries[0];
        let [sequences, new] = split.rows(first, inputs[first.input].shape())?;
        let shape = inputs[0].shape();
        let before = kept(split, sequences, shape, self.entries.len())?;
        ensure!(
            shape[1] == self.entries.len(),
            "a cache of {} entries, found {shape:?}",
            self.entries.len()
        );
        let past = values::<f32>(&inputs[0])?;
        let mut sources = Vec::with_capacity(self.entries.len());
        for &place in &self.entries {
            let input = &inputs[place.input];
            ensure!(
                split.rows(place, input.shape())? == [sequences, new],
                "new positions of shape {:?}",
                input.shape()
            );
            sources.push((place, values::<f32>(input)?));
        }
        let count = before + new;
        let mut grown: TVec<usize> = shape.into();
        grown[3] = count;
        let (old, whole) = (before * split.depth, count * split.depth);
        filled(&grown, |out| {
            // One head of one entry of one sequence after the other.
            for (at, out) in out.chunks_exact_mut(whole.max(1)).enumerate() {
                let (line, head) = (at / split.heads, at % split.heads);
                let (sequence, entry) = (line / sources.len(), line % sources.len());
                let (kept, added) = out.split_at_mut(old);
                kept.copy_from_slice(&past[at * old..][..old]);
                let (place, source) = sources[entry];
                let heads = split.heads(place, source, new);
                for (row, out) in added.chunks_exact_mut(split.depth).enumerate() {
                    out.copy_from_slice(heads.row([sequence, head, row], split.depth));
                }
            }
            Ok(())
        })
    }
}
