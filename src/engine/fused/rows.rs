//! Gather of rows from an int8 table: an embedding table stays as small as it is in the file.

use std::sync::Arc;

use tract_onnx::tract_hir::internal::*;

use super::{
    filled,
    graph::{Graph, integer},
    values,
};

/// Puts [`Rows`] in the place of Gathers from int8 tables.
pub(super) fn fuse(
    graph: &mut Graph<'_>,
    ops: &mut Vec<(String, Box<dyn InferenceOp>)>,
) -> TractResult<()> {
    for index in 0..graph.len() {
        let node = graph.node(index);
        if node.op_type != "Gather"
            || node.input.len() != 2
            || node.output.len() != 1
            || integer(node, "axis").unwrap_or(0) != 0
        {
            continue;
        }
        let Some(table) = graph.quantised(&node.input[0])? else {
            continue;
        };
        let &[rows, width] = table.codes.shape() else {
            continue;
        };
        if table.axis != 0 || rows == 0 || width == 0 {
            continue;
        }
        let (ids, output) = (node.input[1].clone(), node.output[0].clone());
        let name = format!("captiond.rows.{index}");
        graph.replace(index, &name, vec![ids], &output);
        let op = Rows(Arc::new(Table {
            codes: values::<i8>(&table.codes)?.to_vec(),
            scales: table.scales,
            width,
        }));
        ops.push((name, expand(op)));
    }
    Ok(())
}

#[derive(Debug)]
struct Table {
    /// `[rows, width]`.
    codes: Vec<i8>,
    /// One a row.
    scales: Vec<f32>,
    width: usize,
}

/// Rows of a table by their ids.
#[derive(Debug, Clone)]
struct Rows(Arc<Table>);

impl PartialEq for Rows {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Rows {}

impl Expansion for Rows {
    fn name(&self) -> StaticName {
        "captiond.Rows".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&outputs[0].datum_type, f32::datum_type())?;
        s.given(&inputs[0].shape, move |s, mut shape| {
            shape.push(self.0.width.to_dim());
            s.equals(&outputs[0].shape, shape)
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

impl Op for Rows {
    fn name(&self) -> StaticName {
        "captiond.Rows".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Rows {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let ids = input.cast_to::<i64>()?;
        let ids = values::<i64>(&ids)?;
        let table = &self.0;
        let mut shape: TVec<usize> = input.shape().into();
        shape.push(table.width);
        filled(&shape, |out| {
            let count = table.scales.len() as i64;
            for (&id, out) in ids.iter().zip(out.chunks_exact_mut(table.width)) {
                // ONNX counts negative ids from the end.
                let row = if id < 0 { id + count } else { id };
                ensure!((0..count).contains(&row), "row {id} of {count}");
                let row = row as usize;
                let codes = &table.codes[row * table.width..][..table.width];
                let scale = table.scales[row];
                for (out, &code) in out.iter_mut().zip(codes) {
                    *out = f32::from(code) * scale;
                }
            }
            Ok(())
        })
    }
}

impl TypedOp for Rows {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let mut shape = inputs[0].shape.to_tvec();
        shape.push(self.0.width.to_dim());
        Ok(tvec!(f32::fact(shape)))
    }

    as_op!();
}
