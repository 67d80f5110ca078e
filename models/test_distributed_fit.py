"""Tests of distributed_fit.py with several local workers: `python3 -m unittest discover -s models`.

Needs Ray (requirements-ray.txt) and a built captiond, in CAPTIOND; `make distributed-fit` has both.
"""

import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
PACK = HERE.parent / "tests" / "tiny_packs" / "convnet"
SAMPLES = HERE.parent / "tests" / "samples"
SHARDS = 4

try:
    import numpy
    import ray  # noqa: F401
except ImportError:
    ray = None

# Stands for captiond: counts the runs, and once, in shard 2, kills the worker that started it.
WRAPPER = """#!/bin/sh
case "$*" in
  *--shard*)
    shard=$(echo "$*" | sed 's/.*--shard \\([0-9]*\\).*/\\1/')
    echo run >> "{work}/runs.$shard"
    if [ "$shard" = 2 ] && [ -e "{work}/kill" ]; then rm "{work}/kill"; kill -9 $PPID; sleep 60; fi;;
esac
exec "{captiond}" "$@"
"""


def tensors(path):
    """The tensors and the metadata of a safetensors file."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8:8 + length])
    metadata = header.pop("__metadata__")
    types = {"F64": "<f8", "F32": "<f4"}
    found = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        data = content[8 + length + begin:8 + length + end]
        found[name] = numpy.frombuffer(data, types[entry["dtype"]]).reshape(entry["shape"])
    return found, metadata


def ridge(sums, metadata, lam):
    """W in f64, by the formula of docs/model-packs.md, with numpy and none of captiond's code."""
    n = int(metadata["pairs"])
    xtx = sums["xtx"] - numpy.outer(sums["sum_x"], sums["sum_x"]) / n
    xty = sums["xty"] - numpy.outer(sums["sum_x"], sums["sum_y"]) / n
    d = len(xtx)
    return numpy.linalg.solve(xtx + lam * numpy.trace(xtx) / d * numpy.eye(d), xty)


def program():
    named = os.environ.get("CAPTIOND", "")
    return pathlib.Path(named).resolve() if named and pathlib.Path(named).is_file() else None


@unittest.skipUnless(ray and program(), "##### SKIPPED: distributed fit: needs Ray and CAPTIOND (make distributed-fit) #####")
class DistributedFit(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.work = pathlib.Path(self.folder.name)
        self.pack = self.work / "pack"
        shutil.copytree(PACK, self.pack)
        # Our own pictures, cut into pieces: each piece with two captions.
        self.pairs = self.work / "pairs.tsv"
        data = os.environ.get("DATA")
        self.images, lines = (self.flickr8k(pathlib.Path(data)) if data else self.samples())
        self.pairs.write_text("".join(lines), encoding="utf-8")
        self.captiond = self.work / "captiond"
        self.captiond.write_text(WRAPPER.format(work=self.work, captiond=program()), encoding="utf-8")
        self.captiond.chmod(0o755)

    def samples(self):
        """The sample pictures of the tests."""
        names = sorted(path.name for path in SAMPLES.glob("*.jpg"))
        words = [name.removesuffix(".jpg").replace("_", " ") for name in names]
        return SAMPLES, [f"{name}\t{text} {word}\n" for name, word in zip(names, words) for text in ("a picture of", "here is")]

    def flickr8k(self, data):
        """The first 200 photographs of Flickr8k's training split."""
        lines = (data / "flickr8k" / "train.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
        return data / "flickr8k" / "images", lines[:1000]

    def fit(self, *words):
        command = [program(), "fit", "--pairs", self.pairs, "--images", self.images, "--pack", self.pack,
                   "--cache", self.work / "cache-of-one", *words]
        subprocess.run(list(map(str, command)), check=True, capture_output=True)

    def distributed(self, *words):
        command = [sys.executable, HERE / "distributed_fit.py", "--captiond", self.captiond, "--pairs", self.pairs,
                   "--images", self.images, "--pack", self.pack, "--cache", self.work / "cache", "--work",
                   self.work / "shards", "--shards", SHARDS, "--workers", 2, "--fit",
                   f"--map ridge --lambda 0.1 --out {self.work / 'merged.safetensors'}", *words]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)

    def runs(self):
        counts = []
        for number in range(1, SHARDS + 1):
            path = self.work / f"runs.{number}"
            counts.append(len(path.read_text().splitlines()) if path.exists() else 0)
        return counts

    def check_against_one_process(self):
        """The same W from the merged sums as from those of one process: in f64, and as captiond writes it."""
        one = self.work / "one.safetensors"
        self.fit("--partial", one)
        whole, metadata = tensors(one)
        parts = [tensors(path) for path in sorted((self.work / "shards").glob("*/*.safetensors"))]
        self.assertEqual(len(parts), SHARDS)
        merged = {name: sum(part[name] for part, _ in parts) for name in whole}
        pairs = sum(int(found["pairs"]) for _, found in parts)
        self.assertEqual(pairs, int(metadata["pairs"]))
        w, v = ridge(whole, metadata, 0.1), ridge(merged, metadata, 0.1)
        apart = numpy.abs(w - v).max()
        self.assertLess(apart, 1e-9)
        self.assertGreater(numpy.abs(w).max(), 1e-3)
        # captiond's own file has f32: the same up to their last bit.
        written, _ = tensors(self.work / "merged.safetensors")
        self.assertLess(numpy.abs(written["w"] - w).max(), 1e-5 * numpy.abs(w).max())
        print(f"max |W - W'| = {apart:.1e} of {numpy.abs(w).max():.2f}, {pairs} pairs, {SHARDS} shards", file=sys.stderr)

    def test_several_workers_give_the_map_of_one_process_and_a_second_run_computes_nothing(self):
        done = self.distributed()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.runs(), [1] * SHARDS)
        self.check_against_one_process()
        # One shard is lost: only that one is computed again.
        next((self.work / "shards").glob("*/000003.safetensors")).unlink()
        done = self.distributed()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("3 of 4 shards are there already", done.stdout)
        self.assertEqual(self.runs(), [1, 1, 2, 1])

    def test_a_worker_that_is_killed_costs_its_shard_only(self):
        (self.work / "kill").touch()
        done = self.distributed()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertFalse((self.work / "kill").exists(), "nobody was killed")
        self.assertEqual(self.runs(), [1, 2, 1, 1])
        self.check_against_one_process()

    def test_what_is_wrong_with_the_data_ends_the_run_and_is_said(self):
        with self.pairs.open("a", encoding="utf-8") as file:
            file.write("absent.jpg\ta cup\n")
        done = self.distributed()
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("absent.jpg", done.stderr)
        # Not tried again: it would not get better.
        self.assertLessEqual(max(self.runs()), 1)


if __name__ == "__main__":
    unittest.main()
