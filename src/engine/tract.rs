//! The only module that knows tract, beside `graph_checks` and the ops of ours in its graphs (`super::fused`).

use std::{io::Read, sync::Arc};

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid as _;

use super::{
    Element, Engine, EngineError, Input, Network, NetworkSpec, Output, Values,
    fused::{self, Fused},
    graph_checks, shape_text,
};

/// [`Engine`] on tract (pure Rust, no shared library to install on a board).
#[derive(Debug, Default, Clone, Copy)]
pub struct TractEngine;

struct TractNetwork {
    plan: Arc<TypedRunnableModel>,
    state: TypedSimpleState,
}

fn unreadable(error: TractError) -> EngineError {
    EngineError::Unreadable(format!("{error:#}"))
}

fn run_error(error: TractError) -> EngineError {
    EngineError::Run(format!("{error:#}"))
}

/// As [`TractEngine`], with tract's own ops alone: what ours are compared with.
#[derive(Debug, Default, Clone, Copy)]
pub struct PlainEngine;

impl Engine for TractEngine {
    fn load(
        &self,
        onnx: &mut dyn Read,
        spec: &NetworkSpec,
    ) -> Result<Box<dyn Network>, EngineError> {
        TractNetwork::load(onnx, spec, Ops::OursToo)
    }
}

impl Engine for PlainEngine {
    fn load(
        &self,
        onnx: &mut dyn Read,
        spec: &NetworkSpec,
    ) -> Result<Box<dyn Network>, EngineError> {
        TractNetwork::load(onnx, spec, Ops::Tracts)
    }
}

/// Which ops a graph may run on.
#[derive(Clone, Copy, PartialEq)]
enum Ops {
    OursToo,
    Tracts,
}

impl TractNetwork {
    fn load(
        onnx: &mut dyn Read,
        spec: &NetworkSpec,
        ops: Ops,
    ) -> Result<Box<dyn Network>, EngineError> {
        let parser = tract_onnx::onnx();
        let mut proto = parser.proto_model_for_read(onnx).map_err(unreadable)?;
        graph_checks::check(&proto)?;
        let fused = match ops {
            Ops::OursToo => fused::fuse(&mut proto, spec).map_err(unreadable)?,
            Ops::Tracts => Fused::default(),
        };
        let mut model = parser.model_for_proto_model(&proto).map_err(unreadable)?;
        // It holds the file, all weights once more.
        drop(proto);
        fused.install(&mut model);
        bind_inputs(&mut model, spec)?;
        bind_outputs(&mut model, &spec.outputs)?;
        let plan = model
            .into_typed()
            .and_then(|typed| typed.into_optimized())
            .and_then(|optimised| optimised.into_runnable())
            .map_err(unreadable)?;
        let state = plan.spawn().map_err(run_error)?;
        Ok(Box::new(TractNetwork { plan, state }))
    }
}

