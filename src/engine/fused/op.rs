//! What tract wants to know of an op of ours, said once for all of them.

use std::{fmt::Debug, sync::Arc};

use tract_onnx::tract_hir::internal::*;

/// An op with one output of f32.
pub(super) trait Work: Debug + Send + Sync + 'static {
    /// For tract's messages.
    const NAME: &'static str;

    /// The type that the inputs have to have; `None` where [`Work::run`] takes several.
    const READS: Option<DatumType> = Some(DatumType::F32);

    /// How many inputs it has.
    fn inputs(&self) -> usize {
        1
    }

    /// The output's shape for those of the inputs, of which there are [`Work::inputs`].
    ///
    /// # Errors
    /// When no inputs can have these shapes.
    fn output_shape(&self, inputs: &[&[TDim]]) -> TractResult<TVec<TDim>>;

    /// The output.
    ///
    /// # Errors
    /// When the inputs are not what was promised.
    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>>;
}

/// Some work as tract's op; clones share it.
#[derive(Debug)]
pub(super) struct Ours<W>(pub Arc<W>);

impl<W> Clone for Ours<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<W> PartialEq for Ours<W> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<W> Eq for Ours<W> {}

/// The work, to be put into a graph.
pub(super) fn op(work: impl Work) -> Box<dyn InferenceOp> {
    expand(Ours(Arc::new(work)))
}

impl<W: Work> Expansion for Ours<W> {
    fn name(&self) -> StaticName {
        W::NAME.into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, self.0.inputs())?;
        check_output_arity(outputs, 1)?;
        if let Some(reads) = W::READS {
            for input in inputs {
                s.equals(&input.datum_type, reads)?;
            }
        }
        s.equals(&outputs[0].datum_type, f32::datum_type())?;
        s.given_all(inputs.iter().map(|input| &input.shape), move |s, shapes| {
            let shapes: TVec<&[TDim]> = shapes.iter().map(|shape| shape.as_slice()).collect();
            s.equals(&outputs[0].shape, self.0.output_shape(&shapes)?)
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

impl<W: Work> Op for Ours<W> {
    fn name(&self) -> StaticName {
        W::NAME.into()
    }

    op_as_typed_op!();
}

impl<W: Work> EvalOp for Ours<W> {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.0.run(&inputs)
    }
}

impl<W: Work> TypedOp for Ours<W> {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let shapes: TVec<TVec<TDim>> = inputs.iter().map(|fact| fact.shape.to_tvec()).collect();
        let shapes: TVec<&[TDim]> = shapes.iter().map(|shape| shape.as_slice()).collect();
        let shape = self.0.output_shape(&shapes)?;
        Ok(tvec!(f32::fact(shape)))
    }

    as_op!();
}
