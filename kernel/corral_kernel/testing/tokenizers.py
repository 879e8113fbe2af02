"""A tokenizer without a model, with all that makes tokenizers awkward."""

import re
from collections.abc import Iterable
from functools import cached_property

from corral_kernel.contracts import Tokenizer

_CONTROL = (b"<s>", b"</s>", b"<|stop|>")
_LONGER = (
    '{"', '": ', '": "', '", "', ', "', '"}', "}", "{}", "[]", "[1", "true", "false", "null", "ye",
    "name", "size", "na", "me", "12", "34", "0.", "  ", "\n\n", " the", " a", "ab", "é", "🦙",
)  # fmt: skip


class PieceTokenizer(Tokenizer):
    """All bytes, three control tokens of which two end an answer, and some longer pieces.

    Ids below 256 are bytes, 256 begins a sequence, 257 and 258 end an answer. Pieces may be halves
    of a letter, and many texts can be written in several ways; `encode` takes the longest piece.

    Args:
        longer: Pieces of more than one byte.
        backwards: Whether id 0 is byte 255 and so on: the same texts, other ids.
    """

    bos_id = 256
    eos_id = 257
    control_ids = frozenset({256, 257, 258})
    end_ids = frozenset({257, 258})

    def __init__(self, longer: Iterable[str] = _LONGER, *, backwards: bool = False) -> None:
        pieces = [piece.encode() for piece in longer]
        single = [bytes([i]) for i in range(256)]
        self.pieces = (*(single[::-1] if backwards else single), *_CONTROL, *pieces)
        self._longer = pieces
        self._ids = {piece: i for i, piece in enumerate(self.pieces)}

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Token ids of a text, with nothing added."""
        pattern = self._special if special else self._plain
        data = text.encode(errors="surrogatepass")
        return [self._ids[piece] for piece in pattern.findall(data)]

    @cached_property
    def _plain(self) -> re.Pattern[bytes]:
        longest_first = sorted(self._longer, key=len, reverse=True)
        return re.compile(b"|".join([*map(re.escape, longest_first), b"(?s:.)"]))

    @cached_property
    def _special(self) -> re.Pattern[bytes]:
        return re.compile(b"|".join([*map(re.escape, _CONTROL), self._plain.pattern]))
