"""SigLIP's towers (arXiv 2303.15343) from transformers' names.

image  pixels [1, 3, h, w] -> embedding [1, d], pooled by attention with one learnt query
text   input_ids [1, context] -> embedding [1, d]: not causal and not masked, so captions are padded to the
       context (64) as in training, and the last position is what counts
"""

from .blocks import FLOAT, INT64, Blocks, split_rows
from .clip_towers import encoder_layer, patches


def build_image(state, config, path, quantise=True, taps=False):
    """Writes the image tower. `config`: transformers' SiglipConfig."""
    g = Blocks("siglip_image", quantise, taps)
    c, side = config.vision_config, config.vision_config.image_size
    width, heads, epsilon = c.hidden_size, c.num_attention_heads, c.layer_norm_eps
    vision = "vision_model."
    x, count = patches(g, state, vision + "embeddings.patch_embedding", side, c.patch_size, width)
    x = g.node("Add", [x, g.constant("places", state[vision + "embeddings.position_embedding.weight"][None, :count])])
    for i in range(c.num_hidden_layers):
        x = encoder_layer(g, x, state, f"{vision}encoder.layers.{i}", f"layers.{i}", (width, heads), c.hidden_act, epsilon)
    x = g.layer_norm(x, "post", state[vision + "post_layernorm.weight"], state[vision + "post_layernorm.bias"], epsilon)
    pool(g, x, state, vision + "head", (width, heads), c.hidden_act, epsilon)
    g.rename_last("embedding")
    outputs = [("embedding", FLOAT, [1, width])]
    g.save(path, [("pixels", FLOAT, [1, 3, side, side])], outputs + g.tap_outputs())


def pool(g, x, state, head, shape, activation, epsilon):
    """[1, positions, width] to [1, width]: attention with the learnt query, then an MLP beside a shortcut."""
    width, heads = shape
    depth = width // heads
    weights = split_rows(state[head + ".attention.in_proj_weight"], 3)
    biases = split_rows(state[head + ".attention.in_proj_bias"], 3)
    # The query is the same for every picture.
    query = state[head + ".probe"].reshape(1, width) @ weights[0].T + biases[0]
    query = g.constant("query", query.reshape(1, heads, 1, depth))
    key, value = (g.split_heads(g.linear(x, f"head.{n}", w.T, b), heads, depth)
                  for n, w, b in zip(["key", "value"], weights[1:], biases[1:]))  # fmt: skip
    mixed = g.join_heads(g.attend(query, key, value, depth**-0.5), width)
    linear = lambda y, part: g.linear(y, "head." + part, state[f"{head}.{part}.weight"].T, state[f"{head}.{part}.bias"])
    x = linear(mixed, "attention.out_proj")
    y = g.layer_norm(x, "head.norm", state[head + ".layernorm.weight"], state[head + ".layernorm.bias"], epsilon)
    y = linear(g.activation(linear(y, "mlp.fc1"), activation), "mlp.fc2")
    return g.node("Squeeze", [g.node("Add", [x, y]), g.ints(1)])


def build_text(state, config, path, quantise=True, taps=False):
    """Writes the text tower."""
    g = Blocks("siglip_text", quantise, taps)
    c = config.text_config
    width, epsilon, context = c.hidden_size, c.layer_norm_eps, c.max_position_embeddings
    text = "text_model."
    words = g.rows("words", state[text + "embeddings.token_embedding.weight"], "input_ids")
    x = g.node("Add", [words, g.constant("places", state[text + "embeddings.position_embedding.weight"][None])])
    for i in range(c.num_hidden_layers):
        x = encoder_layer(g, x, state, f"{text}encoder.layers.{i}", f"layers.{i}", (width, c.num_attention_heads),
                          c.hidden_act, epsilon)  # fmt: skip
    x = g.last_position(x)
    final = text + "final_layer_norm"
    x = g.layer_norm(x, "final", state[final + ".weight"], state[final + ".bias"], epsilon)
    g.linear(x, "head", state[text + "head.weight"].T, state[text + "head.bias"])
    g.rename_last("embedding")
    outputs = [("embedding", FLOAT, [1, c.projection_size])]
    g.save(path, [("input_ids", INT64, [1, context])], outputs + g.tap_outputs())
