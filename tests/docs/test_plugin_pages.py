"""The pages for authors of plugins: every code block of theirs, run as a reader would.

In a fresh environment, each shell block begins in the folder where the last one ended; blocks of a
file are written to it. A remark before a block says what must come of it.
"""

import json
import re
import socket
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from corral_packages import PackagedModel

PAGES = Path(__file__).parents[2] / "docs" / "plugins"
ADDRESS = "127.0.0.1:11434"
BLOCK = re.compile(
    r"(?:^<!-- (?P<what>\w+): (?P<value>[^\n]*) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(1200)]


@dataclass(frozen=True)
class Block:
    """One block. `what` and `value` are of the remark before it, if there is one."""

    language: str
    code: str
    what: str
    value: str


def blocks(page: str) -> list[Block]:
    text = (PAGES / page).read_text()
    found = [
        Block(match["language"], match["code"], match["what"] or "", match["value"] or "")
        for match in BLOCK.finditer(text)
    ]
    assert len(found) == text.count("\n```") / 2, "a block that this test cannot read"
    return found


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


class Reader:
    """Follows a page in a terminal."""

    def __init__(self, venv: Any, folder: Path) -> None:
        self.folder = folder
        self._host = f"127.0.0.1:{free_port()}"
        # The models of a page answer shortly enough by themselves; threads are others' too.
        self._environment = venv.environment(folder.parent / "home", CORRAL_HOST=self._host)

    def do(self, block: Block) -> str:
        """Do what a block says; give what it prints."""
        if block.what == "file":
            path = self.folder / block.value
            assert path.parent.is_dir()
            path.write_text(block.code)
            return ""
        code = block.code.replace(ADDRESS, self._host)
        if block.language == "python":
            return self.run("python", "-c", code)
        assert block.language == "sh"
        told = self.run("bash", "-euc", f"{code}\necho; pwd")
        told, _, folder = told.rstrip("\n").rpartition("\n")
        self.folder = Path(folder)
        return told.removesuffix("\n")

    def run(self, *command: str) -> str:
        """Run a command where the reader is."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**self._environment, "OLLAMA_HOST": self._host},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=500,
            check=False,
        )
        assert done.returncode == 0, f"{command}:\n{done.stdout}"
        return done.stdout


def answer_of(block: Block, told: str) -> str:
    if block.language == "python":
        return told.removesuffix("\n")
    response: str = json.loads(told)["response"]
    return response


def check(block: Block, told: str) -> None:
    """Check what the remark before a block says of it."""
    if block.what == "without":
        answer = answer_of(block, told)
        assert len(answer) > 10
        assert not set(block.value) & set(answer.lower())
    elif block.what == "matches":
        assert re.fullmatch(block.value, answer_of(block, told))
    elif block.what == "response":
        assert answer_of(block, told) == block.value
    elif block.what == "error":
        assert block.value in json.loads(told)["error"]
    else:
        assert block.what in ("", "file")


@pytest.mark.parametrize(
    ("page", "samples"),
    [
        ("first-plugin.md", {"corral samplers": "writes without some letters"}),
        ("constraint.md", {"corral plugins doctor": "ok      shout  format shout"}),
        ("backend.md", {"corral run polly": "Who is there?"}),
        ("text-engine.md", {"corral run loud": "WHO IS THERE?"}),
    ],
    ids=["first-plugin", "constraint", "backend", "text-engine"],
)
def test_every_block_of_a_page_does_what_it_says(
    page: str, samples: dict[str, str], venv: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    reader = Reader(venv, folder)
    seen = 0
    try:
        for block in blocks(page):
            told = reader.do(block)
            check(block, told)
            for command, words in samples.items():
                if command in block.code:
                    assert words in told
                    seen += 1
    finally:
        reader.folder = folder  # wherever a failing block led
        reader.run("corral", "shutdown")
    assert seen >= len(samples)
    assert "No module named" not in reader.run("corral", "plugins")


def test_the_sampler_of_the_first_page_has_some_twenty_lines() -> None:
    (block,) = [b for b in blocks("first-plugin.md") if b.value.endswith("/sampler.py")]
    assert len([line for line in block.code.splitlines() if line.strip()]) <= 20


def test_the_code_of_the_first_page_is_clean(tmp_path: Path) -> None:
    from corral_cli.authoring_names import PluginNames
    from corral_cli.authoring_template import make

    folder = make(PluginNames.parse("sampler", "lipogram"), tmp_path)
    for block in blocks("first-plugin.md"):
        if block.what == "file":
            (folder / block.value).write_text(block.code)
    for tool in ("ruff check .", "ruff format --check .", "mypy src"):
        command = [sys.executable, "-m", *tool.split()]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_the_requests_of_the_samplers_page_are_answered(venv: Any, tmp_path: Path) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    reader = Reader(venv, folder)
    try:
        reader.run("corral", "list")  # starts the server
        answers = [reader.do(block) for block in blocks("samplers.md")]
    finally:
        reader.run("corral", "shutdown")
    assert len(answers) == 3
    for told in answers:
        last = json.loads(told.strip().splitlines()[-1])
        assert last["done"]
        assert "warnings" not in last


def test_the_module_of_the_packages_page_offers_a_model() -> None:
    toml, python = blocks("packages.md")
    points = tomllib.loads(toml.code)["project"]["entry-points"]["corral.models"]
    found: dict[str, Any] = {}
    exec(python.code, found)
    ((name, place),) = points.items()
    assert isinstance(found[place.partition(":")[2]], PackagedModel)
    assert found[place.partition(":")[2]].name == name


RUN_ELSEWHERE = {
    "chat.md": "plugins/chat/parsers/test_own_family.py",
    "folders.md": "plugins/folders/test_folder_names.py",
    "guidance.md": "generation/test_generation_formats.py",
    "registries.md": "plugins/oci/test_registries_page.py",
    "remote.md": "plugins/remote/test_remote_over_http.py",
    "onnx.md": "plugins/onnx/test_onnx_page.py",
    "safetensors.md": "plugins/safetensors/test_safetensors_page.py",
    "ctransformers.md": "plugins/ctransformers/test_ctransformers_page.py",
}


def test_every_page_with_blocks_has_a_test_that_reads_it() -> None:
    here = Path(__file__).read_text()
    for page in sorted(path.name for path in PAGES.glob("*.md")):
        if blocks(page):
            place = RUN_ELSEWHERE.get(page)
            text = (PAGES.parents[1] / "tests" / place).read_text() if place else here
            assert f'"{page}"' in text, f"no test runs the blocks of {page}"


def test_pages_without_blocks_to_run_have_none() -> None:
    assert blocks("sampler.md") == []
