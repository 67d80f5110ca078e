//! Activation functions that are written out behind a value.

use std::collections::BTreeSet;

use tract_onnx::{pb::NodeProto, tract_hir::internal::*};

use super::graph::Graph;
use crate::kernels::Activation;

/// Of the longest function, GELU by Tanh.
const MOST_NODES: usize = 8;

/// The function that all readers of a value are parts of, and the node that makes its result.
pub(super) fn behind(graph: &Graph<'_>, name: &str) -> TractResult<Option<(usize, Activation)>> {
    for &reader in graph.readers(name) {
        let node = graph.node(reader);
        let [a, b] = node.input.as_slice() else {
            continue;
        };
        // x times a gate of x: the product is the last node.
        let last = match node.op_type.as_str() {
            "Mul" if a == name && graph.maker(b, "Sigmoid").is_some() => Some(reader),
            "Mul" if graph.single(b)? == Some(0.5) => graph.only_reader(&node.output[0]),
            _ => None,
        };
        let Some(last) = last.filter(|&last| graph.node(last).op_type == "Mul") else {
            continue;
        };
        if let Some((activation, nodes)) = function(graph, name, graph.node(last))?
            && between(graph, name, last) == Some(nodes)
        {
            return Ok(Some((last, activation)));
        }
    }
    Ok(None)
}

/// How many nodes stand on a value and come before `last`; none when an output of the graph is among what they make. Were
/// there one that is no part of the function, it would be left without its input.
fn between(graph: &Graph<'_>, name: &str, last: usize) -> Option<usize> {
    let mut seen = BTreeSet::new();
    let mut names = vec![name];
    while let Some(name) = names.pop() {
        if graph.is_output(name) || seen.len() > MOST_NODES {
            return None;
        }
        for &reader in graph.readers(name) {
            if reader != last && seen.insert(reader) {
                names.extend(graph.node(reader).output.iter().map(String::as_str));
            }
        }
    }
    Some(seen.len())
}

/// The function of x that a product is, and how many nodes make it from x, without the product itself.
fn function(
    graph: &Graph<'_>,
    x: &str,
    product: &NodeProto,
) -> TractResult<Option<(Activation, usize)>> {
    let [a, b] = product.input.as_slice() else {
        return Ok(None);
    };
    if let Some(gate) = graph.maker(b, "Sigmoid") {
        let scale = scaled(graph, x, &gate.input[0])?;
        let nodes = if gate.input[0] == x { 1 } else { 2 };
        return Ok(scale
            .filter(|_| a == x)
            .map(|s| (Activation::Sigmoid(s), nodes)));
    }
    if scaled(graph, x, a)? != Some(0.5) {
        return Ok(None);
    }
    let Some(gate) = graph.maker(b, "Add") else {
        return Ok(None);
    };
    let [bent, one] = gate.input.as_slice() else {
        return Ok(None);
    };
    if graph.single(one)? != Some(1.0) {
        return Ok(None);
    }
    if let Some(erf) = graph.maker(bent, "Erf") {
        let scale = scaled(graph, x, &erf.input[0])?;
        let fits = scale.is_some_and(|scale| near(scale, 0.5f32.sqrt()));
        return Ok(fits.then_some((Activation::Gelu, 4)));
    }
    let Some(inner) = graph
        .maker(bent, "Tanh")
        .and_then(|n| graph.maker(&n.input[0], "Mul"))
    else {
        return Ok(None);
    };
    let [sum, root] = inner.input.as_slice() else {
        return Ok(None);
    };
    let Some([linear, cubic]) = graph.maker(sum, "Add").map(|n| n.input.as_slice()) else {
        return Ok(None);
    };
    let fits = linear == x
        && graph
            .single(root)?
            .is_some_and(|root| near(root, std::f32::consts::FRAC_2_PI.sqrt()))
        && is_cubic(graph, x, cubic)?;
    Ok(fits.then_some((Activation::TanhGelu, MOST_NODES)))
}

/// Whether a value is 0.044715 x^3.
fn is_cubic(graph: &Graph<'_>, x: &str, name: &str) -> TractResult<bool> {
    let product = |name: &str| graph.maker(name, "Mul").map(|node| node.input.as_slice());
    let Some([cube, factor]) = product(name) else {
        return Ok(false);
    };
    let is_cube = matches!(product(cube), Some([square, last]) if last == x
        && matches!(product(square), Some([a, b]) if a == x && b == x));
    Ok(is_cube
        && graph
            .single(factor)?
            .is_some_and(|factor| near(factor, 0.044715)))
}

/// What x is multiplied by to give a value; 1 for x itself.
fn scaled(graph: &Graph<'_>, x: &str, name: &str) -> TractResult<Option<f32>> {
    match graph.maker(name, "Mul").map(|node| node.input.as_slice()) {
        None => Ok((name == x).then_some(1.0)),
        Some([a, b]) if a == x => graph.single(b),
        Some(_) => Ok(None),
    }
}

fn near(found: f32, expected: f32) -> bool {
    (found - expected).abs() <= 1e-6
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::{GraphProto, ValueInfoProto};

    use super::*;

    fn node(kind: &str, inputs: &[&str], output: &str) -> NodeProto {
        NodeProto {
            op_type: kind.to_owned(),
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            ..NodeProto::default()
        }
    }

    /// What is found behind x in a graph of SiLU and perhaps more.
    fn found(more: Option<NodeProto>, outputs: &[&str]) -> Option<(usize, Activation)> {
        let silu = [
            node("Sigmoid", &["x"], "gate"),
            node("Mul", &["x", "gate"], "y"),
        ];
        let output = |name: &&str| ValueInfoProto {
            name: (*name).to_owned(),
            ..ValueInfoProto::default()
        };
        let mut proto = GraphProto {
            node: silu.into_iter().chain(more).collect(),
            output: outputs.iter().map(output).collect(),
            ..GraphProto::default()
        };
        behind(&Graph::new(&mut proto).unwrap(), "x").unwrap()
    }

    #[test]
    fn a_function_whose_parts_somebody_else_needs_is_left_alone() {
        let silu = Some((1, Activation::Sigmoid(1.0)));
        assert_eq!(found(None, &["y"]), silu);
        assert_eq!(found(Some(node("Neg", &["y"], "z")), &["z"]), silu);
        for part in ["x", "gate"] {
            assert_eq!(found(None, &["y", part]), None);
            assert_eq!(found(Some(node("Neg", &[part], "z")), &["y", "z"]), None);
        }
    }
}
