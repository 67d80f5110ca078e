//! MatMul with int8 weights, the Add of a bias behind it, and the activation function behind that.

use std::cell::RefCell;

use crate::kernels::{Activation, Arch, Clamp, Linear, Scratch, Weights};
use tract_onnx::tract_hir::internal::*;

use super::{
    Activations, activation, filled,
    graph::{Graph, Quantised, integers},
    op::{Work, op},
    values, with_activations,
};

thread_local! {
    /// Working memory of the products.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::default());
}

/// Puts [`Product`]s in the place of products with int8 weights.
pub(super) fn fuse(
    graph: &mut Graph<'_>,
    activations: Activations,
    ops: &mut Vec<(String, Box<dyn InferenceOp>)>,
) -> TractResult<()> {
    for index in 0..graph.len() {
        let node = graph.node(index);
        if node.op_type != "MatMul" || node.input.len() != 2 || node.output.len() != 1 {
            continue;
        }
        let (input, mut output) = (node.input[0].clone(), node.output[0].clone());
        let Some((codes, scales, [inner, outer])) = matrix(graph, &node.input[1].clone())? else {
            continue;
        };
        let mut bias = Vec::new();
        let mut spare = None;
        if let Some(add) = graph.only_reader(&output)
            && graph.node(add).op_type == "Add"
            && let Some(other) = graph.node(add).input.iter().find(|name| **name != output)
            && let Some(found) = graph.floats(other)?
            && found.shape() == [outer]
        {
            bias = values::<f32>(&found)?.to_vec();
            output.clone_from(&graph.node(add).output[0]);
            spare = Some(add);
        }
        let weights = Weights::Int8(&codes, &scales);
        let Some(linear) = Linear::new(weights, inner, outer, &bias, Clamp::default()) else {
            continue;
        };
        let linear = with_activations(linear, activations);
        if let Some(add) = spare {
            graph.remove(add);
        }
        let then = activation::behind(graph, &output)?;
        if let Some((last, _)) = then {
            output.clone_from(&graph.node(last).output[0]);
            graph.remove(last);
        }
        let name = format!("captiond.product.{index}");
        graph.replace(index, &name, vec![input], &output);
        let then = then.map(|(_, activation)| activation);
        ops.push((name, op(Product { linear, then })));
    }
    Ok(())
}

/// Codes `[inner, outer]` with a scale for each column, of the matrix that a value is.
#[allow(clippy::type_complexity)]
fn matrix(graph: &Graph<'_>, name: &str) -> TractResult<Option<(Vec<i8>, Vec<f32>, [usize; 2])>> {
    let turned = graph
        .maker(name, "Transpose")
        .filter(|node| matches!(integers(node, "perm"), None | Some([1, 0])))
        .and_then(|node| node.input.first().cloned());
    let Some(Quantised {
        codes,
        scales,
        axis,
    }) = graph.quantised(turned.as_deref().unwrap_or(name))?
    else {
        return Ok(None);
    };
    let &[rows, columns] = codes.shape() else {
        return Ok(None);
    };
    let flat = values::<i8>(&codes)?;
    Ok(match (turned.is_some(), axis) {
        (false, 1) => Some((flat.to_vec(), scales, [rows, columns])),
        (true, 0) => {
            let mut codes = vec![0; flat.len()];
            for (row, line) in flat.chunks_exact(columns.max(1)).enumerate() {
                for (column, &code) in line.iter().enumerate() {
                    codes[column * rows + row] = code;
                }
            }
            Some((codes, scales, [columns, rows]))
        }
        _ => None,
    })
}

/// `x W + bias` over the last axis of x, and a function of the result.
#[derive(Debug)]
struct Product {
    linear: Linear,
    then: Option<Activation>,
}

impl Work for Product {
    const NAME: &'static str = "captiond.Product";

    fn output_shape(&self, inputs: &[&[TDim]]) -> TractResult<TVec<TDim>> {
        let mut shape: TVec<TDim> = inputs[0].into();
        let Some(last) = shape.last_mut() else {
            bail!("a product needs an axis");
        };
        if let Ok(found) = last.to_usize() {
            let expected = self.linear.inner();
            ensure!(
                found == expected,
                "expected rows of {expected}, found {found}"
            );
        }
        *last = self.linear.outer().to_dim();
        Ok(shape)
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let input = &inputs[0];
        let a = values::<f32>(input)?;
        let mut shape: TVec<usize> = input.shape().into();
        match shape.last_mut() {
            Some(last) if *last == self.linear.inner() => *last = self.linear.outer(),
            _ => bail!("expected rows of {}, found {shape:?}", self.linear.inner()),
        }
        let rows = a.len() / self.linear.inner();
        filled(&shape, |out| {
            SCRATCH.with_borrow_mut(|scratch| self.linear.run(a, rows, None, out, scratch));
            if let Some(activation) = self.then {
                activation.run(Arch::new(), out);
            }
            Ok(())
        })
    }
}
