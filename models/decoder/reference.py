"""A pack's whole chain from the image tower's map to a greedy caption, in numpy and onnxruntime.

Written from docs/model-packs.md, without a look at captiond's code: what parity.py holds it against.
"""

import re

import numpy as np
from tokenizers import Tokenizer

from . import data
from .features import grid

HIDDEN = -1e9
NO_REPEAT = 3
MIN_TOKENS = 3


def repeats(sentence):
    """Whether captiond refuses a sentence because it says something twice (docs/model-packs.md)."""
    words = sentence.lower().split()
    pairs = [pair for pair in zip(words, words[1:]) if len(pair[1]) > 2]
    around = any(a == b and len(a) > 2 for a, b in zip(words, words[2:]))
    return around or len(set(pairs)) < len(pairs) or (len(words[-1]) > 2 and words[-1] in words[:-1])


class Chain:
    """Loads realignment, datastore and decoder of a pack; `caption(map)` is the sentence that captiond's
    `--method greedy` should propose, None where it should have none."""

    def __init__(self, folder, manifest, session):
        """`session(path)` opens an onnxruntime session."""
        self.spec = manifest["decoder"]
        self.w, self.mean_image, self.mean_text = data.read_realignment(folder / manifest["realignment"]["file"])
        _, rows = data.read_datastore(folder / manifest["datastore"]["file"])
        self.rows = data.unit(rows - self.mean_text)
        self.prefix = session(folder / self.spec["prefix"])
        self.decoder = session(folder / self.spec["file"])
        rules = manifest.get("generation", {}).get("corrections", [])
        self.corrections = [(re.compile(r["find"]), re.sub(r"\$(\d)", r"\\g<\1>", r["replace"])) for r in rules]
        self.tokenizer = Tokenizer.from_file(str(folder / self.spec["tokenizer"]))

    def caption(self, features):
        """`features`: the image tower's map [1280, 9, 9]."""
        cells = grid(features).astype(np.float32)
        length = np.linalg.norm(features.mean((1, 2)))
        embedding = features.mean((1, 2)) / length
        realigned = data.unit((embedding - self.mean_image) @ self.w)
        scores = self.rows @ realigned
        best = np.argsort(-scores, kind="stable")[: self.spec["retrieved"]]
        inputs = {
            "cells": (cells / length)[None],
            "realigned": realigned[None],
            "retrieved": self.rows[best][None],
            "scores": scores[best][None],
        }
        prefix = self.prefix.run(["prefix"], {k: v.astype(np.float32) for k, v in inputs.items()})[0]
        layers, heads = self.spec["layers"], self.spec["heads"]
        past = np.zeros((1, 2 * layers, heads, 0, self.spec["width"] // heads), np.float32)
        said, token = [], self.spec["begin_id"]
        while len(said) + 1 < self.spec["max_tokens"]:
            before, length = prefix.shape[1], past.shape[3]
            mask = np.zeros((before + 1, length + before + 1), np.float32)
            mask[:before, -1] = HIDDEN
            logits, past = self.decoder.run(
                ["logits", "present"],
                {
                    "prefix": prefix,
                    "ids": np.array([[token]]),
                    "positions": np.array([[len(said)]]),
                    "mask": mask,
                    "past": past,
                },
            )
            prefix = prefix[:, :0]
            logits = logits[0]
            logits[[self.spec["begin_id"], *self.spec["never_ids"]]] = -np.inf
            if len(said) < MIN_TOKENS:
                logits[self.spec["end_id"]] = -np.inf
            for at in range(len(said) - NO_REPEAT + 1):
                if said[at : at + NO_REPEAT - 1] == said[len(said) - NO_REPEAT + 1 :]:
                    logits[said[at + NO_REPEAT - 1]] = -np.inf
            token = int(logits.argmax())
            if token == self.spec["end_id"]:
                sentence = self.tokenizer.decode(said)
                sentence = sentence[:1].upper() + sentence[1:]
                for find, replacement in self.corrections:
                    sentence = find.sub(replacement, sentence)
                return None if repeats(sentence) else sentence
            said.append(token)
        return None
