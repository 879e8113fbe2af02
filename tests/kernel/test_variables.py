"""The table of variables says what the settings do; the documents and the help say the table."""

from pathlib import Path

import pytest

from corral_cli import helptext
from corral_cli.commands import find
from corral_kernel.environment import Settings
from corral_kernel.variables import UNUSED, VARIABLES

DOCS = Path(__file__).parents[2] / "docs" / "settings.md"
OTHERWISE = {"MODELS", "KV_CACHE_TYPE", "EXECUTION_PROVIDER"}
"""Those whose default is told in other words than the variable takes."""


class Asked(dict[str, str]):
    """An empty environment that remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def get(self, key: str, default: str | None = None) -> str | None:  # type: ignore[override]  # one of dict's overloads
        self.names.add(key)
        return default


def test_a_server_reads_just_what_the_table_says() -> None:
    environ = Asked()
    Settings.from_environ(environ)
    served = {name for name, variable in VARIABLES.items() if variable.of_server}
    asked = {n.removeprefix("CORRAL_") for n in environ.names if n.startswith("CORRAL_")}
    assert asked == served | set(UNUSED)


def test_a_variable_of_ollama_s_that_nothing_obeys_is_told_of() -> None:
    assert not set(UNUSED) & set(VARIABLES)
    settings = Settings.from_environ({"OLLAMA_SCHED_SPREAD": "1", "CORRAL_VULKAN": "0"})
    assert settings.unused == (
        "OLLAMA_SCHED_SPREAD is ignored: set the load option split_mode or tensor_split",
        "CORRAL_VULKAN is ignored: the backend's library chooses its devices",
    )


def test_the_documents_name_what_nothing_obeys() -> None:
    text = DOCS.read_text()
    rows = {f"| `OLLAMA_{name}` | {why} |" for name, why in UNUSED.items()}
    assert {row for row in rows if row not in text} == set()


@pytest.mark.parametrize("name", [n for n, v in VARIABLES.items() if v.of_server and v.default])
def test_a_default_of_the_table_is_the_default(name: str) -> None:
    if name not in OTHERWISE:
        told = Settings.from_environ({f"CORRAL_{name}": VARIABLES[name].default})
        assert told == Settings.from_environ({})


def test_the_documents_have_the_table() -> None:
    rows = [
        f"| `{'CORRAL' if name == 'HOME' else 'X'}_{name}` "
        f"| {f'`{variable.default}`' if variable.default else ''} | {variable.meaning} |"
        for name, variable in VARIABLES.items()
    ]
    text = DOCS.read_text().replace("|  |", "| |")
    assert "\n".join(rows).replace("|  |", "| |") in text


def test_the_help_has_the_table() -> None:
    serve = find("serve")
    assert serve is not None
    for text in (helptext.root(), helptext.of_command(serve)):
        shown = " ".join(text.split())
        for name, variable in VARIABLES.items():
            if variable.of_server:
                default = f" (default {variable.default})" if variable.default else ""
                assert f"CORRAL_{name} {variable.meaning}{default}" in shown
