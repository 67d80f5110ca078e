//! Norms of rows that are written out: the mean taken off, divided by the deviation, scaled and shifted.

use tract_onnx::tract_hir::internal::*;

use super::{
    filled,
    graph::{Graph, integer, integers},
    op::{Work, op},
    values,
};
use crate::kernels::{Arch, Norm};

/// Puts [`Normalise`]s in the place of such chains.
pub(super) fn fuse(
    graph: &mut Graph<'_>,
    ops: &mut Vec<(String, Box<dyn InferenceOp>)>,
) -> TractResult<()> {
    for index in 0..graph.len() {
        if graph.node(index).op_type != "Div" {
            continue;
        }
        let Some((last, input, norm)) = norm(graph, index)? else {
            continue;
        };
        let name = format!("captiond.norm.{index}");
        let output = graph.node(last).output[0].clone();
        graph.replace(last, &name, vec![input], &output);
        ops.push((name, op(Normalise(norm))));
    }
    Ok(())
}

/// The norm whose division a node is: its last node, its input, and the numbers.
fn norm(graph: &Graph<'_>, div: usize) -> TractResult<Option<(usize, String, Norm)>> {
    let [centred, deviation] = graph.node(div).input.as_slice() else {
        return Ok(None);
    };
    let Some(epsilon) = epsilon(graph, centred, deviation)? else {
        return Ok(None);
    };
    let Some((scaled, gain)) = by_constant(graph, &graph.node(div).output[0], "Mul")? else {
        return Ok(None);
    };
    let nothing = Vec::new();
    let found = match middle(graph, centred) {
        None => (scaled, centred.clone(), Norm::new(gain, nothing, epsilon)),
        Some(input) => {
            let output = &graph.node(scaled).output[0];
            let Some((last, shift)) = by_constant(graph, output, "Add")? else {
                return Ok(None);
            };
            (last, input, Norm::new(gain, shift, epsilon))
        }
    };
    let (last, input, norm) = found;
    Ok(norm.map(|norm| (last, input, norm)))
}

/// What is added to the mean square of a value under the root, if `deviation` is such a root.
fn epsilon(graph: &Graph<'_>, of: &str, deviation: &str) -> TractResult<Option<f32>> {
    let Some(root) = graph.maker(deviation, "Sqrt") else {
        return Ok(None);
    };
    let Some([mean, epsilon]) = graph
        .maker(&root.input[0], "Add")
        .map(|n| n.input.as_slice())
    else {
        return Ok(None);
    };
    let Some(square) = mean_of_rows(graph, mean).and_then(|name| graph.maker(name, "Mul")) else {
        return Ok(None);
    };
    let epsilon = graph.single(epsilon)?;
    Ok(epsilon.filter(|_| square.input.iter().all(|name| name == of)))
}

/// What the mean was taken off, if a value is such a difference.
fn middle(graph: &Graph<'_>, centred: &str) -> Option<String> {
    let [whole, mean] = graph.maker(centred, "Sub")?.input.as_slice() else {
        return None;
    };
    (mean_of_rows(graph, mean)? == whole).then(|| whole.clone())
}

/// What a value is the mean of, over the last axis.
fn mean_of_rows<'g>(graph: &'g Graph<'_>, name: &str) -> Option<&'g str> {
    let node = graph.maker(name, "ReduceMean")?;
    let keeps = integer(node, "keepdims").unwrap_or(1) == 1;
    match node.input.as_slice() {
        [of] if keeps && integers(node, "axes") == Some(&[-1]) => Some(of),
        _ => None,
    }
}

/// The node that alone reads a value and brings it together with a row of numbers.
fn by_constant(
    graph: &Graph<'_>,
    name: &str,
    kind: &str,
) -> TractResult<Option<(usize, Vec<f32>)>> {
    let Some(reader) = graph.only_reader(name) else {
        return Ok(None);
    };
    let node = graph.node(reader);
    let Some(other) = node.input.iter().find(|input| *input != name) else {
        return Ok(None);
    };
    if node.op_type != kind || node.input.len() != 2 {
        return Ok(None);
    }
    // A single number may stand for a row of any length.
    let is_row = |tensor: &Tensor| tensor.rank() == 1 && tensor.len() > 1;
    let found = graph.floats(other)?.filter(is_row);
    Ok(match found {
        Some(found) => Some((reader, values::<f32>(&found)?.to_vec())),
        None => None,
    })
}

/// A norm over the last axis.
#[derive(Debug)]
struct Normalise(Norm);

impl Work for Normalise {
    const NAME: &'static str = "captiond.Norm";

    fn output_shape(&self, inputs: &[&[TDim]]) -> TractResult<TVec<TDim>> {
        if let Some(found) = inputs[0].last().and_then(|last| last.to_usize().ok()) {
            let expected = self.0.width();
            ensure!(
                found == expected,
                "expected rows of {expected}, found {found}"
            );
        }
        Ok(inputs[0].into())
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let input = &inputs[0];
        ensure!(
            input.shape().last() == Some(&self.0.width()),
            "expected rows of {}, found {:?}",
            self.0.width(),
            input.shape()
        );
        let from = values::<f32>(input)?;
        filled(input.shape(), |to| {
            self.0.run(Arch::new(), from, to);
            Ok(())
        })
    }
}
