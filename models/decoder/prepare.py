"""From photographs, captions and a pack to arrays that training reads.

Two stores are retrieved from in training. "device" is the pack's datastore, what the decoder will see
in the field. "people" is the captions of the other training pictures and of COCO: they're better than
the datastore's at first, so the decoder learns to lean on good neighbours too, as augmentation brings
them. A picture's own captions, and what is nearly the same, are left out in both.
"""

import pathlib

import numpy as np

from . import data, features, text

VIEWS = {"plain": ("plain", 0), "flip": ("flip", 1), "crop": ("crop", 2)}
MIRRORED = [False, True, True]  # a crop is mirrored half of the time
STORES = ["device", "people"]
# Noisy versions of each COCO condition.
NOISES = 3


def realign(cells, realignment):
    """Cells [n, 9, 1280] -> realigned embeddings [n, 384] of length one."""
    w, mean_image, _ = realignment
    pooled = data.unit(np.asarray(cells, np.float32).mean(1))
    return data.unit((pooled - mean_image) @ w)


def centred(embeddings, realignment):
    """Caption embeddings, centred with the training mean, length one."""
    return data.unit(embeddings - realignment[2])


def see_dev(cells, store_rows, realignment):
    """Realigned embeddings of dev, and what they retrieve from a datastore: rows and scores."""
    realigned = realign(cells, realignment)
    store = data.Store(centred(store_rows, realignment), np.full(len(store_rows), -1))
    return realigned, *store.nearest(realigned, np.full(len(realigned), -1))


def check_grouping(embedded, owner):
    """Refuses embeddings that are not in the captions' order. Once they were in that of COCO's file, which
    mixes the pictures: training went on without a word and learned nothing from them."""
    if len(embedded) != len(owner):
        raise SystemExit(f"--coco-embeddings: found {len(embedded)} rows, expected {len(owner)}, one a caption")
    same = owner[:-1] == owner[1:]
    cosine = (embedded[:-1] * embedded[1:]).sum(1)
    own, others = cosine[same].mean(), cosine[~same].mean()
    if own < others + 0.2:
        raise SystemExit(
            f"--coco-embeddings: a picture's captions have a mean cosine of {own:.2f} and those of two pictures "
            f"{others:.2f}: the rows are not in the captions' order. Embed them picture by picture (build_default.py)"
        )


class Prepared:
    """Everything a training run reads; see `prepare`."""

    def __init__(self, **parts):
        self.__dict__.update(parts)


def prepare(pack, datasets, work, caption_cache, coco_embeddings):
    """Loads or makes the arrays. `datasets`: the folder with flickr8k and coco."""
    flickr, work = datasets / "flickr8k", pathlib.Path(work)
    train, dev = data.read_pairs(flickr / "train.tsv"), data.read_pairs(flickr / "dev.tsv")
    coco = data.coco_groups(datasets / "coco" / "captions_val2017.json")
    realignment = data.read_realignment(pack / "realignment.safetensors")
    embed = data.CaptionEmbeddings(caption_cache, realignment[0].shape[1])

    everything = [c for several in train.values() for c in several] + [c for s in coco.values() for c in s]
    store_captions, store_rows = data.read_datastore(pack / "datastore.safetensors")
    forms = text.names(everything + store_captions)

    tower = pack / "image.onnx"
    extract = lambda names, view, seed, label: features.extract(  # noqa: E731
        tower, flickr / "images", names, work / f"{label}.npy", view, seed
    )
    views = [extract(list(train), view, seed, f"train-{name}") for name, (view, seed) in VIEWS.items()]
    dev_cells = extract(list(dev), "plain", 0, "dev-plain")

    train_flat = [c for several in train.values() for c in several]
    train_owner = np.repeat(np.arange(len(train)), [len(s) for s in train.values()])
    coco_flat = [c for several in coco.values() for c in several]
    coco_owner = np.repeat(np.arange(len(coco)), [len(s) for s in coco.values()]) + len(train)
    train_embedded = centred(embed(train_flat), realignment)
    coco_embedded = centred(coco_embeddings, realignment)
    check_grouping(coco_embedded, coco_owner)

    device = data.Store(centred(store_rows, realignment), np.full(len(store_rows), -1))
    people = data.Store(np.concatenate([train_embedded, coco_embedded]), np.concatenate([train_owner, coco_owner]))
    rows = np.concatenate([device.rows, people.rows]).astype(np.float16)

    train_own = [train_embedded[train_owner == i] for i in range(len(train))]
    coco_own = [coco_embedded[coco_owner == i + len(train)] for i in range(len(coco))]

    def retrieve(queries, owners, own):
        """Indices into `rows` [stores, n, k] and scores."""
        found, scores = zip(device.nearest(queries, owners, own), people.nearest(queries, owners, own))
        return np.stack([found[0], found[1] + len(device.rows)]), np.stack(scores)

    train_realigned = np.stack([realign(view, realignment) for view in views])
    random = np.random.default_rng(7)
    # What stands between a picture's realigned embedding and its captions, to be put on captions alone.
    gaps = train_realigned[0] - np.stack([own.mean(0) for own in train_own])
    coco_realigned = []
    for _ in range(NOISES):
        means = np.stack([own[random.permutation(len(own))[: random.integers(1, len(own) + 1)]].mean(0) for own in coco_own])
        noise = gaps[random.integers(len(gaps), size=len(means))] * random.uniform(0.6, 1.1, (len(means), 1))
        coco_realigned.append(data.unit(means + noise))

    cached = work / "retrieved.npz"
    if cached.exists():
        retrieved = dict(np.load(cached))
    else:
        retrieved = {}
        train_found = [retrieve(q, np.arange(len(train)), train_own) for q in train_realigned]
        coco_found = [retrieve(q, np.arange(len(coco)) + len(train), coco_own) for q in coco_realigned]
        for label, parts in [("train", train_found), ("coco", coco_found)]:
            retrieved[f"{label}_found"] = np.stack([f for f, _ in parts])  # [views, stores, n, k]
            retrieved[f"{label}_scores"] = np.stack([s for _, s in parts])
        np.savez(cached, **retrieved)
    dev_realigned, dev_found, dev_scores = see_dev(dev_cells, store_rows, realignment)

    return Prepared(
        row_captions=store_captions + train_flat + coco_flat, forms=forms, rows=rows, views=views, train_realigned=train_realigned, coco_realigned=np.stack(coco_realigned),
        train=list(train.values()), coco=list(coco.values()), dev=dev, dev_cells=dev_cells,
        dev_realigned=dev_realigned, dev_found=dev_found, dev_scores=dev_scores, store_captions=store_captions,
        realignment=realignment, store_rows=store_rows, **retrieved,
    )  # fmt: skip
