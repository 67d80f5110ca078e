"""GPT-2 and DistilGPT-2 as one graph for prompt and words alike.

decoder.onnx  ids [b, s], positions [b, s], mask [s, t + s] (0 or very negative),
              past [b, 2 layers, heads, t, d]
              -> logits [b, vocabulary] of the last position, present [b, 2 layers, heads, t + s, d]

The first run has the whole prompt (b = 1, t = 0), every later one one token a row.
"""

import numpy as np

from .blocks import FLOAT, INT64, Blocks


def build_decoder(state, config, path, vocabulary, quantise=True):
    """Writes decoder.onnx. `state` in transformers' names, whose weights are [inputs, outputs] here."""
    g = Blocks("gpt2", quantise)
    width, heads, epsilon = config.n_embd, config.n_head, config.layer_norm_epsilon
    depth = width // heads
    root = "transformer." if "transformer.wte.weight" in state else ""
    linear = lambda y, name: g.linear(y, name, state[root + name + ".weight"], state[root + name + ".bias"])
    norm = lambda y, name: g.layer_norm(y, name, state[root + name + ".weight"], state[root + name + ".bias"], epsilon)
    words = g.rows("words", state[root + "wte.weight"][:vocabulary], "ids")
    places = g.node("Gather", [g.constant("places", state[root + "wpe.weight"]), "positions"], axis=0)
    x = g.node("Add", [words, places])
    present = []
    for i in range(config.n_layer):
        name = f"h.{i}"
        y = linear(norm(x, name + ".ln_1"), name + ".attn.c_attn")
        y = g.node("Reshape", [y, g.ints(0, 0, 3, heads, depth)])
        y = g.node("Transpose", [y], perm=[2, 0, 3, 1, 4])
        query, *new = (g.node("Gather", [y, g.index(part)], axis=0) for part in range(3))
        both = []
        for offset, part in enumerate(new):
            past = g.node("Gather", ["past", g.index(2 * i + offset)], axis=1)
            both.append(g.node("Concat", [past, part], axis=2))
        present += [g.node("Unsqueeze", [part, g.ints(1)]) for part in both]
        mixed = g.join_heads(g.attend(query, *both, scale=1 / np.sqrt(depth), bias="mask"), width)
        x = g.node("Add", [x, linear(mixed, name + ".attn.c_proj")])
        y = g.activation(linear(norm(x, name + ".ln_2"), name + ".mlp.c_fc"), config.activation_function)
        x = g.node("Add", [x, linear(y, name + ".mlp.c_proj")])
    x = norm(g.last_position(x), "ln_f")
    head = state.get("lm_head.weight")
    if head is None or np.array_equal(head, state[root + "wte.weight"]):
        g.tied_head(x, "words")
    else:
        g.linear(x, "lm_head", head[:vocabulary].T)
    g.rename_last("logits")
    g.node("Concat", present, axis=1)
    g.rename_last("present")
    cache = [2 * config.n_layer, heads]
    g.save(
        path,
        [
            ("ids", INT64, ["b", "s"]),
            ("positions", INT64, ["b", "s"]),
            ("mask", FLOAT, ["s", "t+s"]),
            ("past", FLOAT, ["b", *cache, "t", depth]),
        ],
        [("logits", FLOAT, ["b", vocabulary]), ("present", FLOAT, ["b", *cache, None, depth])],
    )
