//! What tract wants to know of an op of ours, said once for all of them.

use std::{fmt::Debug, sync::Arc};

use tract_onnx::tract_hir::internal::*;

/// An op with one input and one output of f32.
pub(super) trait Work: Debug + Send + Sync + 'static {
    /// For tract's messages.
    const NAME: &'static str;

    /// The type that the input has to have; `None` where [`Work::run`] takes several.
    const READS: Option<DatumType> = Some(DatumType::F32);

    /// The output's shape for an input's.
    ///
    /// # Errors
    /// When no input can have that shape.
    fn output_shape(&self, input: &[TDim]) -> TractResult<TVec<TDim>>;

    /// The output.
    ///
    /// # Errors
    /// When the input is not what was promised.
    fn run(&self, input: &Tensor) -> TractResult<TVec<TValue>>;
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
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        if let Some(reads) = W::READS {
            s.equals(&inputs[0].datum_type, reads)?;
        }
        s.equals(&outputs[0].datum_type, f32::datum_type())?;
        s.given(&inputs[0].shape, move |s, shape| {
            s.equals(&outputs[0].shape, self.0.output_shape(&shape)?)
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
        let input = args_1!(inputs);
        self.0.run(&input)
    }
}

impl<W: Work> TypedOp for Ours<W> {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let shape = self.0.output_shape(&inputs[0].shape.to_tvec())?;
        Ok(tvec!(f32::fact(shape)))
    }

    as_op!();
}
