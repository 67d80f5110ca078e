#!/usr/bin/env python3
"""The share of a caption's content nouns that nothing supports: what the captioner made up.

    python3 models/hallucination.py --references ../shared/data/flickr8k/dev.tsv predictions.jsonl...

predictions.jsonl is what evaluate_captions.py keeps. Two shares are given, of the distinct content
nouns of each caption, all captions together:

  unsupported        neither a reference nor one of the k nearest captions (neighbours) supports it
  by the references  no reference supports it (stricter)

With a captioner that says one of its neighbours the first is near 0 by construction, and a decoder
that copies a wrong neighbour is not caught by it either: it measures what the decoder adds to what
was retrieved. Compare kinds of captioners by the second. Its floor isn't 0: people name things that
four other people don't name. `--check` prints that floor (each reference against the others of its
picture) and what captions of other pictures get.

The nouns stand in hallucination_nouns.txt, one thing a line: synonyms, the words that imply it, and
the more general lines that it belongs to. The rule:

1. Words are lower-cased; hyphens are spaces. Fixed expressions come first (a hot dog is no dog), also
   where the lexicon writes one word (sun glasses). Plurals are undone by rule and by the irregulars' list.
2. In the caption a word counts if the lexicon has it as a noun. A word marked * there, which can also be
   a verb or adjective, counts only where it reads as a noun: not before another noun or a colour, not
   behind a person, an animal, "to", "is", "who", an adverb, or "and" behind no noun, and with an ending
   not behind a noun either. It is a rule of thumb and errs towards not counting. The camera that
   someone smiles at and the photo that they pose for are not in the picture and not counted.
3. A noun is supported if a supporting text contains it, a synonym, a word that implies it, or a more
   specific word. A more general word doesn't support it ("animal" doesn't support "dog", "dog" supports
   "animal"), except where the lexicon says that it doesn't gainsay it ("person" supports "man";
   "woman" doesn't).
4. In supporting texts every reading of a word counts ("bikes" supports "a bike").

Words that the lexicon lacks are never counted, neither for nor against; `--unknown` lists them.
Colours, numbers, acts and relations are not judged.
"""

import argparse
import collections
import functools
import json
import pathlib
import re
from dataclasses import dataclass

HERE = pathlib.Path(__file__).resolve().parent
LONGEST = 3  # words of a fixed expression

COLOURS = frozenset(
    "red blue green yellow white black brown grey gray orange pink purple tan golden silver beige blonde dark "
    "bright colored coloured".split()
)
# What a verb follows. An adverb (-ly) and a person or animal do so too.
BEFORE_A_VERB = frozenset(
    "to is are was were be being who that which he she they it can will not also then others".split()
)
ARTICLES = frozenset("a an the one his her".split())
NOT_ADVERBS = frozenset("family butterfly fly lily jelly belly curly ugly holy".split())
# No camera is seen where people smile at it, no photo where they pose for it; a body of water is water.
IDIOMS = re.compile(
    r"\b(at|for|to|towards?|into|by|from|near|facing|front of) (the|a) camera\b"
    r"|\bfor (a|the|their|his|her) (group )?(photo|picture|photograph|portrait)s?\b|\bbod(y|ies) of(?= water)"
)
FUNCTION_WORDS = frozenset(
    "a an the his her its their this that these those some several many few all both each other another one two "
    "three four five six seven eight nine ten and or but of in on at by to from with without for into onto over "
    "under through near behind beside between across along around up down out off against as while is are was be "
    "being been has have had he she it they them him who which there not very s t front side back top group couple "
    "pair background".split()
)


def load_references(path, limit=None):
    """The captions of each image, in the order of a TSV of image and caption."""
    references = collections.defaultdict(list)
    for line in open(path, encoding="utf-8"):
        if line.strip():
            name, caption = line.rstrip("\n").split("\t")
            references[name].append(caption)
    return dict(list(references.items())[:limit])


def load_predictions(path):
    """captiond's JSON objects by image; a last line that was cut off is left out."""
    found = {}
    for line in open(path, encoding="utf-8"):
        if line.endswith("\n"):
            prediction = json.loads(line)
            found[prediction["file"]] = prediction
    return found


@dataclass(frozen=True)
class Found:
    """What was counted over some captions."""

    captions: int
    with_unsupported: int
    nouns: int
    unsupported: int

    @property
    def share(self):
        return self.unsupported / max(self.nouns, 1)


@dataclass(eq=False)
class Thing:
    """A line of the lexicon."""

    name: str
    words: list
    implied_by: list
    general: list  # names of more general lines, which don't support it
    agreeing: list  # names of more general lines whose words do


def split(caption):
    caption = caption.lower().replace("'s", " s ").replace("’s", " s ").replace("-", " ")
    return re.findall(r"[a-z]+", IDIOMS.sub(" of ", caption))


