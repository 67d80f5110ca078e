#!/usr/bin/env python3
"""Makes what benches/peers runs on: weights.py WORK [clip] [captions]. What is there already is left as it is.

Random numbers in the published shapes, and pictures of tests/samples as PNG of 224 x 224. A part is made in a folder
with another name and renamed when it is whole.
"""

import pathlib
import re
import shutil
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "models"))
SEED = 0


def pictures(folder):
    from PIL import Image

    for path in sorted((ROOT / "tests/samples").glob("*.jpg")):
        small = Image.open(path).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
        small.save(folder / f"{path.stem}.png", compress_level=1)


def clip(folder):
    """Packs of our export in fp32 and in int8; onnxruntime's own int8 of the fp32 graph; the same weights where
    faster-clip keeps what it downloads, in one file with the text tower as they are published."""
    import export_parity
    from export import published
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from safetensors.torch import save_file

    towers = published.random_towers("openai/clip-vit-base-patch32", SEED)
    for kind in ("fp32", "int8"):
        export_parity.write_pack(folder / kind, towers, quantise=kind == "int8")
    # As onnxruntime's: activations in int8, too.
    manifest = folder / "int8/pack.toml"
    text = re.sub(r"(?m)^(\[(image|text)_tower\])$", r'\1\nactivations = "int8"', manifest.read_text(encoding="utf-8"))
    manifest.write_text(text, encoding="utf-8")
    quantize_dynamic(folder / "fp32/image.onnx", folder / "dynamic.onnx", per_channel=True, weight_type=QuantType.QInt8)
    kept = folder / "faster-clip/sentence-transformers__clip-ViT-B-32/0_CLIPModel"
    kept.mkdir(parents=True)
    save_file({name: values.contiguous() for name, values in towers.model.state_dict().items()},
              kept / "model.safetensors")  # fmt: skip


def blip(folder):
    import torch
    from transformers import BlipConfig, BlipForConditionalGeneration

    torch.manual_seed(SEED)
    config = BlipConfig(
        vision_config={"image_size": 384, "patch_size": 16, "hidden_size": 768, "num_hidden_layers": 12,
                       "num_attention_heads": 12, "intermediate_size": 3072},
        text_config={"vocab_size": 30524, "hidden_size": 768, "encoder_hidden_size": 768, "num_hidden_layers": 12,
                     "num_attention_heads": 12, "intermediate_size": 3072},
    )  # fmt: skip
    BlipForConditionalGeneration(config).save_pretrained(folder)


