"""`corral plugins`: what is installed, what each gives, and what keeps some from it."""

import sys

import msgspec
from msgspec import Struct

from corral_cli import table
from corral_cli.client import connect
from corral_cli.parser import Call


class Plugin(Struct):
    """One plugin of `GET /api/plugins`."""

    name: str
    distribution: str = ""
    version: str = ""
    api_version: int | None = None
    hooks: list[str] = []
    provides: dict[str, list[str]] = {}
    status: str = "ok"
    error: str | None = None
    hint: str | None = None


class Clash(Struct):
    """A name that more than one plugin gives."""

    kind: str
    name: str
    winner: str = ""
    losers: list[str] = []


class Plugins(Struct):
    """`GET /api/plugins`."""

    plugins: list[Plugin] = []
    clashes: list[Clash] = []


def plugins(call: Call) -> None:
    """Print the plugins that the server found; with `--json`, its answer as it is."""
    with connect() as client:
        if call.on("json"):
            answer = client.get("/api/plugins", msgspec.Raw)
            sys.stdout.write(msgspec.json.format(bytes(answer), indent=2).decode() + "\n")
            return
        found = client.get("/api/plugins", Plugins)
    rows = [_row(plugin) for plugin in found.plugins]
    header = ("NAME", "DISTRIBUTION", "VERSION", "STATUS", "PROVIDES")
    sys.stdout.write(table.render([header, *rows]))
    for plugin in found.plugins:
        if plugin.error or plugin.hint:
            reason = ": ".join(part for part in (plugin.error, plugin.hint) if part)
            sys.stdout.write(f"\n{plugin.name} ({plugin.status}): {reason}\n")
    for clash in found.clashes:
        losers = ", ".join(clash.losers)
        sys.stdout.write(
            f"\n{clash.kind} {clash.name!r} is given by more than one plugin: "
            f"{clash.winner} is used, not {losers}\n"
        )


def _row(plugin: Plugin) -> tuple[str, ...]:
    provides = "; ".join(
        f"{kind}: {', '.join(names)}" for kind, names in plugin.provides.items() if names
    )
    hooks = ", ".join(hook.removeprefix("corral_") for hook in plugin.hooks)
    what = provides or hooks
    return (plugin.name, plugin.distribution, plugin.version, plugin.status, what)