def singulars(word):
    """What a plural may be the plural of, by rule; the word itself comes first."""
    yield word
    for ending, singular in (("ies", "y"), ("ves", "f"), ("ves", "fe"), ("es", ""), ("s", "")):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            yield word[: -len(ending)] + singular


class Lexicon:
    def __init__(self, path=HERE / "hallucination_nouns.txt"):
        self.irregular = {}
        self.things = collections.defaultdict(list)  # noun -> its lines
        self.unsure = set()  # nouns that need a look at their neighbourhood
        lines = []
        for number, line in enumerate(open(path, encoding="utf-8"), 1):
            words = line.split("#")[0].split()
            if line.startswith("!"):
                plural, singular = words[1:]
                self.irregular[plural] = singular
            elif words:
                lines.append(self._thing(words, f"{path}:{number}"))
        named = collections.defaultdict(list)
        for thing in lines:
            named[thing.name].append(thing)
            for word in thing.words:
                self.things[word].append(thing)
        self.below = collections.defaultdict(set)  # id of a line -> lines that are more specific
        for thing in lines:
            for name in thing.general + thing.agreeing:
                if len(named[name]) != 1:
                    raise ValueError(f"{path}: {thing.name}: {len(named[name])} lines are named {name}")
                self.below[id(named[name][0])].add(thing)
        self.named = {name: things[0] for name, things in named.items()}
        self.joined = {noun.replace("_", ""): noun for noun in self.things if "_" in noun}  # written as one word
        self.words = set(self.things) | {word for thing in lines for word in thing.implied_by}
        animate = self._all_below(self.named["person"]) | self._all_below(self.named["animal"])
        self.animate = {word for thing in animate for word in thing.words}
        self.mentioned = functools.lru_cache(maxsize=None)(self._mentioned)
        self.supporting = functools.lru_cache(maxsize=None)(self._supporting)

    def _thing(self, words, where):
        parts, part = {"": [], "+": [], "<": [], "~": []}, ""
        for word in words:
            if word in parts:
                part = word
                continue
            if word.endswith("*") and not part:
                self.unsure.add(word[:-1].replace("-", "_"))
            parts[part].append(word.rstrip("*").replace("-", "_"))
        if not parts[""] or len(set(parts[""])) != len(parts[""]):
            raise ValueError(f"{where}: a line needs words, each once")
        return Thing(parts[""][0], *parts.values())

    def _all_below(self, thing):
        found, todo = {thing}, [thing]
        while todo:
            new = self.below[id(todo.pop())] - found
            found |= new
            todo += new
        return found

    def _supporting(self, noun):
        """The words that support a noun."""
        words = {noun}
        for thing in self.things[noun]:
            for below in self._all_below(thing):
                words.update(below.words, below.implied_by)
            for name in thing.agreeing:
                words.update(self.named[name].words)
        return frozenset(words)

    def _base(self, word):
        """The form under which the lexicon has a word or an expression, or None."""
        head, last = word.rpartition("_")[::2]
        forms = [f"{head}_{form}" if head else form for form in (self.irregular.get(last, last), *singulars(last))]
        for known in (self.things, self.joined, self.words):
            for form in forms:
                if form in known:
                    return self.joined.get(form, form)
        return None

    def _chunks(self, caption):
        """The caption's words with fixed expressions in one piece: (as written, base or None) each."""
        words, chunks = split(caption), []
        while words:
            for length in range(min(LONGEST, len(words)), 0, -1):
                base = self._base("_".join(words[:length]))
                if base is None and length == 2 and not FUNCTION_WORDS & set(words[:2]):
                    base = self._base("".join(words[:length]))
                if base or length == 1:
                    chunks.append(("_".join(words[:length]), base))
                    del words[:length]
                    break
        return chunks

    def nouns(self, caption):
        """The content nouns of a caption, each once, in order."""
        chunks, found = self._chunks(caption), []
        for position, (_, base) in enumerate(chunks):
            if base in self.things and (base not in self.unsure or self._reads_as_noun(chunks, position)):
                found.append(base)
        return list(dict.fromkeys(found))

    def _reads_as_noun(self, chunks, position):
        written, base = chunks[position]
        before, before_base = chunks[position - 1] if position else ("", None)
        after, after_base = chunks[position + 1] if position + 1 < len(chunks) else ("", None)
        if written == base:
            # A bike helmet; but in "a cat watches" what follows is inflected, and may be a verb.
            noun_follows = after_base in self.things and (after_base not in self.unsure or after == after_base)
            if noun_follows or after in COLOURS:
                return False
            if base in COLOURS:
                return before in ARTICLES and after_base not in self.things and after != "and"
        if before == "and":
            other, other_base = chunks[position - 2] if position >= 2 else ("", None)
            # "hats and bats", but not "to a park and watches"
            return other_base in self.things and (written == base or other != other_base)
        adverb = before.endswith("ly") and before not in NOT_ADVERBS
        # In "a man in a jacket watches" it is a verb; "hockey sticks" is given up for that.
        inflected = written != base and before_base in self.things
        return not (adverb or inflected or before in BEFORE_A_VERB or before_base in self.animate)

    def _mentioned(self, caption):
        """Every word and expression of a supporting text, in every reading that the lexicon knows."""
        words = set()
        for written, base in self._chunks(caption):
            if base:
                words.add(base)
            # An expression's other words are said too; its last is not (a hot dog is no dog).
            parts = written.split("_")
            for part in parts[:-1] if len(parts) > 1 else parts:
                words.update((part, self.irregular.get(part, part), *singulars(part)))
        return frozenset(words)

    def unsupported(self, caption, texts):
        """The nouns of a caption that none of the texts supports."""
        mentioned = frozenset().union(*map(self.mentioned, texts))
        return [noun for noun in self.nouns(caption) if not self.supporting(noun) & mentioned]

    def judge(self, pairs):
        """Counts over pairs of a caption and its supporting texts."""
        captions = with_unsupported = nouns = unsupported = 0
        for caption, texts in pairs:
            bad = len(self.unsupported(caption, texts))
            captions += 1
            with_unsupported += bad > 0
            nouns += len(self.nouns(caption))
            unsupported += bad
        return Found(captions, with_unsupported, nouns, unsupported)

    def judge_predictions(self, references, predictions, k=13):
        """Both shares' counts: with the k nearest captions, and by the references alone."""
        known = [(predictions[image], texts) for image, texts in references.items()]
        nearest = lambda p: [n["caption"] for n in p["neighbours"][:k]]  # noqa: E731
        with_neighbours = self.judge((p["caption"] or "", texts + nearest(p)) for p, texts in known)
        return with_neighbours, self.judge((p["caption"] or "", texts) for p, texts in known)


