"""The trained decoder as two ONNX graphs with int8 weights, written by hand like the towers.

prefix.onnx   cells [1, 9, 1280], realigned [1, 384], retrieved [1, k, 384], scores [1, k]
              -> prefix [1, 10 + k, width]
decoder.onnx  prefix [b, p, width], ids [b, s], positions [b, s], mask [p + s, t + p + s] (0 or very
              negative), past [b, 2 layers, heads, t, d]
              -> logits [b, vocabulary] of the last position, present [b, 2 layers, heads, t + p + s, d]

One graph serves the first call (p > 0, s = 1, t = 0) and every later one (p = 0, s = 1): the weights
are stored once. Keys and values stand in one tensor, layer by layer, key before value, batch first, so
that a beam is taken over by copying one block.
"""

import numpy as np
from onnx import numpy_helper

import pack_manifest
from towers.graph import FLOAT, INT64, GraphBuilder

from . import text

LAYER_NORM_EPSILON = 1e-5


class Transformer(GraphBuilder):
    """GraphBuilder with the few shapes that a transformer repeats."""

    def number(self, name, value):
        """A small constant, stored once; a scalar stays a scalar."""
        if not any(i.name == name for i in self.initialisers):
            self.initialisers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def linear(self, x, name, state):
        """x W' + b, the weight int8 with one scale for each output."""
        y = self.node("MatMul", [x, self.weight(name + ".weight", state[name + ".weight"].T, axis=1)])
        return self.node("Add", [y, self.constant(name + ".bias", state[name + ".bias"])])

    def layer_norm(self, x, name, state):
        mean = self.node("ReduceMean", [x], axes=[-1], keepdims=1)
        centred = self.node("Sub", [x, mean])
        variance = self.node("ReduceMean", [self.node("Mul", [centred, centred])], axes=[-1], keepdims=1)
        shifted = self.node("Add", [variance, self.number("epsilon", np.float32(LAYER_NORM_EPSILON))])
        scaled = self.node("Div", [centred, self.node("Sqrt", [shifted])])
        scaled = self.node("Mul", [scaled, self.constant(name + ".weight", state[name + ".weight"])])
        return self.node("Add", [scaled, self.constant(name + ".bias", state[name + ".bias"])])

    def gelu(self, x):
        """The tanh form."""
        cube = self.node("Mul", [self.node("Mul", [x, x]), x])
        inner = self.node("Add", [x, self.node("Mul", [cube, self.number("gelu_a", np.float32(0.044715))])])
        tanh = self.node("Tanh", [self.node("Mul", [inner, self.number("gelu_b", np.float32(0.7978845608))])])
        half = self.node("Mul", [x, self.number("half", np.float32(0.5))])
        return self.node("Mul", [half, self.node("Add", [tanh, self.number("one", np.float32(1))])])


def build_prefix(state, config, path, quantise=True):
    """Writes prefix.onnx."""
    g = Transformer("prefix", quantise)
    root = g.number("root", np.float32(np.sqrt(config.embedding)))
    # Training multiplies the cells by the root of their number of channels; here the weight is.
    cell_state = {
        "cell.weight": state["cell.weight"] * np.sqrt(config.cell_width).astype(np.float32),
        "cell.bias": state["cell.bias"],
    }
    cells = g.linear("cells", "cell", cell_state)
    realigned = g.linear(g.node("Mul", ["realigned", root]), "realigned", state)
    realigned = g.node("Unsqueeze", [realigned, g.number("axis_1", np.array([1], np.int64))])
    retrieved = g.linear(g.node("Mul", ["retrieved", root]), "retrieved", state)
    column = g.node("Unsqueeze", ["scores", g.number("axis_2", np.array([2], np.int64))])
    score = g.node("Mul", [column, g.constant("score.weight", state["score.weight"].reshape(1, 1, -1))])
    score = g.node("Add", [score, g.constant("score.bias", state["score.bias"])])
    places = state["place"]
    fixed = config.cells + 1
    ranks = g.constant("ranks", places[None, fixed:])
    # The first k ranks; k is the length of the input.
    k = g.node("Slice", [g.node("Shape", ["scores"]), g.number("one_at", np.array([1], np.int64)),
                         g.number("two_at", np.array([2], np.int64))])  # fmt: skip
    zero = g.number("zero_at", np.array([0], np.int64))
    ranks = g.node("Slice", [ranks, zero, k, g.number("axis_1", np.array([1], np.int64))])
    retrieved = g.node("Add", [g.node("Add", [retrieved, score]), ranks])
    first = g.node("Concat", [cells, realigned], axis=1)
    first = g.node("Add", [first, g.constant("places", places[None, :fixed])])
    g.node("Concat", [first, retrieved], axis=1)
    g.nodes[-1].output[0] = "prefix"
    g.save(
        path,
        [
            ("cells", FLOAT, [1, config.cells, config.cell_width]),
            ("realigned", FLOAT, [1, config.embedding]),
            ("retrieved", FLOAT, [1, "k", config.embedding]),
            ("scores", FLOAT, [1, "k"]),
        ],
        [("prefix", FLOAT, [1, None, config.width])],
    )


