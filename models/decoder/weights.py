"""The weights of a pack's decoder, back from its ONNX graphs: the inverse of export.py.

With them what the pack says can be looked into on any machine that has the pack, without the
checkpoints of its training. They are the int8 weights times their scales, as captiond runs them.
"""

import tomllib

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from .model import Config, Decoder


def read_graph(path):
    """{name: array} of a graph's initialisers; int8 weights are multiplied out."""
    graph = onnx.load(path).graph
    stored = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    axes = {
        node.input[0]: next((a.i for a in node.attribute if a.name == "axis"), 1)
        for node in graph.node
        if node.op_type == "DequantizeLinear"
    }
    weights = {}
    for name, array in stored.items():
        if name in axes:
            name = name.removesuffix("_q")
            shape = [1] * array.ndim
            shape[axes[name + "_q"]] = -1
            array = array.astype(np.float32) * stored[name + "_scale"].reshape(shape)
        elif name.endswith(("_scale", "_zero")):
            continue
        weights[name] = array
    return weights


def load(pack):
    """(decoder in evaluation mode, its section of pack.toml)."""
    section = tomllib.loads((pack / "pack.toml").read_text(encoding="utf-8"))["decoder"]
    prefix, body = read_graph(pack / section["prefix"]), read_graph(pack / section["file"])
    fixed = prefix["places"].shape[1]
    config = Config(
        vocabulary=len(body["word.weight"]), width=section["width"], layers=section["layers"],
        heads=section["heads"], cells=fixed - 1, cell_width=len(prefix["cell.weight"]),
        embedding=len(prefix["realigned.weight"]), most_retrieved=prefix["ranks"].shape[1],
        most_tokens=len(body["position.weight"]), dropout=0.0,
    )  # fmt: skip
    state = {"place": np.concatenate([prefix["places"][0], prefix["ranks"][0]])}
    for name, array in (prefix | body).items():
        # Products are stored as x W, PyTorch has W' with one row an output.
        if name.endswith(".weight") and array.ndim == 2 and name not in ("word.weight", "position.weight"):
            array = array.T
        if "." in name:
            state[name] = array
    # Export moved the root of the cells' channels into the weight.
    state["cell.weight"] = state["cell.weight"] / np.sqrt(config.cell_width).astype(np.float32)
    state["score.weight"] = state["score.weight"].reshape(-1, 1)
    model = Decoder(config)
    model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in state.items()})
    return model.eval(), section
