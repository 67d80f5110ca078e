//! What is refused of an ONNX file before tract sees it, in words that say the way out.

use std::{collections::HashSet, ops::RangeInclusive};

use tract_onnx::pb::{
    GraphProto, ModelProto, StringStringEntryProto, TensorProto, tensor_proto::DataLocation,
};

use super::EngineError;

/// The operator sets that tract 0.23 is tested with.
const OPSETS: RangeInclusive<i64> = 9..=18;

/// Refuses a graph with weights in another file, one of an operator set that the engine does not
/// know, and one whose outputs nothing makes (tract's parser panics on it).
pub(super) fn check(proto: &ModelProto) -> Result<(), EngineError> {
    let Some(graph) = &proto.graph else {
        return Err(EngineError::Unreadable("it has no graph".to_owned()));
    };
    check_opset(proto)?;
    if let Some(tensor) = find_external(graph) {
        return Err(EngineError::External {
            tensor: tensor.name.clone(),
            location: location(&tensor.external_data).unwrap_or_default(),
        });
    }
    let inputs = graph.input.iter().map(|input| &input.name);
    let weights = graph.initializer.iter().map(|weight| &weight.name);
    let results = graph.node.iter().flat_map(|node| &node.output);
    let made: HashSet<&String> = inputs.chain(weights).chain(results).collect();
    match graph
        .output
        .iter()
        .find(|output| !made.contains(&output.name))
    {
        Some(output) => Err(EngineError::Unreadable(format!(
            "no node makes its output {:?}",
            output.name
        ))),
        None => Ok(()),
    }
}

fn check_opset(proto: &ModelProto) -> Result<(), EngineError> {
    let own = proto
        .opset_import
        .iter()
        .find(|import| matches!(import.domain.as_str(), "" | "ai.onnx"))
        .map(|import| import.version);
    match own {
        Some(version) if OPSETS.contains(&version) => Ok(()),
        found => Err(EngineError::Opset {
            found: found.map_or_else(|| "none".to_owned(), |version| version.to_string()),
            least: *OPSETS.start(),
            most: *OPSETS.end(),
        }),
    }
}

/// The first tensor whose values are in another file, in the graph or in one inside its nodes.
fn find_external(graph: &GraphProto) -> Option<&TensorProto> {
    let is_external = |tensor: &&TensorProto| {
        tensor.data_location == Some(DataLocation::External as i32)
            || !tensor.external_data.is_empty()
    };
    let sparse = graph
        .sparse_initializer
        .iter()
        .flat_map(|sparse| sparse.values.iter().chain(&sparse.indices));
    let mut own = graph.initializer.iter().chain(sparse);
    own.find(is_external).or_else(|| {
        graph
            .node
            .iter()
            .flat_map(|node| &node.attribute)
            .find_map(|attribute| {
                let mut tensors = attribute.t.iter().chain(&attribute.tensors);
                let mut graphs = attribute.g.iter().chain(&attribute.graphs);
                tensors
                    .find(is_external)
                    .or_else(|| graphs.find_map(find_external))
            })
    })
}

fn location(entries: &[StringStringEntryProto]) -> Option<String> {
    entries
        .iter()
        .find(|entry| entry.key == "location")
        .map(|entry| entry.value.clone())
}
