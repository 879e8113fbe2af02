"""How the values of a Modelfile are printed, so that they are read back the same."""

import re
from typing import Final

BLANKS: Final = " \t\r\n"

_CLOSED_TOO_SOON: Final = re.compile(r'"""[ \t]*[\r\n]')


def quote(value: str) -> str:
    """Quote a value as far as the grammar needs it.

    That is for newlines, for blanks at its ends, and for a quotation mark at its beginning (which
    Ollama prints bare, and then reads as the opening one).

    Returns:
        The value, in one quotation mark, in three if it holds some itself, or as it is.
    """
    if not _needs_quotes(value):
        return value
    quotes = '"""' if '"' in value else '"'
    return f"{quotes}{value}{quotes}"


def is_sayable(value: str) -> bool:
    """Tell whether a Modelfile can say a value at all.

    It cannot where characters are not printable, which are dropped, and where a line within the
    value ends in three quotation marks, which end the value.
    """
    if not all(character.isprintable() or character in BLANKS for character in value):
        return False
    return not (_needs_quotes(value) and _CLOSED_TOO_SOON.search(value))


def _needs_quotes(value: str) -> bool:
    ends = value[:1] + value[-1:]
    return (
        value.startswith('"') or any(c in value for c in "\r\n") or any(c in BLANKS for c in ends)
    )
