//! Parts of a graph that run as ops of ours instead of tract's.
//!
//! Where a pack stores weights in int8 behind DequantizeLinear, tract folds them to f32 when it loads: four
//! times the memory, and the convolutions run at a third of onnxruntime's speed (docs/benchmarks.md, "Kernels").
//! [`fuse`] looks for such parts in the ONNX graph and puts one node in the place of each:
//!
//! - a matrix product with int8 weights, with its bias and the activation function behind it ([`linear`], [`activation`]),
//! - norms of rows ([`norm`]),
//! - attention of several heads, and the keys and values that a decoder keeps ([`attention`]),
//! - rows gathered from an int8 table ([`rows`]),
//! - a chain of convolutions from the graph's input on ([`convolutions`]).
//!
//! The numbers are those of the folded graph but for the order of sums, unless the pack asks for activations in
//! int8 ([`Activations`]). The loops are in
//! [`crate::kernels`]; what tract wants to know of an op is in [`op`]. What does not fit any of these patterns stays tract's, and so does everything on a machine
//! without vector instructions that the loops are written for.

mod activation;
mod attention;
mod convolutions;
mod graph;
mod linear;
mod norm;
mod op;
mod rows;

use std::cell::RefCell;

use tract_onnx::{pb::ModelProto, tract_hir::internal::*};

use self::graph::Graph;
use super::{Activations, NetworkSpec};
use crate::kernels::Linear;

/// Ops of ours by the names of the nodes that stand for them.
#[derive(Debug, Default)]
pub(super) struct Fused {
    ops: Vec<(String, Box<dyn InferenceOp>)>,
}

/// Puts placeholders into a graph where parts of it run as ops of ours. The result brings the ops to the
/// parsed model.
///
/// # Errors
/// When a weight can't be read.
pub(super) fn fuse(model: &mut ModelProto, spec: &NetworkSpec) -> TractResult<Fused> {
    let mut ops = Vec::new();
    let Some(proto) = model
        .graph
        .as_mut()
        .filter(|_| crate::kernels::is_vectorised())
    else {
        return Ok(Fused::default());
    };
    let Some(mut graph) = Graph::new(proto) else {
        return Ok(Fused::default());
    };
    attention::fuse(&mut graph, &mut ops)?;
    norm::fuse(&mut graph, &mut ops)?;
    convolutions::fuse(&mut graph, spec, &mut ops)?;
    linear::fuse(&mut graph, spec.activations, &mut ops)?;
    rows::fuse(&mut graph, &mut ops)?;
    graph.finish();
    Ok(Fused { ops })
}

impl Fused {
    /// Puts the ops into the places that were kept for them.
    pub(super) fn install(self, model: &mut InferenceModel) {
        for (name, op) in self.ops {
            if let Some(node) = model.nodes_mut().iter_mut().find(|node| node.name == name) {
                node.op = op;
            }
        }
    }
}

/// A product on the kind of activations that the pack asks for, where it gains by that.
fn with_activations(linear: Linear, activations: Activations) -> Linear {
    match activations {
        Activations::Int8 if linear.pays_in_integers() => linear.in_integers(),
        _ => linear,
    }
}

/// The values of a plain tensor.
fn values<T: Datum>(tensor: &Tensor) -> TractResult<&[T]> {
    tensor.try_as_plain_ram()?.as_slice::<T>()
}

thread_local! {
    /// Where results are made: a fresh tensor would have to be filled with zeros first, and its pages brought in.
    static RESULT: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// A tensor of what `work` makes; the slice that it gets has old numbers in it.
fn filled(
    shape: &[usize],
    work: impl FnOnce(&mut [f32]) -> TractResult<()>,
) -> TractResult<TVec<TValue>> {
    let count = shape.iter().product();
    RESULT.with_borrow_mut(|result| {
        if result.len() < count {
            result.resize(count, 0.0);
        }
        work(&mut result[..count])?;
        Ok(tvec!(
            Tensor::from_shape(shape, &result[..count])?.into_tvalue()
        ))
    })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs::File, path::Path};

    use tract_onnx::prelude::Framework as _;

    use super::{NetworkSpec, fuse};
    use crate::engine::Activations;

    /// How many ops of each kind a graph of the default pack gets, and how many nodes it has then.
    fn fused(file: &str) -> (BTreeMap<String, usize>, usize) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default");
        let mut reader = File::open(folder.join(file)).unwrap();
        let mut proto = tract_onnx::onnx()
            .proto_model_for_read(&mut reader)
            .unwrap();
        let spec = NetworkSpec {
            inputs: Vec::new(),
            outputs: Vec::new(),
            activations: Activations::F32,
        };
        let ops = fuse(&mut proto, &spec).unwrap().ops;
        let mut kinds = BTreeMap::new();
        for (name, _) in ops {
            let kind = name.split('.').nth(1).unwrap().to_owned();
            *kinds.entry(kind).or_default() += 1;
        }
        (kinds, proto.graph.unwrap().node.len())
    }

    #[test]
    fn what_a_transformer_is_made_of_is_ours() {
        if !crate::kernels::is_vectorised() {
            eprintln!("##### SKIPPED: no vector instructions, so nothing is fused #####");
            return;
        }
        let kinds = |list: &[(&str, usize)]| -> BTreeMap<String, usize> {
            list.iter().map(|&(kind, n)| (kind.to_owned(), n)).collect()
        };
        // Six layers, and a norm behind the words.
        let (text, nodes) = fused("text.onnx");
        assert_eq!(
            text,
            kinds(&[("attention", 6), ("norm", 13), ("product", 36)])
        );
        assert_eq!(nodes, 75);
        // Three layers, a last norm, the words; the cache counts as an attention.
        let (decoder, nodes) = fused("decoder.onnx");
        assert_eq!(
            decoder,
            kinds(&[("attention", 4), ("norm", 7), ("product", 13), ("rows", 1)])
        );
        assert_eq!(nodes, 36);
    }
}
