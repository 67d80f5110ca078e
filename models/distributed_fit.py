#!/usr/bin/env python3
"""Fits a pack's realignment on many workers with Ray: each embeds a shard and sums it up, one merges.

    python3 -m venv target/ray
    target/ray/bin/pip install --no-deps --require-hashes -r models/requirements-ray.txt
    target/ray/bin/python models/distributed_fit.py --captiond target/release/captiond \\
        --pairs train.tsv --images images --pack models/clip --shards 64 --work target/shards \\
        --fit="--map ridge --lambda 0.1"

A shard is a task: `captiond fit --partial FILE --shard N/COUNT`. Its result is the file of the sums (docs/model-packs.md),
some megabytes however many images are in it. A task whose worker dies is run again elsewhere, and only that one; a driver
that is started again with the same arguments computes only the shards that are not in --work yet. Then `captiond fit
--merge` solves.

Without --address a Ray of this machine is started, with --workers tasks at a time. On a cluster every node needs captiond,
the pack, the pairs and the images under the same paths (a shared file system); the sums travel through Ray.
"""

import argparse
import ctypes
import hashlib
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import tempfile
import time

import ray

# How often a shard whose worker or program died is run again.
RETRIES = 3
PR_SET_PDEATHSIG = 1


def die_with_parent():
    """In the child, before it becomes captiond: a worker that is killed must not leave it behind."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@ray.remote(num_cpus=1, max_retries=RETRIES, retry_exceptions=[RuntimeError])
def sums_of_shard(command, pairs, number, count, threads):
    """The bytes of the sums of one shard of a pairs file, and the seconds that it took."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "sums.safetensors"
        words = [*command, "--pairs", pairs, "--partial", str(out), "--shard", f"{number}/{count}", "--threads", str(threads)]
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=die_with_parent)
        if done.returncode < 0:
            # Killed: as with a worker that dies, another run may have more luck.
            raise RuntimeError(f"{pairs}, shard {number}/{count}: captiond ended by signal {-done.returncode}")
        if done.returncode != 0:
            # Bad input stays bad: no other run will mend it.
            raise ValueError(f"{pairs}, shard {number}/{count}: {done.stderr.strip()}")
        return out.read_bytes(), time.monotonic() - start


def identity(args, pairs):
    """Of all that the sums of a pairs file depend on: shards in --work that were made with anything else are not used."""
    parts = {
        "pack": hashlib.sha256((args.pack / "pack.toml").read_bytes()).hexdigest(),
        "pairs": hashlib.sha256(pairs.read_bytes()).hexdigest(),
        "images": str(args.images),
        "split": args.split,
        "rows": args.rows,
        "skip_bad": args.skip_bad,
        "shards": args.shards,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def write_whole(path, content):
    """A file that is there is whole."""
    part = path.with_suffix(".part")
    part.write_bytes(content)
    os.replace(part, path)


def embed_shards(args):
    """Computes the shards that are not in --work, and returns the files of all."""
    shards = {}
    for pairs in args.pairs:
        folder = args.work / identity(args, pairs)
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(1, args.shards + 1):
            shards[folder / f"{number:06}.safetensors"] = (str(pairs), number)
    missing = [file for file in shards if not file.exists()]
    if len(missing) < len(shards):
        print(f"{len(shards) - len(missing)} of {len(shards)} shards are there already", flush=True)
    command = [str(args.captiond), "fit", "--pack", str(args.pack)]
    for option, value in [("--images", args.images), ("--cache", args.cache), ("--split", args.split), ("--rows", args.rows)]:
        command += [option, str(value)] if value else []
    command += ["--skip-bad"] if args.skip_bad else []
    tasks = {sums_of_shard.remote(command, *shards[file], args.shards, args.threads): file for file in missing}
    waiting = list(tasks)
    while waiting:
        done, waiting = ray.wait(waiting, num_returns=1)
        for task in done:
            pairs, number = shards[tasks[task]]
            name = f"{pathlib.Path(pairs).name}, shard {number}/{args.shards}"
            try:
                content, seconds = ray.get(task)
            except ray.exceptions.RayError as error:
                for other in waiting:
                    ray.cancel(other, force=True)
                sys.exit(f"{name} failed; what is done is kept in {args.work}, go on with the same command when this is "
                         f"mended: {error}")
            write_whole(tasks[task], content)
            print(f"{name}: {seconds:.1f} s, {len(content) / 1e6:.1f} MB of sums", flush=True)
    return list(shards)


def absolute(text):
    """Workers have another working folder."""
    return pathlib.Path(text).resolve()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captiond", type=absolute, required=True, help="the program, on every node")
    parser.add_argument("--pairs", type=absolute, required=True, nargs="+",
                        help="image-caption pairs, as for captiond fit; each worker reads a whole file, so give several when they are many")
    parser.add_argument("--images", type=absolute, required=True, help="folder of the images")
    parser.add_argument("--pack", type=absolute, required=True, help="the pack to fit")
    parser.add_argument("--split", help="split of a Karpathy JSON")
    parser.add_argument("--rows", help="captiond fit --rows")
    parser.add_argument("--skip-bad", action="store_true", help="leave out images that are missing or damaged")
    parser.add_argument("--cache", type=absolute, help="folder of cached embeddings, on each node")
    parser.add_argument("--shards", type=int, required=True, help="tasks a pairs file; what a dead worker costs is one of them")
    parser.add_argument("--work", type=absolute, required=True, help="folder for the sums")
    parser.add_argument("--address", help="a Ray cluster; default: one of this machine")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="tasks at a time, without --address")
    parser.add_argument("--threads", type=int, default=1, help="of a task")
    parser.add_argument("--fit", default="--lambda 0.1", help="options of captiond fit --merge, such as --out FILE")
    args = parser.parse_args()
    if args.shards < 1:
        parser.error(f"--shards: found {args.shards}, expected at least 1")
    if args.address:
        ray.init(address=args.address)
    else:
        ray.init(num_cpus=args.workers, include_dashboard=False, log_to_driver=False)
    try:
        files = embed_shards(args)
    finally:
        ray.shutdown()
    merge = [str(args.captiond), "fit", "--pack", str(args.pack), *shlex.split(args.fit), "--merge", *map(str, files)]
    sys.exit(subprocess.run(merge).returncode)


if __name__ == "__main__":
    main()
