"""The tiny chat model with another Jinja template in its weights, and a longer context."""

import struct
from pathlib import Path

CONTEXT_TOKENS = 8192
_TINY_CHAT = Path(__file__).parent / "models" / "tiny-chat-f32.gguf"
_TEMPLATE = b"tokenizer.chat_template"
_LENGTH = b"llama.context_length"
_ALIGNMENT = 32
_KIND_BYTES = 4  # the kind of a value stands between key and value


def templated_gguf(template: str) -> bytes:
    """Make the file; a comment behind the template keeps the tensors in their places."""
    data = _TINY_CHAT.read_bytes()
    at = data.index(struct.pack("<Q", len(_TEMPLATE)) + _TEMPLATE) + 8
    at += len(_TEMPLATE) + _KIND_BYTES
    length = int.from_bytes(data[at : at + 8], "little")
    text = template.encode()
    text += b"{#" + b" " * ((length - len(text) - 4) % _ALIGNMENT) + b"#}"
    data = data[:at] + struct.pack("<Q", len(text)) + text + data[at + 8 + length :]
    at = data.index(_LENGTH) + len(_LENGTH) + _KIND_BYTES
    return data[:at] + struct.pack("<I", CONTEXT_TOKENS) + data[at + 4 :]
