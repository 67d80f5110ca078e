#!/usr/bin/env python3
"""Scores captiond's captions of Flickr8k's dev photographs with pycocoevalcap 1.2 (needs Java).

    python3 models/evaluate_captions.py --captiond target/release/captiond --data ../shared/data

Prints a Markdown row for the chosen caption and one for the nearest, from the same run.
"""

import argparse
import collections
import contextlib
import io
import json
import pathlib
import statistics
import subprocess

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

HERE = pathlib.Path(__file__).resolve().parent


def score(references, captions):
    """BLEU-4, ROUGE-L and CIDEr-D of one caption an image."""
    with contextlib.redirect_stdout(io.StringIO()):
        tokenizer = PTBTokenizer()
        gold = tokenizer.tokenize({k: [{"caption": c} for c in v] for k, v in references.items()})
        found = tokenizer.tokenize({k: [{"caption": captions[k]}] for k in references})
        bleu = Bleu(4).compute_score(gold, found)[0]
        return bleu[3], Rouge().compute_score(gold, found)[0], Cider().compute_score(gold, found)[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captiond", default="captiond")
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--pack", type=pathlib.Path, default=HERE / "default")
    parser.add_argument("--limit", type=int, help="only the first photographs")
    parser.add_argument("--save", type=pathlib.Path, help="keep captiond's output here")
    args = parser.parse_args()
    references = collections.defaultdict(list)
    for line in open(args.data / "flickr8k" / "dev.tsv", encoding="utf-8"):
        name, caption = line.rstrip("\n").split("\t")
        references[name].append(caption)
    references = dict(list(references.items())[: args.limit])
    files = [str(args.data / "flickr8k" / "images" / name) for name in references]
    command = [args.captiond, "caption", "--json", "--pack", str(args.pack), *files]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if args.save:
        args.save.write_text(output, encoding="utf-8")
    lines = {pathlib.Path(o["file"]).name: o for o in map(json.loads, output.splitlines())}
    print("| caption | BLEU-4 | ROUGE-L | CIDEr-D | mean words |\n|---|---|---|---|---|")
    rules = {"chosen": lambda o: o["caption"], "nearest": lambda o: o["neighbours"][0]["caption"]}
    for name, rule in rules.items():
        captions = {image: rule(lines[image]) for image in references}
        words = statistics.mean(len(c.split()) for c in captions.values())
        print("| {} | {:.3f} | {:.3f} | {:.3f} | {:.1f} |".format(name, *score(references, captions), words))
    print(f"median milliseconds a frame: {statistics.median(o['ms']['total'] for o in lines.values()):.1f}")


if __name__ == "__main__":
    main()
