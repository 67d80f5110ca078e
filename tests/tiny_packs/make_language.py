"""Makes the tiny packs with language models: tests/tiny_packs/t5 and tests/tiny_packs/gpt2.

    pip install --no-deps --require-hashes -r models/requirements.txt -r models/export/requirements.txt
    python3 tests/tiny_packs/make_language.py

They are exported by models/export's own code from random weights of tiny shapes, with int8 weights, and
`reference.json` has what PyTorch's originals (transformers, open_clip's and sentencepiece's tokenizers) say:
embeddings, tokens, and generated captions. The weights are rounded to their int8 steps first, so that the
originals and the graphs compute with the same numbers.

    t5     CLIP's towers with its byte pairs, and FLAN-T5: encoder, decoder, two attentions
    gpt2   SigLIP's towers with its pieces, and GPT-2: one text of prompt and words
"""

import gzip
import json
import pathlib
import sys
import tempfile

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "models")]
import make
import pack_manifest
from export import build, check, manifest, stand_ins, vocabulary
from export.configurations import CLIP_PIXELS, SIGLIP_PIXELS
from export.generation import Rules, generate
from export.parts import LanguageModel, Origin, Towers, arrays
from export.published import let_sentences_end
from towers.graph import quantise_symmetric

TEXTS = [
    "A brown dog runs over the green grass.",
    "  two   children,  on a SLIDE ",
    "a woman's red umbrella isn't open; it's 12:30!",
    "caf\u00e9 na\u00efve e\u0301te\u0301 \u0391\u0394\u0395\u039b\u03a6\u039f\u03a3 \u0441\u043e\u0431\u0430\u043a\u0430",
    "\u72ac\u304c\u8349\u306e\u4e0a\u3092\u8d70\u308b",
    "\U0001f415\u200d\U0001f9ba on a \U0001f6f9 \U0001f44d\U0001f3fd",
    "\u201ccurly\u201d \u2018quotes\u2019 & a \ufb01sh \uff41\uff42\uff43 &amp; &lt;b&gt;",
    "",
    "a tab\tand a\nline",
    "<end_of_text> </s> <|endoftext|>",
    "a small dog and a big cat and " * 12 + "a bird",
]
PICTURES = ["wide.png", "tall.png"]
CLAUSES = ["a dog on the grass", "two people on a beach.", "a red bus in a street", "a child with a ball", "snow"]


def rounded(model):
    """Weights on the int8 grid that the export would choose anyway."""
    with torch.no_grad():
        for place, module in model.named_modules():
            if place.endswith(("position_embedding", "relative_attention_bias", "wpe")):
                continue  # the export keeps places and T5's biases in f32
            for name, weight in module.named_parameters(recurse=False):
                if weight.dim() < 2 or name in ("class_embedding", "probe"):
                    continue
                axis = 1 if type(module).__name__ == "Conv1D" else 0
                # Twice: the second search may find another clipping ratio better than the first.
                for _ in range(2):
                    codes, scale = quantise_symmetric(weight.numpy(), axis)
                    shape = [-1 if at == axis else 1 for at in range(weight.dim())]
                    weight.copy_(torch.from_numpy(codes.astype(np.float32) * scale.reshape(shape)))
    return model.eval()


def tiny_clip_bpe():
    """CLIP's tokenizer on a few merges of our captions, and the file of those merges."""
    made = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True, trim_offsets=True)
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=240, end_of_word_suffix="</w>", show_progress=False)
    made.train_from_iterator(stand_ins.captions()[::7], trainer)
    merges = [" ".join(pair) for pair in json.loads(made.to_str())["model"]["merges"]]
    file = tempfile.NamedTemporaryFile(suffix=".txt.gz", delete=False)
    file.write(gzip.compress("\n".join(["# merges", *merges]).encode()))
    file.close()
    return file.name


def tiny_unigram(learnt, canonical):
    """T5's form without the table of its normaliser, which alone has a quarter of a megabyte."""
    pieces, _ = vocabulary.read_spiece(stand_ins.spiece(learnt))
    return vocabulary.unigram(pieces, b"", canonical=canonical)


def tiny_bytes(learnt):
    pieces, merges = stand_ins.learnt_byte_pairs(learnt)
    return vocabulary.byte_bpe({**pieces, "<|endoftext|>": len(pieces)}, merges)


def shape(width, layers, **more):
    return {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers, "num_attention_heads": 2, **more}


def random_model(config_class, model_class, seed, **config):
    torch.manual_seed(seed)
    model = model_class(config_class(**config))
    # Larger than at the start of training, so that layers matter.
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 1:
                weight.add_(0.1 * torch.randn_like(weight))
            elif weight.dim() > 1:
                weight.copy_(torch.randn_like(weight) / np.sqrt(weight.shape[-1]))
    return model


def clip_towers():
    merges = tiny_clip_bpe()
    tokenizer = vocabulary.clip_bpe(merges)
    model = rounded(random_model(
        transformers.CLIPConfig, transformers.CLIPModel, 11, projection_dim=24,
        vision_config=shape(32, 2, image_size=32, patch_size=8, hidden_act="quick_gelu"),
        text_config=shape(32, 2, vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=24,
                          hidden_act="quick_gelu", eos_token_id=tokenizer.token_to_id("<end_of_text>"),
                          bos_token_id=0, pad_token_id=0),
    ))  # fmt: skip
    import open_clip

    original = open_clip.SimpleTokenizer(merges, context_length=24)
    tokens = {text: [t for t in original(text)[0].tolist() if t] for text in TEXTS}
    pixels = CLIP_PIXELS | {"size": [32, 32], "shortest_edge": 32}
    towers = Towers("clip", Origin("random numbers in CLIP's shape", "seed 11", "CC0-1.0"), model, model.config,
                    arrays(model.state_dict()), pixels, tokenizer, "a stand-in learnt from models/grammar/captions.txt")  # fmt: skip
    return towers, tokens


