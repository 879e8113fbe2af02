"""The Modelfile: its grammar, what its instructions mean, and how one is printed.

modelfile = parse(data)     # ModelfileError if it is none
modelfile.sources           # the FROM texts: paths or a model name, as written
str(Instruction("system", "You are terse."))   # one line of a printed Modelfile

Paths are not looked at: that is for whoever sends the model on.
"""

from collections.abc import Callable
from typing import Final

from corral_kernel.modelfile.grammar import (
    INSTRUCTIONS,
    ROLES,
    Instruction,
    ModelfileError,
    read_instructions,
)
from corral_kernel.modelfile.meaning import Message, Modelfile, interpret, is_version
from corral_kernel.modelfile.parameters import (
    DEPRECATED_PARAMETERS,
    KNOWN_PARAMETERS,
    LISTS,
    OLLAMA_OPTIONS,
    ParameterTypes,
    ParameterValue,
    parse_parameter,
)
from corral_kernel.modelfile.printing import is_sayable, quote

__all__ = [
    "DEPRECATED_PARAMETERS",
    "INSTRUCTIONS",
    "KNOWN_PARAMETERS",
    "LISTS",
    "MAX_BYTES",
    "OLLAMA_OPTIONS",
    "ROLES",
    "Instruction",
    "Message",
    "Modelfile",
    "ModelfileError",
    "ParameterTypes",
    "ParameterValue",
    "decode",
    "interpret",
    "is_sayable",
    "is_version",
    "parse",
    "parse_parameter",
    "quote",
    "read_instructions",
]

MAX_BYTES: Final = 4 * 1024 * 1024
"""The longest Modelfile that is read: weights are named in it, never held."""

_BYTE_ORDER_MARKS: Final = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)


def parse(
    data: bytes | str,
    types: Callable[[frozenset[str]], ParameterTypes] = lambda _names: KNOWN_PARAMETERS,
) -> Modelfile:
    """Read a Modelfile.

    Args:
        data: Its bytes (UTF-8, or UTF-16 with a byte order mark; bytes that are no text become
            U+FFFD), or its text.
        types: Gives the types of all parameters that there are, for the names that are used.

    Raises:
        ModelfileError: For anything that Ollama's parser refuses, and for one that is too long.
    """
    if len(data) > MAX_BYTES:
        raise ModelfileError(f"a Modelfile has at most {MAX_BYTES} bytes, this one has {len(data)}")
    instructions = read_instructions(decode(data) if isinstance(data, bytes) else data)
    names = frozenset(item.name for item in instructions if item.keyword == "parameter")
    return interpret(instructions, types(names))


def decode(data: bytes) -> str:
    """Turn the bytes of a Modelfile into text, by its byte order mark if it has one."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    return data.decode("utf-8", "replace")
