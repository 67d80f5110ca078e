"""CLIP's towers (arXiv 2103.00020) from transformers' names: OpenAI's, LAION's and TinyCLIP's.

image  pixels [1, 3, h, w] -> embedding [1, d]
text   input_ids [1, S] -> hidden [1, S, d], S up to the model's context; the caption's embedding is the row of
       the end-of-text token. The text tower is causal: what stands behind that token changes nothing, so captions
       aren't padded to 77, which makes a usual one five times faster.
"""

import numpy as np

from .blocks import FLOAT, INT64, Blocks


def encoder_layer(g, x, state, prefix, name, shape, activation, epsilon, bias=None):
    """One pre-norm layer, as CLIP and SigLIP have it. `shape`: (width, heads)."""
    width, heads = shape
    depth = width // heads
    norm = lambda y, part: g.layer_norm(y, f"{name}.{part}", state[f"{prefix}.{part}.weight"],
                                        state[f"{prefix}.{part}.bias"], epsilon)  # fmt: skip
    linear = lambda y, part: g.linear(y, f"{name}.{part}", state[f"{prefix}.{part}.weight"].T, state[f"{prefix}.{part}.bias"])
    y = norm(x, "layer_norm1")
    query, key, value = (g.split_heads(linear(y, f"self_attn.{p}_proj"), heads, depth) for p in "qkv")
    mixed = g.join_heads(g.attend(query, key, value, depth**-0.5, bias), width)
    x = g.node("Add", [x, linear(mixed, "self_attn.out_proj")])
    y = g.activation(linear(norm(x, "layer_norm2"), "mlp.fc1"), activation)
    return g.tap(name, g.node("Add", [x, linear(y, "mlp.fc2")]))


def patches(g, state, prefix, side, patch, width):
    """[1, 3, side, side] pixels to [1, patches, width]."""
    inputs = ["pixels", g.weight("patch", state[prefix + ".weight"], axis=0)]
    if prefix + ".bias" in state:
        inputs.append(g.constant("patch.bias", state[prefix + ".bias"]))
    y = g.node("Conv", inputs, kernel_shape=[patch, patch], strides=[patch, patch])
    count = (side // patch) ** 2
    y = g.node("Transpose", [g.node("Reshape", [y, g.ints(1, width, count)])], perm=[0, 2, 1])
    return y, count


def build_image(state, config, path, quantise=True, taps=False):
    """Writes the image tower. `config`: the vision part of transformers' CLIPConfig and its projection's width."""
    g = Blocks("clip_image", quantise, taps)
    c, side = config.vision_config, config.vision_config.image_size
    width, epsilon = c.hidden_size, c.layer_norm_eps
    vision = "vision_model."
    x, count = patches(g, state, vision + "embeddings.patch_embedding", side, c.patch_size, width)
    token = g.constant("class", state[vision + "embeddings.class_embedding"].reshape(1, 1, width))
    x = g.node("Concat", [token, x], axis=1)
    places = state[vision + "embeddings.position_embedding.weight"][None, : count + 1]
    x = g.node("Add", [x, g.constant("places", places)])
    # transformers' own spelling.
    x = g.layer_norm(x, "pre", state[vision + "pre_layrnorm.weight"], state[vision + "pre_layrnorm.bias"], epsilon)
    for i in range(c.num_hidden_layers):
        x = encoder_layer(g, x, state, f"{vision}encoder.layers.{i}", f"layers.{i}", (width, c.num_attention_heads),
                          c.hidden_act, epsilon)  # fmt: skip
    x = g.node("Gather", [x, g.index(0)], axis=1)
    x = g.layer_norm(x, "post", state[vision + "post_layernorm.weight"], state[vision + "post_layernorm.bias"], epsilon)
    g.linear(x, "projection", state["visual_projection.weight"].T)
    g.rename_last("embedding")
    outputs = [("embedding", FLOAT, [1, config.projection_dim])]
    g.save(path, [("pixels", FLOAT, [1, 3, side, side])], outputs + g.tap_outputs())


def build_text(state, config, path, quantise=True, taps=False):
    """Writes the text tower."""
    g = Blocks("clip_text", quantise, taps)
    c = config.text_config
    width, epsilon, context = c.hidden_size, c.layer_norm_eps, c.max_position_embeddings
    text = "text_model."
    length = g.length_of("input_ids", 1)
    words = g.rows("words", state[text + "embeddings.token_embedding.weight"], "input_ids")
    places = g.constant("places", state[text + "embeddings.position_embedding.weight"][None])
    x = g.node("Add", [words, g.first(places, length, 1)])
    # Not minus infinity: tract and onnxruntime agree on a large number.
    causal = g.constant("causal", np.triu(np.full((context, context), -1e9, np.float32), 1)[None, None])
    causal = g.first(g.first(causal, length, 2), length, 3)
    for i in range(c.num_hidden_layers):
        x = encoder_layer(g, x, state, f"{text}encoder.layers.{i}", f"layers.{i}", (width, c.num_attention_heads),
                          c.hidden_act, epsilon, causal)  # fmt: skip
    final = text + "final_layer_norm"
    x = g.layer_norm(x, "final", state[final + ".weight"], state[final + ".bias"], epsilon)
    g.linear(x, "projection", state["text_projection.weight"].T)
    g.rename_last("hidden")
    outputs = [("hidden", FLOAT, [1, "S", config.projection_dim])]
    g.save(path, [("input_ids", INT64, [1, "S"])], outputs + g.tap_outputs())