def siglip_towers():
    tokenizer = tiny_unigram(160, True)
    end = tokenizer.token_to_id("</s>")
    model = rounded(random_model(
        transformers.SiglipConfig, transformers.SiglipModel, 12,
        vision_config=shape(32, 2, image_size=32, patch_size=8, hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6),
        text_config=shape(32, 2, vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=16, projection_size=32,
                          hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6, bos_token_id=end, eos_token_id=end,
                          pad_token_id=end),
    ))  # fmt: skip
    pixels = SIGLIP_PIXELS | {"size": [32, 32]}
    towers = Towers("siglip", Origin("random numbers in SigLIP's shape", "seed 12", "CC0-1.0"), model, model.config,
                    arrays(model.state_dict()), pixels, tokenizer, "a stand-in learnt from models/grammar/captions.txt")  # fmt: skip
    return towers, {text: tokenizer.encode(text).ids for text in TEXTS}


def language_model(kind):
    if kind == "t5":
        tokenizer = tiny_unigram(200, False)
        model = random_model(
            transformers.T5Config, transformers.T5ForConditionalGeneration, 13, vocab_size=tokenizer.get_vocab_size() + 4,
            d_model=32, d_kv=12, d_ff=40, num_layers=2, num_decoder_layers=2, num_heads=2, feed_forward_proj="gated-gelu",
            tie_word_embeddings=False, decoder_start_token_id=0, eos_token_id=1, pad_token_id=0,
        )  # fmt: skip
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.shared.weight) / 8)
    else:
        tokenizer = tiny_bytes(330)
        end = tokenizer.token_to_id("<|endoftext|>")
        model = random_model(
            transformers.GPT2Config, transformers.GPT2LMHeadModel, 14, vocab_size=tokenizer.get_vocab_size(), n_embd=32,
            n_layer=3, n_head=2, n_positions=160, bos_token_id=end, eos_token_id=end,
        )  # fmt: skip
    let_sentences_end(model.eval(), kind, vocabulary=tokenizer.get_vocab_size())
    model = rounded(model)
    origin = Origin(f"random numbers in {kind}'s shape", "seed", "CC0-1.0")
    return LanguageModel(kind, origin, model, model.config, arrays(model.state_dict()), tokenizer,
                         "a stand-in learnt from models/grammar/captions.txt")  # fmt: skip


def embeddings(towers, spec, folder):
    """PyTorch's embeddings of Pillow's resized pictures and of captions."""
    pictures = {name: picture for name, picture in make.pictures() if name in PICTURES}
    resized = {f"resized_{name}": make.resize(picture, spec) for name, picture in pictures.items()}
    for name, picture in resized.items():
        picture.save(folder / name, optimize=True)
    pixels = np.concatenate([make.normalise(picture, spec) for picture in resized.values()])
    captions = TEXTS[:7] + TEXTS[-1:]
    image, text = check.originals(towers, pixels, captions)
    numbers = lambda rows: [[round(float(v), 7) for v in row] for row in rows]
    return {"images": dict(zip(resized, numbers(image))), "captions": dict(zip(captions, numbers(text)))}


def write(name, towers, tokens, model):
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    build.towers(towers, folder)
    build.language_model(model, folder)
    towers.tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    model.tokenizer.save(str(folder / "decoder_tokenizer.json"), pretty=False)
    dimension = 24 if towers.kind == "clip" else 32
    manifest.write(folder, f"tiny-{name}", towers, dimension, model, retrieved=4)
    text = (folder / "pack.toml").read_text(encoding="utf-8")
    spec = manifest.read(text)
    rules = Rules.of(spec, no_repeat=3 if model.kind == "t5" else 0)
    generated = []
    for first in range(5):
        retrieved = [CLAUSES[(first + at) % 5] for at in range(first + 1)]
        prompt = manifest.prompt_tokens(spec, model.tokenizer, retrieved)
        for method in ("greedy", "beam"):
            ids, log_probability, ended = generate(model, prompt, method, rules)
            generated.append({"retrieved": retrieved, "method": method, "tokens": ids, "log_probability": log_probability,
                              "ended": ended, "no_repeat": rules.no_repeat})  # fmt: skip
    reference = embeddings(towers, spec["image_tower"], folder) | {
        "tokens": tokens, "generated": generated,
        "decoder_tokens": {text: model.tokenizer.encode(text).ids for text in TEXTS},
    }  # fmt: skip
    (folder / "reference.json").write_text(json.dumps(reference, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for method in ("greedy", "beam"):
        ends = [g["ended"] for g in generated if g["method"] == method]
        print(name, method, f"{sum(ends)} of {len(ends)} captions came to their end")


if __name__ == "__main__":
    write("t5", *clip_towers(), language_model("t5"))
    write("gpt2", *siglip_towers(), language_model("gpt2"))
