"""`corral samplers`: what a token can be chosen by, in which order, with which fields."""

import sys

from msgspec import Struct

from corral_cli import table
from corral_cli.client import connect
from corral_cli.options import Field, bounds, section, shown, unknown
from corral_cli.parser import Call
from corral_kernel.gotext import format_number


class Sampler(Struct):
    """One sampler of `GET /api/samplers`."""

    name: str
    docs: str = ""
    plugin: str = ""
    distribution: str = ""
    version: str = ""
    default_place: float | None = None
    in_default_chain: bool = False
    replaces: list[str] = []
    fields: list[Field] = []


class Samplers(Struct):
    """`GET /api/samplers`."""

    samplers: list[Sampler] = []


def samplers(call: Call) -> None:
    """Print all samplers, or all about the one that is named.

    Raises:
        CommandError: If there is none of that name.
    """
    with connect() as client:
        found = client.get("/api/samplers", Samplers).samplers
    if not call.args:
        header = ("NAME", "PLACE", "DEFAULT", "PLUGIN", "FIELDS", "DESCRIPTION")
        sys.stdout.write(table.flowing([header, *map(_row, found)]))
        return
    for sampler in found:
        if sampler.name == call.args[0]:
            _print(sampler)
            return
    raise unknown("sampler", call.args[0], [sampler.name for sampler in found])


def _row(sampler: Sampler) -> tuple[str, ...]:
    fields = ", ".join(field.name for field in sampler.fields)
    used = "yes" if sampler.in_default_chain else "no"
    return (sampler.name, _place(sampler), used, sampler.plugin, fields, sampler.docs)


def _print(sampler: Sampler) -> None:
    place = _place(sampler) or 'none: only where "samplers" names it'
    rows = [
        ("name", sampler.name),
        ("plugin", sampler.plugin),
        ("distribution", f"{sampler.distribution} {sampler.version}".strip()),
        ("default place", place),
        ("default chain", "yes" if sampler.in_default_chain else "no"),
        ("replaces", ", ".join(sampler.replaces)),
    ]
    sys.stdout.write(section("Sampler", [row for row in rows if row[1]]))
    if sampler.docs:
        sys.stdout.write(section("Description", [(sampler.docs,)]))
    if sampler.fields:
        sys.stdout.write(section("Fields", [_field_row(field) for field in sampler.fields]))


def _field_row(field: Field) -> tuple[str, ...]:
    return (field.name, field.type, shown(field.default), bounds(field), field.description)


def _place(sampler: Sampler) -> str:
    return "" if sampler.default_place is None else format_number(sampler.default_place)
