"""WordPiece: BERT's tokenizer."""

from typing import Final

import gguf

from corral_safetensors.settings import Settings
from corral_safetensors.source import ModelFiles
from corral_safetensors.vocabulary.document import TOKENIZER, Document
from corral_safetensors.vocabulary.vocabulary import (
    LOWERCASE,
    STRIP_ACCENTS,
    Vocabulary,
    by_number,
)

WORDS: Final = "vocab.txt"
_SPECIAL: Final = frozenset({"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"})
_PREFIX: Final = "##"


def word_piece(source: ModelFiles, document: Document, most: int) -> Vocabulary:
    """Read it from tokenizer.json, or from the older vocab.txt.

    Args:
        source: The model.
        document: Of the tokenizer.
        most: How many tokens there may be.

    Raises:
        CorralError: If it cannot be read.
    """
    if TOKENIZER in source:
        words = document.vocabulary()
        normalizer = next(iter(document.steps("normalizer")), Settings({}, "normalizer"))
        lowercase = normalizer.flag("lowercase", default=False)
    else:
        lines = source.text(WORDS).removesuffix("\n").split("\n")
        words = {line.rstrip("\r"): number for number, line in enumerate(lines)}
        normalizer = document.config
        lowercase = normalizer.flag("do_lower_case", default=True)
    tokens, types = by_number(words, document.added(), most)
    for number, token in enumerate(tokens):
        if token in _SPECIAL:
            types[number] = gguf.TokenType.CONTROL
        elif types[number] is gguf.TokenType.NORMAL:
            tokens[number] = _phantom(token)
    return Vocabulary(
        "bert",
        "bert-bge",
        tokens,
        types,
        keys={
            LOWERCASE: lowercase,
            STRIP_ACCENTS: normalizer.flag("strip_accents", default=lowercase),
        },
    )


def _phantom(token: str) -> str:
    """A word's beginning is marked, not its continuation."""
    return token.removeprefix(_PREFIX) if token.startswith(_PREFIX) else f"\u2581{token}"
