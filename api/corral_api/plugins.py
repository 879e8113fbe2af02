"""`/api/plugins`, a route of our own: which plugins there are and what they give."""

from litestar import Response, get
from litestar.di import NamedDependency
from msgspec import Struct

from corral_api.answers import json_response
from corral_kernel.catalog import option_clashes
from corral_kernel.plugins import Clash, Plugin, installed
from corral_kernel.service import Corral


class PluginEntry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One plugin. `status` is `ok`, `failed`, `disabled` or `unavailable`."""

    name: str
    distribution: str
    version: str
    api_version: int | None
    hooks: tuple[str, ...]
    provides: dict[str, list[str]]
    status: str
    error: str = ""
    hint: str = ""
    docs: dict[str, str] = {}  # of what it provides, by name


class ClashEntry(Struct, frozen=True, kw_only=True):
    """A name that several plugins gave."""

    kind: str
    name: str
    winner: str
    losers: tuple[str, ...]


class ChangeEntry(Struct, frozen=True, kw_only=True):
    """What is otherwise on disk than this server loaded; `change` is `installed` or `removed`."""

    name: str
    distribution: str
    version: str
    change: str


class PluginsResponse(Struct, frozen=True, kw_only=True):
    """`GET /api/plugins`."""

    plugins: tuple[PluginEntry, ...]
    clashes: tuple[ClashEntry, ...]
    changes: tuple[ChangeEntry, ...]  # since the start; they count from the next one on


@get("/api/plugins")
async def plugins(corral: NamedDependency[Corral]) -> Response[bytes]:
    """List the plugins, those that could not be used too."""
    found = corral.plugins
    # Asking what each provides comes first: it is what finds clashes and missing libraries.
    provided = [found.provides(plugin) for plugin in found.plugins]
    docs = {
        (kind, name): given.docs
        for kind, all_given in (
            ("backends", found.backends),
            ("converters", found.converters),
            ("quantizers", found.quantizers),
        )
        for name, (_, given) in all_given.items()
    }
    pairs = zip(found.plugins, provided, strict=True)
    entries = tuple(_entry(plugin, provides, docs) for plugin, provides in pairs)
    clashes = (*found.clashes, *option_clashes(found))
    return json_response(
        PluginsResponse(
            plugins=entries,
            clashes=tuple(map(_clash, clashes)),
            changes=_changes({(p.name, p.distribution, p.version) for p in found.plugins}),
        )
    )


def _changes(loaded: set[tuple[str, str, str]]) -> tuple[ChangeEntry, ...]:
    now = installed()
    found = [(*plugin, "installed") for plugin in now - loaded]
    found += [(*plugin, "removed") for plugin in loaded - now]
    return tuple(
        ChangeEntry(name=name, distribution=distribution, version=version, change=change)
        for name, distribution, version, change in sorted(found)
    )


def _entry(
    plugin: Plugin, provides: dict[str, list[str]], docs: dict[tuple[str, str], str]
) -> PluginEntry:
    return PluginEntry(
        name=plugin.name,
        distribution=plugin.distribution,
        version=plugin.version,
        api_version=plugin.api_version,
        hooks=plugin.hooks,
        provides=provides,
        status=plugin.status,
        error=plugin.error,
        hint=plugin.hint,
        docs={
            name: words
            for kind, names in provides.items()
            for name in names
            if (words := docs.get((kind, name)))
        },
    )


def _clash(clash: Clash) -> ClashEntry:
    return ClashEntry(
        kind=clash.kind, name=clash.name, winner=clash.winner, losers=tuple(clash.losers)
    )
