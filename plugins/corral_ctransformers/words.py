"""How texts fall into words before they are cut into tokens: GPT-2's pattern."""

import re
from collections.abc import Iterator

# What the library matches bytes with, in the C locale: letters are those of ASCII.
_BYTES = re.compile(
    rb"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+"
)
_CONTRACTION = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d")
# The same over one sign for each character: a letter, a number, a space, another white one, else.
_SIGNS = re.compile(r" ?a+| ?0+| ?!+|[ _]+(?![a0!])|[ _]+")


def byte_words(data: bytes) -> list[bytes]:
    """The words of a text's bytes."""
    return _BYTES.findall(data)


def unicode_words(text: str) -> Iterator[str]:
    """The words of a text, with letters and numbers of all scripts."""
    signs = "".join(map(_sign, text))
    place = 0
    while place < len(text):
        found = _CONTRACTION.match(text, place) or _SIGNS.match(signs, place)
        assert found is not None, "every character has a sign that the pattern takes"
        yield text[place : found.end()]
        place = found.end()


def _sign(character: str) -> str:
    if character.isalpha():
        return "a"
    if character.isnumeric():
        return "0"
    if character == " ":
        return " "
    return "_" if character.isspace() else "!"
