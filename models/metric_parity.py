#!/usr/bin/env python3
"""Compares `captiond eval captions` with pycocoevalcap 1.2 (needs Java), corpus and image by image, and
`captiond eval metrics` with pycocoevalcap and scipy.

    python3 models/metric_parity.py --captiond target/release/captiond --data ../shared/data \\
        --predictions dev.jsonl --cache target/embeddings

Sets: captiond's captions of Flickr8k dev (--predictions, as `captiond caption --json` writes them;
left out without it), each dev photograph's fifth caption against the other four, and COCO val2017's
last caption of each image against its others. Also prints the numbers that tests/caption_metrics.rs
holds: corpus values and the SHA-256 of all tokens.

Agreement with people: Flickr8k-Expert and Flickr8k-CF, each rating a row with its own references, as
CLIPScore's evaluation has it (src/eval/agreement/judgements.rs says how), tau by scipy.
"""

import argparse
import collections
import contextlib
import hashlib
import io
import json
import pathlib
import subprocess
import sys
import tempfile

import scipy.stats
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

NAMES = ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D"]


def tokens(captions):
    """Token lines of captions, read as one text."""
    return PTBTokenizer().tokenize({0: [{"caption": c} for c in captions]})[0]


def oracle(references, predictions):
    """Corpus values, and a list of values for each image."""
    with contextlib.redirect_stdout(io.StringIO()):
        gold = PTBTokenizer().tokenize({k: [{"caption": c} for c in v] for k, v in references.items()})
        found = PTBTokenizer().tokenize({k: [{"caption": predictions[k]}] for k in references})
        bleu, bleus = Bleu(4).compute_score(gold, found)
        rouge, rouges = Rouge().compute_score(gold, found)
        cider, ciders = Cider().compute_score(gold, found)
    images = dict(zip(references, zip(*bleus, rouges, ciders)))
    return [*bleu, rouge, cider], images


