"""How each Go type of a request takes a JSON value, and what it says of a wrong one.

A kind converts one decoded value. It is put beside the Python type of a struct's field,
`Annotated[str, STRING]`, so that `requests.py` reads as the table of all requests.
"""

import functools
from collections.abc import Callable
from typing import Any, Final, get_type_hints

import msgspec

from corral_api.wire.decoding import Decoding, Kind, NotPlainError
from corral_api.wire.gojson import Members, Node, Number
from corral_api.wire.image_data import Base64Error, decode_base64

_MAX_QUOTED_NUMBER: Final = 256
_INT64: Final = range(-(1 << 63), 1 << 63)
_UINT8: Final = range(1 << 8)
_MAX_INT_DIGITS: Final = 20
_JSON_NAMES: Final = {bool: "bool", str: "string", list: "array", dict: "object", Members: "object"}


def json_name(node: Node) -> str:
    """Tell of which JSON kind a value is, in the decoder's words."""
    return _JSON_NAMES.get(type(node), "number")


class _Scalar(Kind):
    def __init__(self, python_type: type, go_type: str) -> None:
        self._type = python_type
        self._go_type = go_type
        self.zero = python_type()

    def take(self, node: Node, state: Decoding) -> Any:
        if type(node) is self._type:
            return node
        state.mismatch(json_name(node), self._go_type)
        return self.zero


class _Lower(Kind):
    zero = ""

    def take(self, node: Node, state: Decoding) -> str:
        text: str = STRING.take(node, state)
        return text.lower()


class _Integer(Kind):
    zero = 0

    def __init__(self, go_type: str, bounds: range) -> None:
        self._go_type = go_type
        self._range = bounds

    def take(self, node: Node, state: Decoding) -> int:
        if type(node) is int and node in self._range:
            return node
        if isinstance(node, Number):
            if len(node.text) <= _MAX_INT_DIGITS and node.text.lstrip("-").isdigit():
                value = int(node.text)
                if value in self._range:
                    return value
            state.mismatch(f"number {node.text[:_MAX_QUOTED_NUMBER]}", self._go_type)
        else:
            state.mismatch(json_name(node), self._go_type)
        return 0


STRING: Final = _Scalar(str, "string")
BOOL: Final = _Scalar(bool, "bool")
LOWER: Final = _Lower()
INT: Final = _Integer("int", _INT64)
_BYTE: Final = _Integer("uint8", _UINT8)


class Slice(Kind):
    """A list of one kind, as a tuple."""

    zero = ()

    def __init__(self, item: Kind, go_type: str) -> None:
        self._item = item
        self._go_type = go_type

    def take(self, node: Node, state: Decoding) -> tuple[Any, ...]:
        """Convert each element."""
        if not isinstance(node, list):
            state.mismatch(json_name(node), self._go_type)
            return ()
        item = self._item
        return tuple([item.zero if n is None else item.take(n, state) for n in node])


class _Image(Kind):
    zero = b""
    _bytes = Slice(_BYTE, "")

    def take(self, node: Node, state: Decoding) -> bytes:
        if isinstance(node, str):
            try:
                return decode_base64(node)
            except Base64Error as error:
                state.save(str(error))
                return b""
        if isinstance(node, list):  # a list of bytes is fine too
            return bytes(self._bytes.take(node, state))
        state.mismatch(json_name(node), "api.ImageData")
        return b""


IMAGES: Final = Slice(_Image(), "[]api.ImageData")


class Map(Kind):
    """An object whose keys are free, as a dict."""

    def __init__(self, item: Kind, go_type: str) -> None:
        self._item = item
        self._go_type = go_type

    def take(self, node: Node, state: Decoding) -> dict[str, Any]:
        """Convert each member's value; of a key that comes twice the last stays."""
        if not isinstance(node, dict | Members):
            state.mismatch(json_name(node), self._go_type)
            return {}
        item = self._item
        return {k: item.zero if n is None else item.take(n, state) for k, n in node.items()}


class _Any(Kind):
    """Anything: integers stay integers, members keep their order."""

    def take(self, node: Node, state: Decoding) -> Any:
        if isinstance(node, Number | int | float) and not isinstance(node, bool):
            return self._number(node, state)
        if not isinstance(node, list | dict | Members):
            return node
        state.enter()
        value: Any
        if isinstance(node, dict | Members):
            value = {k: None if n is None else self.take(n, state) for k, n in node.items()}
        else:
            value = [None if n is None else self.take(n, state) for n in node]
        state.depth -= 1
        return value

    @staticmethod
    def _number(node: Number | float, state: Decoding) -> int | float:
        if not isinstance(node, Number):
            return float(node) if isinstance(node, int) and node not in _INT64 else node
        if len(node.text) <= _MAX_INT_DIGITS and node.text.lstrip("-").isdigit():
            whole = int(node.text)
            if whole in _INT64:
                return whole
        value = float(node.text)
        if value in (float("inf"), float("-inf")):
            state.mismatch(f"number {node.text[:_MAX_QUOTED_NUMBER]}", "float64")
            return 0.0
        return value


