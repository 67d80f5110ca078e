#!/usr/bin/env python3
"""Chooses the weights with which captiond picks one of a decoder's candidates, on dev.

    captiond caption --json --candidates 8 --score-weight 0.1 IMAGES... > dev.jsonl
    python3 models/choose_weights.py --pairs ../shared/data/flickr8k/dev.tsv dev.jsonl

Reads the candidates with their log-probability, aCLIP-S cosine and agreement, and prints CIDEr-D (our
tokens: close to pycocoevalcap's, and much faster) for a grid of weights, and for two limits: the first
candidate, and the best one that a perfect choice could take.
"""

import argparse
import itertools
import json
import pathlib

import numpy as np

from decoder import data, text
from decoder.cider import CiderD

SCORES = [0, 0.25, 0.5, 1, 1.5, 2, 3, 4]
MARGINS = [-0.05, 0, 0.03, 0.06, 0.1, 0.15, 0.2, 2]
AGREEMENTS = [0, 0.25, 0.5, 1, 1.5, 2, 3]


def tokens(caption):
    return [word.lower() for word in text.words(caption)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=pathlib.Path)
    parser.add_argument("--pairs", type=pathlib.Path, required=True)
    args = parser.parse_args()
    cider = CiderD({name: [tokens(c) for c in several] for name, several in data.read_pairs(args.pairs).items()})
    pictures, retrieved = [], []
    for line in open(args.predictions, encoding="utf-8"):
        found = json.loads(line)
        name = pathlib.Path(found["file"]).name
        rows = [(c["log_probability"], c["score"], c["agreement"], cider.score(name, tokens(c["caption"])))
                for c in found["candidates"]]  # fmt: skip
        if rows:
            pictures.append(np.array(rows))
            own = found["retrieved"]
            retrieved.append((own["score"], cider.score(name, tokens(own["caption"]))))
    likeliest = np.mean([rows[rows[:, 0].argmax(), 3] for rows in pictures])
    perfect = np.mean([rows[:, 3].max() for rows in pictures])
    print(f"{len(pictures)} pictures; likeliest {likeliest:.4f}, a perfect choice {perfect:.4f}")
    results = []
    for score, agreement in itertools.product(SCORES, AGREEMENTS):
        weights = np.array([1, score, agreement])
        results.append((np.mean([rows[(rows[:, :3] @ weights).argmax(), 3] for rows in pictures]), score, agreement))
    results.sort(reverse=True)
    for value, score, agreement in results[:12]:
        print(f"{value:.4f}  score_weight {score}  agreement_weight {agreement}")
    weights = np.array([1, *results[0][1:]])
    best = np.array([rows[(rows[:, :3] @ weights).argmax()] for rows in pictures])
    retrieved = np.array(retrieved)
    print("with the first of these:")
    for margin in MARGINS:
        taken = retrieved[:, 0] > best[:, 1] + margin
        value = np.where(taken, retrieved[:, 1], best[:, 3]).mean()
        print(f"{value:.4f}  retrieval_margin {margin}: {taken.mean():.3f} from the datastore")


if __name__ == "__main__":
    main()
