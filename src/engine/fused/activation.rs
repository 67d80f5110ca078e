//! Activation functions that are written out behind a value.

use tract_onnx::{pb::NodeProto, tract_hir::internal::*};

use super::graph::Graph;
use crate::kernels::Activation;

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
        if let Some((activation, parts)) = function(graph, name, graph.node(last))?
            && graph.readers(name).len() == parts
            && !graph.is_output(name)
        {
            return Ok(Some((last, activation)));
        }
    }
    Ok(None)
}

/// The function of x that a product is, and how many times it reads x.
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
        return Ok(scale
            .filter(|_| a == x)
            .map(|s| (Activation::Sigmoid(s), 2)));
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
        return Ok(fits.then_some((Activation::Gelu, 2)));
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
    // x itself, x / 2, and three times in its cube.
    Ok(fits.then_some((Activation::TanhGelu, 5)))
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
