"""The fields of an options struct: types, ranges, defaults, and how JSON values become them."""

import math
import operator
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, inspect

from corral_kernel.errors import InvalidOptionError

T = TypeVar("T", bound=Struct)

INT64 = 1 << 63


@dataclass(frozen=True, slots=True)
class Field:
    """One field, as its struct declares it.

    Attributes:
        name: Its name.
        kind: `integer`, `float32`, `boolean`, `string`, `array` (of strings), `entries` (an array
            of strings and objects), `choice`, or `object` for any other JSON.
        description: For people.
        default: Its default value; None: it is unset.
        bounds: Of a number: any of `ge`, `gt`, `le`, `lt`.
        choices: The values of a `choice`.
    """

    name: str
    kind: str
    description: str
    default: Any
    bounds: Mapping[str, float] = field(default_factory=dict)
    choices: tuple[Any, ...] = ()

    @property
    def type(self) -> str:
        """Its JSON type: `integer`, `float32`, `boolean`, `string`, `array` or `object`."""
        if self.kind != "choice":
            return "array" if self.kind == "entries" else self.kind
        types = {type(choice) for choice in self.choices}
        return {int: "integer", str: "string"}[types.pop()] if len(types) == 1 else "object"

    @property
    def range(self) -> str:
        """The bounds in words; empty: any value of its type."""
        return " and ".join(
            f"{_WITHIN[bound][1]} {_number(limit)}" for bound, limit in self.bounds.items()
        )

    def convert(self, value: Any) -> Any:
        """Convert a value that JSON gave, and check its range.

        Numbers are interchangeable for integers (truncated toward zero) and floats (rounded to 32
        bits).

        Raises:
            InvalidOptionError: For one of a wrong type or out of its range, in the API's words.
        """
        converted = self._converted(value)
        if self.kind == "float32" and not math.isfinite(converted):
            raise InvalidOptionError(
                f'option "{self.name}" is {converted}; it must be a finite number'
            )
        if self.kind == "choice" and converted not in self.choices:
            wanted = ", ".join(map(repr, self.choices))
            raise InvalidOptionError(f'option "{self.name}" must be one of {wanted}')
        for bound, limit in self.bounds.items():
            if not _WITHIN[bound][0](converted, limit):
                raise InvalidOptionError(
                    f'option "{self.name}" is {_number(converted)}; it must be {self.range}'
                )
        return converted

    def _converted(self, value: Any) -> Any:
        kind = self.type
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if kind == "integer" and number and _is_finite(value):
            return max(-INT64, min(INT64 - 1, int(value)))
        if kind == "float32" and number:
            return _float32(value)
        if self.kind == "array":
            return self._texts(value)
        if self.kind == "entries":
            return self._entries(value)
        if kind == "object" or isinstance(value, _SIMPLE.get(kind, ())):
            return value
        raise self._wrong_type(f"of type {kind}")

    def _texts(self, value: Any) -> tuple[str, ...]:
        if not isinstance(value, list | tuple):
            raise self._wrong_type("of type array")
        if not all(isinstance(item, str) for item in value):
            raise self._wrong_type("of an array of strings")
        return tuple(value)

    def _entries(self, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise self._wrong_type("of type array")
        return tuple(value)

    def _wrong_type(self, wanted: str) -> InvalidOptionError:
        return InvalidOptionError(f'option "{self.name}" must be {wanted}', wrong_type=self.name)


_SIMPLE: dict[str, type] = {"boolean": bool, "string": str}
_WITHIN: dict[str, tuple[Callable[[float, float], bool], str]] = {
    "ge": (operator.ge, "at least"),
    "gt": (operator.gt, "over"),
    "le": (operator.le, "at most"),
    "lt": (operator.lt, "under"),
}


@cache
def fields_of(options: type[Struct]) -> dict[str, Field]:
    """The fields of an options struct, by name."""
    info = inspect.type_info(options)
    assert isinstance(info, inspect.StructType)
    return {item.name: _field(item) for item in info.fields}


def build(options: type[T], values: Mapping[str, Any]) -> T:
    """Make an options struct of converted values.

    Raises:
        InvalidOptionError: For what ranges and types of single fields did not tell.
    """
    try:
        return msgspec.convert(values, options, str_keys=True)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at ")
        place = where.strip("`").removeprefix("$.") or "options"
        words = what.replace("`", "")
        raise InvalidOptionError(f'option "{place}": {words[:1].lower()}{words[1:]}') from None


def _field(item: inspect.Field) -> Field:
    known, kind, description = item.type, "object", ""
    if isinstance(known, inspect.Metadata):
        description = (known.extra_json_schema or {}).get("description", "")
        known = known.type
    if isinstance(known, inspect.UnionType):
        others = [other for other in known.types if not isinstance(other, inspect.NoneType)]
        if len(others) == 1:
            known = others[0]
    if isinstance(known, inspect.Metadata):
        description = (known.extra_json_schema or {}).get("description", description)
        known = known.type
    kind = _KINDS.get(type(known), "object")
    if kind == "array" and not isinstance(_item_type(known), inspect.StrType):
        kind = "object"
    default = item.default
    if default is msgspec.NODEFAULT:
        default = None if item.default_factory is msgspec.NODEFAULT else item.default_factory()
    return Field(
        name=item.name,
        kind=kind,
        description=description,
        default=default,
        bounds=_bounds(known),
        choices=known.values if isinstance(known, inspect.LiteralType) else (),
    )


_KINDS: dict[type, str] = {
    inspect.IntType: "integer",
    inspect.FloatType: "float32",
    inspect.BoolType: "boolean",
    inspect.StrType: "string",
    inspect.VarTupleType: "array",
    inspect.ListType: "array",
    inspect.LiteralType: "choice",
}


def _item_type(known: Any) -> Any:
    item = known.item_type
    return item.type if isinstance(item, inspect.Metadata) else item


def _bounds(known: Any) -> dict[str, float]:
    if not isinstance(known, inspect.IntType | inspect.FloatType):
        return {}
    found = {name: getattr(known, name) for name in ("ge", "gt", "le", "lt")}
    return {name: limit for name, limit in found.items() if limit is not None}


def _is_finite(value: float) -> bool:
    # A float holds no integer of 400 digits; that is finite all the same.
    return isinstance(value, int) or math.isfinite(value)


def _float32(value: float) -> float:
    try:
        return float(struct.unpack("f", struct.pack("f", float(value)))[0])
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"
