#!/usr/bin/env python3
"""How captions hold up when photographs get worse: noise, blur, darkness, JPEG, rotation, occlusion.

    python3 models/robustness.py --captiond target/release/captiond --data ../shared/data \\
        --keep target/robustness --limit 200 [-- arguments of captiond caption]

Makes perturbed copies in a temporary folder, one setting at a time, captions and scores them with
evaluate_captions.py's functions, prints a Markdown table and draws --plot (docs/robustness.svg).
The clean photographs and 16 settings take 17 times as long as one run, so there is a --limit; with --keep a run
that was stopped goes on where it stopped.

What is random (noise, the occluded place) depends on the image's name and --seed alone, not on
the limit, and is the same for each severity. The photographs of Flickr8k here have 224 x 224 pixels: a blur
of radius 4 is a strong one. Copies are PNG, except where JPEG is the perturbation.
"""

import argparse
import html
import io
import pathlib
import statistics
import sys
import tempfile
import zlib

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import evaluate_captions as evaluation
from hallucination import Lexicon

GREY = (128, 128, 128)


def noise(image, sigma, rng):
    pixels = np.asarray(image, np.float32)
    return Image.fromarray(np.clip(np.rint(pixels + rng.normal(0, sigma, pixels.shape)), 0, 255).astype(np.uint8))


def blur(image, radius, rng):
    return image.filter(ImageFilter.GaussianBlur(radius))


def darkness(image, factor, rng):
    return ImageEnhance.Brightness(image).enhance(factor)


def jpeg(image, quality, rng):
    coded = io.BytesIO()
    image.save(coded, "JPEG", quality=quality)
    return Image.open(coded).convert("RGB")


def rotation(image, degrees, rng):
    return image.rotate(degrees, expand=True)


def occlusion(image, share, rng):
    """A grey square of a share of the picture's area; cut to the picture where its side is longer."""
    side = round((share * image.width * image.height) ** 0.5)
    width, height = min(side, image.width), min(side, image.height)
    x, y = rng.random(2) * (image.width - width + 1, image.height - height + 1)
    image = image.copy()
    ImageDraw.Draw(image).rectangle((int(x), int(y), int(x) + width - 1, int(y) + height - 1), fill=GREY)
    return image


# Name, what a setting means, the function, its settings from mild to strong.
PERTURBATIONS = [
    ("noise", "sigma {} of 255", noise, (10, 25, 50)),
    ("blur", "radius {} pixels", blur, (1, 2, 4)),
    ("darkness", "brightness x {}", darkness, (0.5, 0.25, 0.1)),
    ("JPEG", "quality {}", jpeg, (30, 10, 5)),
    ("rotation", "{} degrees", rotation, (90,)),
    ("occlusion", "{} of the area", occlusion, (0.15, 0.3, 0.5)),
]
# Light and dark stroke of each: both have a contrast above 3 with their background.
STROKES = [("#0b6bcb", "#6cb6ff"), ("#b45309", "#f0a44b"), ("#6b7280", "#a3adb8"),
           ("#15803d", "#57c77c"), ("#be185d", "#f472b6"), ("#7c3aed", "#b79cff")]
MARKERS = ["circle", "square", "diamond", "triangle", "cross", "ring"]


def make_copies(files, folder, perturb, setting, seed):
    """Perturbed copies of {image: path}, in the same form."""
    copies = {}
    for number, (name, path) in enumerate(files.items()):
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        copies[name] = folder / f"{number}.png"
        perturb(Image.open(path).convert("RGB"), setting, rng).save(copies[name], compress_level=1)
    return copies


def measure(name, predictions, references, scorer, lexicon):
    loose, strict = lexicon.judge_predictions(references, predictions)
    return {
        "name": name,
        "cider": scorer.score({image: p["caption"] for image, p in predictions.items()}).cider,
        "confidence": statistics.mean(p["confidence"] for p in predictions.values()),
        "loose": loose.share,
        "strict": strict.share,
    }


def table(clean, measured):
    print("| photographs | CIDEr-D | of clean | mean confidence "
          "| unsupported nouns, by references and neighbours / references alone |\n|---|---|---|---|---|")
    for m in [clean] + [m for row in measured for m in row]:
        print(f"| {m['name']} | {m['cider']:.3f} | {m['cider'] / clean['cider']:.2f} | {m['confidence']:.3f} "
              f"| {m['loose']:.3f} / {m['strict']:.3f} |")


def marker(shape, x, y, css):
    drawn = {
        "circle": f'<circle cx="{x}" cy="{y}" r="4"/>',
        "square": f'<rect x="{x - 3.5}" y="{y - 3.5}" width="7" height="7"/>',
        "diamond": f'<path d="M{x} {y - 5}l5 5l-5 5l-5 -5z"/>',
        "triangle": f'<path d="M{x} {y - 5}l5 9h-10z"/>',
        "cross": f'<path d="M{x - 4} {y - 4}l8 8m0 -8l-8 8" class="line"/>',
        "ring": f'<circle cx="{x}" cy="{y}" r="3.5" class="hollow"/>',
    }[shape]
    return f'<g class="{css}">{drawn}</g>'


