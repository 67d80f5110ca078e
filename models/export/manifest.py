"""pack.toml of an exported pack."""

import json

import pack_manifest

from . import open_clip_towers

HEAD = """\
# Made by models/export.py; the format is in docs/model-packs.md.
format = 1
name = {name}
version = "0.1.0"
description = {description}
common_space = true
"""
# Not chosen on any data: docs/your-own-model.md says how.
CAPTION = """[caption]
candidates = 50
neighbours = 13
# Not 2.5 as in CLIP-S: that calls most realigned cosines certain.
clip_s_weight = 1.0
"""
GENERATION = """[generation]
method = "beam"
candidates = 3
score_weight = 1.0
deadline_ms = 10000
"""
PROMPT = """[prompt]
template = "Similar images show: {captions}. This image shows:"
separator = ", "
"""
# Tokens of a caption, its end included.
MOST_TOKENS = 32
# Tokens of a prompt. T5 was trained with so many.
PROMPT_TOKENS = 512


def quoted(value):
    """A value in TOML, which JSON's strings, numbers and lists are."""
    return json.dumps(value, ensure_ascii=False)


def section(name, values):
    return f"[{name}]\n" + "".join(f"{key} = {quoted(value)}\n" for key, value in values.items() if value is not None)


def image_tower(towers, dimension):
    return section("image_tower", {
        "file": "image.onnx", "input": "pixels", "output": "embedding", "pooling": "none", "dimension": dimension,
        **towers.pixels,
    })  # fmt: skip


def text_tower(towers, dimension):
    values = {"file": "text.onnx", "tokenizer": "tokenizer.json", "input": "input_ids"}
    if towers.kind == "clip":
        end = towers.tokenizer.encode("").ids[-1]
        values |= {"output": "hidden", "pooling": "end-of-text", "dimension": dimension,
                   "max_length": towers.config.text_config.max_position_embeddings, "end_of_text_id": end}  # fmt: skip
    elif towers.kind == "siglip":
        values |= {"output": "embedding", "pooling": "none", "dimension": dimension,
                   "max_length": towers.config.text_config.max_position_embeddings,
                   "pad_id": towers.tokenizer.token_to_id("</s>")}  # fmt: skip
    else:
        values |= {"output": "embedding", "pooling": "none", "dimension": dimension,
                   "max_length": open_clip_towers.context(towers), "pad_id": open_clip_towers.pad_id(towers)}  # fmt: skip
    return section("text_tower", values)


def decoder(model, retrieved):
    """[decoder] of a language model."""
    c = model.config
    ids = model.tokenizer.get_vocab(with_added_tokens=True)
    values = {"kind": "encoder-decoder" if model.kind == "t5" else "causal", "file": "decoder.onnx"}
    if model.kind == "t5":
        values["encoder"] = "encoder.onnx"
    values |= {"tokenizer": "decoder_tokenizer.json", "retrieved": retrieved}
    if model.kind == "t5":
        # Sentinels, unknown pieces and the slots of a stand-in are no words.
        no_words = [at for piece, at in ids.items() if piece in ("<pad>", "<unk>") or piece.startswith("<extra_id_")]
        values |= {
            "prompt_tokens": PROMPT_TOKENS, "layers": c.num_decoder_layers, "heads": c.num_heads,
            "head_dimension": c.d_kv, "begin_id": c.decoder_start_token_id, "end_id": c.eos_token_id,
            "never_ids": sorted(no_words),
        }  # fmt: skip
    else:
        # A language model goes on for ever: a caption ends with its sentence.
        ends = [ids[piece] for piece in (".", "Ċ") if piece in ids]
        values |= {
            "prompt_tokens": min(PROMPT_TOKENS, c.n_positions - MOST_TOKENS), "layers": c.n_layer, "heads": c.n_head,
            "head_dimension": c.n_embd // c.n_head, "begin_id": c.bos_token_id, "end_id": c.eos_token_id,
            "end_ids": ends,
        }  # fmt: skip
    return section("decoder", values | {"max_tokens": MOST_TOKENS, "capitalise": True})


def write(folder, name, towers, dimension, model=None, retrieved=13):
    """Writes pack.toml for the files that lie in the folder."""
    description = f"{towers.origin.name} with {model.origin.name if model else 'no language model'}"
    text = HEAD.format(name=quoted(name), description=quoted(description))
    parts = [image_tower(towers, dimension), text_tower(towers, dimension), CAPTION]
    if model:
        parts += [PROMPT, decoder(model, retrieved), GENERATION]
    text = "\n".join([text, *parts])
    exported = ", exported by models/export.py"
    entries = {
        "image.onnx": (towers.origin.sentence() + exported, towers.origin.licence),
        "text.onnx": (towers.origin.sentence() + exported, towers.origin.licence),
        "tokenizer.json": (f"{towers.origin.name}: {towers.tokenizer_origin}", tokenizer_licence(towers)),
    }
    if model:
        graphs = ["decoder.onnx"] + (["encoder.onnx"] if model.kind == "t5" else [])
        entries |= {graph: (model.origin.sentence() + exported, model.origin.licence) for graph in graphs}
        origin = f"{model.origin.name}: {model.tokenizer_origin}"
        entries["decoder_tokenizer.json"] = (origin, tokenizer_licence(model))
    for file, (provenance, licence) in entries.items():
        text = pack_manifest.put_file(text, folder, file, provenance, licence)
    (folder / "pack.toml").write_text(text, encoding="utf-8")


def tokenizer_licence(part):
    """Of byte pairs from the wheel: the wheel's. Of a stand-in: the project's own."""
    if "wheel" in part.tokenizer_origin:
        return "MIT"
    return "Apache-2.0" if "stand-in" in part.tokenizer_origin else part.origin.licence


def read(text):
    """pack.toml, parsed."""
    import tomllib

    return tomllib.loads(text)


def prompt_tokens(spec, tokenizer, retrieved):
    """The prompt's ids for retrieved captions, as docs/model-packs.md says: full stops go, and what does not fit is
    left out from the last caption on."""
    before, after = spec["prompt"]["template"].split("{captions}")
    captions = [caption.strip().rstrip(".").rstrip() for caption in retrieved[: spec["decoder"]["retrieved"]]]
    for count in range(len(captions), -1, -1):
        text = before + spec["prompt"].get("separator", ", ").join(captions[:count]) + after
        ids = tokenizer.encode(text).ids
        if len(ids) <= spec["decoder"]["prompt_tokens"]:
            return ids
    raise ValueError("the prompt's template alone has more tokens than decoder.prompt_tokens")
