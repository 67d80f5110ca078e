"""Holds exported graphs against the PyTorch originals: f32 graphs to a bar, int8 ones by their cosine."""

import pathlib
import tempfile

import numpy as np
import onnxruntime

from . import build, open_clip_towers, stand_ins
from .parts import unit

# Largest difference between numbers of f32 embeddings of length one, and their least cosine.
MOST_APART, LEAST_COSINE = 1e-4, 0.99999
# Under this the int8 graph is followed layer by layer.
SUSPICIOUS = 0.99


def session(path):
    """Without optimisation: onnxruntime would turn int8 weights into an int8 matmul, which captiond does not do."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def pictures(side, count=4):
    """Smooth made-up pictures with some noise, [count, 3, h, w] in about the range of normalised pixels."""
    random = np.random.default_rng(5)
    y, x = np.mgrid[0 : side[0], 0 : side[1]] / max(side)
    waves = random.uniform(1, 12, (count, 3, 2))
    smooth = np.sin(waves[..., :1, None] * x + waves[..., 1:, None] * y + random.uniform(0, 6, (count, 3, 1, 1)))
    return (smooth + 0.2 * random.standard_normal(smooth.shape)).astype(np.float32)


def ids_of(towers, caption):
    """A caption's ids as captiond gives them to the tower, [1, n]."""
    ids = list(towers.tokenizer.encode(caption).ids)
    if towers.kind == "clip":
        longest, pad = towers.config.text_config.max_position_embeddings, None
    elif towers.kind == "siglip":
        longest, pad = towers.config.text_config.max_position_embeddings, towers.tokenizer.token_to_id("</s>")
    else:
        longest, pad = open_clip_towers.context(towers), open_clip_towers.pad_id(towers)
    if len(ids) > longest:
        ids = ids[: longest - 1] + ids[-1:]
    return np.array([ids + [pad] * (longest - len(ids)) if pad is not None else ids], np.int64)


def originals(towers, pixels, captions):
    """PyTorch's embeddings of pictures and captions, of length one."""
    import torch

    with torch.no_grad():
        x = torch.from_numpy(pixels)
        ids = [torch.from_numpy(ids_of(towers, caption)) for caption in captions]
        if towers.kind == "open_clip":
            image = towers.model.encode_image(x)
            text = torch.cat([towers.model.encode_text(one) for one in ids])
        else:
            image = towers.model.get_image_features(pixel_values=x).pooler_output
            text = torch.cat([towers.model.get_text_features(input_ids=one).pooler_output for one in ids])
    return unit(image.numpy()), unit(text.numpy())


def exported(towers, folder, pixels, captions):
    """The graphs' embeddings of the same."""
    eyes, ears = session(folder / "image.onnx"), session(folder / "text.onnx")
    image = np.concatenate([eyes.run(["embedding"], {"pixels": one[None]})[0] for one in pixels])
    text = []
    for caption in captions:
        ids = ids_of(towers, caption)
        if towers.kind == "clip":
            end = ids[0].tolist().index(towers.tokenizer.encode("").ids[-1])
            text.append(ears.run(["hidden"], {"input_ids": ids})[0][:, end])
        else:
            text.append(ears.run(["embedding"], {"input_ids": ids})[0])
    return unit(image), unit(np.concatenate(text))


def compare_towers(towers, folder, captions=None):
    """Rows (what, largest difference, least cosine, least cosine of int8), and whether f32 meets its bar. `folder` has
    the int8 graphs; f32 ones are written beside them for a moment."""
    captions = captions or stand_ins.captions()[::2500]
    pixels = pictures(towers.pixels["size"])
    torch_says = originals(towers, pixels, captions)
    int8_says = exported(towers, folder, pixels, captions)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        build.towers(towers, pathlib.Path(work), quantise=False)
        f32_says = exported(towers, pathlib.Path(work), pixels, captions)
    rows, good = [], True
    for what, a, b, c in zip(["image", "text"], torch_says, f32_says, int8_says):
        apart, cosine = float(np.abs(a - b).max()), float((a * b).sum(-1).min())
        rows.append((what, apart, cosine, float((a * c).sum(-1).min())))
        good &= apart <= MOST_APART and cosine >= LEAST_COSINE
    return rows, good