def build_decoder(state, config, path, quantise=True):
    """Writes decoder.onnx."""
    g = Transformer("decoder", quantise)
    depth = config.width // config.heads
    table = g.weight("word.weight", state["word.weight"], axis=0)
    positions = g.constant("position.weight", state["position.weight"])
    words = g.node("Add", [g.node("Gather", [table, "ids"], axis=0), g.node("Gather", [positions, "positions"], axis=0)])
    x = g.node("Concat", ["prefix", words], axis=1)
    split = g.number("split_heads", np.array([0, 0, 3, config.heads, depth], np.int64))
    join = g.number("join_heads", np.array([0, 0, config.width], np.int64))
    one = g.number("axis_1", np.array([1], np.int64))
    scale = g.number("scale", np.float32(1 / np.sqrt(depth)))
    present = []
    for index in range(config.layers):
        name = f"layers.{index}"
        qkv = g.node("Reshape", [g.linear(g.layer_norm(x, name + ".norm1", state), name + ".qkv", state), split])
        qkv = g.node("Transpose", [qkv], perm=[2, 0, 3, 1, 4])
        query, key, value = (g.node("Gather", [qkv, g.number(f"at_{i}", np.int64(i))], axis=0) for i in range(3))
        both = []
        for offset, new in enumerate([key, value]):
            past = g.node("Gather", ["past", g.number(f"at_{2 * index + offset}", np.int64(2 * index + offset))], axis=1)
            both.append(g.node("Concat", [past, new], axis=2))
        present += [g.node("Unsqueeze", [part, one]) for part in both]
        scores = g.node("MatMul", [query, g.node("Transpose", [both[0]], perm=[0, 1, 3, 2])])
        scores = g.node("Add", [g.node("Mul", [scores, scale]), "mask"])
        mixed = g.node("MatMul", [g.node("Softmax", [scores], axis=-1), both[1]])
        mixed = g.node("Reshape", [g.node("Transpose", [mixed], perm=[0, 2, 1, 3]), join])
        x = g.node("Add", [x, g.linear(mixed, name + ".out", state)])
        hidden = g.gelu(g.linear(g.layer_norm(x, name + ".norm2", state), name + ".up", state))
        x = g.node("Add", [x, g.linear(hidden, name + ".down", state)])
    # The last position: Gather with -1 is not everywhere; Slice from -1 is.
    last = g.node("Slice", [x, g.number("minus_one", np.array([-1], np.int64)),
                            g.number("far", np.array([2**31 - 1], np.int64)), one])  # fmt: skip
    last = g.layer_norm(g.node("Squeeze", [last, one]), "norm", state)
    g.node("MatMul", [last, g.node("Transpose", [table], perm=[1, 0])])
    g.nodes[-1].output[0] = "logits"
    g.node("Concat", present, axis=1)
    g.nodes[-1].output[0] = "present"
    shape = [2 * config.layers, config.heads]
    g.save(
        path,
        [
            ("prefix", FLOAT, ["b", "p", config.width]),
            ("ids", INT64, ["b", "s"]),
            ("positions", INT64, ["b", "s"]),
            ("mask", FLOAT, ["p+s", "t+p+s"]),
            ("past", FLOAT, ["b", *shape, "t", depth]),
        ],
        [
            ("logits", FLOAT, ["b", config.vocabulary]),
            ("present", FLOAT, ["b", *shape, None, depth]),
        ],
    )


SECTION = """[decoder]
kind = "prefix"
file = "decoder.onnx"
prefix = "prefix.onnx"
tokenizer = "decoder_tokenizer.json"
grid = [3, 3]
retrieved = {retrieved}
width = {width}
layers = {layers}
heads = {heads}
begin_id = {begin}
end_id = {end}
never_ids = [{pad}]
max_tokens = {most_tokens}
capitalise = true
activations = "int8"
"""
PROVENANCE = "trained by models/train_decoder.py on Flickr8k's training split and COCO captions (models/decoder/runs)"


def export(state, config, tokenizer_file, pack, retrieved, quantise=True):
    """Puts a trained decoder into a pack: both graphs, the tokenizer, and their part of pack.toml."""
    build_prefix(state, config, pack / "prefix.onnx", quantise)
    build_decoder(state, config, pack / "decoder.onnx", quantise)
    (pack / "decoder_tokenizer.json").write_bytes(tokenizer_file.read_bytes())
    manifest = (pack / "pack.toml").read_text(encoding="utf-8")
    section = SECTION.format(
        retrieved=retrieved, width=config.width, layers=config.layers, heads=config.heads,
        begin=text.BEGIN, end=text.END, pad=text.PAD, most_tokens=config.most_tokens,
    )  # fmt: skip
    manifest = pack_manifest.put(manifest, "[decoder]", section)
    for name in ["prefix.onnx", "decoder.onnx", "decoder_tokenizer.json"]:
        manifest = pack_manifest.put_file(manifest, pack, name, PROVENANCE)
    (pack / "pack.toml").write_text(manifest, encoding="utf-8")