def ours(captiond, references, predictions):
    """The same from captiond, through files as anybody would use it."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        ids = {name: number for number, name in enumerate(references)}
        annotations = [{"image_id": ids[k], "caption": c} for k, v in references.items() for c in v]
        images = [{"id": number, "file_name": name} for name, number in ids.items()]
        results = [{"image_id": ids[k], "caption": predictions[k]} for k in references]
        (folder / "refs.json").write_text(json.dumps({"images": images, "annotations": annotations}))
        (folder / "results.json").write_text(json.dumps(results))
        command = [captiond, "eval", "captions", "--json", "--draws", "0"]
        command += ["--refs", folder / "refs.json", "--predictions", folder / "results.json"]
        command += ["--per-image", folder / "images.jsonl"]
        corpus = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        lines = map(json.loads, (folder / "images.jsonl").read_text().splitlines())
        return [corpus[n] for n in NAMES], {o["image"]: [o[n] for n in NAMES] for o in lines}


def flickr(data):
    references = collections.defaultdict(list)
    for line in open(data / "flickr8k" / "dev.tsv", encoding="utf-8"):
        name, caption = line.rstrip("\n").split("\t")
        references[name].append(caption)
    return dict(references)


def coco(data):
    file = json.loads((data / "coco" / "captions_val2017.json").read_text(encoding="utf-8"))
    names = {image["id"]: image["file_name"] for image in file["images"]}
    references = {name: [] for name in names.values()}
    for annotation in file["annotations"]:
        references[names[annotation["image_id"]]].append(annotation["caption"])
    return references, [annotation["caption"] for annotation in file["annotations"]]


def leave_one(references, place):
    predictions = {k: v[place] for k, v in references.items()}
    rest = {k: [c for i, c in enumerate(v) if i != place % len(v)] for k, v in references.items()}
    return rest, predictions


def judged(data, name):
    """(references, caption, rating) for each rating of a file of judgements."""
    lines = [line.split("\t", 1) for line in open(data / "Flickr8k.token.txt", encoding="utf-8")]
    captions = {number: caption.strip() for number, caption in lines}
    references = collections.defaultdict(list)
    for number, caption in captions.items():
        references[number.split("#")[0]].append(caption)
    rows = [line.split() for line in open(data / f"{name}Annotations.txt")]
    if name == "Expert":
        kept = [row for row in rows if captions[row[1]] not in references[row[0]]]
        return [(references[row[0]], captions[row[1]], float(r)) for row in kept for r in row[2:]]
    for image, number, *_ in rows:
        if captions[number] in references[image]:
            references[image].remove(captions[number])
    return [(references[row[0]], captions[row[1]], float(row[2])) for row in rows]


def agreement(captiond, data, cache):
    """Prints both sides' taus, and returns the largest difference."""
    command = [captiond, "eval", "metrics", "--json", "--draws", "0", "--images", data / "images"]
    command += ["--captions", data / "Flickr8k.token.txt", "--expert", data / "ExpertAnnotations.txt"]
    command += ["--crowdflower", data / "CrowdFlowerAnnotations.txt"] + (["--cache", cache] if cache else [])
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    worst = 0.0
    for name, key, variant in [("Expert", "expert_tau_c", "c"), ("CrowdFlower", "crowdflower_tau_b", "b")]:
        rows = judged(data, name)
        _, images = oracle({i: r for i, (r, _, _) in enumerate(rows)}, {i: c for i, (_, c, _) in enumerate(rows)})
        for at, metric in enumerate(NAMES):
            scores = [images[i][at] for i in range(len(rows))]
            tau = 100 * scipy.stats.kendalltau(scores, [rating for _, _, rating in rows], variant=variant)[0]
            worst = max(worst, abs(tau - found[metric][key]))
            print(f"{metric} {key}: captiond {found[metric][key]:.6f}, Python {tau:.6f}")
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captiond", default="captiond")
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--predictions", type=pathlib.Path)
    parser.add_argument("--cache", type=pathlib.Path, help="folder of cached embeddings")
    args = parser.parse_args()
    dev = flickr(args.data)
    val, val_captions = coco(args.data)
    token_file = (args.data / "flickr8k" / "Flickr8k.token.txt").read_text(encoding="utf-8")
    every = [line.split("\t", 1)[1] for line in token_file.split("\n") if line]
    for name, captions in {"COCO val2017": val_captions, "Flickr8k": every}.items():
        digest = hashlib.sha256("".join(line + "\n" for line in tokens(captions)).encode()).hexdigest()
        print(f"tokens of {name}: {len(captions)} captions, SHA-256 {digest}")
    sets = {"fifth of dev": leave_one(dev, 4), "last of COCO val2017": leave_one(val, -1)}
    if args.predictions:
        lines = map(json.loads, args.predictions.read_text(encoding="utf-8").splitlines())
        found = {pathlib.Path(o["file"]).name: o["caption"] for o in lines if "caption" in o}
        sets["captiond on dev"] = dev, {name: found[name] for name in dev}
    worst = 0.0
    for name, (references, predictions) in sets.items():
        expected, expected_images = oracle(references, predictions)
        values, images = ours(args.captiond, references, predictions)
        corpus = max(abs(a - b) for a, b in zip(expected, values))
        image = max(abs(a - b) for k, v in expected_images.items() for a, b in zip(v, images[k]))
        worst = max(worst, corpus, image)
        print(f"{name}: {len(references)} images, largest difference corpus {corpus:.2e}, image {image:.2e}")
        print("   ", ", ".join(f"{n} {v:.12f}" for n, v in zip(NAMES, expected)))
    tau = agreement(args.captiond, args.data / "flickr8k", args.cache)
    print(f"agreement with people: largest difference of a tau x 100 {tau:.2e}")
    return 0 if max(worst, tau) < 1e-6 else 1


if __name__ == "__main__":
    sys.exit(main())
