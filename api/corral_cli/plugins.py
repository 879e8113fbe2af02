"""`corral plugins`: what is installed, what each gives, and what keeps some from it."""

import logging
import os
import sys
from typing import Final

import msgspec
from msgspec import Struct

from corral_cli import table
from corral_cli.client import connect
from corral_cli.errors import BrokenAnswerError, NoServerError
from corral_cli.parser import Call
from corral_kernel.environment import Settings


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
    docs: dict[str, str] = {}


class Clash(Struct):
    """A name that more than one plugin gives."""

    kind: str
    name: str
    winner: str = ""
    losers: list[str] = []


class Change(Struct):
    """A plugin that was installed or removed since the server started."""

    name: str
    distribution: str = ""
    version: str = ""
    change: str = ""


class Plugins(Struct):
    """`GET /api/plugins`."""

    plugins: list[Plugin] = []
    clashes: list[Clash] = []
    changes: list[Change] = []


_RESTART: Final = (
    "It counts when the server is started again: 'corral shutdown' ends one that runs in the "
    "background, 'corral run' or 'corral serve' starts it.\n"
)


def plugins(call: Call) -> int:
    """Print the plugins that the server found; with `--json`, its answer as it is.

    Raises:
        BrokenAnswerError: If the server's answer is none.
    """
    if call.args:
        from corral_cli.authoring import authoring

        return authoring(call)
    answer = _ask()
    if call.on("json"):
        sys.stdout.write(msgspec.json.format(answer, indent=2).decode() + "\n")
    else:
        _print(_decode(answer))
    return 0


def _decode(answer: bytes) -> Plugins:
    try:
        return msgspec.json.decode(answer, type=Plugins)
    except msgspec.MsgspecError as error:
        raise BrokenAnswerError(f"unreadable answer from the server: {error}") from None


def _ask() -> bytes:
    """Ask the server; where none runs on this machine, look at what one would load."""
    try:
        client = connect(start=False)
    except NoServerError:
        sys.stderr.write("no server is running; this is what one would load:\n")
        return msgspec.json.encode(_on_disk())
    with client:
        return bytes(client.get("/api/plugins", msgspec.Raw))


def _on_disk() -> Plugins:
    from corral_kernel import plugins as kernel
    from corral_kernel.catalog import option_clashes

    logging.getLogger("corral_kernel").addHandler(logging.NullHandler())  # the table tells all
    settings = Settings.from_environ(os.environ)
    found = kernel.Plugins(settings.plugins, settings.disable_plugins)
    provided = [found.provides(plugin) for plugin in found.plugins]
    return Plugins(
        plugins=[
            Plugin(
                name=plugin.name,
                distribution=plugin.distribution,
                version=plugin.version,
                api_version=plugin.api_version,
                hooks=list(plugin.hooks),
                provides=provides,
                status=plugin.status,
                error=plugin.error,
                hint=plugin.hint,
            )
            for plugin, provides in zip(found.plugins, provided, strict=True)
        ],
        clashes=[
            Clash(kind=c.kind, name=c.name, winner=c.winner, losers=list(c.losers))
            for c in (*found.clashes, *option_clashes(found))
        ],
    )


def _print(found: Plugins) -> None:
    rows = [_row(plugin) for plugin in found.plugins]
    header = ("NAME", "DISTRIBUTION", "VERSION", "STATUS", "PROVIDES")
    sys.stdout.write(table.render([header, *rows], cut=True))  # `--json` tells all
    for plugin in found.plugins:
        if plugin.error or plugin.hint:
            reason = ": ".join(part for part in (plugin.error, plugin.hint) if part)
            sys.stdout.write(f"\n{plugin.name} ({plugin.status}): {reason}\n")
    for clash in found.clashes:
        sys.stdout.write(f"\n{_told(clash)}\n")
    for plugin in found.plugins:
        for name, docs in plugin.docs.items():
            sys.stdout.write(f"\n{name}: {docs}\n")
    if found.changes:
        what = ", ".join(
            f"{c.name} ({c.distribution} {c.version}) {c.change}" for c in found.changes
        )
        sys.stdout.write(f"\nSince the server started: {what}. {_RESTART}")


def _told(clash: Clash) -> str:
    losers = ", ".join(clash.losers)
    if clash.kind == "option":
        return (
            f"option {clash.name!r} is {clash.winner}'s; as a field of {losers} it is set under "
            'the sampler\'s name, or in its entry of "samplers"'
        )
    return (
        f"{clash.kind} {clash.name!r} is given by more than one plugin: "
        f"{clash.winner} is used, not {losers}"
    )


def _row(plugin: Plugin) -> tuple[str, ...]:
    provides = "; ".join(
        f"{kind}: {', '.join(names)}" for kind, names in plugin.provides.items() if names
    )
    hooks = ", ".join(hook.removeprefix("corral_") for hook in plugin.hooks)
    what = provides or hooks
    return (plugin.name, plugin.distribution, plugin.version, plugin.status, what)
