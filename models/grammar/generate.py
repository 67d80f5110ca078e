#!/usr/bin/env python3
"""Writes the captions of the default model pack's datastore.

    python3 models/grammar/generate.py --data ../shared/data --out models/default/captions.txt

Every caption comes from our own grammar (lexicon.py and the scenes_*.py
beside this file). Data sets serve twice, and only as numbers: to score how
plausible a caption is (plausibility.py) and to leave out what stands in them
word for word. Far more is drawn than is kept; the best of each scene line is
kept, within its topic's quota and under caps on near-duplicates, so that no
topic that the corpora know little of (kerbs, lifts, doors) is scored away.
"""

import argparse
import collections
import heapq
import math
import os
import random
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import engine  # noqa: E402
import lexicon  # noqa: E402
import plausibility  # noqa: E402
import scenes_animals  # noqa: E402
import scenes_home  # noqa: E402
import scenes_people  # noqa: E402
import scenes_sport  # noqa: E402
import scenes_street  # noqa: E402
import scenes_things  # noqa: E402

SCENES = (scenes_animals, scenes_people, scenes_sport, scenes_street, scenes_home, scenes_things)

# A description may not advise: a blind listener could act on it.
ADVICE = re.compile(r"\b(safe|safely|all clear|is clear|clear path|clear way|go ahead|no traffic)\b")

COLOURS = set(
    "red blue green yellow white black brown grey gray orange pink purple tan golden silver "
    "dark light bright beige blonde colourful striped plaid checked denim leather woolen".split()
)
REPEATABLE = set("their other another with from front into over each near that next".split())
PLAIN = set("a an the his her their its two three four five several some is are in with of".split())
SAME_TEMPLATE = 2  # captions that differ only in colours, determiners and verb form
KEEP = 0.65  # share of a line that is plausible enough to be used
SAME_CORE = 4  # captions that differ only in modifiers (clothing, age, colours)


def stem(word):
    """Crude on purpose: only to make 'runs' and 'running' one key."""
    for ending in ("ning", "ting", "ming", "ping", "ging", "ing", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)].rstrip("e")
    return word.rstrip("e")


def template_key(text):
    words = plausibility.norm(text).split()
    return " ".join(stem(w) for w in words if w not in COLOURS and w not in PLAIN)


def draw_candidates(topics, expander, per_quota):
    """Over-generates: for each scene line, in proportion to what it may keep."""
    candidates = []
    for topic, (quota, lines) in topics.items():
        weights = sum(w for w, _, _ in lines)
        for number, (weight, root, _) in enumerate(lines):
            for _ in range(int(40 + per_quota * quota * weight / weights)):
                text, core = expander.draw(root)
                candidates.append((topic, number, text, core))
    return candidates


def acceptable(text):
    words = text.split()
    if not 5 <= len(words) <= 14:
        return False
    lowered = [w.lower().strip(",") for w in words]
    if any(a == b for a, b in zip(lowered, lowered[1:])):
        return False
    # A content word twice reads as a slip ('a man near another man' does not).
    content = [stem(w) for w in lowered if len(w) > 3 and w not in REPEATABLE]
    if len(set(content)) < len(content):
        return False
    colours = [w for w in lowered if w in COLOURS]
    if len(set(colours)) < len(colours):
        return False
    return not ADVICE.search(text.lower())


def standardise(pool):
    """Scores as deviations within a topic and a length.

    The mean log probability favours short captions and the commonest subjects;
    compared only with captions of their own topic and length, longer and
    rarer ones stand a chance.
    """
    groups = collections.defaultdict(list)
    for score, topic, _, text, _ in pool:
        groups[topic, len(text.split())].append(score)
    stats = {}
    for key, scores in groups.items():
        mean = sum(scores) / len(scores)
        deviation = (sum((s - mean) ** 2 for s in scores) / len(scores)) ** 0.5
        stats[key] = mean, max(deviation, 0.2)
    for score, topic, number, text, core in pool:
        mean, deviation = stats[topic, len(text.split())]
        yield (score - mean) / deviation, topic, number, text, core


