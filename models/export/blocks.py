"""The pieces that towers and language models share, on top of the graph builder of the default pack's towers."""

import numpy as np
from onnx import numpy_helper

from towers.graph import FLOAT, INT64, GraphBuilder, quantise_symmetric

__all__ = ["FLOAT", "INT64", "Blocks", "split_rows"]


class Blocks(GraphBuilder):
    """GraphBuilder with a transformer's parts. Weights come in as [inputs, outputs].

    `taps`: every block's result becomes an output of the graph, so that the cost of int8 can be followed
    layer by layer.
    """

    def __init__(self, name, quantise, taps=False):
        super().__init__(name, quantise)
        self.taps = [] if taps else None

    def number(self, name, value):
        """A small constant, stored once under its name; a scalar stays a scalar."""
        if not any(i.name == name for i in self.initialisers):
            self.initialisers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def ints(self, *values):
        """A list of whole numbers, stored once."""
        return self.number("ints_" + "_".join(map(str, values)), np.array(values, np.int64))

    def index(self, value):
        """One whole number (no list), stored once."""
        return self.number(f"index_{value}", np.int64(value))

    def scalar(self, value):
        """One f32, stored once."""
        return self.number(f"scalar_{float(value)!r}", np.float32(value))

    def rename_last(self, name):
        """Gives the last node's output a name of the graph's interface."""
        self.nodes[-1].output[0] = name
        return name

    def tap(self, name, x):
        """Marks a block's result."""
        if self.taps is not None:
            self.taps.append((name, x))
        return x

    def tap_outputs(self):
        """Outputs to list in `save`, with the nodes that give them their names."""
        outputs = []
        for name, x in self.taps or []:
            self.node("Identity", [x])
            outputs.append((self.rename_last(name), FLOAT, [None] * 3))
        return outputs

    def linear(self, x, name, weight, bias=None):
        """x W + b; the weight int8 with one scale for each output."""
        y = self.node("MatMul", [x, self.weight(name + ".weight", weight, axis=1)])
        return y if bias is None else self.node("Add", [y, self.constant(name + ".bias", bias)])

    def rows(self, name, table, ids):
        """Rows of an embedding table for ids of two axes. As int8 they are gathered first and scaled then, so
        that the table stays small in memory too."""
        if not self.quantise:
            return self.node("Gather", [self.constant(name, table), ids], axis=0)
        codes, scale = quantise_symmetric(table, axis=0)
        rows = self.node("Cast", [self.node("Gather", [self.constant(name + "_q", codes), ids], axis=0)], to=FLOAT)
        scales = self.node("Gather", [self.constant(name + "_scale", scale), ids], axis=0)
        return self.node("Mul", [rows, self.node("Unsqueeze", [scales, self.ints(2)])])

    def tied_head(self, x, name):
        """x times the transposed table of `rows`, which is stored once for both."""
        table = name
        if self.quantise:
            count = next(i.dims[0] for i in self.initialisers if i.name == name + "_scale")
            zero = self.constant(name + "_zero", np.zeros(count, np.int8))
            table = self.node("DequantizeLinear", [name + "_q", name + "_scale", zero], axis=0)
        return self.node("MatMul", [x, self.node("Transpose", [table], perm=[1, 0])])

    def layer_norm(self, x, name, gamma, beta, epsilon):
        """Written out: LayerNormalization is an operator from opset 17 on only."""
        mean = self.node("ReduceMean", [x], axes=[-1], keepdims=1)
        centred = self.node("Sub", [x, mean])
        scaled = self.node("Div", [centred, self._root_mean_square(centred, epsilon)])
        scaled = self.node("Mul", [scaled, self.constant(name + ".gamma", gamma)])
        return self.node("Add", [scaled, self.constant(name + ".beta", beta)])

    def rms_norm(self, x, name, gamma, epsilon):
        """T5's norm: neither centred nor shifted."""
        scaled = self.node("Div", [x, self._root_mean_square(x, epsilon)])
        return self.node("Mul", [scaled, self.constant(name + ".gamma", gamma)])

    def _root_mean_square(self, x, epsilon):
        square = self.node("ReduceMean", [self.node("Mul", [x, x])], axes=[-1], keepdims=1)
        return self.node("Sqrt", [self.node("Add", [square, self.scalar(epsilon)])])

    def activation(self, x, kind):
        """The activations of these models by transformers' names."""
        if kind == "relu":
            return self.node("Relu", [x])
        if kind == "quick_gelu":
            gate = self.node("Sigmoid", [self.node("Mul", [x, self.scalar(1.702)])])
            return self.node("Mul", [x, gate])
        half = self.node("Mul", [x, self.scalar(0.5)])
        if kind == "gelu":
            bent = self.node("Erf", [self.node("Mul", [x, self.scalar(np.sqrt(0.5))])])
        elif kind in ("gelu_new", "gelu_pytorch_tanh"):
            cube = self.node("Mul", [self.node("Mul", [x, x]), x])
            inner = self.node("Add", [x, self.node("Mul", [cube, self.scalar(0.044715)])])
            bent = self.node("Tanh", [self.node("Mul", [inner, self.scalar(np.sqrt(2 / np.pi))])])
        else:
            raise ValueError(f"activation {kind!r} is not known here; add it to models/export/blocks.py")
        return self.node("Mul", [half, self.node("Add", [bent, self.scalar(1.0)])])

    def split_heads(self, x, heads, depth):
        """[b, s, heads x depth] to [b, heads, s, depth]."""
        split = self.node("Reshape", [x, self.ints(0, 0, heads, depth)])
        return self.node("Transpose", [split], perm=[0, 2, 1, 3])

    def join_heads(self, x, width):
        """[b, heads, s, depth] to [b, s, width]."""
        return self.node("Reshape", [self.node("Transpose", [x], perm=[0, 2, 1, 3]), self.ints(0, 0, width)])

    def attend(self, query, key, value, scale=None, bias=None):
        """Softmax(q k' scale + bias) v, all [b, heads, s, depth]."""
        scores = self.node("MatMul", [query, self.node("Transpose", [key], perm=[0, 1, 3, 2])])
        if scale is not None:
            scores = self.node("Mul", [scores, self.scalar(scale)])
        if bias is not None:
            scores = self.node("Add", [scores, bias])
        return self.node("MatMul", [self.node("Softmax", [scores], axis=-1), value])

    def length_of(self, x, axis):
        """Length of an axis, as a list of one for Slice."""
        return self.node("Slice", [self.node("Shape", [x]), self.ints(axis), self.ints(axis + 1)])

    def first(self, x, count, axis):
        """The first `count` along an axis; `count` is a list of one."""
        return self.node("Slice", [x, self.ints(0), count, self.ints(axis)])

    def last_position(self, x):
        """[b, s, width] to [b, width] of the last s. Gather with -1 is not everywhere; Slice from -1 is."""
        last = self.node("Slice", [x, self.ints(-1), self.ints(2**31 - 1), self.ints(1)])
        return self.node("Squeeze", [last, self.ints(1)])


def split_rows(array, parts):
    """A stacked projection's parts."""
    return np.split(array, parts, axis=0)
