"""`corral registries`: where models come from, what is lent in place, and who pulls a name."""

import sys
from collections.abc import Iterable
from urllib.parse import quote

from msgspec import Struct

from corral_cli import table
from corral_cli.client import Client, connect
from corral_cli.options import section
from corral_cli.parser import Call


class Lent(Struct):
    """A model that is lent."""

    name: str
    owner: str = ""
    problem: str = ""
    hidden: bool = False


class Registry(Struct):
    """One registry of `GET /api/registries`."""

    name: str
    docs: str = ""
    plugin: str = ""
    distribution: str = ""
    version: str = ""
    claims: str = ""
    form: str = ""
    claim: float = 0.0
    lends: list[Lent] = []
    notes: list[str] = []
    errors: list[str] = []


class Registries(Struct):
    """`GET /api/registries`."""

    registries: list[Registry] = []
    name: str = ""
    answered_by: str = ""


def name_of(client: Client, text: str) -> str:
    """Give the name that a model of an address (`hf://…`) has here; a name is one already."""
    return _ask(client, text).name or text if "://" in text else text


def _ask(client: Client, model: str) -> Registries:
    return client.get(f"/api/registries?name={quote(model, safe='')}", Registries)


def registries(call: Call) -> None:
    """Print all registries, all about one, or who pulls and pushes a model."""
    with connect() as client:
        found = client.get("/api/registries", Registries).registries
        if not call.args:
            _print_all(found)
        elif named := [registry for registry in found if registry.name == call.args[0]]:
            _print(named[0])
        else:
            _print_claims(_ask(client, call.args[0]))


def _print_all(found: Iterable[Registry]) -> None:
    found = list(found)
    header = ("NAME", "PLUGIN", "LENDS", "PULLS", "DESCRIPTION")
    sys.stdout.write(table.render([header, *map(_row, found)], cut=True))
    for registry in found:
        _print_notes(registry)


def _row(registry: Registry) -> tuple[str, ...]:
    lends = str(len(registry.lends)) if registry.lends else "-"
    pulls = "; ".join(filter(None, (registry.form, registry.claims))) or "-"
    return (registry.name, registry.plugin, lends, pulls, registry.docs)


def _print(registry: Registry) -> None:
    rows = [
        ("name", registry.name),
        ("description", registry.docs),
        ("plugin", registry.plugin),
        ("distribution", f"{registry.distribution} {registry.version}".strip()),
        ("addresses", registry.form),
        ("pulls", registry.claims),
    ]
    sys.stdout.write(section("Registry", [row for row in rows if row[1]]))
    if registry.lends:
        sys.stdout.write(section("Lends", [_lent_row(model) for model in registry.lends]))
    _print_notes(registry)


def _lent_row(model: Lent) -> tuple[str, ...]:
    hidden = "hidden by a model of the store; " if model.hidden else ""
    return (model.name, f"{hidden}{model.problem or model.owner}")


def _print_notes(registry: Registry) -> None:
    for note in (*registry.errors, *registry.notes):
        sys.stdout.write(table.render([(f"{registry.name}: {note}",)]))


def _print_claims(found: Registries) -> None:
    answer = found.answered_by or "no registry: none claims that name"
    takes = any(r.name == found.answered_by and r.claims for r in found.registries)
    verbs = "pulled and pushed" if takes or not found.answered_by else "pulled"
    sys.stdout.write(table.render([(f"{found.name} is {verbs} by {answer}",)]))
    lenders = [r.name for r in found.registries if any(m.name == found.name for m in r.lends)]
    for name in lenders:
        sys.stdout.write(table.render([(f"{found.name} is lent by {name}",)]))