class Selection:
    """Greedy choice: plausible first, what was often taken already pays for it."""

    def __init__(self, rng):
        self.rng = rng
        self.templates, self.cores, self.used = (collections.Counter() for _ in range(3))
        self.chosen = []

    def _cost(self, topic, words, core):
        """Repeated openings, endings and cores, on a logarithmic scale."""
        used = self.used
        return (
            0.30 * math.log1p(used[topic, "open", words[:3]])
            + 0.30 * math.log1p(used[topic, "end", words[-3:]])
            + 0.15 * math.log1p(used["open", words[:3]])
            + 0.60 * math.log1p(self.cores[core])
        )

    def take_best(self, topic, entries, share):
        """Takes up to `share` of one line's entries; returns how many it took."""
        heap = []
        for score, text, core in entries:
            words = tuple(plausibility.norm(text).split())
            short = {5: 2.0, 6: 1.2, 7: 0.4}.get(len(words), 0.0)
            value = score - short + self.rng.gauss(0, 0.6)
            heap.append((-value, -value, text, words, template_key(core)))
        heapq.heapify(heap)
        taken = 0
        while heap and taken < share:
            _, base, text, words, core = heapq.heappop(heap)
            cost = base + self._cost(topic, words, core)
            # Costs only grow, so an entry that is still the best is the best.
            if heap and cost > heap[0][0] + 1e-9:
                heapq.heappush(heap, (cost, base, text, words, core))
                continue
            template = template_key(text)
            if self.templates[template] >= SAME_TEMPLATE or self.cores[core] >= SAME_CORE:
                continue
            self.templates[template] += 1
            self.cores[core] += 1
            self.used.update([(topic, "open", words[:3]), (topic, "end", words[-3:]),
                              ("open", words[:3])])
            self.chosen.append((topic, text))
            taken += 1
        return taken


def select(topics, pool, total, rng):
    """Each line its share; what poor lines leave over goes to the topic's others."""
    quota_sum = sum(q for q, _ in topics.values())
    by_line = collections.defaultdict(list)
    for score, topic, number, text, core in pool:
        by_line[topic, number].append((score, text, core))
    selection = Selection(rng)
    for topic, (quota, lines) in topics.items():
        want = total * quota / quota_sum
        weights = sum(w for w, _, _ in lines)
        for number in range(len(lines)):
            entries = sorted(by_line[topic, number], reverse=True)
            # The least plausible part of a line is never used.
            by_line[topic, number] = entries[: max(1, int(len(entries) * KEEP))]
        # Small lines first: what they cannot fill is shared out among the rest.
        order = sorted(range(len(lines)), key=lambda n: len(by_line[topic, n]) / lines[n][0])
        got = 0
        for number in order:
            weight = lines[number][0]
            share = (want - got) * weight / weights
            weights -= weight
            got += selection.take_best(topic, by_line[topic, number], round(share))
        if got < want * 0.98:
            print("  %s: only %d of %d" % (topic, got, want), file=sys.stderr)
    return selection.chosen


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with flickr8k/ and coco/")
    parser.add_argument("--out", required=True, help="the caption file to write")
    parser.add_argument("--count", type=int, default=24000, help="about how many to keep")
    parser.add_argument("--seed", type=int, default=8)
    parser.add_argument("--draws", type=int, default=22, help="drawn for each one kept")
    parser.add_argument("--explain", help="also write topic, line and score, for review")
    options = parser.parse_args()

    rng = random.Random(options.seed)
    topics = {}
    for module in SCENES:
        for name, scene in engine.read_scenes(module.SCENES).items():
            if name in topics:
                raise ValueError("topic twice: " + name)
            topics[name] = scene
    scale = options.count / sum(q for q, _ in topics.values())
    expander = engine.Expander(engine.read_lexicon(lexicon.LEXICON), rng)
    candidates = draw_candidates(topics, expander, options.draws * scale)

    judge = plausibility.Plausibility(plausibility.training_captions(options.data))
    forbidden = plausibility.forbidden_captions(options.data)
    seen, pool, verbatim = set(), [], 0
    for topic, number, text, core in candidates:
        bare = plausibility.without_articles(plausibility.norm(text))
        if bare in seen or not acceptable(text):
            continue
        seen.add(bare)
        if bare in forbidden or plausibility.norm(text) in forbidden:
            verbatim += 1
            continue
        pool.append((judge.score(text), topic, number, text, core))
    chosen = select(topics, list(standardise(pool)), options.count, rng)

    with open(options.out, "w", encoding="utf-8") as out:
        out.write("\n".join(sorted(text for _, text in chosen)) + "\n")
    if options.explain:
        kept, lines = {t for _, t in chosen}, {t: l for t, (_, l) in topics.items()}
        with open(options.explain, "w", encoding="utf-8") as out:
            for score, topic, number, text, _ in sorted(pool):
                if text in kept:
                    out.write("%.2f\t%s\t%s\t%s\n" % (score, topic, text, lines[topic][number][2]))
    per_topic = collections.Counter(topic for topic, _ in chosen)
    print("%d drawn, %d distinct and well-formed, %d left out as verbatim, %d kept"
          % (len(candidates), len(pool) + verbatim, verbatim, len(chosen)))
    print(", ".join("%s %d" % item for item in per_topic.items()))


if __name__ == "__main__":
    main()
