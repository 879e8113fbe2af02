"""Go's strings, which are bytes, as Python's: a byte that is no UTF-8 is a surrogate escape."""

from __future__ import annotations

import re

from corral_kernel.gotext import quote as _quote

_STRAY = re.compile("[\ud800-\udfff]")
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")
_SIMPLE = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
}
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))", re.DOTALL
)
_LAST_BYTE = 0xFF


def encode(text: str) -> bytes:
    """Give the bytes of a string."""
    return text.encode("utf-8", "surrogateescape")


def decode(data: bytes) -> str:
    """Give the string of these bytes."""
    return data.decode("utf-8", "surrogateescape")


def clean(text: str) -> str:
    """Replace what is no character, as Go's JSON does."""
    return text if text.isascii() else _STRAY.sub("\ufffd", text)


def rejoined(text: str) -> str:
    """Put characters together again whose bytes came apart; what is none is replaced."""
    if text.isascii() or not _STRAY.search(text):
        return text
    return encode(_STRAY.sub(_keep_bytes, text)).decode("utf-8", "replace")


def _keep_bytes(match: re.Match[str]) -> str:
    return match[0] if _ESCAPED_BYTE.match(match[0]) else "\ufffd"


def length(text: str) -> int:
    """Count bytes."""
    return len(text) if text.isascii() else len(encode(text))


def quote(text: str) -> str:
    """Quote a string as `%q` does."""
    parts = re.split("([\udc80-\udcff])", text)
    return '"' + "".join(_quoted_part(part) for part in parts) + '"'


def _quoted_part(part: str) -> str:
    if _ESCAPED_BYTE.fullmatch(part):
        return f"\\x{ord(part) - 0xDC00:02x}"
    return _quote(part)[1:-1]


def unquote(literal: str) -> str:
    """Read a literal in double quotes or back quotes.

    Raises:
        ValueError: If an escape is none of Go's.
    """
    if literal.startswith("`"):
        return literal[1:-1].replace("\r", "")
    body = literal[1:-1]
    if "\\" not in body:
        return body
    return rejoin_bytes(_ESCAPE.sub(lambda match: _escape(match, '"'), body))


def unquote_character(literal: str) -> int:
    """Read a literal in single quotes: its code point.

    Raises:
        ValueError: If it is not one character.
    """
    body = literal[1:-1]
    match = _ESCAPE.fullmatch(body)
    if match:
        text = _escape(match, "'")
        return ord(text) - 0xDC00 if _ESCAPED_BYTE.match(text) else ord(text)
    if not body:
        raise ValueError("invalid syntax")
    if len(body) != 1 or body in "\\'":
        raise ValueError(f"malformed character constant: {literal}")
    return ord(body)


def rejoin_bytes(text: str) -> str:
    """Make characters of escaped bytes that stand side by side and are UTF-8."""
    return decode(encode(text)) if _ESCAPED_BYTE.search(text) else text


def _escape(match: re.Match[str], quotes: str) -> str:
    short_hex, *wide, octal, other = match.groups()
    if short_hex:
        return decode(bytes([int(short_hex, 16)]))
    if octal:
        code = int(octal, 8)
        if code > _LAST_BYTE:
            raise ValueError("invalid syntax")
        return decode(bytes([code]))
    code_text = next((digits for digits in wide if digits), None)
    if code_text:
        character = chr(int(code_text, 16)) if int(code_text, 16) <= 0x10FFFF else "\ud800"  # noqa: PLR2004 - Unicode's last
        if _STRAY.match(character):
            raise ValueError("invalid syntax")
        return character
    if other == quotes:
        return other
    if other not in _SIMPLE:
        raise ValueError("invalid syntax")
    return _SIMPLE[other]