def people(references):
    """Each reference with the other ones of its picture."""
    for texts in references.values():
        for i, text in enumerate(texts):
            yield text, texts[:i] + texts[i + 1 :]


def strangers(references):
    """The first reference of each picture with all but one of the next picture's."""
    every = list(references.values())
    for texts, others in zip(every, every[1:] + every[:1]):
        yield texts[0], others[1:]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=pathlib.Path, nargs="*", help="JSON lines that evaluate_captions.py kept")
    parser.add_argument("--references", type=pathlib.Path, required=True, help="TSV of image and caption")
    parser.add_argument("--k", type=int, default=13, help="nearest captions that support. Default: 13")
    parser.add_argument("--check", action="store_true", help="the shares of people and of other pictures' captions")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print N captions with unsupported nouns")
    parser.add_argument("--surest", type=float, nargs="*", default=[], metavar="SHARE",
                        help="also with all but the surest captions withheld: 0.5 keeps the surer half")
    parser.add_argument("--unknown", type=int, default=0, metavar="N", help="print the N most frequent unknown words")
    args = parser.parse_args()
    lexicon, references = Lexicon(), load_references(args.references)

    print("| captions | nouns a caption | unsupported | by the references alone | captions with such a noun |")
    print("|---|---|---|---|---|")

    def row(name, loose, strict):
        print(f"| {name} | {strict.nouns / max(strict.captions, 1):.2f} | {f'{loose.share:.3f}' if loose else ''} | "
              f"{strict.share:.3f} | {strict.with_unsupported / max(strict.captions, 1):.3f} |")

    said = []
    if args.check:
        row("people, each against the others", None, lexicon.judge(people(references)))
        row("people, of another picture", None, lexicon.judge(strangers(references)))
        said += [(c, None) for texts in references.values() for c in texts]
    for path in args.predictions:
        predictions = load_predictions(path)
        known = {image: texts for image, texts in references.items() if image in predictions}
        row(path.stem, *lexicon.judge_predictions(known, predictions, args.k))
        by_confidence = sorted(known, key=lambda image: -predictions[image]["confidence"])
        for share in args.surest:
            kept = {image: known[image] for image in by_confidence[: round(share * len(known))]}
            row(f"{path.stem}, surest {share:.0%}", *lexicon.judge_predictions(kept, predictions, args.k))
        said += [(predictions[image]["caption"] or "", texts) for image, texts in known.items()]

    shown = ((c, bad) for c, texts in said if texts and (bad := lexicon.unsupported(c, texts)))
    for (caption, bad), _ in zip(shown, range(args.show)):
        print(f"{', '.join(bad)}: {caption}")
    if args.unknown:
        words = collections.Counter(
            written for caption, _ in said for written, base in lexicon._chunks(caption)
            if base not in lexicon.things and written not in FUNCTION_WORDS | COLOURS
        )
        print(" ".join(f"{word}({count})" for word, count in words.most_common(args.unknown)))


if __name__ == "__main__":
    main()
