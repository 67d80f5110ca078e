"""Any dual encoder that open_clip builds (MobileCLIP, ViTamin, ConvNeXt, ...), traced by PyTorch's own exporter.

image  pixels [1, 3, h, w] -> embedding [1, d]
text   input_ids [1, context] -> embedding [1, d], padded as open_clip pads
"""

import contextlib
import sys
import warnings

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from towers.graph import quantise_symmetric

from . import configurations, stand_ins, vocabulary
from .parts import Origin, Towers

OPSET = 17
# Smaller weights stay f32: biases, norms and the like.
LEAST = 4096


def names():
    import open_clip

    return open_clip.list_models()


def load(name, pretrained, licence=None, seed=0):
    """Towers of an open_clip name; `pretrained`: a tag of open_clip.list_pretrained(), none for random numbers."""
    import open_clip
    import torch

    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained is not None and pretrained not in tags:
        sys.exit(f"{name}: no weights named {pretrained!r}; open_clip knows {', '.join(tags) or 'none'}")
    torch.manual_seed(seed)
    model = open_clip.create_model(name, pretrained=pretrained, device="cpu").eval()
    config = open_clip.get_model_config(name)
    if pretrained is None:
        origin = Origin(f"random numbers in the shape of open_clip's {name}", f"seed {seed}", "CC0-1.0")
    else:
        about = open_clip.get_pretrained_cfg(name, pretrained)
        where = about.get("hf_hub") or about.get("url") or "open_clip"
        found = licence or configurations.known_licence(name) or "LicenseRef-unknown"
        origin = Origin(f"open_clip's {name}, weights {pretrained} ({where})", "open_clip_torch " + open_clip.__version__, found)
    tokenizer, tokenizer_origin = tokenizer_of(name, config["text_cfg"], pretrained is None)
    return Towers("open_clip", origin, model, config, None, pixels_of(name, model.visual.preprocess_cfg), tokenizer,
                  tokenizer_origin)  # fmt: skip


def pixels_of(name, spec):
    """pack.toml's keys for open_clip's preprocessing."""
    size = spec["size"]
    side = [size, size] if isinstance(size, int) else list(size)
    if spec["resize_mode"] not in ("shortest", "squash"):
        sys.exit(f"{name}: resize_mode {spec['resize_mode']!r} is not what captiond can do (shortest, squash)")
    resize = {"resize": "stretch"}
    if spec["resize_mode"] == "shortest":
        resize = {"resize": "shortest-edge", "shortest_edge": min(side)}
    return {"size": side, **resize, "interpolation": spec["interpolation"], "mean": list(spec["mean"]), "std": list(spec["std"])}


def tokenizer_of(name, text, random):
    """(tokenizer, where it comes from) of open_clip's text configuration."""
    import open_clip

    if text.get("tokenizer_kwargs", {}).get("reduction_mask"):
        sys.exit(f"{name}: its tokenizer shortens captions by a rule of its own, which captiond does not have")
    if "hf_tokenizer_name" not in text:
        return vocabulary.clip_bpe(), "the open_clip_torch wheel's byte pairs"
    if random:
        return stand_ins.siglip(text["vocab_size"]), "a stand-in learnt from models/grammar/captions.txt"
    made = open_clip.get_tokenizer(name).tokenizer.backend_tokenizer
    made.no_padding()
    made.no_truncation()
    if text.get("tokenizer_kwargs", {}).get("clean") == "canonicalize":
        made.normalizer = vocabulary.canonical(made.normalizer)
    return made, f"the hub's {text['hf_tokenizer_name']}"


def context(towers):
    return towers.config["text_cfg"].get("context_length", 77)


def pad_id(towers):
    """open_clip pads byte pairs with nought, whatever the model was told."""
    text = towers.config["text_cfg"]
    return text.get("pad_id", 1) if "hf_tokenizer_name" in text else 0


class Eyes:
    """The image tower as a module with one input."""

    def __new__(cls, model):
        return _module(lambda pixels: model.encode_image(pixels, normalize=False), model)


class Ears:
    """The text tower as a module with one input."""

    def __new__(cls, model):
        return _module(lambda ids: model.encode_text(ids, normalize=False), model)


def _module(run, model):
    import torch

    class One(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return run(x)

    return One().eval()


def build(towers, image, text, quantise=True):
    """Writes both towers."""
    import torch

    height, width = towers.pixels["size"]
    trace(Eyes(towers.model), torch.zeros(1, 3, height, width), "pixels", image)
    trace(Ears(towers.model), torch.ones(1, context(towers), dtype=torch.long), "input_ids", text)
    for path in (image, text):
        model = onnx.load(path)
        if quantise:
            quantise_weights(model)
        onnx.checker.check_model(model)
        onnx.save(model, path)


def trace(module, example, name, path):
    """Exports with the input's shape fixed."""
    import torch

    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        # The fused attention of timm and PyTorch has operators that ONNX hasn't.
        torch.backends.mha.set_fastpath_enabled(False)
        torch.onnx.export(module, (example,), str(path), input_names=[name], output_names=["embedding"],
                          opset_version=OPSET, do_constant_folding=True, dynamo=False)  # fmt: skip


def quantise_weights(model):
    """Replaces the large weights of Conv, MatMul, Gemm and Gather by int8 behind DequantizeLinear, as
    towers/graph.py does: one scale for each output (rows of a table: for each row)."""
    graph = model.graph
    weights = {i.name: i for i in graph.initializer}
    users = {}
    for node in graph.node:
        for at, name in enumerate(node.input):
            users.setdefault(name, []).append((node, at))
    for name, weight in list(weights.items()):
        axes = {axis_of(node, at, len(weight.dims)) for node, at in users.get(name, [])}
        if weight.data_type != TensorProto.FLOAT or np.prod(weight.dims) < LEAST or len(axes) != 1 or None in axes:
            continue
        axis = axes.pop()
        codes, scale = quantise_symmetric(numpy_helper.to_array(weight), axis)
        graph.initializer.remove(weight)
        parts = {"_q": codes, "_scale": scale, "_zero": np.zeros(scale.shape, np.int8)}
        graph.initializer.extend(numpy_helper.from_array(value, name + end) for end, value in parts.items())
        inputs = [name + end for end in parts]
        graph.node.insert(0, helper.make_node("DequantizeLinear", inputs, [name], name=name + "_dequantise", axis=axis))


def axis_of(node, at, rank):
    """The axis of a weight's outputs in its user; None where the weight stays as it is."""
    if node.op_type == "Conv" and at == 1:
        return 0
    if node.op_type == "MatMul" and at == 1 and rank == 2:
        return 1
    if node.op_type == "Gemm" and at == 1:
        transposed = next((a.i for a in node.attribute if a.name == "transB"), 0)
        return 0 if transposed else 1
    if node.op_type == "Gather" and at == 0 and rank == 2:
        return 0
    return None