def panel(left, title, key, clean, measured):
    """One diagram: severity to the right, `key` upwards from 0."""
    top, width, height = 48, 300, 230
    most = max(m[key] for m in [clean] + [m for row in measured for m in row])
    step = next(s for s in (0.05, 0.1, 0.2, 0.5, 1, 2) if most / s <= 6)
    high = step * -(-most // step)
    x = lambda severity: round(left + 20 + severity * (width - 40) / 3, 1)  # noqa: E731
    y = lambda value: round(top + height * (1 - max(value, 0) / high), 1)  # noqa: E731
    drawn = [f'<text x="{left}" y="{top - 16}" class="title">{title}</text>']
    for i in range(round(high / step) + 1):
        drawn.append(f'<path d="M{left} {y(i * step)}h{width}" class="grid"/>')
        drawn.append(f'<text x="{left - 6}" y="{y(i * step) + 4}" text-anchor="end">{i * step:.2g}</text>')
    for severity, label in enumerate(("clean", "mild", "medium", "strong")):
        drawn.append(f'<text x="{x(severity)}" y="{top + height + 18}" text-anchor="middle">{label}</text>')
    for i, row in enumerate(measured):
        # A single setting stands at the end: nothing was measured on its way there.
        steps = [3] if len(row) == 1 else [1, 2, 3]
        points = [(x(0), y(clean[key])), *((x(s), y(m[key])) for s, m in zip(steps, row))]
        path = "L".join(f"{a} {b}" for a, b in points)
        dashed = ' stroke-dasharray="5 4"' if len(row) == 1 else ""
        drawn.append(f'<g class="s{i}"><path d="M{path}" class="line"{dashed}/></g>')
        drawn += [marker(MARKERS[i], a, b, f"s{i}") for a, b in points[1:]]
    return drawn


def svg(clean, measured, count):
    light = "".join(f".s{i}{{fill:{a};stroke:{a}}}" for i, (a, _) in enumerate(STROKES))
    dark = "".join(f".s{i}{{fill:{b};stroke:{b}}}" for i, (_, b) in enumerate(STROKES))
    drawn = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 740 400" role="img" '
        'font-family="sans-serif" font-size="12">',
        f"<title>CIDEr-D and mean confidence of {count} photographs that get worse</title>",
        "<style>",
        f".paper{{fill:#fff}}text{{fill:#333}}.grid{{stroke:#ddd}}{light}",
        "@media (prefers-color-scheme: dark)"
        f"{{.paper{{fill:#16191d}}text{{fill:#d0d4d9}}.grid{{stroke:#3a4047}}{dark}}}",
        ".line{fill:none;stroke-width:2}.hollow{fill:none;stroke-width:2}.title{font-weight:bold}",
        "</style>",
        '<rect width="740" height="400" class="paper"/>',
        *panel(50, f"CIDEr-D ({count} photographs)", "cider", clean, measured),
        *panel(420, "Mean confidence", "confidence", clean, measured),
    ]
    for i, (name, meaning, _, settings) in enumerate(PERTURBATIONS):
        x, y = 56 + i % 2 * 370, 332 + i // 2 * 22
        text = html.escape(f"{name}, {meaning.format(', '.join(map(str, settings)))}")
        drawn += [marker(MARKERS[i], x, y, f"s{i}"), f'<text x="{x + 12}" y="{y + 4}">{text}</text>']
    return "\n".join([*drawn, "</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    evaluation.add_arguments(parser)
    parser.add_argument("--seed", type=int, default=1, help="of noise and places. Default: 1")
    docs = evaluation.HERE.parent / "docs" / "robustness.svg"
    parser.add_argument("--plot", type=pathlib.Path, default=docs, help="Default: docs/robustness.svg")
    args, references, files = evaluation.parse(parser)
    captiond, scorer, lexicon = evaluation.program(args), evaluation.Scorer(references), Lexicon()
    with evaluation.keeping(args.keep) as kept:

        def predict(name, images):
            return evaluation.caption(captiond, images, kept / f"{evaluation.file_name(name)}.jsonl")

        clean = measure("clean", predict("clean", files), references, scorer, lexicon)
        measured = []
        for name, meaning, perturb, settings in PERTURBATIONS:
            measured.append([])
            for setting in settings:
                stem = f"{name}-{setting}-seed-{args.seed}"
                done = kept / f"{evaluation.file_name(stem)}.jsonl"
                have = evaluation.load_predictions(done) if done.exists() else {}
                with tempfile.TemporaryDirectory() as folder:
                    todo = {image: path for image, path in files.items() if image not in have}
                    copies = make_copies(todo, pathlib.Path(folder), perturb, setting, args.seed)
                    predictions = predict(stem, {image: copies.get(image, path) for image, path in files.items()})
                title = f"{name}, {meaning.format(setting)}"
                measured[-1].append(measure(title, predictions, references, scorer, lexicon))
    table(clean, measured)
    args.plot.write_text(svg(clean, measured, len(files)), encoding="utf-8")


if __name__ == "__main__":
    main()
