//! A chain of convolutions from the graph's input on, as one op.
//!
//! Taken in are 2-D convolutions over all channels or of each by itself, the limits (Clip, Relu) behind them,
//! and sums of two maps; weights in f32 or int8. What such a chain makes must go on in one value.

use std::{cell::RefCell, collections::HashMap};

use crate::kernels::{
    Clamp, Convnet, Depthwise, Geometry, Layer, Linear, Memory, Operation, Shape, Weights,
};
use tract_onnx::{pb::NodeProto, tract_hir::internal::*};

use super::{
    filled,
    graph::{Graph, integer, integers},
    op::{Work, op},
    values, with_activations,
};
use crate::engine::{Activations, Element, NetworkSpec};

/// Fewer convolutions than this stay tract's: nothing would be gained.
const LEAST_LAYERS: usize = 4;

/// Kernels, strides and pads beyond this are a damaged file's.
const MOST_STEPS: usize = 1 << 12;

/// Numbers in a map beyond which a graph stays tract's: a gigabyte.
const MOST_NUMBERS: usize = 1 << 28;

thread_local! {
    /// Buffers of the layers.
    static MEMORY: RefCell<Memory> = RefCell::new(Memory::default());
}

/// Puts one [`Convolutions`] in the place of a chain.
pub(super) fn fuse(
    graph: &mut Graph<'_>,
    spec: &NetworkSpec,
    ops: &mut Vec<(String, Box<dyn InferenceOp>)>,
) -> TractResult<()> {
    let [input] = spec.inputs.as_slice() else {
        return Ok(());
    };
    let &[Some(1), Some(channels), Some(rows), Some(columns)] = input.shape.as_slice() else {
        return Ok(());
    };
    if input.element != Element::F32 || !graph.inputs().any(|name| *name == input.name) {
        return Ok(());
    }
    let start = Shape {
        rows,
        columns,
        channels,
    };
    let mut chain = Chain {
        values: HashMap::from([(input.name.clone(), 0)]),
        shapes: vec![start],
        layers: Vec::new(),
        taken: vec![false; graph.len()],
        activations: spec.activations,
    };
    for index in 0..graph.len() {
        if chain.taken[index] {
            continue;
        }
        match graph.node(index).op_type.as_str() {
            "Conv" => chain.convolution(graph, index)?,
            "Add" => chain.sum(graph, index),
            _ => {}
        }
    }
    let taken: Vec<usize> = (0..graph.len()).filter(|&i| chain.taken[i]).collect();
    let leaves =
        |name: &str| graph.is_output(name) || graph.readers(name).iter().any(|&i| !chain.taken[i]);
    let exits: Vec<(&String, usize)> = chain
        .values
        .iter()
        .filter(|(name, value)| **value > 0 && leaves(name))
        .map(|(name, value)| (name, *value))
        .collect();
    let [(exit, value)] = exits[..] else {
        return Ok(());
    };
    // One layer alone gains by its integers, if it has any: the patches of a vision transformer.
    let in_integers = chain.layers.iter().any(|layer| match &layer.operation {
        Operation::Pointwise(linear) | Operation::Full(_, linear) => linear.is_in_integers(),
        Operation::Depthwise(_) | Operation::Add(_) => false,
    });
    if value != chain.layers.len() || (value < LEAST_LAYERS && !in_integers) {
        return Ok(());
    }
    let exit = exit.clone();
    let (Some(&last), Some(convnet)) = (taken.last(), Convnet::new(start, chain.layers)) else {
        return Ok(());
    };
    for index in taken {
        graph.remove(index);
    }
    let name = "captiond.convolutions".to_owned();
    graph.replace(last, &name, vec![input.name.clone()], &exit);
    ops.push((name, op(Convolutions(convnet))));
    Ok(())
}

/// What was taken in so far.
struct Chain {
    /// Values of the layers by name; 0 is the input.
    values: HashMap<String, usize>,
    shapes: Vec<Shape>,
    layers: Vec<Layer>,
    /// Nodes that are part of it.
    taken: Vec<bool>,
    activations: Activations,
}

