#!/usr/bin/env python3
"""Other people's programs for the same work beside captiond: a CLIP image embedding, a whole caption.

    benches/peers --captiond target/release/captiond --work target/peers-weights     (make bench-peers)

One child process a contender and round, contenders in turn, one thread each, pictures of tests/samples. Weights are
random numbers in the published shapes (weights.py), except for captiond's own pack: cost does not depend on them, and
what a peer says is not looked at. The fit and the search have benches of their own: benches/fit, benches/search.

Time is milliseconds of processor time for one picture, from its file to the result, all threads of the process, after
the first result. For captiond that is the difference between a run on many pictures and one on the first alone. Start
is from the start of the process to its first result, on the clock and (in brackets) of processor time. Peak is the
largest resident set of the process. Disk is weights, and the program: captiond's binary, or for a peer its wheels with
all they require, less CUDA and Python itself.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time
from importlib import metadata

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
# One thread for every library that may be among them; OpenMP's do not spin; nothing is asked of a hub.
ENVIRONMENT = dict(
    os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1", RAYON_NUM_THREADS="1",
    OMP_WAIT_POLICY="PASSIVE", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false",
)  # fmt: skip


@dataclasses.dataclass
class Contender:
    name: str
    # What is measured against: the name of one of captiond's rows.
    against: str
    pictures: list
    weights: list
    # A peer's name in contender.py and the distributions it needs; or words for captiond.
    peer: str = ""
    wheels: tuple = ()
    words: tuple = ()


def finish(child, log=None):
    """(processor seconds, peak MB) of a child that has ended. The peak would include this process's own, which a child
    begins with, but nothing large is imported here."""
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{' '.join(map(str, child.args))[:300]}: ended with {child.returncode}{f'; see {log}' if log else ''}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def run_ours(contender, program):
    """One round of captiond: the first picture alone, then all."""
    seconds = []
    for pictures in (contender.pictures[:1], contender.pictures):
        begin = time.perf_counter()
        words = [program, *contender.words, *pictures]
        child = subprocess.Popen(words, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
        busy, peak = finish(child)
        seconds.append((time.perf_counter() - begin, busy))
    (clock, first), (_, all_) = seconds
    return {"ms": 1e3 * (all_ - first) / (len(contender.pictures) - 1), "clock": clock, "first": first, "peak": peak}


def run_peer(contender, work):
    """One round of a peer: contender.py says when the first result is there, and then what the others took."""
    words = [sys.executable, "-W", "ignore", HERE / "contender.py", contender.peer, work, *contender.pictures]
    log = work / "contender.log"  # llama.cpp is talkative
    with open(log, "w") as errors:
        begin = time.perf_counter()
        child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors, text=True, env=ENVIRONMENT)
        line = child.stdout.readline()
        clock = time.perf_counter() - begin
        rest = child.stdout.read()
    _, peak = finish(child, log)
    return {"ms": statistics.median(json.loads(rest)), "clock": clock, "first": json.loads(line), "peak": peak}


def required(names):
    """Distributions with all that they require on this machine, extras left out."""
    found, left = set(), list(names)
    while left:
        name = re.sub("[-_.]+", "-", left.pop()).lower()
        if name in found or name.startswith("nvidia-") or name == "triton":
            continue
        try:
            wheel = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # for other systems and Pythons
        found.add(name)
        left += [re.match("[A-Za-z0-9._-]+", line).group() for line in wheel.requires or [] if "extra ==" not in line]
    return found


def wheels_mb(names):
    files = [file for name in required(names) for file in metadata.distribution(name).files or []]
    kept = [file.locate() for file in files if not re.search(r"cuda|cudnn|cublas|\.pyc$", file.name)]
    return sum(file.stat().st_size for file in kept if file.is_file()) / 1e6


def size_mb(paths):
    return sum(path.stat().st_size for given in paths for path in (given.iterdir() if given.is_dir() else [given])) / 1e6


def cell(values, form="{:.1f}"):
    middle, least, most = statistics.median(values), min(values), max(values)
    return " ".join([form.format(middle), f"({form.format(least)} to {form.format(most)})"])


def compare(title, contenders, options):
    """Runs the rounds and prints the table; {name: (ratio of time, ratio of peak)}."""
    rounds = {contender.name: [] for contender in contenders}
    for number in range(options.rounds):
        for contender in contenders[:: -1 if number % 2 else 1]:
            ours = not contender.peer
            rounds[contender.name].append(
                run_ours(contender, options.captiond) if ours else run_peer(contender, options.work))
            print(f"{title}, round {number + 1}: {contender.name}: {rounds[contender.name][-1]}", file=sys.stderr)
    print(f"\n{title}, {options.rounds} rounds; its time / captiond's and its peak / captiond's, round by round\n\n"
          "| what | ms, median (least to most) | time / captiond's | start, s | peak, MB | peak / captiond's | "
          "weights, MB | program, MB |\n|" + "---|" * 8)
    ratios = {}
    for contender in contenders:
        rows, base = rounds[contender.name], rounds[contender.against]
        of = lambda key: [row[key] for row in rows]
        slower, larger = ([row[key] / other[key] for row, other in zip(rows, base)] for key in ("ms", "peak"))
        ratios[contender.name] = statistics.median(slower), statistics.median(larger)
        program = wheels_mb(contender.wheels) if contender.peer else size_mb([options.captiond])
        print(f"| {contender.name} | {cell(of('ms'))} | {cell(slower, '{:.2f}')} | {statistics.median(of('clock')):.2f} "
              f"({statistics.median(of('first')):.2f}) | {statistics.median(of('peak')):.0f} | "
              f"{statistics.median(larger):.2f} | {size_mb(contender.weights):.0f} | {program:.0f} |", flush=True)
    return ratios


def clip(options):
    work = options.work / "clip"
    pictures = sorted((options.work / "pictures").glob("*.png"))
    pictures = (pictures * options.pictures)[: options.pictures + 1]
    contenders = []
    for kind in ("fp32", "int8"):
        name = f"captiond, {kind}"
        words = ("embed", "--pack", work / kind, "--out", work / "embeddings.safetensors")
        contenders.append(Contender(name, name, pictures, [work / kind / "image.onnx"], words=words))
    ort = "onnxruntime " + metadata.version("onnxruntime")
    wheels = ("onnxruntime", "pillow")
    contenders += [
        Contender(f"{ort}, fp32", "captiond, fp32", pictures, [work / "fp32/image.onnx"], "clip-fp32", wheels),
        Contender(f"{ort}, dynamic int8", "captiond, int8", pictures, [work / "dynamic.onnx"], "clip-int8", wheels),
    ]
    name = f"faster-clip {metadata.version('faster-clip')} (int8 weights)"
    weights = next((work / "faster-clip").rglob("model.safetensors"))
    contenders.append(Contender(name, "captiond, int8", pictures, [weights], "faster-clip", ("faster-clip",)))
    ratios = compare("CLIP ViT-B/32, a PNG of 224 x 224 to its embedding", contenders, options)
    bar("CLIP int8: onnxruntime's int8 time / captiond's", ratios[contenders[3].name][0], 0.75)
    bar("CLIP int8: faster-clip's time / captiond's", ratios[name][0], 1)


def captions(options):
    """Only pictures that go through the whole chain, without a deadline: on a busy machine it would cut captions short."""
    work = options.work
    words = ("caption", "--json", "--deadline-ms", "600000")
    pictures = sorted((ROOT / "tests/samples").glob("*.jpg"))
    said = subprocess.run([options.captiond, *words, *pictures], check=True, capture_output=True, env=ENVIRONMENT).stdout
    whole = [ROOT / one["file"] for one in map(json.loads, said.splitlines()) if one["candidates"]]
    few = (whole * options.captions)[: options.captions + 1]
    ours = Contender("captiond, default pack", "captiond, default pack", whole * 2, [ROOT / "models/default"],
                     words=words)  # fmt: skip
    torch = f"PyTorch {metadata.version('torch').partition('+')[0]}"
    contenders = [
        ours,
        Contender(f"SmolVLM-256M, Q8_0, one tile, llama-cpp-python {metadata.version('llama-cpp-python')}", ours.name,
                  few, sorted((work / "smolvlm").glob("*.gguf")), "smolvlm", ("llama-cpp-python", "pillow")),
        Contender(f"BLIP-base, fp32, {torch}", ours.name, few, [work / "blip/model.safetensors"], "blip",
                  ("torch", "transformers", "pillow")),
        Contender(f"ViT-GPT2, fp32, onnxruntime {metadata.version('onnxruntime')}", ours.name, few,
                  sorted((work / "vit-gpt2").glob("*.onnx")), "vit-gpt2", ("onnxruntime", "pillow")),
    ]  # fmt: skip
    ratios = compare("A caption, a JPEG to its words (peers: ten tokens, greedy)", contenders, options)
    slower, larger = ratios[contenders[1].name]
    bar("caption: SmolVLM-256M's time in llama.cpp / captiond's", slower, 20)
    bar("caption: SmolVLM-256M's peak in llama.cpp / captiond's", larger, 5)


def bar(what, measured, least):
    print(f"\n{what}: {measured:.2f}, bar {least}: {'met' if measured >= least else 'MISSED'}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captiond", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True, help="where the weights are made; 3 GB")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pictures", type=int, default=20, help="embeddings a round and contender, after the first")
    parser.add_argument("--captions", type=int, default=3, help="captions a round and peer, after the first")
    parser.add_argument("--only", choices=["clip", "captions"], action="append")
    options = parser.parse_args()
    parts = options.only or ["clip", "captions"]
    subprocess.run([sys.executable, "-W", "ignore", HERE / "weights.py", options.work, *parts], check=True, env=ENVIRONMENT)
    for part in parts:
        {"clip": clip, "captions": captions}[part](options)


if __name__ == "__main__":
    main()
