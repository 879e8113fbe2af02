"""Reads JSON exactly as Go's stream decoder does, its error texts included.

This is the slow and exact reader: `decode` comes here only for a body that is not plain and
well-formed. It reads the first value and ignores what follows, keeps the text of numbers and every
duplicate key, replaces what is no UTF-8, and never recurses: nesting cannot exhaust its stack.
"""

import json
import re
from typing import Final, NoReturn, TypeAlias

from corral_kernel.errors import InvalidRequestError
from corral_kernel.gotext import quote

MAX_DEPTH: Final = 10_000
"""Levels of nesting that are read at all; one more is an error."""

# Possessive: a string of a million escapes keeps no way back.
_STRING: Final = re.compile(
    rb'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+'
)
_NUMBER: Final = re.compile(rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?")
_SPACE: Final = re.compile(rb"[ \t\r\n]*+")
_HEX: Final = re.compile(rb"[0-9a-fA-F]{0,4}")
_INVALID_BYTE: Final = re.compile("[\udc80-\udcff]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_REPLACEMENT: Final = "\ufffd"
_WORDS: Final = {0x74: (b"true", True), 0x66: (b"false", False), 0x6E: (b"null", None)}
_FIRST_PRINTABLE: Final = 0x20
_QUOTE, _COMMA, _COLON = b'",:'
_OPEN_OBJECT, _CLOSE_OBJECT, _OPEN_ARRAY, _CLOSE_ARRAY = b"{}[]"
_STARTS_NUMBER: Final = frozenset(b"-0123456789")


class DecodeError(InvalidRequestError):
    """A request body that cannot be decoded; the message is what upstream's decoder says."""


class Number:
    """A number as it stands in the text, so that an error can quote it."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class Members:
    """An object: its members in the order of the text, duplicates included."""

    __slots__ = ("_pairs",)

    def __init__(self) -> None:
        self._pairs: list[tuple[str, Node]] = []

    def append(self, key: str, value: "Node") -> None:
        """Add a member."""
        self._pairs.append((key, value))

    def items(self) -> list[tuple[str, "Node"]]:
        """Give all members, as a dict does."""
        return self._pairs


Node: TypeAlias = (
    "bool | str | int | float | Number | list[Node] | dict[str, Node] | Members | None"
)
"""A decoded value: `dict`, `int` and `float` from the fast reader, the others from this one."""


class Scanner:
    """Reads one JSON value from the front of `data`.

    After `read`, `spans` tells for each member of a top-level object where its value stands: the
    last one where a key comes twice.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._stack: list[Members | list[Node]] = []
        self._keys: list[str] = []
        self._start = 0
        self.spans: dict[str, tuple[int, int]] = {}

    def read(self) -> Node:
        """Read the value.

        Raises:
            DecodeError: If there is none, or what there is breaks JSON's grammar.
        """
        self._skip(_SPACE)
        if self._at == len(self._data):
            raise DecodeError("missing request body")
        while True:
            done, value = self._begin_value()
            if done:
                done, value = self._end_values(value)
            if done:
                return value

    def _begin_value(self) -> tuple[bool, Node]:
        """Read up to the end of a scalar or empty container (True), or into a container."""
        self._skip(_SPACE)
        if len(self._stack) == 1:
            self._start = self._at
        char = self._peek()
        if char == _OPEN_OBJECT:
            return self._open(char, Members(), _CLOSE_OBJECT)
        if char == _OPEN_ARRAY:
            return self._open(char, [], _CLOSE_ARRAY)
        return True, self._scalar(char)

    def _open(self, char: int, container: Members | list[Node], close: int) -> tuple[bool, Node]:
        if len(self._stack) == MAX_DEPTH:
            self._fail(char, "exceeded max depth")
        self._at += 1
        self._skip(_SPACE)
        if self._peek() == close:
            self._at += 1
            return True, container
        self._stack.append(container)
        if close == _CLOSE_OBJECT:
            self._read_key()
        return False, None

    def _end_values(self, value: Node) -> tuple[bool, Node]:
        """Hand a complete value to its container, and that to its own while they end too."""
        while self._stack:
            top = self._stack[-1]
            if isinstance(top, Members):
                close, where = _CLOSE_OBJECT, "after object key:value pair"
                key = self._keys.pop()
                top.append(key, value)
                if len(self._stack) == 1:
                    self.spans[key] = (self._start, self._at)
            else:
                close, where = _CLOSE_ARRAY, "after array element"
                top.append(value)
            self._skip(_SPACE)
            char = self._peek()
            if char not in (_COMMA, close):
                self._fail(char, where)
            self._at += 1
            if char == _COMMA:
                if close == _CLOSE_OBJECT:
                    self._skip(_SPACE)
                    self._read_key()
                return False, None
            value = self._stack.pop()
        return True, value

    def _read_key(self) -> None:
        char = self._peek()
        if char != _QUOTE:
            self._fail(char, "looking for beginning of object key string")
        self._keys.append(self._string())
        self._skip(_SPACE)
        char = self._peek()
        if char != _COLON:
            self._fail(char, "after object key")
        self._at += 1

    def _scalar(self, char: int) -> Node:
        if char == _QUOTE:
            return self._string()
        if char in _STARTS_NUMBER:
            return self._number()
        if char in _WORDS:
            return self._word(*_WORDS[char])
        return self._fail(char, "looking for beginning of value")

    def _word(self, word: bytes, value: Node) -> Node:
        for expected in word:
            char = self._peek()
            if char != expected:
                self._fail(char, f"in literal {word.decode()} (expecting '{chr(expected)}')")
            self._at += 1
        return value

    def _number(self) -> Number:
        found = _NUMBER.match(self._data, self._at)
        if found is None:  # a minus sign alone
            self._at += 1
            self._fail(self._peek(), "in numeric literal")
        text = found[0].decode()
        self._at = found.end()
        follows = self._data[self._at : self._at + 1]
        has_exponent = "e" in text or "E" in text
        if follows == b"." and not has_exponent and "." not in text:
            self._at += 1
            self._fail(self._peek(), "after decimal point in numeric literal")
        if follows in (b"e", b"E") and not has_exponent:
            self._at += 1
            if self._peek() in b"+-":
                self._at += 1
            self._fail(self._peek(), "in exponent of numeric literal")
        return Number(text)

    def _string(self) -> str:
        start = self._at
        self._skip(_STRING)
        if self._peek() != _QUOTE:
            self._fail_in_string()
        self._at += 1
        return _text(self._data[start : self._at])

    def _fail_in_string(self) -> NoReturn:
        """Tell what stopped a string: a control character, or a bad escape."""
        char = self._peek()
        if char < _FIRST_PRINTABLE:
            self._fail(char, "in string literal")
        self._at += 1  # behind a backslash: nothing else stops a string
        if self._peek() != ord("u"):
            self._fail(self._peek(), "in string escape code")
        self._at += 1
        self._skip(_HEX)
        self._fail(self._peek(), "in \\u hexadecimal character escape")

    def _skip(self, pattern: re.Pattern[bytes]) -> None:
        if found := pattern.match(self._data, self._at):
            self._at = found.end()

    def _peek(self) -> int:
        if self._at == len(self._data):
            raise DecodeError("unexpected EOF")
        return self._data[self._at]

    def _fail(self, char: int, context: str) -> NoReturn:
        raise DecodeError(f"invalid character {_quote_char(char)} {context}")


def _text(token: bytes) -> str:
    """Turn a valid string token into text.

    Each byte that is no UTF-8 and each half of a surrogate pair becomes U+FFFD.
    """
    raw = _INVALID_BYTE.sub(_REPLACEMENT, token.decode("utf-8", "surrogateescape"))
    text: str = json.loads(raw)
    return _SURROGATE.sub(_REPLACEMENT, text)


def _quote_char(char: int) -> str:
    if char == ord("'"):
        return r"'\''"
    if char == _QUOTE:
        return "'\"'"
    return f"'{quote(chr(char))[1:-1]}'"
