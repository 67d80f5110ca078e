"""Captions as the decoder writes them, and its tokenizer.

A caption is words with single spaces: no punctuation (it isn't spoken and no metric sees it), lower
case but for names ("German shepherd", "TV"). captiond makes the first letter a capital.
"""

import collections
import re

WORD = re.compile(r"[A-Za-z0-9]+(?:['’.-][A-Za-z0-9]+)*")
# Longer ones are stories; the decoder shall be heard in one breath.
MOST_WORDS = 15
FEWEST_WORDS = 3
PAD, BEGIN, END = 0, 1, 2
SPECIAL = ["<pad>", "<s>", "</s>"]
# A capital in the middle of the sentence has to be this usual to be the word's own form.
NAME_SHARE = 0.7
SIDED = re.compile(r"\b(left|right)\b", re.IGNORECASE)


def words(caption):
    """The caption's words, as written."""
    return WORD.findall(caption.replace("’", "'"))


def tokens(caption):
    """Lower-case words, for CIDEr-D in training."""
    return [word.lower() for word in words(caption)]


def read(tokenizer, ids):
    """The caption that token ids say."""
    return tokenizer.decode([i for i in ids if i not in (PAD, BEGIN, END)])


def names(captions):
    """{lower-case word: its form} for words that are mostly written with a capital within a sentence."""
    forms = collections.defaultdict(collections.Counter)
    for caption in captions:
        parts = words(caption)
        if sum(p[0].isupper() for p in parts) > len(parts) / 2:
            continue  # a headline says nothing about its words
        for part in parts[1:]:
            forms[part.lower()][part] += 1
    result = {}
    for lower, counts in forms.items():
        form, count = counts.most_common(1)[0]
        if form != lower and count >= 3 and count >= NAME_SHARE * sum(counts.values()):
            result[lower] = form
    return result


def clean(caption, forms):
    """The caption in the decoder's form, or None when it is too short or too long."""
    parts = [forms.get(part.lower(), part.lower()) for part in words(caption)]
    if not FEWEST_WORDS <= len(parts) <= MOST_WORDS:
        return None
    return " ".join(parts)


def train_tokenizer(captions, size):
    """Byte-pair encoding of `size` pieces; every word starts with a marker, so decoding is exact."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    alphabet = sorted({letter for caption in captions for letter in caption if letter != " "})
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False, min_frequency=2
    )
    tokenizer.train_from_iterator(captions, trainer)
    return tokenizer
