"""The template as its reader uses it: copied, installed by pip, found by its entry point."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

TEMPLATE = Path(__file__).parents[3] / "plugin-template"


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copy") / "plugin-template"
    shutil.copytree(TEMPLATE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def installed(copied: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a process that sees the installed distribution beside our own."""
    site = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "--no-deps", "--no-build-isolation", "--target", site, copied],
        check=True,
        timeout=100,
    )
    path = os.pathsep.join([str(site), *filter(None, sys.path)])
    yield {**os.environ, "PYTHONPATH": path}
    shutil.rmtree(site)


def run(code: str, environment: dict[str, str]) -> object:
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=True, text=True
    )
    return json.loads(done.stdout)


BACKEND_HOOKS = ["corral_backends", "corral_claim", "corral_load"]
HOOKS = {
    "alphabet": ["corral_constraints"],
    "echo": BACKEND_HOOKS,
    "lean": ["corral_samplers"],
    "repeat": BACKEND_HOOKS,
}


@pytest.mark.parametrize("name", HOOKS)
def test_an_installed_plugin_is_found_by_its_entry_point_alone(
    name: str, installed: dict[str, str]
) -> None:
    code = (
        "import json\n"
        "from corral_kernel.plugins import Plugins\n"
        f"plugin, = [p for p in Plugins(only=[{name!r}]).plugins if p.name == {name!r}]\n"
        "print(json.dumps([plugin.distribution, plugin.version, plugin.status, plugin.hooks]))"
    )
    assert run(code, installed) == ["corral-echo", "0.1.0", "ok", HOOKS[name]]


def test_all_its_plugins_are_named_here() -> None:
    project = tomllib.loads((TEMPLATE / "pyproject.toml").read_text())["project"]
    wanted = {name: f"corral_{name}" for name in HOOKS}
    assert project["entry-points"]["corral"] == wanted


def test_entry_modules_import_nothing_of_a_worker_nor_numpy(installed: dict[str, str]) -> None:
    code = (
        "import json, sys, corral_echo, corral_repeat, corral_lean, corral_alphabet\n"
        "late = [n for n in sys.modules if n.endswith(('.engine', '.sampler', '.constraint'))]\n"
        "print(json.dumps([n for n in late if not n.startswith('corral_kernel')]\n"
        "                 + ['numpy'] * ('numpy' in sys.modules)))"
    )
    assert run(code, installed) == []


@pytest.mark.parametrize("name", ["echo", "repeat"])
def test_a_backend_loads_and_answers_through_the_plugin_manager(
    name: str, installed: dict[str, str]
) -> None:
    code = """
import json
from corral_kernel.contracts import Job, LoadRequest, TextPart
from corral_kernel.models import Model, ModelConfig
from corral_kernel.names import ModelName
from corral_kernel.fields import build
from corral_kernel.options import OptionTable
from corral_kernel.plugins import Plugins

plugins = Plugins(only=["NAME"])
model = Model(name=ModelName.parse("m"), digest="0" * 64, size_bytes=0, modified_ns=0,
              config=ModelConfig(), files=(), parameters={"backend": "NAME", "num_ctx": 64})
bid, = plugins.bids(model)
_, backend = plugins.backends[bid.claim.backend]
given = OptionTable(backend.options, {}).sort(model.parameters).load
request = LoadRequest(claim=bid.claim, options=build(backend.options, given), files=(), slots=1,
                      report=lambda share: True)
engine = plugins.load(bid.plugin.name, request)
prompt = engine.prepare([TextPart("hi")])
engine.admit(Job(id=1, prompt=prompt, max_tokens=9))
ids = []
while not engine.tokenizer.end_ids & {*ids}:
    (rows,) = engine.forward()
    ids.append(int(rows.logits[0].argmax()))
    engine.extend(1, ids[-1:])
print(json.dumps([engine.info.context_tokens, engine.tokenizer.decode(ids[:-1]).decode()]))
"""
    assert run(code.replace("NAME", name), installed) == [64, "hi"]


def test_its_own_tests_pass(copied: Path, installed: dict[str, str]) -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        str(copied / "tests"),
    ]
    done = subprocess.run(
        command, env=installed, cwd=copied, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]
