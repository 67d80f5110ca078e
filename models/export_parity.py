#!/usr/bin/env python3
"""Holds what models/export.py exports, run by captiond, against the PyTorch originals and their tokenizers.

    cargo build --release && cargo build --release --example say
    python3 models/export_parity.py towers --captiond target/release/captiond
    python3 models/export_parity.py tokenizers --say target/release/examples/say
    python3 models/export_parity.py generation --say target/release/examples/say

towers      every architecture with random weights: embeddings of captiond's f32 pack against transformers' or
            open_clip's, then what int8 costs, layer by layer where its cosine falls under 0.99
tokenizers  10,000 captions (ours, and made-up ones with accents, emoji, other scripts, long ones) by captiond and
            by open_clip, sentencepiece and the tokenizers library; --captions FILE for others' captions
generation  50 prompts, greedy and beam, FLAN-T5-small's and DistilGPT-2's shapes: captiond's tokens against
            transformers.generate

Exits with 1 when a bar is missed.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from export import build, check, configurations, generation, manifest, open_clip_towers, published, stand_ins
from export.parts import unit

ARCHITECTURES = [*configurations.TOWERS, "ViT-B-32", "ViT-B-16-SigLIP", "MobileCLIP-S1", "MobileCLIP2-S0"]
missed = []


def row(*cells):
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def bar(what, met):
    if not met:
        missed.append(what)


def write_pack(folder, towers, model=None, quantise=True):
    """A pack without the exporter's own check."""
    folder.mkdir()
    build.towers(towers, folder, quantise)
    towers.tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    if model:
        build.language_model(model, folder, quantise)
        model.tokenizer.save(str(folder / "decoder_tokenizer.json"), pretty=False)
    manifest.write(folder, folder.name, towers, check.session(folder / "image.onnx").get_outputs()[0].shape[1], model)


def captiond_embeds(program, pack, pictures, captions):
    """Embeddings by captiond, of length one."""
    from safetensors.numpy import load_file

    with tempfile.TemporaryDirectory() as work:
        out, listing = pathlib.Path(work) / "out.safetensors", pathlib.Path(work) / "captions.txt"
        listing.write_text("\n".join(captions) + "\n", encoding="utf-8")
        command = [program, "embed", "--pack", pack, "--out", out, "--captions", listing, *pictures]
        subprocess.run(list(map(str, command)), check=True)
        said = load_file(out)
    return said["images"], said["captions"]


def draw(folder, size, spec, count=4):
    """PNG files of the tower's size, which are not resized, and what PyTorch gets of them."""
    mean, std = (np.array(spec[key], np.float32)[:, None, None] for key in ("mean", "std"))
    files, pixels = [], []
    for number, picture in enumerate(check.pictures(size, count)):
        bytes_ = np.clip(127 + 90 * picture, 0, 255).astype(np.uint8)
        files.append(folder / f"{number}.png")
        Image.fromarray(bytes_.transpose(1, 2, 0)).save(files[-1])
        pixels.append((bytes_.astype(np.float32) / 255 - mean) / std)
    return files, np.stack(pixels)


def towers(args):
    row("architecture", "tower", "captiond f32: largest difference", "least cosine", "int8: mean cosine", "least")
    row(*["---"] * 6)
    captions = stand_ins.captions()[::1200] + ["a dog and " * 60 + "a cat"]
    for name in args.only or ARCHITECTURES:
        own = "/" in name
        given = published.random_towers(name) if own else open_clip_towers.load(name, None)
        with tempfile.TemporaryDirectory() as work:
            folder = pathlib.Path(work)
            files, pixels = draw(folder, given.pixels["size"], given.pixels)
            originals = check.originals(given, pixels, captions)
            said = []
            for kind, quantise in (("f32", False), ("int8", True)):
                write_pack(folder / kind, given, quantise=quantise)
                said.append(captiond_embeds(args.captiond, folder / kind, files, captions))
        for what, original, f32, int8 in zip(("image", "text"), originals, *said):
            apart, cosine = np.abs(original - f32).max(), (original * unit(f32)).sum(-1).min()
            cosines = (original * unit(int8)).sum(-1)
            row(name, what, f"{apart:.1e}", f"{cosine:.7f}", f"{cosines.mean():.5f}", f"{cosines.min():.5f}")
            bar(f"{name} {what}", apart <= check.MOST_APART and cosine >= check.LEAST_COSINE)
            if cosines.min() < check.SUSPICIOUS and own:
                print("  layer by layer:", ", ".join(f"{n} {v:.4f}" for n, v in check.layer_cosines(given, what)))


