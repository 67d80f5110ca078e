"""T5 and FLAN-T5 (arXiv 1910.10683, 2210.11416) as two graphs: the encoder runs once for a prompt, the decoder
once for a token, with caches for what was said and for the prompt.

encoder.onnx  input_ids [1, n] -> cross [1, 2 layers, heads, n, d]: keys and values of the decoder's attention to
              the prompt, layer after layer, keys before values
decoder.onnx  ids [b, 1], distances [t + 1], past [b, 2 layers, heads, t, d], cross
              -> logits [b, vocabulary], present [b, 2 layers, heads, t + 1, d]

`distances` says how far behind the new token each position lies: t, t - 1, ..., 0. T5 knows no other positions.
"""

import numpy as np

from .blocks import FLOAT, INT64, Blocks

# Tokens behind which the decoder can still look; far more than a caption has.
LONGEST = 256


def buckets(distance, both_ways, count, farthest):
    """T5's relative position buckets of `distance` = place of the key - place of the query: one for each small
    distance, then ones that widen like a logarithm up to `farthest`."""
    distance = np.asarray(distance)
    offset = 0
    if both_ways:
        count //= 2
        offset = np.where(distance > 0, count, 0)
        behind = np.abs(distance)
    else:
        behind = np.maximum(-distance, 0)
    exact = count // 2
    # float32 as the models were trained: a bucket's border may hang on the last digit.
    share = np.log(np.maximum(behind, 1).astype(np.float32) / np.float32(exact)) / np.float32(np.log(farthest / exact))
    wide = np.minimum(exact + (share * np.float32(count - exact)).astype(np.int64), count - 1)
    return offset + np.where(behind < exact, behind, wide)


class T5(Blocks):
    """Blocks with T5's layers: no biases, no scaling of the attention."""

    def __init__(self, name, state, config, quantise):
        super().__init__(name, quantise)
        self.state, self.config = state, config

    def norm(self, x, name):
        return self.rms_norm(x, name, self.state[name + ".weight"], self.config.layer_norm_epsilon)

    def project(self, x, name):
        return self.linear(x, name, self.state[name + ".weight"].T)

    def heads_of(self, x, name):
        return self.split_heads(self.project(x, name), self.config.num_heads, self.config.d_kv)

    def joined(self, x, name):
        return self.project(self.join_heads(x, self.config.num_heads * self.config.d_kv), name)

    def feed_forward(self, x, name):
        y = self.norm(x, name + ".layer_norm")
        dense = name + ".DenseReluDense"
        if self.config.is_gated_act:
            gate = self.activation(self.project(y, dense + ".wi_0"), self.config.dense_act_fn)
            y = self.node("Mul", [gate, self.project(y, dense + ".wi_1")])
        else:
            y = self.activation(self.project(y, dense + ".wi"), self.config.dense_act_fn)
        return self.node("Add", [x, self.project(y, dense + ".wo")])

    def table(self, stack, distances):
        """Attention biases [distances, heads] of a stack (all its layers share the first one's)."""
        name = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        c = self.config
        ids = buckets(distances, stack == "encoder", c.relative_attention_num_buckets, c.relative_attention_max_distance)
        return self.constant(stack + ".biases", self.state[name][ids])


