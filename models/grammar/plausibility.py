"""How plausible a caption is, by the statistics of captions that people wrote.

Two measures, for two kinds of mistake. An interpolated Kneser-Ney trigram
model hears what is clumsy (wrong preposition, odd word order); the association
of content words within one sentence sees what is absurd (a surfer and a
fridge), which trigrams miss because the two words stand far apart.

The corpora give numbers only; no word sequence of theirs leaves this module.
"""

import collections
import json
import math
import os
import re

# British and household words that the corpora spell or name otherwise: they
# are scored as their counterpart, or the model would delete our own topics.
COUNTERPART = {
    "kerb": "curb", "pavement": "sidewalk", "lift": "elevator", "grey": "gray",
    "colour": "color", "colourful": "colorful", "coloured": "colored", "tyre": "tire",
    "lorry": "truck", "fridge": "refrigerator", "cooker": "stove", "sofa": "couch",
    "mug": "cup", "kettle": "pot", "wardrobe": "closet", "parcel": "package",
    "television": "tv", "cellphone": "phone", "smartphone": "phone", "mobile": "cell",
    "travelling": "traveling", "racket": "racquet", "jumper": "sweater", "tap": "faucet",
    "motorbike": "motorcycle", "cyclist": "bicyclist", "biscuits": "cookies",
    "postbox": "mailbox", "hob": "stove", "worktop": "counter", "doughnut": "donut",
    "doughnuts": "donuts", "rubbish": "trash", "shopkeeper": "vendor", "hallway": "room",
    "trainers": "sneakers", "pram": "stroller", "armchair": "chair", "bin": "can",
}

FUNCTION = set(
    "a an the of and or in on at to with from by is are was be being it its his her their "
    "there that this these those as for while he she they him who which has have one some "
    "into out up down over off s t through near next front behind beside under along around "
    "between above across against towards toward onto inside outside each other another two "
    "three four five six several group very together top side large small big little long "
    "back away past during after before like about many few lot both full all it's them".split()
)


def norm(text):
    """Lower case, letters and digits only: the form in which captions compare."""
    return re.sub(r"[^a-z0-9]+", " ", text.lower()).strip()


def without_articles(normed):
    return " ".join(w for w in normed.split() if w not in ("a", "an", "the"))


def training_captions(data):
    """Flickr8k's training captions and COCO's; never a dev or a test one."""
    captions = []
    with open(os.path.join(data, "flickr8k", "train.tsv"), encoding="utf-8") as lines:
        captions += [norm(line.split("\t")[1]) for line in lines if "\t" in line]
    with open(os.path.join(data, "coco", "captions_val2017.json"), encoding="utf-8") as f:
        captions += [norm(a["caption"]) for a in json.load(f)["annotations"]]
    return captions


def forbidden_captions(data):
    """Every caption of both data sets (all splits), with and without articles."""
    found = set()
    with open(os.path.join(data, "flickr8k", "Flickr8k.token.txt"), encoding="utf-8") as lines:
        found.update(norm(line.split("\t")[1]) for line in lines if "\t" in line)
    with open(os.path.join(data, "coco", "captions_val2017.json"), encoding="utf-8") as f:
        found.update(norm(a["caption"]) for a in json.load(f)["annotations"])
    found |= {without_articles(s) for s in found}
    return found


class Plausibility:
    """Scores a caption; higher is more plausible."""

    DISCOUNT = 0.8

    def __init__(self, captions):
        split = [[COUNTERPART.get(w, w) for w in c.split()] for c in captions]
        counts = collections.Counter(w for s in split for w in s)
        self.vocabulary = {w for w, n in counts.items() if n > 1}
        self._count_ngrams(split)
        self._count_pairs(split)

    def _count_ngrams(self, split):
        tri, bi_raw = collections.Counter(), collections.Counter()
        for words in split:
            known = [w if w in self.vocabulary else "<unk>" for w in words]
            s = ["<s>", "<s>"] + known + ["</s>"]
            for i in range(2, len(s)):
                tri[s[i - 2], s[i - 1], s[i]] += 1
                bi_raw[s[i - 2], s[i - 1]] += 1
        # Lower orders count in how many contexts a word occurs (Kneser-Ney).
        bi, left, follow3 = (collections.Counter() for _ in range(3))
        for a, b, c in tri:
            bi[b, c] += 1
            left[b] += 1
            follow3[a, b] += 1
        uni, follow2 = collections.Counter(), collections.Counter()
        for b, c in bi:
            uni[c] += 1
            follow2[b] += 1
        self.tri, self.history3, self.follow3 = tri, bi_raw, follow3
        self.bi, self.history2, self.follow2 = bi, left, follow2
        self.uni, self.total = uni, sum(uni.values())
        self.words = len(uni)

    def _probability(self, a, b, c):
        d = self.DISCOUNT
        p = (self.uni.get(c, 0) + 0.5) / (self.total + 0.5 * self.words)
        h = self.history2.get(b, 0)
        if h:
            p = max(self.bi.get((b, c), 0) - d, 0) / h + d * self.follow2[b] / h * p
        h = self.history3.get((a, b), 0)
        if h:
            p = max(self.tri.get((a, b, c), 0) - d, 0) / h + d * self.follow3[a, b] / h * p
        return p

    def _count_pairs(self, split):
        self.sentences = len(split)
        self.seen, self.pair = collections.Counter(), collections.Counter()
        for words in split:
            content = sorted({w for w in words if w in self.vocabulary and w not in FUNCTION})
            self.seen.update(content)
            for i, a in enumerate(content):
                for b in content[i + 1:]:
                    self.pair[a, b] += 1

    def fluency(self, words):
        """Mean log probability of a word; the weakest link counts again."""
        s = ["<s>", "<s>"] + [w if w in self.vocabulary else "<unk>" for w in words] + ["</s>"]
        logs = [math.log(self._probability(s[i - 2], s[i - 1], s[i])) for i in range(2, len(s))]
        return sum(logs) / len(logs) + 0.1 * min(logs)

    def coherence(self, words):
        """Association of the content words; mean of all pairs, and the worst.

        The expected count enters the smoothing, so that a pair of rare words
        that never met says little and a pair of common ones says much.
        """
        content = sorted({w for w in words if w in self.vocabulary and w not in FUNCTION})
        values = []
        for i, a in enumerate(content):
            for b in content[i + 1:]:
                expected = self.seen[a] * self.seen[b] / self.sentences
                v = math.log((self.pair.get((a, b), 0) + 0.5) / (expected + 0.5))
                values.append(max(-3.0, min(2.0, v)))
        if not values:
            return 0.0
        return sum(values) / len(values) + 0.5 * min(min(values), 0.0)

    def score(self, caption):
        words = [COUNTERPART.get(w, w) for w in norm(caption).split()]
        return self.fluency(words) + 0.6 * self.coherence(words)