EXTRAS = [
    "caf\u00e9", "na\u00efve", "Stra\u00dfe", "\u0391\u0394\u0395\u039b\u03a6\u039f\u03a3", "\u0441\u043e\u0431\u0430\u043a\u0430", "\u72ac",
    "\u30b3\u30fc\u30d2\u30fc", "\uac15\uc544\uc9c0", "\u0643\u0644\u0628", "\u05db\u05dc\u05d1", "\u0e2b\u0e21\u0e32", "\u0915\u0941\u0924\u094d\u0924\u093e", "e\u0301te\u0301", "\U0001f415", "\U0001f44d\U0001f3fd",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea", "12:30", "3.14", "50%", "#1", "isn't", "they'll", "I'VE", "rock'n'roll",
    "\u2018so\u2019", "\u201cso\u201d", "\ufb01sh", "\uff21\uff22\uff13", "&amp;", "&lt;3", "&quot;hm&quot;", "a\tb", "two  spaces", "\u00bd", "\u2116", "\u2122", "x\u00b2", "\u20ac5",
    "--", "...", "!?", "(sic)", "a/b", "a_b", "<b>", "\\", "\u00a0", "\u3000", "\u200b", "\u00ad", "\ufeff", "\u0130stanbul", "\u01c5", "\u1e9e",
]  # fmt: skip


def texts(args, count=10_000):
    """Captions to tokenize: the project's own (or --captions), with something odd put in every second, and every
    tenth so long that it has to be cut."""
    source = stand_ins.CAPTIONS if args.captions is None else args.captions
    lines = [line.rpartition("\t")[2] for line in source.read_text(encoding="utf-8").splitlines()]
    chance = random.Random(7)
    made = []
    while len(made) < count:
        words = chance.choice(lines).split()
        if len(made) % 2:
            for _ in range(chance.randint(1, 3)):
                words.insert(chance.randint(0, len(words)), chance.choice(EXTRAS))
        if len(made) % 10 == 3:
            words = words * chance.randint(5, 12)
        if len(made) % 7 == 5:
            words = [chance.choice([str.upper, str.title, str])(word) for word in words]
        made.append(" ".join(words))
    return made


def say(program, what, pack, lines, *more):
    """What examples/say.rs answers, line by line."""
    given = "".join(json.dumps(line) + "\n" for line in lines)
    command = [program, what, str(pack), *more]
    said = subprocess.run(command, check=True, input=given, capture_output=True, text=True).stdout
    return [json.loads(line) for line in said.splitlines()]


def count_equal(what, lines, ours, theirs, longest=None):
    """One row of the table. `longest`: the length that both were cut to."""
    wrong = [line for line, a, b in zip(lines, ours, theirs) if list(a) != list(b)]
    cut = sum(len(ids) == longest for ids in ours) if longest else "-"
    row(what, len(lines), len(lines) - len(wrong), cut)
    for line in wrong[:5]:
        print("  differs:", ascii(line[:120]))
    bar(what, not wrong)


def tokenizers(args):
    import open_clip
    import sentencepiece
    import tokenizers as library

    lines = texts(args)
    row("tokenizer", "captions", "equal", "of them cut")
    row(*["---"] * 4)
    with tempfile.TemporaryDirectory() as work:
        folder = pathlib.Path(work)
        tiny = published.random_towers("wkcn/TinyCLIP-ViT-8M-16-Text-3M-YFCC15M")
        write_pack(folder / "t5", tiny, published.random_language_model("google/flan-t5-small"))
        # open_clip pads with nought behind the end; "!" has that id too, so the end is looked for.
        original = open_clip.SimpleTokenizer()
        theirs = [ids[: ids.index(original.eot_token_id) + 1] for ids in original(lines).tolist()]
        count_equal("CLIP's byte pairs: captiond and open_clip", lines, say(args.say, "tokens", folder / "t5", lines), theirs, 77)
        # sentencepiece itself on the same pieces: normaliser and unigram are T5's own form.
        pieces = sentencepiece.SentencePieceProcessor(model_proto=stand_ins.spiece())
        theirs = [pieces.encode(line) + [1] for line in lines]
        ours = say(args.say, "decoder-tokens", folder / "t5", lines)
        count_equal("T5's unigram (stand-in pieces): captiond and sentencepiece", lines, ours, theirs)
        python = library.Tokenizer.from_file(str(folder / "t5" / "decoder_tokenizer.json"))
        count_equal("T5's unigram (stand-in pieces): captiond and tokenizers in Python", lines, ours,
                    [python.encode(line).ids for line in lines])  # fmt: skip
        tiny_gpt2 = vocabulary_only(folder, "gpt2", stand_ins.gpt2())
        python = library.Tokenizer.from_file(str(tiny_gpt2 / "decoder_tokenizer.json"))
        count_equal("GPT-2's byte pairs (stand-in merges): captiond and tokenizers in Python", lines,
                    say(args.say, "decoder-tokens", tiny_gpt2, lines), [python.encode(line).ids for line in lines])  # fmt: skip
        siglip = vocabulary_only(folder, "siglip", stand_ins.siglip())
        theirs = [pieces.encode(canonical(line)) + [1] for line in lines]
        count_equal("SigLIP's unigram (stand-in pieces): captiond, and transformers' clean-up with sentencepiece", lines,
                    say(args.say, "decoder-tokens", siglip, lines), theirs)  # fmt: skip