ANY: Final = _Any()
OPTIONS: Final = Map(ANY, "map[string]interface {}")


class Custom(Kind):
    """A type with a decoder of its own: what is wrong inside ends everything at once."""

    def __init__(self, inner: Kind) -> None:
        self._inner = inner

    @property
    def zero(self) -> Any:
        """The inner kind's."""
        return self._inner.zero

    def take(self, node: Node, state: Decoding) -> Any:
        """Convert by the inner kind, in a decoding of its own."""
        return state.nested(self._inner, node)


class Parsed(Kind):
    """Anything, handed to a function whose `ValueError` ends everything at once with its text."""

    def __init__(self, parse: Callable[[Any], Any]) -> None:
        self._parse = parse

    def take(self, node: Node, state: Decoding) -> Any:
        """Convert to plain values, then by the function."""
        try:
            return self._parse(state.nested(ANY, node))
        except ValueError as error:
            state.stop(str(error))


class Checked(Kind):
    """Anything, handed to a function whose `ValueError` is told only if all else is well."""

    def __init__(self, check: Callable[[Any], Any]) -> None:
        self._check = check

    def take(self, node: Node, state: Decoding) -> Any:
        """Convert to plain values, then by the function."""
        value = ANY.take(node, state)
        try:
            return self._check(value)
        except ValueError as error:
            state.later = str(error)
            return None


class OrderedMap(Kind):
    """An object that keeps its order, by a library of upstream's with a complaint of its own."""

    def __init__(self, item: Kind) -> None:
        self._item = item

    def take(self, node: Node, state: Decoding) -> dict[str, Any]:
        """Convert each member's value, each in a decoding of its own."""
        if not isinstance(node, dict | Members):
            state.stop("Value looks like object, but can't find closing '}' symbol")
        item = self._item
        state.enter()
        value = {k: item.zero if n is None else state.nested(item, n) for k, n in node.items()}
        state.depth -= 1
        return value


class StringOrStrings(Kind):
    """A text or a list of texts, as a tuple."""

    zero = ()
    _strings = Slice(STRING, "[]string")

    def take(self, node: Node, state: Decoding) -> tuple[str, ...]:
        """Convert either."""
        if isinstance(node, str):
            return (node,)
        strings: tuple[str, ...] = state.nested(self._strings, node)
        return strings


class Raw(Kind):
    """A value kept as the JSON text it came as; only for members of the request itself."""

    def take(self, node: Node, state: Decoding) -> bytes | None:  # noqa: ARG002 (the text is asked for by key)
        """Give the text of the member that is being decoded; `None` for an empty string."""
        text = state.raw(state.fields[-1])
        return None if text == b'""' else text


class Record(Kind):
    """A Go struct, as a msgspec struct; its fields carry their kinds in `Annotated`.

    Args:
        struct: The msgspec struct. Every field has a default.
        go_name: Go's name for the type, if it is not the struct's.
    """

    def __init__(self, struct: type[msgspec.Struct], go_name: str = "") -> None:
        self._struct = struct
        self._go_name = go_name or struct.__name__

    @functools.cached_property
    def zero(self) -> Any:  # made late: a struct may hold itself
        """The struct with all its defaults."""
        return self._struct()

    @functools.cached_property
    def _fields(self) -> dict[str, tuple[str, str, Kind]]:
        """Folded JSON name to JSON name, attribute and kind."""
        hints = get_type_hints(self._struct, include_extras=True)
        table = {}
        for field in msgspec.structs.fields(self._struct):
            (kind,) = (m for m in hints[field.name].__metadata__ if isinstance(m, Kind))
            table[fold(field.encode_name)] = (field.encode_name, field.name, kind)
        return table

    def take(self, node: Node, state: Decoding) -> Any:
        """Convert the members that the struct knows; names match in any letter case."""
        if not isinstance(node, dict | Members):
            state.mismatch(json_name(node), f"api.{self._go_name}")
            return self.zero
        state.enter()
        outer = state.struct
        values: dict[str, Any] = {}
        seen: set[str] = set()
        for key, value in node.items():
            known = self._fields.get(key) or self._fields.get(fold(key))
            if known is None:
                continue
            name, attribute, kind = known
            if attribute in seen and not state.exact:
                raise NotPlainError  # two spellings of one name: which was last is not known here
            seen.add(attribute)
            if value is None:
                values.pop(attribute, None)
                continue
            state.struct = self._go_name
            state.fields.append(name)
            values[attribute] = kind.take(value, state)
            state.fields.pop()  # not so when it raises: then the path tells where
        state.struct = outer
        state.depth -= 1
        return self._struct(**values)


def fold(name: str) -> str:
    """Fold letter case as upstream matches names: ASCII, and the two letters that equal one."""
    return name.replace("\u017f", "s").lower()
