"""Tokenizers trained here, as `tokenizer.json` and in SentencePiece's own format."""

import json
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

SIZE = 700
CORPUS = [
    "The quick brown fox jumps over the lazy dog. It's said that they've seen it, I'LL bet.",
    "def main(argv: list[str]) -> int:\n    for i in range(10):\n        print(f'{i:>3}')\n",
    "Numbers such as 1, 22, 333, 4444, 55555 and 3.14159 stand in this text; 2024-11-30.",
    "Die Würde des Menschen ist unantastbar. Façade, naïve, übermäßig, cœur, señor, año.",
    "Съешь же ещё этих мягких французских булок да выпей чаю. Привет, мир!",
    "こんにちは世界。我们都是人类。中文 文本 和 空格。한국어 텍스트입니다.",
    "Emoji 🚀 and 👩‍👩‍👧 families, ✅ marks, tabs\tand  double   spaces\r\nand lines\n\n\nend.",
    '    indented\n\t\ttwice\n  {"key": [1, 2, {"deep": null}]}  // comment !!! ??? ...',
]
TEXTS = [
    *CORPUS,
    "",
    " ",
    "   ",
    "\n",
    " \n \n\n \t x",
    "a",
    " a",
    "a ",
    "don't DON'T we'll WE'LL o'clock 'tis",
    "1234567890 12 345 6 ٣٤ ½ ²",
    'x=1;y+=2;z<<3;/*c*/#!$%^&*()_+{}|:"<>?~`',
    "http://example.com/a?b=c&d=%20#frag e@mail.org",
    "é vs é, Å vs Å",
    "ZeRo\u200bwidth\u00a0nbsp",
    "ß \u017f ŉ İ \u0131 ﬁ",
    "<|special|> and <unk> in a text",
    "word" * 30,
]
ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+ENDING|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*ENDING|"
)
PATTERNS = {
    "llama-bpe": rf"{ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{REST}",
    "qwen2": rf"{ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{REST}",
    "qwen35": (
        rf"{ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
        r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "tekken": CASED.replace("ENDING", "")
    + r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "gpt-4o": CASED.replace("ENDING", ENDINGS + "?")
    + r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
PATTERNS["dbrx"] = PATTERNS["llama-bpe"]
BYTE_LEVEL = ["gpt-2", "roberta-bpe", "smollm", *PATTERNS]
SPECIAL = ["<|begin|>", "<|end|>", "<|special|>"]


def byte_level(name: str) -> Tokenizer:
    """Byte-level BPE that cuts texts as llama.cpp's pre-tokenizer of this name does."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=name in {"llama-bpe", "tekken"}))
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=name not in PATTERNS)
    if name in PATTERNS:
        cut = pre_tokenizers.Split(Regex(PATTERNS[name]), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, plain])
    elif name == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, plain])
    else:
        tokenizer.pre_tokenizer = plain
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    begin, end = (tokenizer.token_to_id(one) for one in SPECIAL[:2])
    if name == "roberta-bpe":
        tokenizer.post_processor = processors.RobertaProcessing(
            ("<|end|>", end), ("<|begin|>", begin), add_prefix_space=False
        )
    elif name == "llama-bpe":
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|begin|> $A", pair="<|begin|> $A $B", special_tokens=[("<|begin|>", begin)]
        )
    if name.startswith("qwen"):
        tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def pieces() -> list[tuple[str, float]]:
    """SentencePiece's BPE: three special pieces, bytes, characters, and what they are joined to.

    The pieces are learnt by the trainer for BPE; their order is that of their scores.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trainer = trainers.BpeTrainer(vocab_size=300, show_progress=False)
    tokenizer.train_from_iterator([f" {line}" for line in CORPUS], trainer)
    vocabulary = tokenizer.get_vocab()
    learnt = sorted((one for one in vocabulary if len(one) > 1), key=vocabulary.__getitem__)
    letters = sorted({one for text in vocabulary for one in text})
    head = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    return [
        *((one, 0.0) for one in head),
        *((one, -float(rank)) for rank, one in enumerate(learnt)),
        *((one, -float(len(learnt) + rank)) for rank, one in enumerate(letters)),
    ]


def joined(found: list[tuple[str, float]], form: str) -> Tokenizer:
    """The tokenizer.json that the transformers library makes of such pieces.

    Args:
        found: See `pieces`.
        form: `llama` (a space is put before each text), `metaspace` (the same, newer) or `gemma`.
    """
    numbers = {text: number for number, (text, _) in enumerate(found)}
    merges = []
    for text, score in found:
        splits = [(text[:cut], text[cut:]) for cut in range(1, len(text))]
        known = [pair for pair in splits if pair[0] in numbers and pair[1] in numbers]
        known.sort(key=lambda pair: (numbers[pair[0]], numbers[pair[1]]))
        merges += [(score, pair) for pair in known]
    merges.sort(key=lambda merge: merge[0], reverse=True)
    model = models.BPE(
        numbers, [pair for _, pair in merges], unk_token="<unk>", fuse_unk=True, byte_fallback=True
    )
    tokenizer = Tokenizer(model)
    if form == "metaspace":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
    else:
        steps = [normalizers.Replace(" ", "▁")]
        if form == "llama":
            steps.insert(0, normalizers.Prepend("▁"))
        tokenizer.normalizer = normalizers.Sequence(steps)
    special = [AddedToken(one, special=True, normalized=False) for one in ("<unk>", "<s>", "</s>")]
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return tokenizer


def plain(texts: Iterable[str]) -> list[AddedToken]:
    """Tokens that are found in a text as they are."""
    return [AddedToken(text, normalized=False) for text in texts]


def trained_with_bytes() -> Tokenizer:
    """A tokenizer that falls back to bytes, and joins only the pairs that it was trained for."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    head = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=head, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def unigram() -> Tokenizer:
    """SentencePiece's Unigram as XLM-RoBERTa has it, with a table of characters left out."""
    tokenizer = Tokenizer(models.Unigram())
    spaces = pre_tokenizers.Metaspace("▁", prepend_scheme="always")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), spaces])
    trainer = trainers.UnigramTrainer(
        vocab_size=300,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def word_piece(*, lowercase: bool) -> Tokenizer:
    """BERT's tokenizer."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(
        vocab_size=SIZE, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    numbers = [(one, tokenizer.token_to_id(one)) for one in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=numbers
    )
    return tokenizer


def write_tokenizer(folder: Path, tokenizer: Tokenizer, **config: Any) -> None:
    """Its files."""
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def proto(number: int, value: bytes | float) -> bytes:
    """One field of a protocol buffer."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3) + varint(int(value))


def varint(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def sentencepiece_model(
    found: list[tuple[str, float]], *, kind: int = 2, add_prefix: bool = True
) -> bytes:
    """A tokenizer.model of BPE (2) or Unigram (1)."""
    data = b""
    for text, score in found:
        piece = proto(1, text.encode()) + proto(2, score)
        if text == "<unk>":
            piece += proto(3, 2)
        elif text in {"<s>", "</s>"}:
            piece += proto(3, 3)
        elif text.startswith("<0x"):
            piece += proto(3, 6)
        data += proto(1, piece)
    trainer = proto(3, kind) + proto(35, 1)
    normalizer = proto(1, b"identity") + proto(3, int(add_prefix)) + proto(4, 0)
    return data + proto(2, trainer) + proto(3, normalizer)