def layer_cosines(towers, what):
    """(layer, least cosine over its positions) of the int8 graph against the f32 one, first layer first."""
    said = []
    for quantise in (False, True):
        with tempfile.TemporaryDirectory() as work:
            build.towers(towers, pathlib.Path(work), quantise, taps=True)
            graph = session(pathlib.Path(work) / f"{what}.onnx")
            names = [output.name for output in graph.get_outputs() if output.name.startswith("layers.")]
            if what == "image":
                feed = {"pixels": pictures(towers.pixels["size"])[:1]}
            else:
                feed = {"input_ids": ids_of(towers, stand_ins.captions()[0])}
            said.append(graph.run(names, feed))
    return [(name, float((unit(a) * unit(b)).sum(-1).min())) for name, a, b in zip(names, *said)]


def teacher_forced(model, folder, prompt, words):
    """The exported language model's logits after each of `words` behind the prompt, [words, vocabulary]."""
    c = model.config
    graph = session(folder / "decoder.onnx")
    layers, heads, depth = (c.num_decoder_layers, c.num_heads, c.d_kv) if model.kind == "t5" else (
        c.n_layer, c.n_head, c.n_embd // c.n_head)  # fmt: skip
    past = np.zeros((1, 2 * layers, heads, 0, depth), np.float32)
    logits = []
    if model.kind == "t5":
        cross = session(folder / "encoder.onnx").run(["cross"], {"input_ids": prompt})[0]
        for at, word in enumerate(words):
            feed = {"ids": np.array([[word]]), "distances": np.arange(at, -1, -1), "past": past, "cross": cross}
            row, past = graph.run(["logits", "present"], feed)
            logits.append(row[0])
        return np.array(logits)
    steps = [prompt[0].tolist() + list(words[:1]), *([word] for word in words[1:])]
    for step in steps:
        t, s = past.shape[3], len(step)
        mask = np.triu(np.full((s, t + s), -1e9, np.float32), t + 1)
        feed = {"ids": np.array([step]), "positions": np.arange(t, t + s)[None], "mask": mask, "past": past}
        row, past = graph.run(["logits", "present"], feed)
        logits.append(row[0])
    return np.array(logits)


def compare_language_model(model, folder):
    """(f32's largest difference as a share of the logits' deviation, int8's least cosine, int8's share of equal first
    choices), and whether f32 meets its bar."""
    import torch

    ids = lambda caption: model.tokenizer.encode(caption).ids
    captions = stand_ins.captions()
    prompt = np.array([ids("Similar images show: " + ", ".join(captions[:900:100]) + ". This image shows:")], np.int64)
    begin = [model.config.decoder_start_token_id] if model.kind == "t5" else []
    words = (begin + ids(captions[1000]))[:12]
    with torch.no_grad():
        if model.kind == "t5":
            original = model.model(input_ids=torch.from_numpy(prompt), decoder_input_ids=torch.tensor([words])).logits[0]
        else:
            whole = torch.tensor([prompt[0].tolist() + words])
            original = model.model(input_ids=whole).logits[0, prompt.shape[1] :]
    original = original.numpy()[:, : model.tokenizer.get_vocab_size()]
    int8 = teacher_forced(model, folder, prompt, words)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        build.language_model(model, pathlib.Path(work), quantise=False)
        f32 = teacher_forced(model, pathlib.Path(work), prompt, words)
    apart = float(np.abs(f32 - original).max() / original.std())
    cosine = float((unit(int8) * unit(original)).sum(-1).min())
    same = float((int8.argmax(-1) == original.argmax(-1)).mean())
    return (apart, cosine, same), apart <= 1e-3
