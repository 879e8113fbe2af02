"""From the tokens of a file to the tokenizer of its architecture."""

from corral_ctransformers.tokenizers import (
    FalconTokenizer,
    GgmlTokenizer,
    GreedyTokenizer,
    LlamaTokenizer,
    UnigramTokenizer,
)
from corral_ctransformers.walk import GgmlFile

_MARKS = {
    "gpt_bigcode": (
        b"<|system|>", b"<|user|>", b"<|assistant|>", b"<|end|>", b"<fim-prefix>",
        b"<fim-middle>", b"<fim-suffix>", b"<fim-pad>", b"<|end_of_turn|>",
    ),
    "dolly-v2": (b"### End", b"### Instruction:", b"### Response:"),
}  # fmt: skip
"""Control tokens that the library knows, beside `<|endoftext|>`."""


def make_tokenizer(file: GgmlFile) -> GgmlTokenizer:
    """The tokenizer of a file that was walked over."""
    name, pieces = file.layout.name, file.pieces
    if name == "llama":
        return LlamaTokenizer(pieces, file.scores)
    if name == "falcon":
        return FalconTokenizer(pieces, file.merges)
    if name == "replit":
        return UnigramTokenizer(pieces, file.scores)
    if name == "mpt":
        pieces = tuple(map(_narrowed, pieces))
    return GreedyTokenizer(pieces, _MARKS.get(name, ()))


def _narrowed(piece: bytes) -> bytes:
    """Files of mpt have a character for each byte; of larger ones the library keeps a byte."""
    return bytes(ord(character) & 0xFF for character in piece.decode())
