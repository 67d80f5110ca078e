"""Tokenizers as tokenizer.json, equal to those that the models were trained with.

CLIP's byte pairs come from the open_clip wheel, T5's and SigLIP's pieces from spiece.model, GPT-2's from its
vocab.json and merges.txt; a tokenizer.json that lies beside the weights is taken as it is.
"""

import gzip
import struct

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

# What ftfy.fix_text does to every text, mojibake and rare HTML entities aside (models/export_parity.py counts
# what that leaves): entities, ligatures, curly quotes, full width forms, control characters.
ENTITIES = {"&lt;": "<", "&gt;": ">", "&quot;": '"', "&#39;": "'", "&apos;": "'", "&nbsp;": " ", "&amp;": "&",
            "&LT;": "<", "&GT;": ">", "&QUOT;": '"', "&AMP;": "&", "&Lt;": "\u226a", "&Gt;": "\u226b"}  # fmt: skip
LIGATURES = {"Ĳ": "IJ", "ĳ": "ij", "ŉ": "ʼn", "Ǳ": "DZ", "ǲ": "Dz", "ǳ": "dz", "Ǆ": "DŽ", "ǅ": "Dž", "ǆ": "dž",
             "Ǉ": "LJ", "ǈ": "Lj", "ǉ": "lj", "Ǌ": "NJ", "ǋ": "Nj", "ǌ": "nj", "ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl",
             "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "ſt", "ﬆ": "st"}  # fmt: skip
QUOTES = {"[\u2018-\u201b\u02bc]": "'", "[\u201c-\u201f]": '"'}
CONTROLS = "[\u0000-\u0008\u000b\u000e-\u001f\u007f\u206a-\u206f\ufeff\ufff9-\ufffc]"


def cleaning():
    """Normalisers for open_clip's clean-up ("lower") up to mojibake: entities twice, as html.unescape is."""
    steps = [normalizers.Replace(entity, text) for entity, text in ENTITIES.items()] * 2
    steps += [normalizers.Replace(ligature, text) for ligature, text in LIGATURES.items()]
    # Full width forms of ASCII, and the wide space.
    steps += [normalizers.Replace(chr(0xFEE0 + code), chr(code)) for code in range(0x21, 0x7F)]
    steps.append(normalizers.Replace("\u3000", " "))
    steps += [normalizers.Replace(Regex(many), one) for many, one in QUOTES.items()]
    steps.append(normalizers.Replace(Regex(CONTROLS), ""))
    steps.append(normalizers.NFC())
    steps.append(normalizers.Replace(Regex(r"\s+"), " "))
    steps.append(normalizers.Strip())
    # Python's lower() knows the sigma that ends a Greek word; a letter-by-letter one does not.
    steps.append(normalizers.Replace(Regex(r"(?<=\p{L})\u03a3(?!\p{L})"), "\u03c2"))
    steps.append(normalizers.Lowercase())
    return normalizers.Sequence(steps)


def byte_letters():
    """GPT-2's letter for each byte, in the order of CLIP's vocabulary: printable bytes first."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + at) for at in range(len(others))]


def clip_bpe(merges_file=None):
    """CLIP's tokenizer from its merges (.txt.gz), by default the open_clip wheel's."""
    if merges_file is None:
        from open_clip import tokenizer as wheel

        merges_file = wheel.default_bpe()
    lines = gzip.open(merges_file, "rt", encoding="utf-8").read().split("\n")
    # The file goes on behind the merges that CLIP uses.
    merges = [tuple(line.split()) for line in lines[1 : 49152 - 256 - 2 + 1] if line.strip()]
    pieces = byte_letters()
    pieces += [piece + "</w>" for piece in pieces] + ["".join(pair) for pair in merges]
    begin, end = "<start_of_text>", "<end_of_text>"
    vocabulary = {piece: at for at, piece in enumerate([*pieces, begin, end])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix="</w>", unk_token=end))
    made.normalizer = cleaning()
    words = Regex(r"<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace("</w>", " "), decoders.Strip(" ", 0, 1)])
    made.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}", special_tokens=[(begin, vocabulary[begin]), (end, vocabulary[end])]
    )
    made.add_special_tokens([begin, end])
    return made


def fields(message):
    """(number, value) of a protobuf message's fields; enough for sentencepiece's model files."""
    at = 0

    def whole():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = whole()
        kind = key & 7
        if kind == 0:
            value = whole()
        elif kind in (1, 2, 5):
            length = {1: 8, 5: 4}.get(kind) or whole()
            value = message[at : at + length]
            at += length
        else:
            raise ValueError("no sentencepiece model: unknown kind of field")
        yield key >> 3, value


def read_spiece(data):
    """(pieces with scores, normaliser's table) of a spiece.model."""
    pieces, table = [], b""
    for number, value in fields(data):
        if number == 1:
            piece = dict(fields(value))
            pieces.append((piece[1].decode("utf-8"), struct.unpack("<f", piece[2])[0] if 2 in piece else 0.0))
        elif number == 3:
            table = dict(fields(value)).get(2, b"")
    return pieces, table


def canonical_steps():
    """SigLIP's canonicalize_text: small letters; the punctuation of Python's string module goes."""
    return [
        normalizers.Lowercase(),
        normalizers.Replace(Regex(r"[!-/:-@\[-`{-~]"), ""),
        normalizers.Replace(Regex(r"\s+"), " "),
        normalizers.Strip(),
    ]


def canonical(normaliser):
    """The same before a tokenizer's own normaliser."""
    return normalizers.Sequence(canonical_steps() + ([normaliser] if normaliser is not None else []))


def unigram(pieces, table, more=(), canonical=False):
    """T5's tokenizer; SigLIP's with `canonical`: lower case, no ASCII punctuation.

    `more`: pieces behind the model's own. A caption ends with </s>.
    """
    pieces = [*pieces, *((piece, 0.0) for piece in more)]
    ids = {piece: at for at, (piece, _) in enumerate(pieces)}
    made = Tokenizer(models.Unigram(pieces, ids["<unk>"], False))
    steps = canonical_steps() if canonical else []
    if table:
        steps.append(normalizers.Precompiled(table))
    steps.append(normalizers.Replace(Regex(" {2,}"), " "))
    steps.append(normalizers.Strip())
    made.normalizer = normalizers.Sequence(steps)
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    made.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", ids["</s>"])])
    made.add_special_tokens([piece for piece in ("<pad>", "</s>", "<unk>") if piece in ids])
    return made


def t5_unigram(data):
    """T5's tokenizer from its spiece.model, with the hundred sentinels behind its pieces."""
    return unigram(*read_spiece(data), more=[f"<extra_id_{i}>" for i in range(99, -1, -1)])


def siglip_unigram(data):
    """SigLIP's tokenizer from its spiece.model."""
    return unigram(*read_spiece(data), canonical=True)


def byte_bpe(vocabulary, merges, end="<|endoftext|>"):
    """GPT-2's tokenizer."""
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.ByteLevel(trim_offsets=False)
    made.add_special_tokens([end])
    return made
