//! Gather of rows from an int8 table: an embedding table stays as small as it is in the file.

use tract_onnx::tract_hir::internal::*;

use super::{
    filled,
    graph::{Graph, integer},
    op::{Work, op},
    values,
};

/// Puts [`Table`]s in the place of Gathers from int8 tables.
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
        let work = Table {
            codes: values::<i8>(&table.codes)?.to_vec(),
            scales: table.scales,
            width,
        };
        ops.push((name, op(work)));
    }
    Ok(())
}

/// Gives rows of a table by their ids.
#[derive(Debug)]
struct Table {
    /// `[rows, width]`.
    codes: Vec<i8>,
    /// One a row.
    scales: Vec<f32>,
    width: usize,
}

impl Work for Table {
    const NAME: &'static str = "captiond.Rows";
    const READS: Option<DatumType> = None;

    fn output_shape(&self, inputs: &[&[TDim]]) -> TractResult<TVec<TDim>> {
        let mut shape: TVec<TDim> = inputs[0].into();
        shape.push(self.width.to_dim());
        Ok(shape)
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let input = &inputs[0];
        let ids = input.cast_to::<i64>()?;
        let ids = values::<i64>(&ids)?;
        let mut shape: TVec<usize> = input.shape().into();
        shape.push(self.width);
        filled(&shape, |out| {
            let count = self.scales.len() as i64;
            for (&id, out) in ids.iter().zip(out.chunks_exact_mut(self.width)) {
                // ONNX counts negative ids from the end.
                let row = if id < 0 { id + count } else { id };
                ensure!((0..count).contains(&row), "row {id} of {count}");
                let row = row as usize;
                let codes = &self.codes[row * self.width..][..self.width];
                let scale = self.scales[row];
                for (out, &code) in out.iter_mut().zip(codes) {
                    *out = f32::from(code) * scale;
                }
            }
            Ok(())
        })
    }
}
