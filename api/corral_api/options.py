"""`/api/options` and `/api/samplers`, routes of our own: what requests and Modelfiles may set."""

from typing import Any

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from msgspec import UNSET, Struct, UnsetType

from corral_api.answers import json_response
from corral_kernel import __version__
from corral_kernel.catalog import OptionEntry, SamplerEntry, all_options, all_samplers
from corral_kernel.fields import Field
from corral_kernel.service import Corral


class FieldAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A value that can be set; `default` null: unset. What does not apply to it is left out."""

    name: str
    type: str  # integer, float32, boolean, string, array or object
    items: tuple[str, ...] = ()  # of an array: the types of its items
    choices: tuple[Any, ...] = ()
    minimum: float | UnsetType = UNSET
    exclusive_minimum: float | UnsetType = UNSET
    maximum: float | UnsetType = UNSET
    exclusive_maximum: float | UnsetType = UNSET
    default: Any
    description: str


class OptionAnswer(FieldAnswer, frozen=True, kw_only=True, omit_defaults=True):
    """An option; of `load_time` ones a change loads the model anew."""

    load_time: bool
    owners: tuple[str, ...]


class OptionsResponse(Struct, frozen=True, kw_only=True):
    """`GET /api/options`."""

    options: tuple[OptionAnswer, ...]


class SamplerAnswer(Struct, frozen=True, kw_only=True):
    """A sampler. `default_place` null: it serves only where `samplers` names it."""

    name: str
    docs: str
    plugin: str
    distribution: str
    version: str
    default_place: float | None
    in_default_chain: bool
    replaces: tuple[str, ...]
    fields: tuple[FieldAnswer, ...]


class SamplersResponse(Struct, frozen=True, kw_only=True):
    """`GET /api/samplers`."""

    samplers: tuple[SamplerAnswer, ...]


@get("/api/options")
async def options(corral: NamedDependency[Corral]) -> Response[bytes]:
    """List every option that a request or a Modelfile may give."""
    entries = all_options(corral.plugins)
    return json_response(OptionsResponse(options=tuple(map(_option, entries))))


@get("/api/samplers")
async def samplers(corral: NamedDependency[Corral]) -> Response[bytes]:
    """List every sampler with its fields."""
    entries = all_samplers(corral.plugins)
    return json_response(SamplersResponse(samplers=tuple(map(_sampler, entries))))


def _option(entry: OptionEntry) -> OptionAnswer:
    told = _told(entry.field)
    return OptionAnswer(**told, load_time=entry.load_time, owners=entry.owners)


def _sampler(entry: SamplerEntry) -> SamplerAnswer:
    kind, plugin = entry.kind, entry.plugin
    return SamplerAnswer(
        name=kind.name,
        docs=kind.docs,
        plugin=plugin.name,
        distribution=plugin.distribution,
        version=plugin.version or __version__,  # the kernel's own have none
        default_place=kind.default_place,
        in_default_chain=entry.in_default_chain,
        replaces=tuple(kind.replaces),
        fields=tuple(FieldAnswer(**_told(field)) for field in entry.fields),
    )


_BOUNDS = {
    "ge": "minimum",
    "gt": "exclusive_minimum",
    "le": "maximum",
    "lt": "exclusive_maximum",
}
_ITEMS = {"array": ("string",), "entries": ("string", "object")}


def _told(field: Field) -> dict[str, Any]:
    bounds = {_BOUNDS[bound]: limit for bound, limit in field.bounds.items()}
    return bounds | {
        "name": field.name,
        "type": field.type,
        "items": _ITEMS.get(field.kind, ()),
        "choices": field.choices,
        "default": _json(field.default),
        "description": field.description,
    }


def _json(default: Any) -> Any:
    """A default value as JSON; what a stranger's type has no JSON for is shown as text."""
    try:
        return msgspec.to_builtins(default)
    except TypeError:
        return repr(default)
