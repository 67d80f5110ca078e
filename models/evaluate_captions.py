#!/usr/bin/env python3
"""Captions photographs with captiond and scores the captions with pycocoevalcap 1.2 (needs Java).

    python3 models/evaluate_captions.py --captiond target/release/captiond --data ../shared/data
    python3 models/evaluate_captions.py ... --keep target/evaluation \\
        --row "retrieval=--decoder none" --row "decoder=--decoder beam" -- --pack models/default
    python3 models/evaluate_captions.py --data ../shared/data --keep target/evaluation --rescore

One table row a --row name=arguments, where the arguments go to `captiond caption`; those after `--` go
to every row. Without --row there is one row, "captiond". The photographs are Flickr8k's dev split, or
any --tsv of image<tab>caption (a line a reference) with its folder of --images.

With --keep the predictions stay in a folder, a file of JSON lines for each row, and a run that was
stopped goes on where it stopped. What is kept there of another program, pack or arguments is refused.
--rescore scores what is kept and doesn't call captiond.

CIDEr-D weighs words by how rare they are in the references at hand: scores with a --limit can't be
compared with those of all photographs, only with each other. Words are what blanks separate.
"""

import argparse
import contextlib
import hashlib
import io
import itertools
import json
import pathlib
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from hallucination import Lexicon, load_predictions, load_references

HERE = pathlib.Path(__file__).resolve().parent
A_CALL = 1000  # files on one command line
LONG = 14  # words; a listener waits for longer captions
HEADER = (
    "| captions | CIDEr-D | BLEU-1 / 2 / 3 / 4 | ROUGE-L "
    "| unsupported nouns, by references and neighbours / references alone "
    "| mean words | under 14 words | ms a frame: median / p95 |"
)


def log(*text):
    print(*text, file=sys.stderr, flush=True)


def split_pack(arguments):
    """The pack that captiond's arguments name, and the other arguments."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--pack")
    found, others = parser.parse_known_args(arguments)
    return found.pack, others


class Captiond:
    """`captiond caption` with its pack and arguments."""

    def __init__(self, program, arguments):
        self.program = shutil.which(program) or sys.exit(f"there is no program {program}")
        self.arguments = arguments

    def identity(self):
        """What the captions depend on, to tell whether kept ones are this program's."""
        pack, others = split_pack(self.arguments)
        if pack:  # the manifest holds the hashes of the pack's files
            pack = hashlib.sha256((pathlib.Path(pack) / "pack.toml").read_bytes()).hexdigest()
        program = hashlib.sha256(pathlib.Path(self.program).read_bytes()).hexdigest()
        return {"captiond": program, "pack": pack, "arguments": others}

    def predict(self, files):
        """captiond's objects for files by image; `file` becomes the image's name."""
        names = {str(path): name for name, path in files.items()}
        todo = iter(names)
        while call := list(itertools.islice(todo, A_CALL)):
            command = [self.program, "caption", "--json", *self.arguments, *call]
            with tempfile.TemporaryFile("w+") as errors:
                with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
                    for line in process.stdout:
                        prediction = json.loads(line)
                        yield {**prediction, "file": names[prediction["file"]]}
                if process.returncode:
                    errors.seek(0)
                    sys.exit(f"captiond ended with {process.returncode}:\n{errors.read()[-2000:]}")


def caption(captiond, files, kept):
    """Captions files ({image: path}) and appends to the file `kept`, leaving out the images that it has."""
    about = kept.with_suffix(".json")
    if kept.exists() and kept.stat().st_size:
        if json.loads(about.read_text(encoding="utf-8")) != captiond.identity():
            sys.exit(f"{kept} is of another program, pack or arguments ({about}): remove both, or use --rescore")
        whole = "".join(line for line in open(kept, encoding="utf-8") if line.endswith("\n"))
        kept.write_text(whole, encoding="utf-8")  # a run that was stopped may have left half a line
    else:
        kept.parent.mkdir(parents=True, exist_ok=True)
        about.write_text(json.dumps(captiond.identity(), indent=1) + "\n", encoding="utf-8")
        kept.touch()
    done = load_predictions(kept)
    todo = {name: path for name, path in files.items() if name not in done}
    if todo:
        log(f"{kept.stem}: captioning {len(todo)} of {len(files)} images")
    with open(kept, "a", encoding="utf-8") as out:
        for prediction in captiond.predict(todo):
            out.write(json.dumps(prediction, ensure_ascii=False) + "\n")
            out.flush()
    found = load_predictions(kept)
    if missing := files.keys() - found.keys():
        sys.exit(f"captiond said nothing of {len(missing)} images, {min(missing)} among them")
    return {name: found[name] for name in files}


@dataclass(frozen=True)
class Score:
    bleu: list
    rouge: float
    cider: float


class Scorer:
    """Scores captions against references, which are tokenised once."""

    def __init__(self, references):
        # Here, so that the rest of this file can be used without pycocoevalcap.
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
        from pycocoevalcap.rouge.rouge import Rouge
        from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

        self.tokenize = PTBTokenizer().tokenize
        self.metrics = Bleu, Rouge, Cider
        self.gold = self.tokenize({k: [{"caption": c} for c in v] for k, v in references.items()})

    def score(self, captions):
        """BLEU-1 to 4, ROUGE-L and CIDEr-D of one caption an image."""
        # The tokenizer loses its place at an empty line; a full stop is dropped as punctuation.
        found = self.tokenize({k: [{"caption": captions[k] or "."}] for k in self.gold})
        Bleu, Rouge, Cider = self.metrics
        with contextlib.redirect_stdout(io.StringIO()):
            bleu = Bleu(4).compute_score(self.gold, found)[0]
            return Score(bleu, Rouge().compute_score(self.gold, found)[0], Cider().compute_score(self.gold, found)[0])