def canonical(text):
    """SigLIP's clean-up in Python's own words."""
    import string

    return " ".join(text.lower().translate(str.maketrans("", "", string.punctuation)).split())


def vocabulary_only(folder, name, tokenizer):
    """The T5 pack with another decoder's tokenizer, which is all that is asked for."""
    import shutil

    import pack_manifest

    target = folder / name
    shutil.copytree(folder / "t5", target)
    tokenizer.save(str(target / "decoder_tokenizer.json"), pretty=False)
    text = (target / "pack.toml").read_text(encoding="utf-8")
    text = pack_manifest.put_file(text, target, "decoder_tokenizer.json", "a stand-in")
    (target / "pack.toml").write_text(text, encoding="utf-8")
    return target


def prompts(count):
    """Lists of captions as retrieval would give them."""
    lines, chance = stand_ins.captions(), random.Random(11)
    return [[chance.choice(lines) for _ in range(chance.randint(1, 13))] for _ in range(count)]


def generation_parity(args):
    row("model", "weights", "method", "prompts", "ended in PyTorch", "the same tokens", "largest difference of a log-probability")
    row(*["---"] * 7)
    lists = prompts(args.count)
    tiny = published.random_towers("wkcn/TinyCLIP-ViT-8M-16-Text-3M-YFCC15M")
    for name in args.only or ["google/flan-t5-small", "distilgpt2"]:
        model = published.random_language_model(name)
        with tempfile.TemporaryDirectory() as work:
            for kind, quantise in (("f32", False), ("int8", True)):
                folder = pathlib.Path(work) / kind
                write_pack(folder, tiny, model, quantise)
                text = (folder / "pack.toml").read_text(encoding="utf-8")
                # transformers' rule against repeats counts a causal model's prompt in; captiond's does not.
                if model.kind == "gpt2":
                    text = text.replace("[generation]\n", "[generation]\nno_repeat = 0\n")
                    (folder / "pack.toml").write_text(text, encoding="utf-8")
                spec = manifest.read(text)
                rules = generation.Rules.of(spec)
                for method in ("greedy", "beam"):
                    ours = say(args.say, "captions", folder, lists, method)
                    theirs = [generation.generate(model, manifest.prompt_tokens(spec, model.tokenizer, given), method, rules)
                              for given in lists]  # fmt: skip
                    pairs = [(a, b) for a, b in zip(ours, theirs) if b[2]]
                    same = [(a, b) for a, b in pairs if a is not None and a["tokens"] == b[0]]
                    apart = max((abs(a["log_probability"] - b[1]) for a, b in same), default=0.0)
                    row(name, kind, method, len(lists), len(pairs), len(same), f"{apart:.1e}")
                    if not quantise:
                        bar(f"{name} {method}", len(same) == len(pairs) and len(pairs) >= len(lists) // 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["towers", "tokenizers", "generation"])
    parser.add_argument("--captiond", default="captiond", help="the program")
    parser.add_argument("--say", default="say", help="examples/say.rs, built")
    parser.add_argument("--only", action="append", metavar="NAME", help="this model only (may be repeated)")
    parser.add_argument("--captions", type=pathlib.Path, help="captions to tokenize, one a line or a TSV's last column")
    parser.add_argument("--count", type=int, default=50, help="prompts")
    args = parser.parse_args()
    {"towers": towers, "tokenizers": tokenizers, "generation": generation_parity}[args.what](args)
    if missed:
        sys.exit("missed: " + "; ".join(missed))


if __name__ == "__main__":
    main()