def vit_gpt2(folder):
    """Two graphs, the layers of transformers' modules called by hand: its own loop with caches does not trace."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention
    from transformers import GPT2Config, GPT2LMHeadModel, ViTConfig, ViTModel

    torch.manual_seed(SEED)
    vit = ViTModel(ViTConfig(), add_pooling_layer=False).eval()
    gpt2 = GPT2LMHeadModel(GPT2Config(add_cross_attention=True)).eval()
    blocks = gpt2.transformer.h

    def heads(values):
        return values.unflatten(-1, (12, 64)).transpose(1, 2)

    def attention(query, keys, values):
        return scaled_dot_product_attention(query, keys, values).transpose(1, 2).flatten(2)

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.vit, self.blocks = vit, blocks

        def forward(self, pixels):
            seen = self.vit(pixels).last_hidden_state
            return tuple(heads(part) for block in self.blocks for part in block.crossattention.c_attn(seen).split(768, 2))

    class Decoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gpt2 = gpt2

        def forward(self, token, place, *caches):
            past, picture = caches[:24], caches[24:]
            body, present = self.gpt2.transformer, []
            x = body.wte(token) + body.wpe(place)
            for number, block in enumerate(blocks):
                query, keys, values = map(heads, block.attn.c_attn(block.ln_1(x)).split(768, 2))
                keys, values = (torch.cat(pair, 2) for pair in zip(past[2 * number:], (keys, values)))
                present += [keys, values]
                x = x + block.attn.c_proj(attention(query, keys, values))
                query = heads(block.crossattention.q_attn(block.ln_cross_attn(x)))
                x = x + block.crossattention.c_proj(attention(query, *picture[2 * number:2 * number + 2]))
                x = x + block.mlp(block.ln_2(x))
            return self.gpt2.lm_head(body.ln_f(x)), *present

    of_picture, past, present = ([f"{kind}_{number}" for number in range(24)] for kind in ("picture", "past", "present"))
    with torch.inference_mode():
        pixels = torch.randn(1, 3, 224, 224)
        torch.onnx.export(Encoder().eval(), (pixels,), folder / "encoder.onnx", dynamo=False, opset_version=17,
                          input_names=["pixels"], output_names=of_picture)  # fmt: skip
        given = (torch.tensor([[50256]]), torch.tensor([3]), *[torch.randn(1, 12, 3, 64)] * 24,
                 *[torch.randn(1, 12, 197, 64)] * 24)  # fmt: skip
        torch.onnx.export(
            Decoder().eval(), given, folder / "decoder.onnx", dynamo=False, opset_version=17,
            input_names=["token", "place", *past, *of_picture], output_names=["logits", *present],
            dynamic_axes={name: {2: "length"} for name in past} | {name: {2: "more"} for name in present},
        )  # fmt: skip


def smolvlm(folder):
    """Idefics3 of 256 million: SigLIP-B/16 at 512 pixels, 4 x 4 patches to one embedding, SmolLM2-135M with an output
    matrix of its own. Matrices in Q8_0, the rest in fp32, as the published GGUFs are. The vocabulary is a stand-in of
    the right size: bytes, what the picture's place is marked with, and numbered words."""
    import gguf
    import numpy as np

    random = np.random.default_rng(SEED)
    q8 = gguf.GGMLQuantizationType.Q8_0

    def norm(writer, name, width, bias=False):
        writer.add_tensor(f"{name}.weight", np.ones(width, np.float32))
        if bias:
            writer.add_tensor(f"{name}.bias", np.zeros(width, np.float32))

    def matrix(writer, name, rows, columns, bias=False):
        """Blocks of Q8_0: a scale in half precision, then 32 numbers of a byte."""
        blocks = random.integers(0, 256, (rows, columns // 32, 34), np.uint8)
        blocks[..., :2] = np.array([0.02 / 73], np.float16).view(np.uint8)
        writer.add_tensor(f"{name}.weight", blocks.reshape(rows, -1), raw_dtype=q8)
        if bias:
            writer.add_tensor(f"{name}.bias", np.zeros(rows, np.float32))

    def finish(writer):
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    width, inner, layers, vocabulary = 576, 1536, 30, 49280
    text = gguf.GGUFWriter(folder / "text.gguf", "llama")
    text.add_context_length(8192)
    text.add_embedding_length(width)
    text.add_block_count(layers)
    text.add_feed_forward_length(inner)
    text.add_head_count(9)
    text.add_head_count_kv(3)
    text.add_rope_dimension_count(64)
    text.add_rope_freq_base(100_000.0)
    text.add_layer_norm_rms_eps(1e-5)
    text.add_vocab_size(vocabulary)
    text.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    special = ["<|im_start|>", "<|im_end|>", "<fake_token_around_image>", "<global-img>", "<image>"]
    special += [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    # Byte-level BPE writes printable bytes as they are, and the others as letters from 256 on.
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    tokens = special + [chr(byte if byte in printable else next(others)) for byte in range(256)] + ["\u0120t", "\u010a\u010a"]
    types = [gguf.TokenType.CONTROL] * len(special)
    tokens += [f"word{number}" for number in range(vocabulary - len(tokens))]
    types += [gguf.TokenType.NORMAL] * (vocabulary - len(types))
    text.add_tokenizer_model("gpt2")
    text.add_tokenizer_pre("smollm")
    text.add_token_list(tokens)
    text.add_token_types(types)
    text.add_token_merges(["\u0120 t", "\u010a \u010a"])
    text.add_bos_token_id(0)
    text.add_eos_token_id(1)
    matrix(text, "token_embd", vocabulary, width)
    matrix(text, "output", vocabulary, width)
    norm(text, "output_norm", width)
    for number in range(layers):
        block = f"blk.{number}"
        for name in ("attn_norm", "ffn_norm"):
            norm(text, f"{block}.{name}", width)
        for name, rows, columns in [
            ("attn_q", width, width), ("attn_k", 192, width), ("attn_v", 192, width), ("attn_output", width, width),
            ("ffn_gate", inner, width), ("ffn_up", inner, width), ("ffn_down", width, inner),
        ]:  # fmt: skip
            matrix(text, f"{block}.{name}", rows, columns)
    finish(text)

    width, inner, layers, side, patch, joined = 768, 3072, 12, 512, 16, 4
    vision = gguf.GGUFWriter(folder / "mmproj.gguf", "clip")
    vision.add_type(gguf.GGUFType.MMPROJ)
    vision.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    vision.add_clip_has_vision_encoder(True)
    vision.add_clip_projector_type(gguf.VisionProjectorType.IDEFICS3)
    vision.add_vision_projection_dim(576)
    vision.add_vision_image_size(side)
    vision.add_vision_patch_size(patch)
    vision.add_vision_embedding_length(width)
    vision.add_vision_feed_forward_length(inner)
    vision.add_vision_block_count(layers)
    vision.add_vision_head_count(12)
    vision.add_vision_attention_layernorm_eps(1e-6)
    vision.add_vision_projector_scale_factor(joined)
    vision.add_vision_preproc_image_size(side)
    vision.add_vision_image_mean([0.5] * 3)
    vision.add_vision_image_std([0.5] * 3)
    vision.add_vision_use_gelu(True)
    patches = random.standard_normal((width, 3, patch, patch), np.float32) * 0.02
    vision.add_tensor("v.patch_embd.weight", patches)
    vision.add_tensor("v.patch_embd.bias", np.zeros(width, np.float32))
    vision.add_tensor("v.position_embd.weight", random.standard_normal(((side // patch) ** 2, width), np.float32) * 0.02)
    norm(vision, "v.post_ln", width, bias=True)
    matrix(vision, "mm.model.fc", 576, width * joined**2)
    for number in range(layers):
        block = f"v.blk.{number}"
        for name in ("ln1", "ln2"):
            norm(vision, f"{block}.{name}", width, bias=True)
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            matrix(vision, f"{block}.{name}", width, width, bias=True)
        matrix(vision, f"{block}.ffn_up", inner, width, bias=True)
        matrix(vision, f"{block}.ffn_down", width, inner, bias=True)
    finish(vision)


def main():
    work, *parts = sys.argv[1:]
    making = [("pictures", pictures)]
    if "clip" in parts:
        making.append(("clip", clip))
    if "captions" in parts:
        making += [("smolvlm", smolvlm), ("blip", blip), ("vit-gpt2", vit_gpt2)]
    for name, make in making:
        folder = pathlib.Path(work) / name
        if not folder.is_dir():
            unfinished = folder.with_name(f"{name}.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            make(unfinished)
            unfinished.rename(folder)


if __name__ == "__main__":
    main()
