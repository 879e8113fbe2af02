"""`eq`, `lt` and their like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from corral_chat.gotemplate.formatting import show
from corral_chat.gotemplate.strings import encode
from corral_chat.gotemplate.values import (
    INVALID,
    Byte,
    GoList,
    GoMap,
    Struct,
    concrete,
    type_name,
)


class CallProblem(Exception):  # noqa: N818 - what is wrong is the template's, not ours
    """A function that cannot do what it is asked; the text is Go's."""


def _kind(value: Any) -> str:
    """Name the basic kind; empty: it has none."""
    match value:
        case bool():
            return "bool"
        case Byte():
            return "uint"
        case int():
            return "int"
        case float():
            return "float"
        case str():
            return "string"
    return ""


def _incompatible(first: Any, second: Any) -> CallProblem:
    types = f"{type_name(first)} and {type_name(second)}"
    return CallProblem(f"incompatible types for comparison: {types}")


def equal(first: Any, others: Sequence[Any]) -> bool:
    """Whether the first equals any of the others."""
    if not others:
        raise CallProblem("missing argument for comparison")
    first = concrete(first)
    kind = _kind(first)
    for given in others:
        other = concrete(given)
        other_kind = _kind(other)
        if kind != other_kind and {kind, other_kind} != {"int", "uint"}:
            if first is not INVALID and other is not INVALID:
                raise _incompatible(first, other)
        elif (first == other) if kind else _same(first, other):
            return True
    return False


def _same(first: Any, other: Any) -> bool:
    """Compare what has no basic kind: nil or not is all that there is to it, but for pointers."""
    invalid = first is INVALID or other is INVALID
    if not invalid and type(first) is not type(other):
        raise CallProblem(
            f"non-comparable types {show(first)}: {type_name(first)}, "
            f"{type_name(other)}: {show(other)}"
        )
    if _is_nil(first) or _is_nil(other):
        return _is_nil(first) == _is_nil(other)
    if isinstance(other, Struct) and other.kind.pointer:
        return first is other
    raise CallProblem(f"non-comparable type {show(other)}: {type_name(other)}")


def _is_nil(value: Any) -> bool:
    return value is INVALID or (isinstance(value, (GoList, GoMap)) and value.nil)


def less(first: Any, second: Any) -> bool:
    """Whether the first is less than the second."""
    first, second = concrete(first), concrete(second)
    kind, other_kind = _kind(first), _kind(second)
    if not kind or not other_kind:
        raise CallProblem("invalid type for comparison")
    if kind != other_kind and {kind, other_kind} != {"int", "uint"}:
        raise _incompatible(first, second)
    if kind == "bool":
        raise CallProblem("invalid type for comparison")
    if kind == "string":
        return encode(first) < encode(second)
    return bool(first < second)


def less_or_equal(first: Any, second: Any) -> bool:
    """Whether the first is less than the second, or equal."""
    return less(first, second) or equal(first, [second])
