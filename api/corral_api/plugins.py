"""`/api/plugins`, a route of our own: which plugins there are and what they give."""

from litestar import Response, get
from litestar.di import NamedDependency
from msgspec import Struct

from corral_api.answers import json_response
from corral_kernel.plugins import Clash, Plugin
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


class ClashEntry(Struct, frozen=True, kw_only=True):
    """A name that several plugins gave."""

    kind: str
    name: str
    winner: str
    losers: tuple[str, ...]


class PluginsResponse(Struct, frozen=True, kw_only=True):
    """`GET /api/plugins`."""

    plugins: tuple[PluginEntry, ...]
    clashes: tuple[ClashEntry, ...]


@get("/api/plugins")
async def plugins(corral: NamedDependency[Corral]) -> Response[bytes]:
    """List the plugins, those that could not be used too."""
    found = corral.plugins
    # Asking what each provides comes first: it is what finds clashes and missing libraries.
    provided = [found.provides(plugin) for plugin in found.plugins]
    entries = tuple(map(_entry, found.plugins, provided))
    return json_response(
        PluginsResponse(plugins=entries, clashes=tuple(map(_clash, found.clashes)))
    )


def _entry(plugin: Plugin, provides: dict[str, list[str]]) -> PluginEntry:
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
    )


def _clash(clash: Clash) -> ClashEntry:
    return ClashEntry(
        kind=clash.kind, name=clash.name, winner=clash.winner, losers=tuple(clash.losers)
    )