/// Puts the graph's inputs into the order of the pack and pins the shapes that the pack fixes:
/// tract optimises much better when it knows them.
fn bind_inputs(model: &mut InferenceModel, spec: &NetworkSpec) -> Result<(), EngineError> {
    let outlets = model.input_outlets().map_err(unreadable)?.to_vec();
    let names: Vec<String> = outlets
        .iter()
        .map(|o| model.node(o.node).name.clone())
        .collect();
    let mut ordered = Vec::with_capacity(spec.inputs.len());
    for wanted in &spec.inputs {
        let Some(at) = names.iter().position(|name| *name == wanted.name) else {
            return Err(EngineError::Absent {
                kind: "input",
                name: wanted.name.clone(),
                present: names.join(", "),
            });
        };
        ordered.push(outlets[at]);
    }
    if ordered.len() != outlets.len() {
        let extra: Vec<&str> = names
            .iter()
            .filter(|name| !spec.inputs.iter().any(|i| i.name == **name))
            .map(String::as_str)
            .collect();
        return Err(EngineError::Unreadable(format!(
            "it needs input {} which the pack does not declare",
            extra.join(", ")
        )));
    }
    model.set_input_outlets(&ordered).map_err(unreadable)?;
    for (index, wanted) in spec.inputs.iter().enumerate() {
        let declared = model.input_fact(index).map_err(unreadable)?.clone();
        let element = match wanted.element {
            Element::F32 => f32::datum_type(),
            Element::I64 => i64::datum_type(),
        };
        let shape: TVec<TDim> = wanted
            .shape
            .iter()
            .enumerate()
            .map(|(axis, dimension)| match dimension {
                Some(fixed) => fixed.to_dim(),
                // The graph's own name, where it has one: dimensions that share it have to agree.
                None => declared
                    .shape
                    .dims()
                    .nth(axis)
                    .and_then(|own| own.concretize())
                    .filter(|own| own.to_i64().is_err())
                    .unwrap_or_else(|| {
                        model
                            .symbols
                            .sym(&format!("{}_{axis}", wanted.name))
                            .to_dim()
                    }),
            })
            .collect();
        let fact = InferenceFact::dt_shape(element, shape.as_slice());
        // A symbol of the graph stands for "any length"; only contradictions are refused.
        let fits = declared
            .datum_type
            .concretize()
            .is_none_or(|d| d == element)
            && declared
                .shape
                .rank()
                .concretize()
                .is_none_or(|rank| rank == wanted.shape.len() as i64)
            && declared
                .shape
                .dims()
                .zip(&wanted.shape)
                .all(|(has, wants)| {
                    match (has.concretize().and_then(|d| d.to_i64().ok()), wants) {
                        (Some(has), Some(wants)) => has == *wants as i64,
                        (Some(_), None) => false,
                        (None, _) => true,
                    }
                });
        if !fits {
            return Err(EngineError::Shape {
                name: wanted.name.clone(),
                found: format!("{declared:?}"),
                expected: format!("{} {:?}", shape_text(&wanted.shape), wanted.element),
            });
        }
        model.set_input_fact(index, fact).map_err(unreadable)?;
    }
    Ok(())
}

fn bind_outputs(model: &mut InferenceModel, names: &[String]) -> Result<(), EngineError> {
    let outlets = model.output_outlets().map_err(unreadable)?.to_vec();
    let label = |model: &InferenceModel, outlet: &OutletId| {
        model
            .outlet_label(*outlet)
            .map(str::to_owned)
            .unwrap_or_else(|| model.node(outlet.node).name.clone())
    };
    let mut selected = Vec::with_capacity(names.len());
    for name in names {
        match outlets.iter().find(|outlet| label(model, outlet) == *name) {
            Some(found) => selected.push(*found),
            None => {
                let present: Vec<String> = outlets.iter().map(|o| label(model, o)).collect();
                return Err(EngineError::Absent {
                    kind: "output",
                    name: name.clone(),
                    present: present.join(", "),
                });
            }
        }
    }
    model.select_output_outlets(&selected).map_err(unreadable)
}

impl Network for TractNetwork {
    fn run(&mut self, inputs: &[Input<'_>]) -> Result<Vec<Output>, EngineError> {
        let tensors = inputs
            .iter()
            .map(|input| {
                let tensor = match input.values {
                    Values::F32(values) => Tensor::from_shape(input.shape, values),
                    Values::I64(values) => Tensor::from_shape(input.shape, values),
                };
                tensor.map(TValue::from)
            })
            .collect::<TractResult<TVec<TValue>>>()
            .map_err(run_error)?;
        let outputs = self.state.run(tensors).map_err(run_error)?;
        outputs
            .iter()
            .map(|output| {
                let tensor = output.cast_to::<f32>().map_err(run_error)?;
                let view = tensor.to_plain_array_view::<f32>().map_err(run_error)?;
                let values = match view.as_slice() {
                    Some(contiguous) => contiguous.to_vec(),
                    None => view.iter().copied().collect(),
                };
                Ok(Output {
                    values,
                    shape: view.shape().to_vec(),
                })
            })
            .collect()
    }

    fn output_shape(&self, index: usize) -> Vec<Option<usize>> {
        match self.plan.model().output_fact(index) {
            Ok(fact) => fact
                .shape
                .iter()
                .map(|dimension| {
                    dimension
                        .to_i64()
                        .ok()
                        .and_then(|d| usize::try_from(d).ok())
                })
                .collect(),
            Err(_) => Vec::new(),
        }
    }

    fn fork(&self) -> Result<Box<dyn Network>, EngineError> {
        let plan = Arc::clone(&self.plan);
        let state = plan.spawn().map_err(run_error)?;
        Ok(Box::new(TractNetwork { plan, state }))
    }
}
