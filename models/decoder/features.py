"""Image features for training: what captiond's image tower gives, for several views of a photograph.

The tower's last map [1280, 9, 9] is averaged over 3 x 3 cells to [9, 1280] ("grid"); the mean of
the nine cells is the pooled embedding. captiond computes the same from the same image.onnx.
"""

import pathlib
import sys

import numpy as np
from PIL import Image, ImageOps

SIZE = 260
CELLS = 3
# Crops for training: share of the side, and where it starts. Fixed, so that a run can be repeated.
CROP_SHARE = (0.8, 0.97)


def view(picture, name, random):
    """One augmented view: "plain", "flip" (mirrored), or "crop" (a random crop, mirrored half of the time).

    Mirrored views are dropped in data.py for captions that say left or right.
    """
    if name == "plain":
        return picture
    if name == "flip":
        return ImageOps.mirror(picture)
    share = random.uniform(*CROP_SHARE)
    width, height = int(picture.width * share), int(picture.height * share)
    left, top = random.integers(0, picture.width - width + 1), random.integers(0, picture.height - height + 1)
    picture = picture.crop((left, top, left + width, top + height))
    return ImageOps.mirror(picture) if random.random() < 0.5 else picture


def pixels(picture):
    """The tower's input [1, 3, 260, 260]: stretched bicubic, (byte - 127) / 128."""
    array = np.asarray(picture.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.float32)
    return ((array - 127.0) / 128.0).transpose(2, 0, 1)[None]


def grid(features):
    """[1280, 9, 9] -> [9, 1280]: means over cells of 3 x 3 positions, row by row."""
    channels, height, width = features.shape
    cells = features.reshape(channels, CELLS, height // CELLS, CELLS, width // CELLS).mean(axis=(2, 4))
    return cells.reshape(channels, CELLS * CELLS).T


def extract(tower, folder, names, out, view_name="plain", seed=0):
    """Writes `out` (.npy, float16 [n, 9, 1280]) for the pictures `names` in `folder`, unless it is there."""
    import onnxruntime

    out = pathlib.Path(out)
    if out.exists():
        return np.load(out, mmap_mode="r")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(tower), options, providers=["CPUExecutionProvider"])
    result = np.empty((len(names), CELLS * CELLS, 1280), np.float16)
    for index, name in enumerate(names):
        with Image.open(folder / name) as picture:
            shown = view(picture.convert("RGB"), view_name, np.random.default_rng([seed, index]))
        result[index] = grid(session.run(None, {"pixels": pixels(shown)})[0][0])
        if index % 1000 == 999:
            print(f"{out.name}: {index + 1} of {len(names)}", file=sys.stderr, flush=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: a half-written file would be taken for features.
    part = out.with_suffix(".part.npy")
    np.save(part, result)
    part.rename(out)
    return result
