"""Training batches, seeded by epoch: a resumed run sees what an unbroken one would have seen."""

import dataclasses

import numpy as np
import torch

from . import data, prepare, text

# What stands in the prefix, in its order.
PARTS = ["cells", "realigned", "retrieved"]
# Shares of conditions with a part hidden, so that each part learns to speak alone.
HIDE_CELLS, HIDE_REALIGNED, HIDE_RETRIEVED = 0.1, 0.1, 0.15
# Share of photographs that retrieve from the device's datastore; the others from people's captions.
DEVICE_SHARE = 0.6
COUNTS = [1, 4, 8, 8, 13, 20]


@dataclasses.dataclass
class Condition:
    """Inputs of the prefix."""

    cells: torch.Tensor
    realigned: torch.Tensor
    retrieved: torch.Tensor
    scores: torch.Tensor
    seen: torch.Tensor
    texts: torch.Tensor | None = None

    def arguments(self):
        return self.cells, self.realigned, self.retrieved, self.scores, self.seen, self.texts

    def read(self, rows, found, count):
        """Adds the words of the first `count` retrieved captions. `rows`: token ids of every caption that
        can be retrieved [rows, t]; `found` [n, k]."""
        self.texts = torch.from_numpy(rows[found[:, :count]])
        shown = (self.texts != text.PAD).flatten(1) & self.seen[:, 10:11]
        self.seen = torch.cat([self.seen, shown], 1)
        return self


def visible(n, k, cells=True, realigned=True, retrieved=True):
    """`seen` [n, 9 + 1 + k] with whole parts hidden or not; each flag a bool or a bool array [n]."""
    seen = torch.ones(n, 10 + k, dtype=torch.bool)
    seen[:, :9] = torch.as_tensor(cells).reshape(-1, 1)
    seen[:, 9:10] = torch.as_tensor(realigned).reshape(-1, 1)
    seen[:, 10:] = torch.as_tensor(retrieved).reshape(-1, 1)
    return seen


def dev_condition(p, block, k, texts=0, **parts):
    """The condition of dev photographs, as on the device."""
    cells = torch.from_numpy(data.scaled_cells(p.dev_cells[block]) * np.sqrt(1280).astype(np.float32))
    retrieved = torch.from_numpy(p.rows[p.dev_found[block, :k]].astype(np.float32))
    n = len(cells)
    condition = Condition(
        cells, torch.from_numpy(p.dev_realigned[block]), retrieved, torch.from_numpy(p.dev_scores[block, :k].copy()),
        visible(n, k, **parts),
    )  # fmt: skip
    return condition.read(p.row_ids, p.dev_found[block], texts) if texts else condition


class Batches:
    """`epoch(number)` yields (condition, token ids [n, m, t], photographs' numbers, -1 for COCO)."""

    def __init__(self, p, tokenizer, most_tokens, photographs=64, coco=16, fixed=None, texts=0):
        """`fixed` hides the same parts always (an ablation): a dict for `visible`. `texts`: retrieved
        captions that are also read as words."""
        self.p, self.photographs, self.coco_count, self.fixed, self.texts = p, photographs, coco, fixed, texts

        def encode(several):
            """[(ids, says left or right)] of the captions that fit."""
            kept = []
            for caption in several:
                cleaned = text.clean(caption, p.forms)
                ids = tokenizer.encode(cleaned).ids if cleaned else []
                if ids and len(ids) <= most_tokens - 2:
                    kept.append(([text.BEGIN, *ids, text.END], bool(text.SIDED.search(cleaned))))
            return kept

        self.train = [encode(several) for several in p.train]
        self.coco = [encode(several) for several in p.coco]

    def condition(self, random, photographs, views, coco, noises, k):
        """Condition of photographs and COCO groups side by side."""
        p, n, m = self.p, len(photographs), len(coco)
        cells = np.zeros((n + m, 9, 1280), np.float32)
        for at, (photo, view) in enumerate(zip(photographs, views)):
            cells[at] = p.views[view][photo]
        cells[:n] = data.scaled_cells(cells[:n]) * np.sqrt(1280)
        realigned = np.concatenate([p.train_realigned[views, photographs], p.coco_realigned[noises, coco]])
        store = (random.random(n + m) >= DEVICE_SHARE).astype(int)
        found = np.concatenate(
            [p.train_found[views, store[:n], photographs, :k], p.coco_found[noises, store[n:], coco, :k]]
        )
        scores = np.concatenate(
            [p.train_scores[views, store[:n], photographs, :k], p.coco_scores[noises, store[n:], coco, :k]]
        )
        parts = dict(
            cells=(random.random(n + m) >= HIDE_CELLS) & (np.arange(n + m) < n),
            realigned=random.random(n + m) >= HIDE_REALIGNED,
            retrieved=random.random(n + m) >= HIDE_RETRIEVED,
        )
        nothing = ~(parts["cells"] | parts["realigned"] | parts["retrieved"])
        parts["realigned"] |= nothing
        if self.fixed:
            parts.update({name: np.full(n + m, flag) for name, flag in self.fixed.items()})
            if self.fixed.get("cells"):
                parts["cells"] = np.arange(n + m) < n
        condition = Condition(
            torch.from_numpy(cells), torch.from_numpy(realigned.astype(np.float32)),
            torch.from_numpy(p.rows[found].astype(np.float32)), torch.from_numpy(scores.copy()),
            visible(n + m, k, **parts),
        )  # fmt: skip
        return condition.read(p.row_ids, found, self.texts) if self.texts else condition

    def draw(self, random, several, mirrored):
        """Five captions of one picture, without sides when it's mirrored; repeats when there are fewer."""
        usable = [ids for ids, sided in several if not (sided and mirrored)] or [[text.BEGIN, text.END]]
        return [usable[i] for i in (random.permutation(max(len(usable), 5))[:5] % len(usable))]

    def epoch(self, number):
        random = np.random.default_rng([11, number])
        order = random.permutation(len(self.train))
        others = random.permutation(len(self.coco))
        for at, start in enumerate(range(0, len(order), self.photographs)):
            photographs = order[start : start + self.photographs]
            views = random.integers(len(self.p.views), size=len(photographs))
            coco = others[np.arange(at * self.coco_count, (at + 1) * self.coco_count) % len(others)]
            noises = random.integers(prepare.NOISES, size=len(coco))
            k = int(random.choice(COUNTS))
            condition = self.condition(random, photographs, views, coco, noises, k)
            captions = [
                self.draw(random, self.train[photo], prepare.MIRRORED[view]) for photo, view in zip(photographs, views)
            ] + [self.draw(random, self.coco[group], False) for group in coco]
            flat = data.pad([ids for several in captions for ids in several])
            ids = torch.from_numpy(flat).view(len(captions), 5, -1)
            yield condition, ids, np.concatenate([photographs, np.full(len(coco), -1)])
