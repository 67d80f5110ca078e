#!/usr/bin/env python3
"""What each part of the decoder's condition is worth: dev CIDEr-D with parts hidden.

    python3 models/ablate_decoder.py --data ../shared/data --work target/decoder
    python3 models/ablate_decoder.py ... --realignment target/procrustes.safetensors target/ridge.safetensors

Reads the pack alone: the weights are those that captiond runs. They are the same in every row: parts were
hidden now and then in training, and the number of neighbours was drawn from 1 to 20; the decoder was trained
with the pack's own map. Greedy, our tokens, PyTorch: figures to be compared with one another. --realignment
adds a row for each map that `captiond fit --out` wrote.
"""

import argparse
import pathlib
from types import SimpleNamespace

import numpy as np
import torch

from decoder import features, prepare, text, weights
from decoder.batches import PARTS
from decoder.cider import CiderD
from decoder.data import read_datastore, read_pairs, read_realignment
from decoder.generate import say_dev

HERE = pathlib.Path(__file__).resolve().parent


def see(pack, flickr, work):
    """Dev as `say_dev` reads it, with the pack's datastore and map."""
    dev = read_pairs(flickr / "dev.tsv")
    _, store_rows = read_datastore(pack / "datastore.safetensors")
    cells = features.extract(pack / "image.onnx", flickr / "images", list(dev), work / "dev-plain.npy")
    seen = SimpleNamespace(dev=dev, dev_cells=cells, store_rows=store_rows)
    realign(seen, read_realignment(pack / "realignment.safetensors"))
    return seen


def realign(seen, realignment):
    """Looks at dev through a map."""
    seen.dev_realigned, seen.dev_found, seen.dev_scores = prepare.see_dev(seen.dev_cells, seen.store_rows, realignment)
    seen.rows = prepare.centred(seen.store_rows, realignment)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder with flickr8k")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder for dev's features")
    parser.add_argument("--pack", type=pathlib.Path, default=HERE / "default")
    parser.add_argument("--realignment", type=pathlib.Path, nargs="*", default=[], help="other maps")
    parser.add_argument("--only", default="", help="rows with this in their name")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    from tokenizers import Tokenizer

    model, section = weights.load(args.pack)
    tokenizer = Tokenizer.from_file(str(args.pack / section["tokenizer"]))
    seen = see(args.pack, args.data / "flickr8k", args.work)
    scorer = CiderD({name: [text.tokens(c) for c in several] for name, several in seen.dev.items()})

    def row(name, **options):
        if args.only not in name:
            return
        said = say_dev(model, tokenizer, seen, **options)
        cider = np.mean([scorer.score(photo, text.tokens(caption)) for photo, caption in said.items()])
        words = np.mean([len(caption.split()) for caption in said.values()])
        print(f"| {name} | {cider:.3f} | {words:.1f} |", flush=True)

    print("| condition | CIDEr-D | mean words |\n|---|---|---|")
    k = section["retrieved"]
    row(f"everything (k = {k})", k=k)
    row("image only", k=k, retrieved=False)
    for part in PARTS[:2]:
        row("without " + part, k=k, **{part: False})
    for part in PARTS:
        row(part + " only", k=k, **{other: other == part for other in PARTS})
    for other in (1, 4, 8, 13, 20):
        row(f"k = {other}", k=other)
    for path in args.realignment:
        realign(seen, read_realignment(path))
        row(f"map {path.stem}", k=k)


if __name__ == "__main__":
    main()
