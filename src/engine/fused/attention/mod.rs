//! Attention of several heads, from the projections to the joined heads; and the keys and values that a decoder keeps.
//!
//! Looked for are the nodes around a Softmax: heads split off by Reshape and Transpose ([`view`]), products with the transposed
//! keys, a scale before or behind them, a mask, the product with the values, heads put together again. Keys and values
//! may stand behind those of a cache `[sequences, parts, heads, positions, depth]`, and a Concat of all of these is the
//! cache of the next call. What runs in their place is in [`attend`].

mod attend;
mod view;

use tract_onnx::tract_hir::internal::*;

use self::{
    attend::{Attend, Keep, Past, Place},
    view::{Turned, View, scaled, shape_constant, two_inputs, view},
};
use super::{
    filled,
    graph::{Graph, integer, integers},
    op::{Work, op},
    values,
};

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
    // As many sequences as there are, or the one that there is.
    let joins = match joined[..] {
        [sequences, _, last] => {
            last == width && (sequences == 0 || (sequences == 1 && split.one_sequence))
        }
        _ => false,
    };
    let fits = key.split == split
        && value.split == split
        && query.past.is_none()
        && value.scale == 1.0
        && joins;
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
            Some(axes) => graph.integers(axes)?.as_deref() == Some(&[1]),
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
