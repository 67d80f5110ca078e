"""Vocabularies of the published sizes for --random-init, learnt from the project's own captions.

No hub is needed, and nothing of the real vocabularies is in them but their form: sentencepiece with T5's settings,
byte pairs as GPT-2's. Slots that the captions do not fill are named <unused_N>.
"""

import functools
import io
import pathlib

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from . import vocabulary

CAPTIONS = pathlib.Path(__file__).resolve().parent.parent / "grammar" / "captions.txt"
# sentencepiece's trainer is quick with so many.
SENTENCES = 20_000


def captions():
    return CAPTIONS.read_text(encoding="utf-8").splitlines()[:SENTENCES]


@functools.cache
def spiece(learnt=2000):
    """A spiece.model with T5's special tokens and normaliser."""
    import sentencepiece

    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(captions()), model_writer=out, model_type="unigram", vocab_size=learnt,
        hard_vocab_limit=False, required_chars="".join(map(chr, range(0x21, 0x7F))), pad_id=0, eos_id=1, unk_id=2, bos_id=-1, pad_piece="<pad>",
        normalization_rule_name="nmt_nfkc", byte_fallback=False, minloglevel=2, num_threads=1,
    )  # fmt: skip
    return out.getvalue()


def unused(taken, size):
    return [f"<unused_{at}>" for at in range(taken, size)]


def t5(size=32100, learnt=2000):
    pieces, table = vocabulary.read_spiece(spiece(learnt))
    return vocabulary.unigram(pieces, table, unused(len(pieces), size))


def siglip(size=32000, learnt=2000):
    pieces, table = vocabulary.read_spiece(spiece(learnt))
    return vocabulary.unigram(pieces, table, unused(len(pieces), size), canonical=True)


@functools.cache
def learnt_byte_pairs(learnt):
    """(vocabulary, merges) of byte pairs."""
    import json

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=learnt, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(captions(), trainer)
    state = json.loads(made.to_str())["model"]
    return state["vocab"], [tuple(pair) for pair in state["merges"]]


def gpt2(size=50257, learnt=2000):
    pieces, merges = learnt_byte_pairs(learnt)
    pieces = dict(pieces)
    for name in unused(len(pieces), size - 1):
        pieces[name] = len(pieces)
    pieces["<|endoftext|>"] = len(pieces)
    return vocabulary.byte_bpe(pieces, merges)
