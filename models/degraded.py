#!/usr/bin/env python3
"""Pictures as they are and as a bad moment shows them, for `captiond calibrate --own`.

    python3 models/degraded.py --data ../shared/data --pairs dev.tsv --out target/calibration

Writes OUT/plain/NAME.jpg, OUT/degraded/NAME.png and OUT/pairs.tsv, which gives both the references of the
picture. Each picture gets one of robustness.py's perturbations, chosen by its name and --seed. Confidences
that were fitted on good photographs alone stay high on bad frames.
"""

import argparse
import pathlib
import shutil
import zlib

import numpy as np
from PIL import Image

from robustness import PERTURBATIONS

SETTINGS = [(perturb, setting) for _, _, perturb, settings in PERTURBATIONS for setting in settings]


def degrade(image, name, seed):
    """One perturbation of an image, always the same for a name."""
    random = np.random.default_rng([seed, zlib.crc32(name.encode())])
    perturb, setting = SETTINGS[random.integers(len(SETTINGS))]
    return perturb(image, setting, random)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder with flickr8k")
    parser.add_argument("--pairs", default="dev.tsv", help="TSV in flickr8k: image, caption")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    flickr = args.data / "flickr8k"
    captions = {}
    for line in (flickr / args.pairs).read_text(encoding="utf-8").splitlines():
        name, caption = line.split("\t", 1)
        captions.setdefault(name, []).append(caption)
    for folder in ["plain", "degraded"]:
        (args.out / folder).mkdir(parents=True, exist_ok=True)
    lines = []
    for name, references in captions.items():
        shutil.copyfile(flickr / "images" / name, args.out / "plain" / name)
        bad = pathlib.Path(name).with_suffix(".png").name
        image = Image.open(flickr / "images" / name).convert("RGB")
        degrade(image, name, args.seed).save(args.out / "degraded" / bad, compress_level=1)
        for file in [f"plain/{name}", f"degraded/{bad}"]:
            lines += [f"{file}\t{reference}\n" for reference in references]
    (args.out / "pairs.tsv").write_text("".join(lines), encoding="utf-8")
    print(f"{len(captions)} pictures, each plain and degraded, in {args.out}")


if __name__ == "__main__":
    main()
