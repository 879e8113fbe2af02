"""A vocabulary of bytes, and two control tokens."""

from __future__ import annotations

import re

from corral_kernel.contracts import Tokenizer

BOS_ID = 256
END_ID = 257
_CONTROL = {"<s>": BOS_ID, "</s>": END_ID}
_CONTROL_TEXT = re.compile("(" + "|".join(map(re.escape, _CONTROL)) + ")")


class ByteTokenizer(Tokenizer):
    """Id `i` below 256 is the byte `i`; `<s>` begins a sequence and `</s>` ends one."""

    pieces = [bytes([i]) for i in range(256)] + [text.encode() for text in _CONTROL]
    control_ids = frozenset(_CONTROL.values())
    end_ids = frozenset({END_ID})
    bos_id = BOS_ID
    adds_bos = True

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Token ids of a text, with nothing added."""
        if not special:
            return list(text.encode(errors="surrogatepass"))
        ids: list[int] = []
        for run in _CONTROL_TEXT.split(text):
            control = _CONTROL.get(run)
            ids.extend(run.encode(errors="surrogatepass") if control is None else [control])
        return ids
