"""Loads models in transformers' form: from the hub, from a folder, or made of random numbers."""

import json
import pathlib
import sys

from . import configurations, licences, stand_ins, vocabulary
from .parts import LanguageModel, Origin, Towers, arrays

# What is fetched of a repository; other weights of the same model (TensorFlow, Flax, ONNX) are left there.
PATTERNS = ["*.json", "*.txt", "*.model", "*.safetensors", "pytorch_model*.bin"]
INTERPOLATIONS = {1: "lanczos", 2: "bilinear", 3: "bicubic"}


def fetch(name, revision):
    """(folder, revision, licence tag) of a hub repository: a full commit hash whatever was asked for."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    try:
        about = huggingface_hub.model_info(name, revision=revision)
        folder = huggingface_hub.snapshot_download(name, revision=about.sha, allow_patterns=PATTERNS)
    except (HfHubHTTPError, OSError) as error:
        sys.exit(f"{name}: not fetched from the hub: {error}\nGive a folder with its files, or --random-init to try "
                 "the way without the weights")  # fmt: skip
    tag = getattr(about.card_data, "license", None) if about.card_data else None
    return pathlib.Path(folder), about.sha, tag


def folder_licence(folder):
    """The licence that the front matter of a folder's README states."""
    readme = folder / "README.md"
    lines = readme.read_text(encoding="utf-8", errors="replace").splitlines() if readme.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines[:60] if line.startswith("license:")), None)


def locate(name, revision, licence):
    """(folder, Origin) of a local folder or a hub repository. `licence` replaces what is found."""
    folder = pathlib.Path(name)
    if folder.is_dir():
        tag, at = folder_licence(folder), "local folder"
        name = folder.resolve().name
    else:
        folder, sha, tag = fetch(name, revision)
        at = f"revision {sha}"
    found = licences.spdx(tag)
    if found == "LicenseRef-unknown":
        found = configurations.known_licence(name) or found
    return folder, Origin(name, at, licence or found)


def read_weights(folder):
    """All weights of a folder as f32 arrays, by the names in its files."""
    import torch

    files = sorted(folder.glob("*.safetensors"))
    if files:
        from safetensors.torch import load_file as load
    else:
        files = sorted(folder.glob("pytorch_model*.bin"))
        load = lambda path: torch.load(path, map_location="cpu", weights_only=True)
    if not files:
        sys.exit(f"{folder}: no *.safetensors and no pytorch_model.bin in it")
    state = {}
    for file in files:
        state.update(arrays(load(file)))
    return state


def pixels_of(folder, side):
    """pack.toml's keys for a preprocessor_config.json."""
    file = folder / "preprocessor_config.json"
    if not file.is_file():
        sys.exit(f"{folder}: no preprocessor_config.json in it; it says how pictures were brought to size in training")
    spec = json.loads(file.read_text(encoding="utf-8"))
    size = spec.get("size", side)
    crop = spec.get("crop_size", side)
    pixels = {"size": [side, side]}
    edge = size if isinstance(size, int) else size.get("shortest_edge")
    if spec.get("do_center_crop") and edge:
        cut = crop if isinstance(crop, int) else crop["height"]
        if cut != side:
            sys.exit(f"{file}: crop_size: found {cut}, expected the tower's {side}")
        pixels |= {"resize": "shortest-edge", "shortest_edge": edge}
    elif isinstance(size, dict) and size.get("height") == size.get("width") == side:
        pixels |= {"resize": "stretch"}
    else:
        sys.exit(f"{file}: size {size}, crop {crop}: neither a crop of {side} nor a stretch to it")
    resample = spec.get("resample", 3)
    if resample not in INTERPOLATIONS:
        sys.exit(f"{file}: resample: found {resample}, expected one of {INTERPOLATIONS}")
    return pixels | {"interpolation": INTERPOLATIONS[resample], "mean": spec["image_mean"], "std": spec["image_std"]}


def tokenizer_of(folder, kind):
    """(tokenizer, where it comes from) of a folder. SigLIP's is made from its pieces where they are there, since
    its clean-up (lower case, no punctuation) is code of transformers, not part of every tokenizer.json."""
    from tokenizers import Tokenizer

    whole, spiece = folder / "tokenizer.json", folder / "spiece.model"
    if kind == "siglip" and spiece.is_file():
        return vocabulary.siglip_unigram(spiece.read_bytes()), "its spiece.model"
    if whole.is_file():
        made = Tokenizer.from_file(str(whole))
        made.no_padding()
        made.no_truncation()
        return made, "its tokenizer.json"
    if kind == "t5" and spiece.is_file():
        return vocabulary.t5_unigram(spiece.read_bytes()), "its spiece.model"
    pieces, merges = folder / "vocab.json", folder / "merges.txt"
    if kind == "gpt2" and pieces.is_file() and merges.is_file():
        lines = merges.read_text(encoding="utf-8").split("\n")
        pairs = [tuple(line.split()) for line in lines if line.strip() and not line.startswith("#version")]
        return vocabulary.byte_bpe(json.loads(pieces.read_text(encoding="utf-8")), pairs), "its vocab.json and merges.txt"
    if kind == "clip":
        return vocabulary.clip_bpe(), "the open_clip_torch wheel's byte pairs"
    sys.exit(f"{folder}: no tokenizer.json in it, nor what one could be made from")


