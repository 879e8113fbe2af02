"""Models on other servers by the command, against a real server of ours that asks for them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HOST = "https://models.example.org/v1"


@pytest.fixture(scope="module")
def asking(start_server: Callable[..., Any], text_plugin: Path) -> Any:
    return start_server(
        PYTHONPATH=str(text_plugin),
        CORRAL_PLUGINS="chatter,chat",
        CORRAL_REMOTES="models.example.org",
    )


@pytest.fixture
def command(asking: Any, corral: Any) -> Any:
    """The command, as a client of that server."""
    corral.env["CORRAL_HOST"] = asking.url
    return corral


def test_a_modelfile_names_server_and_model(command: Any, tmp_path: Path) -> None:
    (tmp_path / "Modelfile").write_text(
        f"FROM {HOST}#/models/big one.gguf\nPARAMETER temperature 0.5\n"
        "PARAMETER api_key env:ACME_KEY\nSYSTEM Be brief.\n"
    )
    made = command("create", "elsewhere", cwd=tmp_path)
    assert (made.status, made.err.splitlines()[-1]) == (0, "success"), made.err

    row = command("list").out.splitlines()[1].split()
    assert row[0] == "elsewhere:latest"
    assert row[2] == "-"

    shown = command("show", "elsewhere").out
    assert "/models/big one.gguf" in shown
    assert HOST in shown
    printed = command("show", "elsewhere", "--modelfile").out
    assert f"FROM {HOST}#/models/big one.gguf" in printed.splitlines()

    answer = command("run", "elsewhere", "!request")
    assert answer.status == 0, answer.err
    told = json.loads(answer.out)
    assert (told["target"], told["sampling"]) == ("/models/big one.gguf", {"temperature": 0.5})

    loaded = command("ps").out.splitlines()[1].split()
    assert loaded[0] == "elsewhere:latest"

    (tmp_path / "Modelfile").write_text(printed)
    again = command("create", "again", cwd=tmp_path)
    assert again.status == 0, again.err
    assert command("rm", "elsewhere").status == 0


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (f"{HOST}#", "neither 'from' or 'files' was specified"),
        ("https://example.org/v1#m", "this server cannot run this remote model: example.org"),
        ("https://me:pw@models.example.org#m", "bad remote: it holds a user or a password"),
    ],
    ids=["no model", "not listed", "a password"],
)
def test_a_source_that_cannot_be_is_told(
    command: Any, tmp_path: Path, source: str, words: str
) -> None:
    (tmp_path / "Modelfile").write_text(f"FROM {source}\n")
    made = command("create", "none", cwd=tmp_path)
    assert made.status == 1
    assert words in made.err
    assert "pw@" not in made.err
