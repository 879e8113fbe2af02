"""Every option, sampler and registry of a server, as they are listed, and the names that clash."""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from msgspec import Struct

from corral_kernel.chains import resolve
from corral_kernel.contracts import LoadOptions, Registry, SamplerType
from corral_kernel.fields import Field, fields_of
from corral_kernel.given import ANYTHING
from corral_kernel.models import LentModel
from corral_kernel.names import ModelName
from corral_kernel.options import BACKEND, SAMPLERS, Given, OptionTable, RequestOptions
from corral_kernel.plugins import Clash, Plugin, Plugins

T = TypeVar("T")
KERNEL = "corral"
"""Owner of the options that each backend and every request has."""


class OptionEntry(Struct, frozen=True, kw_only=True):
    """One option of requests and Modelfiles.

    Args:
        field: Its name, type, range, default.
        load_time: Whether a model is loaded anew when it changes.
        owners: Who obeys it: `corral`, names of backends or of samplers.
    """

    field: Field
    load_time: bool
    owners: tuple[str, ...]


class SamplerEntry(Struct, frozen=True, kw_only=True):
    """One sampler.

    Args:
        kind: Its type.
        plugin: Who gives it.
        in_default_chain: Whether it is in the chain of a request without any options.
        fields: Of its options.
    """

    kind: SamplerType
    plugin: Plugin
    in_default_chain: bool
    fields: tuple[Field, ...]


def all_options(plugins: Plugins) -> list[OptionEntry]:
    """Every option, by name; of one name several only where backends mean different things."""
    found: list[OptionEntry] = []
    for owner, load_time, option in _owned(plugins):
        same = next((e for e in found if _same(e.field, option) and e.load_time == load_time), None)
        if same is None:
            found.append(OptionEntry(field=option, load_time=load_time, owners=(owner,)))
        elif owner not in same.owners:
            more = OptionEntry(field=same.field, load_time=load_time, owners=(*same.owners, owner))
            found[found.index(same)] = more
    return sorted(found, key=lambda entry: entry.field.name)


def all_samplers(plugins: Plugins) -> list[SamplerEntry]:
    """Every sampler: those with a place in the default chain first, in its order."""
    types = _types(plugins)
    chain, _ = resolve(OptionTable(LoadOptions, types), Given(), lenient=True)
    in_chain = {spec.name for spec in chain.samplers}
    entries = [
        SamplerEntry(
            kind=kind,
            plugin=plugin,
            in_default_chain=name in in_chain,
            fields=tuple(fields_of(kind.options).values()),
        )
        for name, (plugin, kind) in plugins.samplers.items()
    ]
    return sorted(entries, key=lambda entry: (_place(entry.kind), entry.kind.name))


def option_clashes(plugins: Plugins) -> list[Clash]:
    """Names of options that a sampler has and somebody else means otherwise.

    Of each the `winner` (`corral`, a backend, a sampler) has the plain option; a `loser`, a
    sampler, takes its field under the sampler's own name alone.
    """
    owners: dict[str, tuple[str, Field | None]] = {BACKEND.name: (KERNEL, None)}
    owners[SAMPLERS.name] = (KERNEL, None)
    for name in (*fields_of(RequestOptions), *fields_of(LoadOptions)):
        owners[name] = (KERNEL, None)
    for backend_name, (_, backend) in plugins.backends.items():
        for name in fields_of(backend.options):
            owners.setdefault(name, (backend_name, None))
    losers: dict[str, list[str]] = {}
    for sampler, kind in _types(plugins).items():
        for name, option in fields_of(kind.options).items():
            _, first = owners.setdefault(name, (sampler, option))
            if first is None or first.kind != option.kind:
                losers.setdefault(name, []).append(sampler)
    return [Clash("option", name, owners[name][0], tuple(names)) for name, names in losers.items()]


def _owned(plugins: Plugins) -> Iterator[tuple[str, bool, Field]]:
    """Who has which option; whether it counts when loading."""
    common = fields_of(LoadOptions)
    yield KERNEL, True, BACKEND
    yield KERNEL, False, SAMPLERS
    yield from ((KERNEL, False, option) for option in fields_of(RequestOptions).values())
    yield from ((KERNEL, True, option) for option in common.values())
    for name, (_, backend) in plugins.backends.items():
        own = fields_of(backend.options)
        yield from ((name, True, own[field]) for field in own if field not in common)
    types = _types(plugins)
    table = OptionTable(LoadOptions, types)
    for name, kind in types.items():
        fields = fields_of(kind.options).values()
        yield from ((name, False, option) for option in fields if table.owns(kind, option.name))
    for name in types:
        if name not in (*table.request, *table.load, *table.flat, BACKEND.name, SAMPLERS.name):
            yield name, False, Field(name, "object", f"fields of the sampler {name}", None)


def _same(one: Field, other: Field) -> bool:
    """Whether two options of a name are one, whatever is said of them."""
    return (one.name, one.kind, one.default, dict(one.bounds), one.choices) == (
        (other.name, other.kind, other.default, dict(other.bounds), other.choices)
    )


def _types(plugins: Plugins) -> Mapping[str, SamplerType]:
    return {name: kind for name, (_, kind) in plugins.samplers.items()}


def _place(kind: SamplerType) -> float:
    return float("inf") if kind.default_place is None else kind.default_place


class RegistryEntry(Struct, frozen=True, kw_only=True):
    """One registry.

    Args:
        registry: The object of its plugin.
        plugin: Who gives it.
        claim: How much it claims the name that was asked for.
        lent: What it lends now.
        notes: What users should know of it.
        errors: What it raised when it was asked.
    """

    registry: Registry
    plugin: Plugin
    claim: float = 0.0
    lent: tuple[LentModel, ...] = ()
    notes: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


def all_registries(plugins: Plugins, name: ModelName | None = None) -> list[RegistryEntry]:
    """Every registry, with what it lends now. Asks them all: call it in a thread.

    Args:
        plugins: Of the server.
        name: A model, to see who claims it: the highest pulls and pushes it.
    """
    return [_asked(plugin, registry, name) for plugin, registry in plugins.registries.values()]


def _asked(plugin: Plugin, registry: Registry, name: ModelName | None) -> RegistryEntry:
    errors: list[str] = []

    def ask(what: str, call: Callable[[], T], default: T) -> T:
        try:
            return call()
        except ANYTHING as error:
            errors.append(f"{what} raised {type(error).__name__}: {error}")
            return default

    nothing: tuple[LentModel, ...] = ()
    silent: tuple[str, ...] = ()
    lent = ask("lent()", lambda: tuple(registry.lent()), nothing)
    notes = ask("notes()", lambda: tuple(map(str, registry.notes())), silent)
    claim = 0.0 if name is None else ask("claim()", lambda: float(registry.claim(name)), 0.0)
    return RegistryEntry(
        registry=registry,
        plugin=plugin,
        claim=claim,
        lent=tuple(model for model in lent if isinstance(model, LentModel)),
        notes=notes,
        errors=tuple(errors),
    )