def classes(kind):
    """transformers' configuration and model of a kind."""
    import transformers as t

    return {
        "clip": (t.CLIPConfig, t.CLIPModel),
        "siglip": (t.SiglipConfig, t.SiglipModel),
        "t5": (t.T5Config, t.T5ForConditionalGeneration),
        "gpt2": (t.GPT2Config, t.GPT2LMHeadModel),
    }[kind]


def kind_of(folder, known):
    """The kind of a folder's model; `known`: those that may stand there."""
    file = folder / "config.json"
    if not file.is_file():
        sys.exit(f"{folder}: no config.json in it")
    kind = json.loads(file.read_text(encoding="utf-8")).get("model_type")
    if kind not in known:
        sys.exit(f"{file}: model_type: found {kind!r}, expected one of {', '.join(known)}")
    return kind


def load(name, revision, licence, known):
    """(kind, Origin, config, model, state, folder) of a hub name or a folder."""
    folder, origin = locate(name, revision, licence)
    kind = kind_of(folder, known)
    config_class, model_class = classes(kind)
    config = config_class.from_pretrained(folder)
    model = model_class.from_pretrained(folder, dtype="float32").eval()
    return kind, origin, config, model, read_weights(folder), folder


def towers(name, revision=None, licence=None):
    """Towers from the hub or a folder."""
    kind, origin, config, model, state, folder = load(name, revision, licence, ["clip", "siglip"])
    pixels = pixels_of(folder, config.vision_config.image_size)
    tokenizer, tokenizer_origin = tokenizer_of(folder, kind)
    return Towers(kind, origin, model, config, state, pixels, tokenizer, tokenizer_origin)


def language_model(name, revision=None, licence=None):
    """A language model from the hub or a folder."""
    kind, origin, config, model, state, folder = load(name, revision, licence, ["t5", "gpt2"])
    tokenizer, tokenizer_origin = tokenizer_of(folder, kind)
    return LanguageModel(kind, origin, model, config, state, tokenizer, tokenizer_origin)


def randomly(table, name, seed):
    """(kind, Origin, config, model) of random numbers in a published shape."""
    import torch

    if name not in table:
        sys.exit(f"{name}: --random-init knows the shapes of {', '.join(table)}, and of every open_clip name")
    entry = table[name]
    config_class, model_class = classes(entry["kind"])
    config = config_class(**entry["config"])
    torch.manual_seed(seed)
    model = model_class(config).eval()
    # Nothing but numbers of a generator: nobody's work, whatever the name's own licence.
    return entry["kind"], Origin(f"random numbers in the shape of {name}", f"seed {seed}", "CC0-1.0"), config, model


def random_towers(name, seed=0):
    """Towers of random numbers; CLIP's tokenizer is the real one, SigLIP's a stand-in."""
    kind, origin, config, model = randomly(configurations.TOWERS, name, seed)
    if kind == "clip":
        tokenizer, tokenizer_origin = vocabulary.clip_bpe(), "the open_clip_torch wheel's byte pairs"
    else:
        tokenizer, tokenizer_origin = stand_ins.siglip(), "a stand-in learnt from models/grammar/captions.txt"
    return Towers(kind, origin, model, config, arrays(model.state_dict()), configurations.TOWERS[name]["pixels"],
                  tokenizer, tokenizer_origin)  # fmt: skip


def random_language_model(name, seed=0):
    """A language model of random numbers with a stand-in for its tokenizer."""
    import torch

    kind, origin, config, model = randomly(configurations.LANGUAGE_MODELS, name, seed)
    if kind == "t5":
        # transformers ties what FLAN-T5 has apart.
        torch.manual_seed(seed + 1)
        shared = model.shared.weight
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(shared) * config.d_model**-0.5)
    tokenizer = stand_ins.t5() if kind == "t5" else stand_ins.gpt2()
    # A causal model's caption stands behind its prompt, which is long. With 0.4 21 of 50 ended, with 0.6 36.
    let_sentences_end(model, kind, *((range(10, 20), 0.4) if kind == "t5" else (range(25, 200), 0.6)))
    return LanguageModel(kind, origin, model, config, arrays(model.state_dict()), tokenizer,
                         "a stand-in learnt from models/grammar/captions.txt")  # fmt: skip


def let_sentences_end(model, kind, places, share, vocabulary=1000):
    """Turns the end's output row towards what the model thinks at these places of a text. Random numbers hardly ever choose
    one id out of thousands, so that without this no caption would come to its end. `share` of the places would end there, if
    nothing else were changed by it."""
    import torch

    end = model.config.eos_token_id
    generator = torch.Generator().manual_seed(1)
    words = torch.randint(3, vocabulary, (16, places.stop), generator=generator)
    words[:, 0] = getattr(model.config, "decoder_start_token_id", None) or 0
    with torch.no_grad():
        if kind == "t5":
            seen = model(input_ids=words[:, 1:], decoder_input_ids=words, output_hidden_states=True)
            hidden = seen.decoder_hidden_states[-1]
        else:
            seen = model(input_ids=words, output_hidden_states=True)
            hidden = seen.hidden_states[-1]
        late = hidden[:, places.start:].reshape(-1, hidden.shape[-1])
        mean = late.mean(0)
        short = (seen.logits.max(-1).values - seen.logits[..., end])[:, places.start:].quantile(share)
        head = model.get_output_embeddings().weight
        head[end] += mean * (short / mean.dot(mean)).item()


