"""The published configurations that --random-init builds, and what is known of the weights' licences.

Numbers: OpenAI's and Google's config.json of each model (arXiv 2103.00020, 2303.15343, 1910.10683, 2210.11416;
DistilGPT-2's card) and TinyCLIP's model_configs. With a hub or a folder the model's own files count, not these.
"""

CLIP_PIXELS = {
    "size": [224, 224],
    "resize": "shortest-edge",
    "shortest_edge": 224,
    "interpolation": "bicubic",
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
}
SIGLIP_PIXELS = {
    "size": [224, 224],
    "resize": "stretch",
    "interpolation": "bicubic",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
}


def layers(width, count, heads, **more):
    """The part of a configuration that all these transformers have; MLPs are four times as wide."""
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": count,
        "num_attention_heads": heads,
        **more,
    }


def clip(vision, text, patch, activation):
    """CLIP at 224 pixels with 512 numbers. `vision`, `text`: (width, layers, heads)."""
    return {
        "kind": "clip",
        "pixels": CLIP_PIXELS,
        "config": {
            "projection_dim": 512,
            "vision_config": layers(*vision, image_size=224, patch_size=patch, hidden_act=activation),
            "text_config": layers(
                *text, vocab_size=49408, max_position_embeddings=77, hidden_act=activation,
                bos_token_id=49406, eos_token_id=49407, pad_token_id=49407,
            ),
        },
    }  # fmt: skip


TOWERS = {
    "openai/clip-vit-base-patch32": clip((768, 12, 12), (512, 12, 8), 32, "quick_gelu"),
    "openai/clip-vit-base-patch16": clip((768, 12, 12), (512, 12, 8), 16, "quick_gelu"),
    "wkcn/TinyCLIP-ViT-8M-16-Text-3M-YFCC15M": clip((256, 10, 4), (256, 3, 4), 16, "gelu"),
    "wkcn/TinyCLIP-ViT-40M-32-Text-19M-LAION400M": clip((512, 12, 8), (512, 6, 8), 32, "gelu"),
    "google/siglip-base-patch16-224": {
        "kind": "siglip",
        "pixels": SIGLIP_PIXELS,
        "config": {
            "vision_config": layers(
                768, 12, 12, image_size=224, patch_size=16, hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6
            ),
            "text_config": {
                **layers(768, 12, 12, hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6),
                "vocab_size": 32000, "max_position_embeddings": 64, "projection_size": 768,
                "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 1,
            },
        },
    },
}  # fmt: skip


def flan_t5(width, feed_forward, count, heads):
    """FLAN-T5: gated GELU, an output matrix of its own."""
    return {
        "kind": "t5",
        "config": {
            "vocab_size": 32128, "d_model": width, "d_kv": 64, "d_ff": feed_forward, "num_layers": count,
            "num_decoder_layers": count, "num_heads": heads, "feed_forward_proj": "gated-gelu",
            "tie_word_embeddings": False, "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1,
        },
    }  # fmt: skip


LANGUAGE_MODELS = {
    "google/flan-t5-small": flan_t5(512, 1024, 8, 6),
    "google/flan-t5-base": flan_t5(768, 2048, 12, 12),
    "distilgpt2": {
        "kind": "gpt2",
        "config": {
            "vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 6, "n_head": 12,
            "bos_token_id": 50256, "eos_token_id": 50256,
        },
    },
}  # fmt: skip

# --lm takes the last part of a name too.
SHORT = {name.rpartition("/")[2]: name for name in LANGUAGE_MODELS}

# SPDX expressions of weights whose hub page states none in its metadata, or that a name is enough to know.
LICENCES = {
    "openai/": "MIT",
    "wkcn/TinyCLIP": "MIT",
    "google/siglip": "Apache-2.0",
    "google/flan-t5": "Apache-2.0",
    "distilgpt2": "Apache-2.0",
    "MobileCLIP2": "LicenseRef-apple-amlr",
    "MobileCLIP": "LicenseRef-apple-amlr",
    "apple/": "LicenseRef-apple-amlr",
}


def known_licence(name):
    """The licence of weights by their name; None where it isn't known."""
    return next((spdx for part, spdx in LICENCES.items() if part in name), None)
