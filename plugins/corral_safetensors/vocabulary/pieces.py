"""What SentencePiece's tokenizer.model holds."""

from dataclasses import dataclass, field
from typing import Final

import gguf

from corral_kernel.errors import InvalidModelError
from corral_safetensors.vocabulary.protobuf import Field, fields

_MOST_PIECES: Final = 4_000_000
# Fields of the messages, by SentencePiece's sentencepiece_model.proto.
_PIECE, _TRAINER, _NORMALIZER = 1, 2, 3
_PIECE_TEXT, _PIECE_SCORE, _PIECE_TYPE = 1, 2, 3
_MODEL_TYPE: Final = 3
_CHARSMAP, _ADD_PREFIX, _REMOVE_SPACES = 2, 3, 4
_NORMAL: Final = 1
# Its kinds of pieces have the numbers of GGUF's kinds of tokens, but for two that are swapped.
_TYPES: Final = {
    1: gguf.TokenType.NORMAL,
    2: gguf.TokenType.UNKNOWN,
    3: gguf.TokenType.CONTROL,
    4: gguf.TokenType.USER_DEFINED,
    5: gguf.TokenType.UNUSED,
    6: gguf.TokenType.BYTE,
}
UNIGRAM, BPE = 1, 2


@dataclass(slots=True)
class Pieces:
    """A SentencePiece model.

    Args:
        tokens: Its pieces.
        scores: Of each.
        types: Of each.
        kind: `UNIGRAM`, `BPE`, or another number.
        add_prefix: Whether a space is put before a text.
        remove_spaces: Whether several spaces become one.
        charsmap: Its table of characters that are replaced.
    """

    tokens: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    types: list[gguf.TokenType] = field(default_factory=list)
    kind: int = UNIGRAM
    add_prefix: bool = True
    remove_spaces: bool = True
    charsmap: bytes = b""


def read_pieces(model: bytes) -> Pieces:
    """Read a tokenizer.model.

    Raises:
        InvalidModelError: If it is none.
    """
    found = Pieces()
    for part in fields(model):
        if part.number == _PIECE:
            _add_piece(found, part)
        elif part.number == _TRAINER:
            for one in fields(part.data()):
                if one.number == _MODEL_TYPE:
                    found.kind = one.integer()
        elif part.number == _NORMALIZER:
            _set_normalizer(found, part)
    if not found.tokens:
        raise InvalidModelError("tokenizer.model has no pieces: it is no SentencePiece model")
    return found


def _add_piece(found: Pieces, part: Field) -> None:
    text, score, kind = "", 0.0, _NORMAL
    for one in fields(part.data()):
        if one.number == _PIECE_TEXT:
            text = one.text()
        elif one.number == _PIECE_SCORE:
            score = one.float32()
        elif one.number == _PIECE_TYPE:
            kind = one.integer()
    if kind not in _TYPES or len(found.tokens) >= _MOST_PIECES:
        raise InvalidModelError(
            f"tokenizer.model: piece {len(found.tokens)} is of the unknown kind {kind}, "
            f"or one more than {_MOST_PIECES}"
        )
    found.tokens.append(text)
    found.scores.append(score)
    found.types.append(_TYPES[kind])


def _set_normalizer(found: Pieces, part: Field) -> None:
    for one in fields(part.data()):
        if one.number == _CHARSMAP:
            found.charsmap = one.data()
        elif one.number == _ADD_PREFIX:
            found.add_prefix = bool(one.integer())
        elif one.number == _REMOVE_SPACES:
            found.remove_spaces = bool(one.integer())
