"""Encodes answers: compact JSON with the escapes of Go's encoder, and never a trailing newline."""

import re
from typing import Any, Final

import msgspec

_ENCODER: Final = msgspec.json.Encoder()
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def encode(answer: Any) -> bytes:
    r"""Encode a struct (or plain value) as one JSON text.

    `<`, `>`, `&`, U+2028 and U+2029 are escaped as `\u003c` and so on; a lone surrogate becomes
    U+FFFD; other text travels as it is. Floats must be `msgspec.Raw` already: see `numbers`.
    """
    try:
        text = _ENCODER.encode(answer)
    except UnicodeEncodeError:
        text = _ENCODER.encode(_mended(answer))
    # Outside of strings JSON has none of these, so the whole text can be searched.
    if b"<" in text:
        text = text.replace(b"<", b"\\u003c")
    if b">" in text:
        text = text.replace(b">", b"\\u003e")
    if b"&" in text:
        text = text.replace(b"&", b"\\u0026")
    if b"\xe2\x80" in text:
        text = text.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    return text


def encode_line(answer: Any) -> bytes:
    """Encode one line of an NDJSON stream."""
    return encode(answer) + b"\n"


def _mended(value: Any) -> Any:
    """Copy a value with every lone surrogate replaced."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_mended(key): _mended(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_mended(item) for item in value)
    if isinstance(value, msgspec.Struct):
        fields = {name: _mended(getattr(value, name)) for name in value.__struct_fields__}
        return type(value)(**fields)
    return value
