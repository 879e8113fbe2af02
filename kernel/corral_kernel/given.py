"""Looks at what plugins give: its type, and its name."""

import importlib.util
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from corral_kernel.contracts import (
    Backend,
    ConstraintType,
    LoadOptions,
    Maker,
    QuantizationType,
    Quantizer,
    SamplerType,
)
from corral_kernel.errors import PluginError
from corral_kernel.fields import fields_of
from corral_kernel.samplers import check_sampler_type

T = TypeVar("T")

ANYTHING = (Exception, SystemExit)
"""What a stranger's code may raise, and the server outlives."""

SCHEMA_TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
"""Values of `type` that make a `format` object a JSON Schema."""


def all_of(wanted: tuple[type[T], ...], items: Any, giver: str) -> Iterator[T]:
    """Give all items, each of one of the wanted types.

    Args:
        wanted: Types.
        items: What was given.
        giver: Who gave it, for the error.

    Raises:
        PluginError: At the first that is of none.
    """
    for item in items:
        if not isinstance(item, wanted):
            names = " or ".join(kind.__name__ for kind in wanted)
            raise PluginError(f"{giver} gave {type(item).__name__}, not {names}")
        yield item


def name_of(item: Any) -> str:
    """Give the name of what a plugin gave, if it can serve by it.

    Raises:
        PluginError: If not.
    """
    name = item.name
    if not isinstance(name, str) or not name:
        raise PluginError(f"a {type(item).__name__} has no name")
    if isinstance(item, Backend):
        if not issubclass(item.options, LoadOptions):
            raise PluginError(f"the options of backend {name} are no LoadOptions")
        fields_of(item.options)  # what it cannot read is no plugin's to break every request with
    if isinstance(item, SamplerType):
        check_sampler_type(item)
    if isinstance(item, ConstraintType) and name in SCHEMA_TYPES:
        raise PluginError(f"a constraint may not be named {name!r}: that is a type of JSON Schema")
    if isinstance(item, Quantizer):
        _check_types(name, item)
    return name


def _check_types(name: str, quantizer: Quantizer) -> None:
    kinds = msgspec.convert(msgspec.to_builtins(quantizer.types), tuple[QuantizationType, ...])
    for kind in kinds:
        if not kind.name or kind.name != kind.name.upper():
            raise PluginError(f"a type of quantizer {name} is named {kind.name!r}: use capitals")


def library_found(giver: Backend | Maker) -> bool:
    """Whether the library that something stands on is installed; it is not imported."""
    try:
        return not giver.library or importlib.util.find_spec(giver.library) is not None
    except (ImportError, ValueError):  # the parent of a dotted name is missing, or half there
        return False