def build_encoder(state, config, path, longest, quantise=True):
    """Writes encoder.onnx for prompts of up to `longest` tokens."""
    g = T5("t5_encoder", state, config, quantise)
    x = g.rows("words", state["shared.weight"], "input_ids")
    table = g.table("encoder", np.arange(-longest + 1, longest))
    places = g.first(g.constant("places", np.arange(longest, dtype=np.int64)), g.length_of("input_ids", 1), 0)
    apart = g.node("Sub", [g.node("Unsqueeze", [places, g.ints(0)]), g.node("Unsqueeze", [places, g.ints(1)])])
    row = g.node("Add", [apart, g.index(longest - 1)])
    bias = g.node("Transpose", [g.node("Gather", [table, row], axis=0)], perm=[2, 0, 1])
    bias = g.node("Unsqueeze", [bias, g.ints(0)])
    for i in range(config.num_layers):
        name = f"encoder.block.{i}.layer"
        y = g.norm(x, name + ".0.layer_norm")
        query, key, value = (g.heads_of(y, f"{name}.0.SelfAttention.{part}") for part in "qkv")
        mixed = g.joined(g.attend(query, key, value, bias=bias), name + ".0.SelfAttention.o")
        x = g.feed_forward(g.node("Add", [x, mixed]), name + ".1")
    x = g.norm(x, "encoder.final_layer_norm")
    cross = []
    for i in range(config.num_decoder_layers):
        for part in "kv":
            y = g.heads_of(x, f"decoder.block.{i}.layer.1.EncDecAttention.{part}")
            cross.append(g.node("Unsqueeze", [y, g.ints(1)]))
    g.node("Concat", cross, axis=1)
    g.rename_last("cross")
    shape = [1, 2 * config.num_decoder_layers, config.num_heads, "n", config.d_kv]
    g.save(path, [("input_ids", INT64, [1, "n"])], [("cross", FLOAT, shape)])


def build_decoder(state, config, path, vocabulary, quantise=True):
    """Writes decoder.onnx; logits are those of the tokenizer's `vocabulary` ids (the weights have a few more,
    to a round number, that no text gives)."""
    g = T5("t5_decoder", state, config, quantise)
    x = g.rows("words", state["shared.weight"][:vocabulary], "ids")
    table = g.table("decoder", -np.arange(LONGEST))
    bias = g.node("Transpose", [g.node("Gather", [table, "distances"], axis=0)], perm=[1, 0])
    bias = g.node("Unsqueeze", [bias, g.ints(0, 2)])
    present = []
    for i in range(config.num_decoder_layers):
        name = f"decoder.block.{i}.layer"
        y = g.norm(x, name + ".0.layer_norm")
        query, *new = (g.heads_of(y, f"{name}.0.SelfAttention.{part}") for part in "qkv")
        both = []
        for offset, part in enumerate(new):
            past = g.node("Gather", ["past", g.index(2 * i + offset)], axis=1)
            both.append(g.node("Concat", [past, part], axis=2))
        present += [g.node("Unsqueeze", [part, g.ints(1)]) for part in both]
        mixed = g.attend(query, *both, bias=bias)
        x = g.node("Add", [x, g.joined(mixed, name + ".0.SelfAttention.o")])
        query = g.heads_of(g.norm(x, name + ".1.layer_norm"), name + ".1.EncDecAttention.q")
        seen = [g.node("Gather", ["cross", g.index(2 * i + offset)], axis=1) for offset in (0, 1)]
        x = g.node("Add", [x, g.joined(g.attend(query, *seen), name + ".1.EncDecAttention.o")])
        x = g.feed_forward(x, name + ".2")
    x = g.last_position(g.norm(x, "decoder.final_layer_norm"))
    if config.scale_decoder_outputs:
        x = g.node("Mul", [x, g.scalar(config.d_model**-0.5)])
    head = state.get("lm_head.weight")
    if head is None or np.array_equal(head, state["shared.weight"]):
        g.tied_head(x, "words")
    else:
        g.linear(x, "lm_head", head[:vocabulary].T)
    g.rename_last("logits")
    g.node("Concat", present, axis=1)
    g.rename_last("present")
    layers, heads, depth = 2 * config.num_decoder_layers, config.num_heads, config.d_kv
    g.save(
        path,
        [
            ("ids", INT64, ["b", 1]),
            ("distances", INT64, ["t+1"]),
            ("past", FLOAT, ["b", layers, heads, "t", depth]),
            ("cross", FLOAT, [1, layers, heads, "n", depth]),
        ],
        [("logits", FLOAT, ["b", vocabulary]), ("present", FLOAT, ["b", layers, heads, None, depth])],
    )
