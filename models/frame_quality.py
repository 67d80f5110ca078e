#!/usr/bin/env python3
"""What the frame quality gate flags: photographs as they are, dark, blown out, blurred, under a finger.

    python3 models/frame_quality.py --captiond target/release/captiond --data ../shared/data \\
        --keep target/frame-quality --limit 100 [-- arguments of captiond caption]

Prints a Markdown table: of how many photographs the gate says what, and what is left of CIDEr-D if
they are captioned all the same (as `captiond caption --json` does), which is what the gate's limits
were chosen by. The photographs as they are are all counted; --limit is how many of them are made
worse, and CIDEr-D is of those alone. With --keep a run that was stopped goes on where it stopped.

Lengths are a share of the long side: the gate measures on a small version of the frame. What is
random (noise, directions, places) depends on the image's name and --seed alone.
"""

import argparse
import collections
import pathlib
import sys
import tempfile

import numpy as np
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import evaluate_captions as evaluation
from hallucination import load_references
from robustness import blur, darkness, make_copies, noise

REASONS = ("dark", "blown-out", "blurred", "covered")
# Red is what a finger lets through; cloth takes all colours alike.
FINGER, CLOTH = (1.7, 0.75, 0.55), (1.0, 1.0, 1.0)


def picture(pixels):
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def dark_and_noisy(image, factor, rng):
    return noise(darkness(image, factor, rng), 4, rng)


def defocus(image, share, rng):
    return blur(image, share * max(image.size), rng)


def defocus_and_noise(image, share, rng):
    return noise(defocus(image, share, rng), 5, rng)


def motion(image, share, rng):
    """The mean along a line of that length, in a direction of chance."""
    length, angle = share * max(image.size), rng.uniform(0, np.pi)
    pad = int(np.ceil(length / 2)) + 1
    wide = Image.fromarray(np.pad(np.asarray(image), ((pad, pad), (pad, pad), (0, 0)), mode="edge"))
    steps = np.linspace(-0.5, 0.5, 2 * int(np.ceil(length)) + 1) * length
    shifted = [
        np.asarray(wide.transform(wide.size, Image.Transform.AFFINE,
                                  (1, 0, s * np.cos(angle), 0, 1, s * np.sin(angle)), Image.Resampling.BILINEAR), np.float32)
        for s in steps
    ]
    return picture(np.mean(shifted, axis=0)[pad:-pad, pad:-pad])


def field(size, brightness, colour, rng):
    """What a thing on the lens looks like: its colour, unevenly lit, without edges."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    far = np.hypot(x - rng.uniform(0, width), y - rng.uniform(0, height)) / np.hypot(width, height)
    uneven = np.asarray(picture(rng.uniform(0, 255, (5, 5))).resize(size, Image.Resampling.BICUBIC), np.float32) / 255
    return brightness * ((1.15 - 0.6 * far) * (0.9 + 0.2 * uneven))[..., None] * np.array(colour)


def covered(colour):
    def cover(image, brightness, rng):
        return noise(picture(field(image.size, brightness, colour, rng)), 6, rng)

    return cover


def partly_covered(image, share, rng):
    """A finger from one side, with a soft border."""
    width, height = image.size
    y, x = np.mgrid[0:height, 0:width]
    along = (x / width, 1 - x / width, y / height, 1 - y / height)[rng.integers(4)]
    finger = 1 / (1 + np.exp((along - share) / 0.03))[..., None]
    return picture(finger * field(image.size, 60, FINGER, rng) + (1 - finger) * np.asarray(image, np.float32))


# Name, what a setting means, the function, its settings from mild to strong.
PERTURBATIONS = [
    ("darkness", "brightness x {}", darkness, (0.5, 0.25, 0.1, 0.05)),
    ("darkness with noise", "brightness x {}, sigma 4 of 255", dark_and_noisy, (0.1, 0.02)),
    ("over-exposure", "brightness x {}, clipped", darkness, (2, 4, 8)),
    ("out of focus", "Gaussian, radius {} of the long side", defocus, (0.005, 0.01, 0.015, 0.02, 0.04)),
    ("out of focus with noise", "radius {}, sigma 5 of 255", defocus_and_noise, (0.01, 0.02)),
    ("motion", "along {} of the long side", motion, (0.02, 0.04, 0.08, 0.16)),
    ("finger on the lens", "mean {} of 255, sigma 6", covered(FINGER), (15, 30, 80, 130)),
    ("cloth on the lens", "mean {} of 255, sigma 6", covered(CLOTH), (8, 40)),
    ("finger over a part", "{} of the frame", partly_covered, (0.3, 0.6, 0.9)),
    ("noise", "sigma {} of 255", noise, (25, 50)),
]


def row(name, predictions, references, scorer, clean):
    said = collections.Counter(p["reason"] for p in predictions.values())
    cider = scorer.score({image: predictions[image]["caption"] for image in references}).cider
    shares = [said[reason] / len(predictions) for reason in REASONS]
    cells = [name, len(predictions), *(f"{s:.3f}" if s else "0" for s in (sum(shares), *shares)),
             f"{cider / (clean or cider):.2f}"]
    print(f"| {' | '.join(map(str, cells))} |", flush=True)
    return cider


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    evaluation.add_arguments(parser)
    parser.add_argument("--seed", type=int, default=1, help="of noise, directions and places. Default: 1")
    args, references, files = evaluation.parse(parser)
    captiond, scorer = evaluation.program(args), evaluation.Scorer(references)
    everything = load_references(args.tsv or args.data / "flickr8k" / "dev.tsv", None)
    folder = args.images or args.data / "flickr8k" / "images"
    print(f"| photographs | number | flagged | {' | '.join(REASONS)} | CIDEr-D, of clean |\n|---|---|---|---|---|---|---|---|")
    with evaluation.keeping(args.keep) as kept:
        predictions = evaluation.caption(captiond, {name: folder / name for name in everything}, kept / "clean.jsonl")
        clean = row("as they are", predictions, references, scorer, None)
        for name, meaning, perturb, settings in PERTURBATIONS:
            for setting in settings:
                stem = evaluation.file_name(f"{name}-{setting}-seed-{args.seed}")
                done = kept / f"{stem}.jsonl"
                have = evaluation.load_predictions(done) if done.exists() else {}
                with tempfile.TemporaryDirectory() as made:
                    todo = {image: path for image, path in files.items() if image not in have}
                    copies = make_copies(todo, pathlib.Path(made), perturb, setting, args.seed)
                    images = {image: copies.get(image, path) for image, path in files.items()}
                    predictions = evaluation.caption(captiond, images, done)
                row(f"{name}, {meaning.format(setting)}", predictions, references, scorer, clean)


if __name__ == "__main__":
    main()
