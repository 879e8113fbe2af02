"""Standard base64 as Go's decoder reads it: padding is required, CR and LF may stand anywhere."""

import binascii
import re
from typing import Final

_STRANGE: Final = re.compile(rb"[^A-Za-z0-9+/\r\n]")
_NEWLINES: Final = re.compile(rb"[\r\n]*+")
_NO_NEWLINES: Final = {ord("\r"): None, ord("\n"): None}
_GROUP: Final = 4
_SHORTEST_BEFORE_PADDING: Final = 2


class Base64Error(ValueError):
    """A text that is no base64; the message names the byte where it stops being so."""


def decode_base64(text: str) -> bytes:
    """Decode standard base64.

    Raises:
        Base64Error: If `text` holds another character, or its padding is wrong.
    """
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        data = text.encode()
    offset = _first_fault(data)
    if offset is not None:
        raise Base64Error(f"illegal base64 data at input byte {offset}")
    return binascii.a2b_base64(text.translate(_NO_NEWLINES))


def _first_fault(data: bytes) -> int | None:
    """Find the byte that the decoder complains about, or `None` if there is none."""
    strange = _STRANGE.search(data)
    end = len(data) if strange is None else strange.start()
    newlines = data.count(b"\n", 0, end) + data.count(b"\r", 0, end)
    in_group = (end - newlines) % _GROUP
    if strange is None:
        return end - in_group if in_group else None
    if strange[0] != b"=" or in_group < _SHORTEST_BEFORE_PADDING:
        return end
    at = _after_newlines(data, end + 1)
    if in_group == _SHORTEST_BEFORE_PADDING:  # two signs are due
        if at == len(data):
            return at
        if data[at] != ord("="):
            return at - 1
        at = _after_newlines(data, at + 1)
    return at if at < len(data) else None


def _after_newlines(data: bytes, at: int) -> int:
    found = _NEWLINES.match(data, at)
    return at if found is None else found.end()
