#!/usr/bin/env python3
"""How different captions have to be to contradict each other: what the alternatives tell of the caption.

    python3 models/alternatives.py --captiond target/release/captiond --data ../shared/data \\
        --predictions target/frame-quality/clean.jsonl

Takes the predictions of `captiond caption --json` on Flickr8k's dev split, chooses the alternatives
again with other limits (src/caption/alternatives.rs says how), and prints for each how many captions
have some, and how many captions with and without them are poor: CIDEr-D below --poor. A limit is good
where the two are far apart. Neighbours count with the realignment's score, which the predictions have; captiond
takes the judge's, so with a pack that has one the shares differ a little.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from safetensors.numpy import load_file

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import evaluate_captions as evaluation
from hallucination import load_references

MOST = 3


def embeddings(captiond, pack, captions):
    """{caption: centred embedding of length one}"""
    with tempfile.TemporaryDirectory() as folder:
        text, out = pathlib.Path(folder) / "captions.txt", pathlib.Path(folder) / "out.safetensors"
        text.write_text("".join(f"{c}\n" for c in captions), encoding="utf-8")
        subprocess.run([captiond, "embed", "--captions", text, "--out", out, "--pack", pack], check=True)
        rows = load_file(out)["captions"] - load_file(pack / "realignment.safetensors")["mean_text"]
    return dict(zip(captions, rows / np.linalg.norm(rows, axis=1, keepdims=True)))


def alternatives(prediction, vectors, agree, behind):
    proposals = prediction["candidates"] + prediction["neighbours"]
    chosen = prediction["caption"]
    score = next(p["score"] for p in proposals + [prediction["retrieved"]] if p["caption"] == chosen)
    said, found = [vectors[chosen]], []
    for proposal in sorted(proposals, key=lambda p: -p["score"]):
        vector = vectors[proposal["caption"]]
        if proposal["score"] < score - behind or proposal["caption"] == chosen or len(found) == MOST:
            continue
        if all(vector @ one < agree for one in said):
            said.append(vector)
            found.append(proposal["caption"])
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captiond", default="captiond", help="the program. Default: captiond")
    parser.add_argument("--pack", type=pathlib.Path, default=evaluation.HERE / "default", help="Default: models/default")
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder with flickr8k/dev.tsv")
    parser.add_argument("--predictions", type=pathlib.Path, required=True, help="JSON lines of captiond caption")
    parser.add_argument("--poor", type=float, default=0.35, help="CIDEr-D of a poor caption. Default: 0.35")
    parser.add_argument("--agree", type=float, nargs="+", default=[0.2, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6])
    parser.add_argument("--behind", type=float, nargs="+", default=[0.05, 0.1, 0.15, 2])
    args = parser.parse_args()
    references = load_references(args.data / "flickr8k" / "dev.tsv", None)
    with open(args.predictions, encoding="utf-8") as lines:
        predictions = {p["file"]: p for p in map(json.loads, lines)}
    scorer = evaluation.Scorer({name: references[name] for name in predictions})
    found = scorer.tokenize({k: [{"caption": p["caption"]}] for k, p in predictions.items()})
    each = scorer.metrics[2]().compute_score(scorer.gold, found)[1]
    poor = dict(zip(scorer.gold, np.asarray(each) < args.poor))
    said = {p["caption"] for prediction in predictions.values()
            for p in [prediction, *prediction["candidates"], *prediction["neighbours"]]}
    vectors = embeddings(args.captiond, args.pack, sorted(said))
    print(f"{len(poor)} captions, {np.mean(list(poor.values())):.2f} of them poor\n")
    print("| agree from a cosine of | behind by at most | with alternatives | with three | poor without | poor with |")
    print("|---|---|---|---|---|---|")
    for behind in args.behind:
        for agree in args.agree:
            counts = {name: len(alternatives(p, vectors, agree, behind)) for name, p in predictions.items()}
            some, three = (np.mean([c >= n for c in counts.values()]) for n in (1, MOST))
            without, with_some = (np.mean([poor[k] for k, c in counts.items() if bool(c) == w]) for w in (False, True))
            print(f"| {agree} | {behind} | {some:.2f} | {three:.2f} | {without:.2f} | {with_some:.2f} |")


if __name__ == "__main__":
    main()
