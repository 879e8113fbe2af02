import re
from pathlib import Path

import pytest

from corral_kernel.contracts import Tokenizer
from corral_kernel.gguf import read_header, read_value

TINY_CHAT = Path(__file__).parents[2] / "models" / "tiny-chat-f32.gguf"
LONG_PIECES = (
    '{"', '": ', '": "', '", "', ', "', '"}', "}", "{}", "[]", "[1", "true", "false", "null",
    "name", "size", "na", "me", "12", "34", "0.", "  ", "\n", "\n  ", "é", "🦙", "\\u00", '\\"',
)  # fmt: skip
BOS_ID, END_ID, STOP_ID = 256, 257, 258


class PieceTokenizer(Tokenizer):
    """Bytes, three control tokens and some longer pieces; the longest piece that fits is taken."""

    pieces = (
        [bytes([i]) for i in range(256)]
        + [b"<s>", b"</s>", b"<|stop|>"]
        + [piece.encode() for piece in LONG_PIECES]
    )
    control_ids = frozenset({BOS_ID, END_ID, STOP_ID})
    end_ids = frozenset({END_ID, STOP_ID})
    bos_id = BOS_ID

    def __init__(self) -> None:
        longest_first = sorted(self.pieces[259:], key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, longest_first)) + b"|(?s:.)")
        self._ids = {piece: i for i, piece in enumerate(self.pieces)}

    def encode(self, text: str, *, special: bool) -> list[int]:
        assert not special
        return [self._ids[piece] for piece in self._pattern.findall(text.encode())]


class TinyChatTokenizer(Tokenizer):
    """The vocabulary of tiny-chat, in which each token is a byte, written as GPT-2 writes bytes."""

    def __init__(self) -> None:
        header = read_header(TINY_CHAT)
        texts = read_value(TINY_CHAT, header.metadata["tokenizer.ggml.tokens"])
        types = read_value(TINY_CHAT, header.metadata["tokenizer.ggml.token_type"])
        assert isinstance(texts, tuple | list)
        assert isinstance(types, tuple | list)
        letters = bytes_of_letters()
        control = 3
        self.control_ids = frozenset(i for i, kind in enumerate(types) if kind == control)
        self.pieces = [
            str(text).encode()
            if i in self.control_ids
            else bytes(letters[letter] for letter in str(text))
            for i, text in enumerate(texts)
        ]
        self._ids = {p: i for i, p in enumerate(self.pieces) if i not in self.control_ids}
        end = header.special_token("eos")
        assert end is not None
        self.end_ids = frozenset({end})

    def encode(self, text: str, *, special: bool) -> list[int]:
        assert not special
        return [self._ids[bytes([byte])] for byte in text.encode()]


def bytes_of_letters() -> dict[str, int]:
    """GPT-2's table: printable bytes stand for themselves, others for letters from 256 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(byte): byte for byte in plain}
    others = (byte for byte in range(256) if byte not in plain)
    return table | {chr(256 + index): byte for index, byte in enumerate(others)}


@pytest.fixture(scope="session", params=["pieces", "tiny-chat"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return PieceTokenizer() if request.param == "pieces" else TinyChatTokenizer()
