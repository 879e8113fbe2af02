"""Files of models that are small, or damaged."""

import random
import struct

_VERSION = 3
_TEXT, _NUMBER = 8, 4
_MEAN = 1
_SEED = 20_240_229
_ALIGNMENT = 32


def gguf_head(**facts: str) -> bytes:
    """A GGUF file without tensors, for backends that read none and for what is only claimed.

    Args:
        facts: Its metadata, a double underscore for each point: `general__type="adapter"`.
    """
    facts = {"general__architecture": "llama", **facts}
    body = b"".join(
        _text(name.replace("__", ".")) + struct.pack("<I", _TEXT) + _text(value)
        for name, value in facts.items()
    )
    head = b"GGUF" + struct.pack("<IQQ", _VERSION, 0, len(facts)) + body
    return head + bytes(-len(head) % _ALIGNMENT)


def averaging(gguf: bytes) -> bytes:
    """A small model that completes text, made one that averages its rows to a vector.

    Args:
        gguf: Of the architecture `llama`, without a pooling type of its own.
    """
    key, filler = _text("llama.pooling_type"), _text("x.pad")
    added = key + struct.pack("<II", _NUMBER, _MEAN)
    added += filler + struct.pack("<I", _TEXT) + _text("12345")
    assert len(added) % _ALIGNMENT == 0, "the weights would begin where they may not"
    (count,) = struct.unpack_from("<Q", gguf, 16)
    return gguf[:16] + struct.pack("<Q", count + 2) + added + gguf[24:]


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def cut_short(data: bytes) -> bytes:
    """The first half of a file."""
    return data[: len(data) // 2]


def scrambled(data: bytes) -> bytes:
    """As many other bytes, behind the first four, which tell what the file is."""
    return data[:4] + random.Random(_SEED).randbytes(len(data) - 4)  # noqa: S311 - no secret