impl Chain {
    /// Takes in a convolution and what can be done in the same pass.
    fn convolution(&mut self, graph: &Graph<'_>, index: usize) -> TractResult<()> {
        let node = graph.node(index);
        let Some(&input) = node.input.first().and_then(|name| self.values.get(name)) else {
            return Ok(());
        };
        let from = self.shapes[input];
        let Some(part) = Part::read(graph, node, from)? else {
            return Ok(());
        };
        let mut nodes = vec![index];
        let mut name = node.output[0].clone();
        let mut other = None;
        let mut clamp = Clamp::default();
        if let Some((next, limits)) = limits_behind(graph, &name)? {
            clamp = limits;
            name.clone_from(&graph.node(next).output[0]);
            nodes.push(next);
        } else if !part.depthwise
            && let Some(next) = graph.only_reader(&name)
            && graph.node(next).op_type == "Add"
            && let Some(second) = graph.node(next).input.iter().find(|n| **n != name)
            && let Some(&second) = self.values.get(second)
            && self.shapes[second] == part.shape
        {
            other = Some(second);
            name.clone_from(&graph.node(next).output[0]);
            nodes.push(next);
            if let Some((next, limits)) = limits_behind(graph, &name)? {
                clamp = limits;
                name.clone_from(&graph.node(next).output[0]);
                nodes.push(next);
            }
        }
        let shape = part.shape;
        if let Some(operation) = part.operation(from.channels, clamp, self.activations) {
            self.push(name, shape, &nodes, operation, input, other);
        }
        Ok(())
    }

    /// Takes in the sum of two maps that are part of it already.
    fn sum(&mut self, graph: &Graph<'_>, index: usize) {
        let node = graph.node(index);
        let both = node.input.iter().map(|name| self.values.get(name).copied());
        let both: Option<Vec<usize>> = both.collect();
        if let Some([a, b]) = both.as_deref()
            && self.shapes[*a] == self.shapes[*b]
        {
            let operation = Operation::Add(Clamp::default());
            let (shape, name) = (self.shapes[*a], node.output[0].clone());
            self.push(name, shape, &[index], operation, *a, Some(*b));
        }
    }

    fn push(
        &mut self,
        name: String,
        shape: Shape,
        nodes: &[usize],
        operation: Operation,
        input: usize,
        other: Option<usize>,
    ) {
        for &node in nodes {
            self.taken[node] = true;
        }
        self.layers.push(Layer {
            operation,
            input,
            other,
        });
        self.shapes.push(shape);
        self.values.insert(name, self.layers.len());
    }
}

/// Node and limits of a Clip or Relu that alone reads a value.
fn limits_behind(graph: &Graph<'_>, name: &str) -> TractResult<Option<(usize, Clamp)>> {
    let Some(index) = graph.only_reader(name) else {
        return Ok(None);
    };
    let node = graph.node(index);
    let relu = Clamp {
        least: Some(0.0),
        most: None,
    };
    match node.op_type.as_str() {
        "Relu" => return Ok(Some((index, relu))),
        // Before opset 11 limits were attributes.
        "Clip" if node.attribute.is_empty() => {}
        _ => return Ok(None),
    }
    let mut limits = [None; 2];
    for (limit, name) in limits.iter_mut().zip(node.input.iter().skip(1)) {
        if name.is_empty() {
            continue;
        }
        let Some(tensor) = graph.floats(name)? else {
            return Ok(None);
        };
        let [value] = values::<f32>(&tensor)? else {
            return Ok(None);
        };
        *limit = Some(*value);
    }
    let [least, most] = limits;
    Ok(Some((index, Clamp { least, most })))
}

/// A convolution as it was read.
struct Part {
    geometry: Geometry,
    shape: Shape,
    depthwise: bool,
    /// `[out, in, kernel rows, kernel columns]`.
    weights: Tensor,
    /// One for each output channel; none when the weights are f32.
    scales: Option<Vec<f32>>,
    bias: Vec<f32>,
}

impl Part {
    /// Reads a convolution; none when it is of a kind that is not taken in.
    fn read(graph: &Graph<'_>, node: &NodeProto, from: Shape) -> TractResult<Option<Self>> {
        let Some(name) = node.input.get(1) else {
            return Ok(None);
        };
        let (weights, scales) = match graph.quantised(name)? {
            Some(quantised) if quantised.axis == 0 => (quantised.codes, Some(quantised.scales)),
            Some(_) => return Ok(None),
            None => match graph.floats(name)? {
                Some(weights) => (weights, None),
                None => return Ok(None),
            },
        };
        let &[out, each, high, wide] = weights.shape() else {
            return Ok(None);
        };
        let bias = match node.input.get(2).filter(|name| !name.is_empty()) {
            None => Vec::new(),
            Some(name) => match graph.floats(name)? {
                Some(bias) => values::<f32>(&bias)?.to_vec(),
                None => return Ok(None),
            },
        };
        let list = |name: &str, default: i64, count: usize| -> Option<Vec<usize>> {
            let found = integers(node, name).unwrap_or(&[]);
            match found.len() {
                0 => Some(vec![default as usize; count]),
                n if n == count => found.iter().map(|&v| usize::try_from(v).ok()).collect(),
                _ => None,
            }
        };
        let (Some(strides), Some(pads), Some(dilations)) = (
            list("strides", 1, 2),
            list("pads", 0, 4),
            list("dilations", 1, 2),
        ) else {
            return Ok(None);
        };
        let automatic = node.attribute.iter().find(|a| a.name == "auto_pad");
        let groups = integer(node, "group").unwrap_or(1);
        let depthwise = groups == from.channels as i64 && each == 1 && out == from.channels;
        let full = groups == 1 && each == from.channels;
        if automatic.is_some_and(|a| a.s != b"NOTSET")
            || dilations != [1, 1]
            || strides.contains(&0)
            || [high, wide].contains(&0)
            || [&[high, wide][..], &strides, &pads]
                .concat()
                .into_iter()
                .any(|n| n > MOST_STEPS)
            || !(depthwise || full)
        {
            return Ok(None);
        }
        let geometry = Geometry {
            size: [from.rows, from.columns],
            kernel: [high, wide],
            strides: [strides[0], strides[1]],
            before: [pads[0], pads[1]],
            after: [pads[2], pads[3]],
        };
        let Some([rows, columns]) = geometry.output() else {
            return Ok(None);
        };
        let numbers = rows.saturating_mul(columns).saturating_mul(out);
        if numbers == 0 || numbers > MOST_NUMBERS {
            return Ok(None);
        }
        Ok(Some(Self {
            geometry,
            shape: Shape {
                rows,
                columns,
                channels: out,
            },
            depthwise: depthwise && !full,
            weights,
            scales,
            bias,
        }))
    }