def spread(values):
    """'median / 95th percentile'"""
    values = sorted(values)
    return f"{statistics.median(values):.1f} / {values[-(-len(values) * 95 // 100) - 1]:.1f}"


def nearest(predictions):
    """The predictions as they would be if the nearest caption were said."""
    return {name: {**p, "caption": p["neighbours"][0]["caption"]} for name, p in predictions.items()}


def table_row(name, references, predictions, scorer, lexicon, stages):
    score = scorer.score({image: p["caption"] for image, p in predictions.items()})
    loose, strict = lexicon.judge_predictions(references, predictions)
    words = [len((p["caption"] or "").split()) for p in predictions.values()]
    times = [[p["ms"][stage] for p in predictions.values() if stage in p["ms"]] for stage in ("total", *stages)]
    cells = [
        name,
        f"{score.cider:.3f}",
        " / ".join(f"{b:.3f}" for b in score.bleu),
        f"{score.rouge:.3f}",
        f"{loose.share:.3f} / {strict.share:.3f}",
        f"{statistics.mean(words):.1f}",
        f"{sum(w < LONG for w in words) / len(words):.3f}",
        *(spread(t) if t else "" for t in times),
    ]
    return f"| {' | '.join(cells)} |"


def file_name(name):
    return re.sub(r"[^A-Za-z0-9.-]+", "-", name)


def add_arguments(parser):
    """Options of every script that captions photographs and scores the captions."""
    parser.add_argument("--captiond", default="captiond", help="the program. Default: captiond")
    parser.add_argument("--pack", help="model pack. Default: models/default, unless a row's arguments say another")
    parser.add_argument("--data", type=pathlib.Path, help="folder with flickr8k/dev.tsv and flickr8k/images")
    parser.add_argument("--tsv", type=pathlib.Path, help="image<tab>caption, in place of Flickr8k's dev split")
    parser.add_argument("--images", type=pathlib.Path, help="the TSV's images, in place of Flickr8k's")
    parser.add_argument("--limit", type=int, help="only the first photographs")
    parser.add_argument("--keep", type=pathlib.Path, help="folder that keeps the predictions")
    parser.epilog = "What stands after -- is given to captiond."


def parse(parser):
    """The arguments, those for captiond after --, and the references and image files that they name."""
    given = sys.argv[1:]
    end = given.index("--") if "--" in given else len(given)
    args = parser.parse_args(given[:end])
    args.extra = given[end + 1 :]
    if not args.data and not (args.tsv and args.images):
        parser.error("--data, or --tsv with --images, says where the photographs are")
    references = load_references(args.tsv or args.data / "flickr8k" / "dev.tsv", args.limit)
    images = args.images or args.data / "flickr8k" / "images"
    return args, references, {name: images / name for name in references}


def program(args, arguments=""):
    """captiond with a row's arguments."""
    every = shlex.split(arguments) + args.extra
    pack = [] if split_pack(every)[0] else ["--pack", args.pack or str(HERE / "default")]
    return Captiond(args.captiond, pack + every)


@contextlib.contextmanager
def keeping(folder):
    """The folder, or one that is thrown away."""
    if folder:
        yield folder
    else:
        with tempfile.TemporaryDirectory() as temporary:
            yield pathlib.Path(temporary)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--row", action="append", metavar="NAME=ARGUMENTS", help="a table row; can be repeated")
    parser.add_argument("--nearest", action="store_true", help="also a row for each row's nearest captions")
    parser.add_argument("--stages", default="decode,caption", help="stages to time. Default: decode,caption")
    parser.add_argument("--rescore", action="store_true", help="score what --keep has (--row NAME chooses)")
    args, references, files = parse(parser)
    if args.rescore and not args.keep:
        parser.error("--rescore needs --keep")
    rows = dict(row.partition("=")[::2] for row in args.row or [])
    if not rows:
        rows = {p.stem: "" for p in sorted(args.keep.glob("*.jsonl"))} if args.rescore else {"captiond": ""}
    if len({file_name(name) for name in rows}) < len(args.row or []):
        parser.error("two rows have the same name")
    scorer, lexicon, stages = Scorer(references), Lexicon(), args.stages.split(",")
    header = HEADER + "".join(f" {stage} |" for stage in stages)
    with keeping(args.keep) as folder:
        lines = [header, "|---" * (header.count("|") - 1) + "|"]
        for name, arguments in rows.items():
            kept = folder / f"{file_name(name)}.jsonl"
            if args.rescore:
                predictions = load_predictions(kept)
                if missing := files.keys() - predictions.keys():
                    sys.exit(f"{kept} lacks {len(missing)} of {len(files)} images: caption them, or --limit")
                predictions = {image: predictions[image] for image in files}
            else:
                predictions = caption(program(args, arguments), files, kept)
            lines.append(table_row(name, references, predictions, scorer, lexicon, stages))
            if args.nearest:
                lines.append(table_row(f"{name}, nearest", references, nearest(predictions), scorer, lexicon, stages))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
