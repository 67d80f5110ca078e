//! An ONNX graph as the patterns look at it.

use std::{
    collections::{HashMap, HashSet},
    mem,
};

use tract_onnx::{
    data_resolver::MmapDataResolver,
    pb::{AttributeProto, GraphProto, NodeProto, TensorProto},
    tensor::load_tensor,
    tract_hir::internal::*,
};

/// A graph whose nodes are being replaced.
pub(super) struct Graph<'a> {
    proto: &'a mut GraphProto,
    /// Weights by name, taken out of the file's list so that none is in memory twice.
    constants: HashMap<String, TensorProto>,
    /// The node that makes each value.
    makers: HashMap<String, usize>,
    /// The nodes that read each value, once for each time that they do.
    readers: HashMap<String, Vec<usize>>,
    outputs: HashSet<String>,
}

/// int8 weights as the file has them: value = code * scale.
pub(super) struct Quantised {
    /// The codes with their shape.
    pub codes: Tensor,
    /// A scale for each index of `axis`.
    pub scales: Vec<f32>,
    /// Along which axis.
    pub axis: usize,
}

impl<'a> Graph<'a> {
    /// Indexes a graph; none for one with graphs inside, whose nodes may read any value.
    pub(super) fn new(proto: &'a mut GraphProto) -> Option<Self> {
        let nested = |a: &AttributeProto| a.g.is_some() || !a.graphs.is_empty();
        if proto.node.iter().any(|n| n.attribute.iter().any(nested)) {
            return None;
        }
        // A weight that is an input as well is a default that a caller may change.
        let inputs: HashSet<&String> = proto.input.iter().map(|input| &input.name).collect();
        let (defaults, constants): (Vec<_>, Vec<_>) = mem::take(&mut proto.initializer)
            .into_iter()
            .partition(|tensor| inputs.contains(&tensor.name));
        proto.initializer = defaults;
        let constants = constants
            .into_iter()
            .map(|tensor| (tensor.name.clone(), tensor))
            .collect();
        let mut makers = HashMap::new();
        let mut readers: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, node) in proto.node.iter().enumerate() {
            for output in &node.output {
                makers.insert(output.clone(), index);
            }
            for input in &node.input {
                readers.entry(input.clone()).or_default().push(index);
            }
        }
        let outputs = proto.output.iter().map(|o| o.name.clone()).collect();
        Some(Self {
            proto,
            constants,
            makers,
            readers,
            outputs,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.proto.node.len()
    }

    pub(super) fn node(&self, index: usize) -> &NodeProto {
        &self.proto.node[index]
    }

    /// Names of the graph's inputs.
    pub(super) fn inputs(&self) -> impl Iterator<Item = &String> {
        self.proto.input.iter().map(|input| &input.name)
    }

    pub(super) fn is_output(&self, name: &str) -> bool {
        self.outputs.contains(name)
    }

    pub(super) fn readers(&self, name: &str) -> &[usize] {
        self.readers.get(name).map_or(&[], Vec::as_slice)
    }

    /// The node that reads a value, when it is the only one and the value is no output.
    pub(super) fn only_reader(&self, name: &str) -> Option<usize> {
        match self.readers(name) {
            [alone] if !self.is_output(name) => Some(*alone),
            _ => None,
        }
    }

    /// A weight's values.
    pub(super) fn constant(&self, name: &str) -> TractResult<Option<Tensor>> {
        let tensor = self.constants.get(name);
        tensor
            .map(|tensor| load_tensor(&MmapDataResolver, tensor, None))
            .transpose()
    }

    /// A weight's values in f32; none when it is of another type.
    pub(super) fn floats(&self, name: &str) -> TractResult<Option<Tensor>> {
        let tensor = self.constant(name)?;
        Ok(tensor.filter(|tensor| tensor.datum_type() == f32::datum_type()))
    }

    /// A constant of one number.
    pub(super) fn single(&self, name: &str) -> TractResult<Option<f32>> {
        let tensor = self.floats(name)?.filter(|tensor| tensor.len() == 1);
        Ok(match tensor {
            Some(tensor) => super::values::<f32>(&tensor)?.first().copied(),
            None => None,
        })
    }

    /// Whole numbers that stand in the graph.
    pub(super) fn integers(&self, name: &str) -> TractResult<Option<Vec<i64>>> {
        match self.constant(name)? {
            Some(tensor) if tensor.datum_type() == i64::datum_type() => {
                Ok(Some(super::values::<i64>(&tensor)?.to_vec()))
            }
            _ => Ok(None),
        }
    }

    /// The weights behind a value that a DequantizeLinear makes: symmetric, with one scale or one for each
    /// index of an axis.
    pub(super) fn quantised(&self, name: &str) -> TractResult<Option<Quantised>> {
        let Some(node) = self.maker(name, "DequantizeLinear") else {
            return Ok(None);
        };
        let (Some(codes), Some(scales)) = (
            node.input.first().and_then(|name| self.constants.get(name)),
            node.input.get(1),
        ) else {
            return Ok(None);
        };
        let codes = load_tensor(&MmapDataResolver, codes, None)?;
        let Some(scales) = self.floats(scales)? else {
            return Ok(None);
        };
        if codes.datum_type() != i8::datum_type() {
            return Ok(None);
        }
        if let Some(zero) = node.input.get(2).filter(|name| !name.is_empty()) {
            let symmetric = match self.constant(zero)? {
                Some(zero) if zero.datum_type() == i8::datum_type() => {
                    super::values::<i8>(&zero)?.iter().all(|&z| z == 0)
                }
                _ => false,
            };
            if !symmetric {
                return Ok(None);
            }
        }
        let rank = codes.rank() as i64;
        let axis = integer(node, "axis").unwrap_or(1);
        let axis = if axis < 0 { axis + rank } else { axis };
        if !(0..rank).contains(&axis) || integer(node, "block_size").unwrap_or(0) != 0 {
            return Ok(None);
        }
        let axis = axis as usize;
        let mut scales = super::values::<f32>(&scales)?.to_vec();
        if let [one] = scales[..] {
            scales = vec![one; codes.shape()[axis]];
        }
        let fits = scales.len() == codes.shape()[axis];
        Ok(fits.then_some(Quantised {
            codes,
            scales,
            axis,
        }))
    }

    /// The node of a kind that makes a value.
    pub(super) fn maker(&self, name: &str, kind: &str) -> Option<&NodeProto> {
        let node = self.node(*self.makers.get(name)?);
        (node.op_type == kind).then_some(node)
    }

    /// Puts a node of ours where another was. Weights that nothing else reads are dropped.
    pub(super) fn replace(&mut self, index: usize, name: &str, inputs: Vec<String>, output: &str) {
        self.makers.insert(output.to_owned(), index);
        self.proto.node[index] = NodeProto {
            name: name.to_owned(),
            op_type: "captiond".to_owned(),
            input: inputs,
            output: vec![output.to_owned()],
            ..NodeProto::default()
        };
        let needed = self.needed().values;
        self.constants.retain(|name, _| needed.contains(name));
    }

    /// Takes a node out: what it made, another makes now.
    pub(super) fn remove(&mut self, index: usize) {
        self.proto.node[index] = NodeProto::default();
    }

    /// Drops nodes and weights that nothing reads any more, and gives the others back to the graph.
    pub(super) fn finish(mut self) {
        let Needed { values, nodes } = self.needed();
        let mut nodes = nodes.into_iter();
        self.proto.node.retain(|_| nodes.next().unwrap_or(true));
        self.proto
            .initializer
            .retain(|tensor| values.contains(&tensor.name));
        let mut weights: Vec<_> = mem::take(&mut self.constants).into_values().collect();
        weights.retain(|tensor| values.contains(&tensor.name));
        // The map has no order, and the same graph should come out each time.
        weights.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        self.proto.initializer.append(&mut weights);
    }

    /// What the graph's outputs stand on.
    fn needed(&self) -> Needed {
        let mut values = self.outputs.clone();
        // From the end: a node is needed when something behind it reads what it makes.
        let mut nodes = vec![false; self.proto.node.len()];
        for (needed, node) in nodes.iter_mut().zip(&self.proto.node).rev() {
            *needed = node.output.iter().any(|output| values.contains(output));
            if *needed {
                values.extend(node.input.iter().cloned());
            }
        }
        Needed { values, nodes }
    }
}

/// Names of values, and for each node whether it is one of those.
struct Needed {
    values: HashSet<String>,
    nodes: Vec<bool>,
}

/// An integer attribute.
pub(super) fn integer(node: &NodeProto, name: &str) -> Option<i64> {
    node.attribute.iter().find(|a| a.name == name).map(|a| a.i)
}

/// A list of integers, or none when the node does not have it.
pub(super) fn integers<'n>(node: &'n NodeProto, name: &str) -> Option<&'n [i64]> {
    let found = node.attribute.iter().find(|a| a.name == name);
    found.map(|a| a.ints.as_slice())
}
