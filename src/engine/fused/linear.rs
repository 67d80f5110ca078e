//! MatMul with int8 weights, and the Add of a bias behind it.

use std::{cell::RefCell, sync::Arc};

use crate::kernels::{Clamp, Linear, Weights};
use tract_onnx::tract_hir::internal::*;

use super::{
    filled,
    graph::{Graph, Quantised, integers},
    values,
};

thread_local! {
    /// Working memory of the products: some columns of weights in f32.
    static PANEL: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Puts [`Product`]s in the place of products with int8 weights.
pub(super) fn fuse(
    graph: &mut Graph<'_>,
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
        if let Some(add) = spare {
            graph.remove(add);
        }
        let name = format!("captiond.product.{index}");
        graph.replace(index, &name, vec![input], &output);
        ops.push((name, expand(Product(Arc::new(linear)))));
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

/// `x W + bias` over the last axis of x.
#[derive(Debug, Clone)]
struct Product(Arc<Linear>);

impl PartialEq for Product {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Product {}

impl Expansion for Product {
    fn name(&self) -> StaticName {
        "captiond.Product".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&inputs[0].datum_type, f32::datum_type())?;
        s.equals(&outputs[0].datum_type, f32::datum_type())?;
        s.given(&inputs[0].shape, move |s, mut shape| {
            let Some(last) = shape.last_mut() else {
                bail!("a product needs an axis");
            };
            *last = self.0.outer().to_dim();
            s.equals(&outputs[0].shape, shape)
        })?;
        s.given(&inputs[0].rank, move |s, rank| {
            let last = usize::try_from(rank - 1)?;
            s.equals(&inputs[0].shape[last], self.0.inner().to_dim())
        })
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.clone(), inputs)
    }
}

impl Op for Product {
    fn name(&self) -> StaticName {
        "captiond.Product".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Product {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let a = values::<f32>(&input)?;
        let mut shape: TVec<usize> = input.shape().into();
        let Some(last) = shape.last_mut() else {
            bail!("a product needs an axis");
        };
        ensure!(
            *last == self.0.inner(),
            "expected rows of {}, found {last}",
            self.0.inner()
        );
        *last = self.0.outer();
        let rows = a.len() / self.0.inner();
        filled(&shape, |out| {
            PANEL.with_borrow_mut(|panel| self.0.run(a, rows, None, out, panel));
            Ok(())
        })
    }
}

impl TypedOp for Product {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let mut shape = inputs[0].shape.to_tvec();
        let Some(last) = shape.last_mut() else {
            bail!("a product needs an axis");
        };
        *last = self.0.outer().to_dim();
        Ok(tvec!(f32::fact(shape)))
    }

    as_op!();
}
