"""Values as templates see them.

bool, int (Go's int), float, str are themselves. `None` is an interface that holds nothing, such as
a missing key of a map; `INVALID` is no value at all, which is what becomes of it in a pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

ANY = "interface {}"


class _Invalid:
    """No value."""

    def __repr__(self) -> str:
        return "INVALID"


INVALID: Final = _Invalid()
"""What Go calls the zero reflect.Value."""
MISSING: Final = object()
"""Stands where a pipeline hands nothing on."""


class Byte(int):
    """One byte of a string: Go's uint8."""


class GoList:
    """A slice.

    Args:
        items: Of it.
        go_type: Its type's name.
        nil: Whether it is Go's nil, which JSON writes as null.
        prints_json: Whether it prints as JSON.
    """

    __slots__ = ("go_type", "items", "nil", "prints_json")

    def __init__(
        self,
        items: Sequence[Any] = (),
        go_type: str = "[]interface {}",
        *,
        nil: bool = False,
        prints_json: bool = False,
    ) -> None:
        self.items = items
        self.go_type = go_type
        self.nil = nil
        self.prints_json = prints_json

    def slice(self, begin: int, end: int) -> GoList:
        """Give a part of it."""
        return GoList(
            self.items[begin:end], self.go_type, nil=self.nil, prints_json=self.prints_json
        )


class GoMap:
    """A map with text keys; arguments as for `GoList`, and what a missing key gives."""

    __slots__ = ("go_type", "items", "nil", "prints_json", "zero")

    def __init__(
        self,
        items: Mapping[str, Any],
        go_type: str = "map[string]interface {}",
        *,
        nil: bool = False,
        prints_json: bool = False,
        zero: Any = None,
    ) -> None:
        self.items = items
        self.go_type = go_type
        self.nil = nil
        self.prints_json = prints_json
        self.zero = zero

    def sorted(self) -> list[tuple[str, Any]]:
        """Give keys and values in the order in which Go goes through them."""
        return sorted(self.items.items())

    @property
    def element_type(self) -> str:
        """The name of its values' type."""
        return self.go_type.partition("]")[2]


class Struct:
    """A struct, or a pointer to one.

    Args:
        kind: Of it.
        values: By field.
    """

    __slots__ = ("kind", "values")

    def __init__(self, kind: StructKind, values: dict[str, Any]) -> None:
        self.kind = kind
        self.values = values


class StructKind:
    """A struct's type.

    Args:
        name: In Go.
        json: Field to its name in JSON; a field is left out where it is empty if that name ends in
            `?`, where it is nil if it ends in `~`.
        pointer: Whether values are pointers to it.
        prints_json: Whether it prints as JSON.
        methods: That it has, by name.
    """

    def __init__(
        self,
        name: str,
        json: Mapping[str, str],
        *,
        pointer: bool = False,
        prints_json: bool = False,
        methods: Mapping[str, Callable[[Struct], Any]] | None = None,
    ) -> None:
        self.name = name
        self.pointer = pointer
        self.prints_json = prints_json
        self.methods = methods or {}
        self.target = self if not pointer else StructKind(name, json, prints_json=prints_json)
        self.json = [(field, key.rstrip("?~"), key[-1]) for field, key in json.items()]


def type_name(value: Any) -> str:  # noqa: PLR0911 - a way for each kind
    """Name a value's type as Go does."""
    match value:
        case None:
            return ANY
        case bool():
            return "bool"
        case Byte():
            return "uint8"
        case int():
            return "int"
        case float():
            return "float64"
        case str():
            return "string"
        case GoList() | GoMap():
            return value.go_type
        case Struct():
            return ("*" if value.kind.pointer else "") + value.kind.name
    return "invalid"


def is_true(value: Any) -> bool:
    """Whether a condition with this value holds."""
    if isinstance(value, (GoList, GoMap)):
        return bool(value.items)
    if isinstance(value, Struct):
        return True
    return value is not INVALID and bool(value)


def concrete(value: Any) -> Any:
    """Give what an interface holds; one that holds nothing gives no value."""
    return INVALID if value is None else value
