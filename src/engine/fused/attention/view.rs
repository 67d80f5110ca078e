//! Heads of a value of the graph, traced back to the rows that they were split from.

use tract_onnx::{pb::NodeProto, tract_hir::internal::*};

use super::{
    super::graph::{Graph, integer, integers},
    attend::Split,
};

/// A value `[sequences, heads, rows, depth]` of the graph, and what it was made from.
pub(super) struct View {
    pub value: String,
    pub part: usize,
    pub parts: usize,
    pub split: Split,
    /// What its numbers are multiplied by.
    pub scale: f32,
    /// A cache whose entry of this number stands before it.
    pub past: Option<(String, usize)>,
}

/// Whether the last two axes are exchanged, as those of keys before the product.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Turned {
    No,
    Yes,
}

/// Goes back from heads to the rows that they were split from.
pub(super) fn view(graph: &Graph<'_>, name: &str, turned: Turned) -> TractResult<Option<View>> {
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
        && let Some(&[part]) = graph.integers(&node.input[1])?.as_deref()
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
        && let Some(&[entry]) = graph.integers(&gather.input[1])?.as_deref()
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
pub(super) fn scaled<'g>(graph: &'g Graph<'_>, name: &'g str) -> TractResult<(&'g str, f32)> {
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
        match (graph.single(a)?, graph.single(b)?) {
            (None, Some(by)) if divides => (name, scale) = (a, scale / by),
            (None, Some(by)) => (name, scale) = (a, scale * by),
            (Some(by), None) if !divides => (name, scale) = (b, scale * by),
            _ => return Ok((name, scale)),
        }
    }
}

/// Both inputs of a node that takes two.
pub(super) fn two_inputs(node: &NodeProto) -> [&str; 2] {
    match node.input.as_slice() {
        [a, b] => [a, b],
        _ => ["", ""],
    }
}

/// The shape that a Reshape asks for, where it is written down.
pub(super) fn shape_constant(graph: &Graph<'_>, node: &NodeProto) -> TractResult<Option<Vec<i64>>> {
    match node.input.get(1) {
        // Then a 0 would be a length of nought instead of the input's.
        _ if integer(node, "allowzero").unwrap_or(0) != 0 => Ok(None),
        Some(shape) => graph.integers(shape),
        None => Ok(None),
    }
}
