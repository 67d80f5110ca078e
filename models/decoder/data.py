"""What the decoder is trained on: pictures with captions, captions alone, and what each would retrieve.

Everything that captiond computes on the device is taken from its own files: embeddings of captions
from its cache or `captiond embed`, the realignment and the datastore from the pack.
"""

import collections
import dataclasses
import hashlib
import json

import numpy as np

from . import text

MOST_RETRIEVED = 20
# Retrieved captions this close to one of the picture's own are its own in other words.
OWN = 0.98


def read_pairs(path):
    """{image: [captions]} of a TSV, in the order of the file."""
    pairs = collections.OrderedDict()
    for line in open(path, encoding="utf-8"):
        image, caption = line.rstrip("\n").split("\t")
        pairs.setdefault(image, []).append(caption)
    return pairs


class CaptionEmbeddings:
    """captiond's cache of caption embeddings: SHA-256 of the text, then the floats."""

    def __init__(self, path, dimension):
        record = np.dtype([("key", "V32"), ("embedding", "<f4", dimension)])
        self.records = np.fromfile(path, record)
        self.index = {key.tobytes(): at for at, key in enumerate(self.records["key"])}

    def __call__(self, captions):
        rows = [self.index[hashlib.sha256(caption.encode()).digest()] for caption in captions]
        return self.records["embedding"][rows]


def unit(x):
    """Rows scaled to length one."""
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def read_realignment(path):
    """W [d1, d2] and the two training means of a realignment file."""
    from safetensors.numpy import load_file

    tensors = load_file(path)
    return tensors["w"], tensors["mean_image"], tensors["mean_text"]


def read_datastore(path):
    """Captions and their embeddings (f32) of a datastore file."""
    from safetensors.numpy import load_file

    tensors = load_file(path)
    body, offsets = tensors["captions"].tobytes(), tensors["offsets"]
    captions = [body[a:b].decode() for a, b in zip(offsets, offsets[1:])]
    return captions, tensors["embeddings"].astype(np.float32) * tensors["scales"][:, None]


def scaled_cells(cells):
    """Cells [.., 9, 1280] divided by the length of their mean: that mean is then the embedding itself."""
    cells = np.asarray(cells, np.float32)
    return cells / np.linalg.norm(cells.mean(-2, keepdims=True), axis=-1, keepdims=True)


@dataclasses.dataclass
class Store:
    """Captions that can be retrieved: centred, length one, and whose they are (-1: nobody's)."""

    rows: np.ndarray
    owner: np.ndarray

    def nearest(self, queries, owners, own=None, count=MOST_RETRIEVED):
        """Rows [n, count] and scores [n, count] by cosine, leaving out each query's own captions and,
        with `own` (lists of centred embeddings), those that say the same."""
        found = np.empty((len(queries), count), np.int32)
        scores = np.empty((len(queries), count), np.float32)
        for start in range(0, len(queries), 512):
            block = slice(start, start + 512)
            cosine = queries[block] @ self.rows.T
            for at, row in enumerate(cosine):
                owner = owners[start + at]
                if owner >= 0:
                    row[self.owner == owner] = -2
                if own is not None:
                    best = np.argpartition(-row, count * 3)[: count * 3]
                    close = (self.rows[best] @ own[start + at].T).max(1) > OWN
                    row[best[close]] = -2
                best = np.argpartition(-row, count)[:count]
                best = best[np.argsort(-row[best], kind="stable")]
                found[start + at], scores[start + at] = best, row[best]
        return found, scores


def pad(sequences, length=None):
    """Token ids as an array [n, longest], padded."""
    length = length or max(map(len, sequences))
    array = np.full((len(sequences), length), text.PAD, np.int64)
    for row, sequence in zip(array, sequences):
        row[: len(sequence)] = sequence
    return array


def coco_groups(path):
    """{image id: [captions]} of a COCO caption file."""
    groups = collections.defaultdict(list)
    for annotation in json.load(open(path, encoding="utf-8"))["annotations"]:
        groups[annotation["image_id"]].append(" ".join(annotation["caption"].split()))
    return groups
