"""`corral options`: what requests and Modelfiles may set; and the types of PARAMETERs."""

import json
import sys
from difflib import get_close_matches
from typing import Any, Final

from msgspec import Struct

from corral_cli import table
from corral_cli.client import NOT_FOUND, Client, connect
from corral_cli.errors import CommandError, ServerError
from corral_cli.parser import Call
from corral_kernel.gotext import format_number
from corral_kernel.modelfile import KNOWN_PARAMETERS, ParameterTypes

_TYPES: Final = frozenset({"integer", "float32", "boolean", "string", "array", "object"})


class Field(Struct):
    """A value that can be set, as `GET /api/options` and `GET /api/samplers` tell of it."""

    name: str
    type: str = "object"
    items: list[str] = []
    choices: list[Any] = []
    minimum: float | None = None
    exclusive_minimum: float | None = None
    maximum: float | None = None
    exclusive_maximum: float | None = None
    default: Any = None
    description: str = ""


class Option(Field):
    """One option of `GET /api/options`."""

    load_time: bool = False
    owners: list[str] = []


class Options(Struct):
    """`GET /api/options`."""

    options: list[Option] = []


def options(call: Call) -> None:
    """Print all options, or all about the one that is named.

    Raises:
        CommandError: If there is none of that name.
    """
    with connect() as client:
        found = client.get("/api/options", Options).options
    if not call.args:
        header = ("NAME", "TYPE", "DEFAULT", "LOAD-TIME", "OWNER", "DESCRIPTION")
        sys.stdout.write(table.flowing([header, *map(_row, found)]))
        return
    named = [option for option in found if option.name == call.args[0]]
    if not named:
        raise unknown("option", call.args[0], [option.name for option in found])
    for option in named:
        sys.stdout.write(section("Option", _detail_rows(option)))
        if option.description:
            sys.stdout.write(section("Description", [(option.description,)]))


def parameter_types(client: Client) -> ParameterTypes:
    """Ask the server which PARAMETERs it knows; of one that is older, Ollama's.

    Raises:
        ServerError: If it can tell no list for another reason.
    """
    try:
        found = client.get("/api/options", Options).options
    except ServerError as error:
        if error.status != NOT_FOUND:
            raise
        return KNOWN_PARAMETERS
    # Of one name the first counts, as in a request; what a newer server invented is read as JSON.
    return {option.name: _kind(option) for option in reversed(found)}


def _kind(option: Option) -> str:
    if option.type == "array" and "object" in option.items:
        return "entries"
    return option.type if option.type in _TYPES else "object"


def unknown(what: str, name: str, names: list[str]) -> CommandError:
    """Make the error for a name that the server does not list."""
    near = get_close_matches(name, names, n=1)
    guess = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(sorted(names))}"
    return CommandError(f"no {what} '{name}'; {guess}")


def section(title: str, rows: list[tuple[str, ...]]) -> str:
    """Lay out one section of a page about one thing."""
    return f"  {title}\n{table.flowing([('', *row) for row in rows])}\n"


def bounds(field: Field) -> str:
    """Say which values there are beside the type; empty: all of it."""
    limits = (
        ("at least", field.minimum),
        ("over", field.exclusive_minimum),
        ("at most", field.maximum),
        ("under", field.exclusive_maximum),
    )
    words = [f"{word} {format_number(limit)}" for word, limit in limits if limit is not None]
    if field.choices:
        words.append("one of " + ", ".join(map(shown, field.choices)))
    return ", ".join(words)


def shown(value: Any) -> str:
    """Write a value for a table: a text as it is, else JSON; nothing for one that is unset."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False)


def _row(option: Option) -> tuple[str, ...]:
    when = "yes" if option.load_time else "no"
    owners = ", ".join(option.owners)
    return (option.name, option.type, shown(option.default), when, owners, option.description)


def _detail_rows(option: Option) -> list[tuple[str, ...]]:
    rows = [
        ("name", option.name),
        ("type", option.type),
        ("range", bounds(option)),
        ("default", shown(option.default)),
        ("load-time", "yes: a change loads the model anew" if option.load_time else "no"),
        ("owner", ", ".join(option.owners)),
    ]
    return [row for row in rows if row[1]]