    /// The layer; none when lengths do not fit.
    fn operation(self, inputs: usize, clamp: Clamp, activations: Activations) -> Option<Operation> {
        let geometry = self.geometry;
        let [high, wide] = geometry.kernel;
        let (taps, outputs) = (high * wide, self.shape.channels);
        if self.depthwise {
            let floats: Vec<f32> = match &self.scales {
                Some(scales) => {
                    let channels = values::<i8>(&self.weights).ok()?.chunks_exact(taps);
                    let scaled = channels.zip(scales);
                    scaled
                        .flat_map(|(codes, scale)| codes.iter().map(move |&c| f32::from(c) * scale))
                        .collect()
                }
                None => values::<f32>(&self.weights).ok()?.to_vec(),
            };
            let weights = turned(&floats, outputs, 1, taps);
            let layer = Depthwise::new(geometry, outputs, weights, &self.bias, clamp)?;
            return Some(Operation::Depthwise(layer));
        }
        let inner = taps * inputs;
        let linear = match &self.scales {
            Some(scales) => {
                let codes = turned(values::<i8>(&self.weights).ok()?, outputs, inputs, taps);
                let weights = Weights::Int8(&codes, scales);
                Linear::new(weights, inner, outputs, &self.bias, clamp)?
            }
            None => {
                let floats = turned(values::<f32>(&self.weights).ok()?, outputs, inputs, taps);
                Linear::new(Weights::F32(&floats), inner, outputs, &self.bias, clamp)?
            }
        };
        let linear = with_activations(linear, activations);
        let alone = taps == 1
            && geometry.strides == [1, 1]
            && geometry.before == [0, 0]
            && geometry.after == [0, 0];
        Some(match alone {
            true => Operation::Pointwise(linear),
            false => Operation::Full(geometry, linear),
        })
    }
}

/// `[out][in][tap]` as `[tap][in][out]`.
fn turned<T: Copy + Default>(from: &[T], outputs: usize, inputs: usize, taps: usize) -> Vec<T> {
    let mut to = vec![T::default(); from.len()];
    let places = (0..outputs)
        .flat_map(|o| (0..inputs).flat_map(move |i| (0..taps).map(move |t| (t * inputs + i, o))));
    for (&value, (row, column)) in from.iter().zip(places) {
        to[row * outputs + column] = value;
    }
    to
}

fn sides(shape: Shape) -> TVec<usize> {
    tvec!(1, shape.channels, shape.rows, shape.columns)
}

/// The chain as an op, `[1, channels, rows, columns]` in and out.
#[derive(Debug)]
struct Convolutions(Convnet);

impl Work for Convolutions {
    const NAME: &'static str = "captiond.Convolutions";

    fn output_shape(&self, inputs: &[&[TDim]]) -> TractResult<TVec<TDim>> {
        let input = inputs[0];
        let dims = |shape| -> TVec<TDim> { sides(shape).iter().map(|d| d.to_dim()).collect() };
        let expected = dims(self.0.input());
        ensure!(
            input == &*expected,
            "expected {expected:?}, found {input:?}"
        );
        Ok(dims(self.0.output()))
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let input = &inputs[0];
        let (expected, found) = (sides(self.0.input()), input.shape());
        ensure!(
            found == &*expected,
            "expected {expected:?}, found {found:?}"
        );
        let pixels = values::<f32>(input)?;
        filled(&sides(self.0.output()), |out| {
            MEMORY.with_borrow_mut(|memory| self.0.run(pixels, out, memory));
            Ok(())
        })
    }
}
