"""A thin builder for ONNX graphs with weights stored as int8 behind DequantizeLinear.

Weight-only int8 is what tract runs best for these towers: it folds the constants to f32 when it loads
(small on disk, fp32 speed), while quantised activations cost more than they save (docs/benchmarks.md).
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 13  # the first with a per-channel DequantizeLinear
IR_VERSION = 8


class GraphBuilder:
    """Collects nodes and initialisers; `quantise` switches weight matrices to int8."""

    def __init__(self, name, quantise):
        self.name = name
        self.quantise = quantise
        self.nodes = []
        self.initialisers = []

    def node(self, op, inputs, **attributes):
        """Appends one node with one output and returns that output's name."""
        output = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name, array):
        """Stores an array as it is and returns its name."""
        self.initialisers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def weight(self, name, array, axis):
        """Stores a weight tensor, as int8 with one scale for each index of `axis` when quantising.

        Symmetric, zero point 0: w ~ scale[i] * q, q in [-127, 127].
        """
        array = np.asarray(array, np.float32)
        if not self.quantise:
            return self.constant(name, array)
        codes, scale = quantise_symmetric(array, axis)
        self.constant(name + "_q", codes)
        self.constant(name + "_scale", scale)
        self.constant(name + "_zero", np.zeros(scale.shape, np.int8))
        return self.node("DequantizeLinear", [name + "_q", name + "_scale", name + "_zero"], axis=axis)

    def save(self, path, inputs, outputs):
        """Checks and writes the model. `inputs` and `outputs`: (name, element type, shape) each."""
        graph = helper.make_graph(
            self.nodes,
            self.name,
            [helper.make_tensor_value_info(*i) for i in inputs],
            [helper.make_tensor_value_info(*o) for o in outputs],
            self.initialisers,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="captiond models/"
        )
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)


def quantise_symmetric(array, axis):
    """Returns (int8 codes, f32 scale per index of `axis`) that minimise the squared error a channel.

    The full range is not always best: outliers waste codes. A small search over clipping ratios
    costs nothing at build time.
    """
    array = np.asarray(array, np.float32)
    rest = tuple(i for i in range(array.ndim) if i != axis)
    peak = np.maximum(np.abs(array).max(axis=rest, keepdims=True), 1e-12)
    best_error = best_codes = best_scale = None
    for ratio in (1.0, 0.97, 0.94, 0.9, 0.86, 0.8):
        scale = peak * ratio / 127.0
        codes = np.clip(np.rint(array / scale), -127, 127)
        error = ((codes * scale - array) ** 2).sum(axis=rest, keepdims=True)
        if best_error is None:
            best_error, best_codes, best_scale = error, codes, np.broadcast_to(scale, peak.shape).copy()
            continue
        better = error < best_error
        best_error = np.where(better, error, best_error)
        best_scale = np.where(better, scale, best_scale)
        best_codes = np.where(better, codes, best_codes)
    return best_codes.astype(np.int8), best_scale.reshape(-1).astype(np.float32)


FLOAT = TensorProto.FLOAT
INT64 = TensorProto.INT64
