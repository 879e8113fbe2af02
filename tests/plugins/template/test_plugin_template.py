"""The template as its reader uses it: copied, installed by pip, found by its entry point."""

import json
import os
import shutil
import subprocess
import sys
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


def test_the_installed_plugin_is_found_by_its_entry_point_alone(installed: dict[str, str]) -> None:
    code = (
        "import json\n"
        "from corral_kernel.plugins import Plugins\n"
        "plugin, = [p for p in Plugins(only=['echo']).plugins if p.name == 'echo']\n"
        "print(json.dumps([plugin.distribution, plugin.version, plugin.status, plugin.hooks]))"
    )
    hooks = ["corral_backends", "corral_claim", "corral_load"]
    assert run(code, installed) == ["corral-echo", "0.1.0", "ok", hooks]


def test_its_entry_module_imports_neither_its_engine_nor_numpy(installed: dict[str, str]) -> None:
    code = (
        "import json, sys, corral_echo; loaded = set(sys.modules)\n"
        "print(json.dumps(sorted({'corral_echo.engine', 'numpy'} & loaded)))"
    )
    assert run(code, installed) == []


def test_it_loads_and_answers_through_the_plugin_manager(installed: dict[str, str]) -> None:
    code = """
import json
from corral_kernel.contracts import Job, LoadRequest, TextPart
from corral_kernel.models import Model, ModelConfig
from corral_kernel.names import ModelName
from corral_kernel.options import build, coerce
from corral_kernel.plugins import Plugins

plugins = Plugins(only=["echo"])
model = Model(name=ModelName.parse("m"), digest="0" * 64, size_bytes=0, modified_ns=0,
              config=ModelConfig(), files=(), parameters={"backend": "echo", "num_ctx": 64})
bid, = plugins.bids(model)
_, backend = plugins.backends[bid.claim.backend]
_, given, _ = coerce(model.parameters, backend.options)
given.pop("backend")
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
    assert run(code, installed) == [64, "hi"]


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
