"""Kills amid conversions and quantizing: of the task, of the server; clients that leave."""

import contextlib
import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from threading import Timer
from typing import Any

import httpx
import psutil
import pytest

LIMIT_S = 60.0


class Site:
    """Servers on one folder of models, with the plugin `maker`."""

    def __init__(self, start: Callable[[], Any], models: Path, weights: Path) -> None:
        self._start = start
        self.models = models
        self.weights = weights
        self.client = httpx.Client()
        self.begin()
        self.create("kept", files={"kept.gguf": self.upload(weights.read_bytes())})

    def begin(self) -> None:
        """Start a server, in the place of one that is gone."""
        self.client.close()
        self.server = self._start()
        self.client = httpx.Client(base_url=self.server.url, timeout=LIMIT_S)

    def upload(self, data: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.client.post(f"/api/blobs/{digest}", content=data).raise_for_status()
        return digest

    def create(self, model: str, **fields: Any) -> None:
        body = {"model": model, "stream": False, **fields}
        answer = self.client.post("/api/create", json=body)
        assert answer.status_code == 200, answer.text

    def files(self, **recipe: Any) -> dict[str, str]:
        return {
            "recipe.json": self.upload(json.dumps(recipe).encode()),
            "source.safetensors": self.upload(self.weights.read_bytes()),
        }

    def state(self) -> set[str]:
        """All files but those of the tasks."""
        found = {path for path in self.models.rglob("*") if path.is_file()}
        return {str(path.relative_to(self.models)) for path in found if "making" not in path.parts}

    def left_of_tasks(self) -> list[Path]:
        making = self.models / "making"
        return list(making.iterdir()) if making.exists() else []

    def works(self) -> None:
        body = {"model": "kept", "prompt": "a", "raw": True, "stream": False}
        body["options"] = {"num_predict": 2, "num_ctx": 64}
        answer = self.client.post("/api/generate", json=body)
        assert answer.status_code == 200, answer.text

    @contextlib.contextmanager
    def converting(self, mark: Path) -> Iterator[tuple[int, Iterator[str]]]:
        """A conversion under way: the id of its process, and the lines that come."""
        body = {"model": "m", "files": self.files(how="wait", mark=str(mark))}
        with self.client.stream("POST", "/api/create", json=body) as answer:
            lines = answer.iter_lines()
            while not json.loads(next(lines)).get("completed"):
                pass
            yield int(mark.read_text()), lines


@pytest.fixture
def site(
    start_server: Callable[..., Any], making_plugin: Path, wide: Path, tmp_path: Path
) -> Iterator[Site]:
    models = tmp_path / "models"

    def start() -> Any:
        settings = {"CORRAL_MODELS": str(models), "CORRAL_MAX_TASKS": "1"}
        return start_server(**settings, PYTHONPATH=str(making_plugin))

    found = Site(start, models, wide)
    yield found
    found.client.close()
    found.server.stop()


def test_a_client_that_leaves_ends_the_conversion_and_leaves_the_store_as_it_was(
    site: Site, tmp_path: Path, wait_gone: Callable[[int], None]
) -> None:
    files = site.files(how="wait", mark=str(tmp_path / "mark"))
    before = site.state()
    assert files
    with site.converting(tmp_path / "mark") as (pid, _):
        pass
    wait_gone(pid)
    site.create("n", **{"from": "kept"}, system="later")  # the other is undone by then, or soon
    site.client.request("DELETE", "/api/delete", json={"model": "n"}).raise_for_status()
    wait_until_tidy(site)
    assert site.state() == before


def wait_until_tidy(site: Site) -> None:
    """What a server does for a client that left is done soon after."""
    deadline = time.monotonic() + LIMIT_S
    while site.left_of_tasks():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_task_that_is_killed_costs_an_error_and_nothing_else(site: Site, tmp_path: Path) -> None:
    site.files(how="wait", mark=str(tmp_path / "mark"))
    before = site.state()
    with site.converting(tmp_path / "mark") as (pid, lines):
        os.kill(pid, signal.SIGKILL)
        *_, last = lines
    assert json.loads(last) == {"error": "the process converting m was killed by SIGKILL"}
    assert site.state() == before
    assert not site.left_of_tasks()
    site.works()


def test_a_server_that_is_killed_leaves_what_the_next_one_serves(
    site: Site, tmp_path: Path, wait_gone: Callable[[int], None]
) -> None:
    site.files(how="wait", mark=str(tmp_path / "mark"))
    before = site.state()
    with contextlib.suppress(httpx.HTTPError), site.converting(tmp_path / "mark") as (pid, lines):
        site.server.process.kill()
        site.server.process.wait()
        list(lines)
    wait_gone(pid)
    assert site.left_of_tasks()
    site.begin()
    assert not site.left_of_tasks()
    assert site.state() == before
    site.works()
    names = [model["name"] for model in site.client.get("/api/tags").json()["models"]]
    assert "kept:latest" in names
    assert "m:latest" not in names


def test_a_server_that_ends_waits_for_no_conversion(
    site: Site, tmp_path: Path, wait_gone: Callable[[int], None]
) -> None:
    with contextlib.suppress(httpx.HTTPError), site.converting(tmp_path / "mark") as (pid, lines):
        assert site.server.stop() == 0
        list(lines)
    wait_gone(pid)
    assert not site.left_of_tasks()


@contextlib.contextmanager
def waiting(site: Site, path: str, **body: Any) -> Iterator[Iterator[dict[str, Any]]]:
    """A request that waits for a task to end, and the lines that it gets after that."""
    with site.client.stream("POST", path, json=body) as answer:
        lines = (json.loads(line) for line in answer.iter_lines())
        while not next(lines)["status"].startswith("waiting"):
            pass
        yield lines


def test_tasks_wait_for_each_other_and_a_client_that_leaves_is_out_of_the_line(
    site: Site, tmp_path: Path
) -> None:
    files = site.files(how="copy")
    compared = {"model_a": "kept", "model_b": "kept", "prompts": ["a"], "max_tokens": 2}
    compared["options"] = {"num_ctx": 64}
    with site.converting(tmp_path / "mark") as (pid, _):
        with waiting(site, "/api/create", model="left", files=files):
            pass
        with (
            waiting(site, "/api/create", model="copied", files=files) as copied,
            waiting(site, "/api/compare", **compared) as comparison,
        ):
            site.works()
            os.kill(pid, signal.SIGKILL)
            assert [*copied][-1] == {"status": "success"}
            assert [*comparison][-1]["status"] == "success"
    wait_until_tidy(site)
    names = {model["name"] for model in site.client.get("/api/tags").json()["models"]}
    assert "copied:latest" in names
    assert not names & {"m:latest", "left:latest"}


def test_a_server_that_ends_waits_for_nobody_in_the_line(site: Site, tmp_path: Path) -> None:
    files = site.files(how="copy")
    with (
        contextlib.suppress(httpx.HTTPError),
        site.converting(tmp_path / "mark"),
        waiting(site, "/api/create", model="n", files=files) as lines,
    ):
        assert site.server.stop() == 0
        list(lines)
    assert not site.left_of_tasks()


@pytest.mark.parametrize("victim", ["task", "server"])
def test_kills_at_any_moment_of_quantizing_leave_a_store_that_serves(
    site: Site, make_wide: Callable[..., Path], tmp_path: Path, victim: str
) -> None:
    big = make_wide(tmp_path / "big.gguf", layers=8)
    site.create("big", files={"big.gguf": site.upload(big.read_bytes())})
    whole = site.state()
    for lines_first in (1, 2, 3):
        body = {"model": "small", "from": "big", "quantize": "q4_k_m"}
        with (
            contextlib.suppress(httpx.HTTPError, StopIteration),
            site.client.stream("POST", "/api/create", json=body) as answer,
        ):
            lines = answer.iter_lines()
            for _ in range(lines_first):
                next(lines)
            kill(site, victim)
            list(lines)
        if site.server.process.poll() is not None:
            site.begin()
        assert not site.left_of_tasks()
        assert whole <= site.state()
        site.works()
    site.create("small", **{"from": "big"}, quantize="q4_k_m")


def kill(site: Site, victim: str) -> None:
    server = psutil.Process(site.server.process.pid)
    if victim == "server":
        server.kill()
        site.server.process.wait()
        return
    for child in server.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.nice() > server.nice():  # as tasks are
                child.kill()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_kills_of_the_server_amid_creating_store_nothing_wrong(
    site: Site, make_wide: Callable[..., Path], tmp_path: Path
) -> None:
    big = make_wide(tmp_path / "big.gguf", layers=6)
    make_wide(tmp_path / "parts.gguf", layers=6, split_max_tensors=20)
    site.create("big", files={"big.gguf": site.upload(big.read_bytes())})
    whole = site.state()
    parts = {
        path.name: site.upload(path.read_bytes()) for path in sorted(tmp_path.glob("parts-*.gguf"))
    }
    recipe = {
        "recipe.json": site.upload(json.dumps({"how": "copy"}).encode()),
        "source.safetensors": site.upload(big.read_bytes()),
    }
    ways: list[dict[str, Any]] = [
        {"from": "big", "quantize": "q4_k_m"},
        {"files": parts},
        {"files": recipe, "quantize": "q8_0"},
        {"files": recipe},
    ]
    random = Random(20_240_229)
    for number in range(20):
        killer = Timer(random.uniform(0, 2), site.server.process.kill)
        killer.start()
        body = {"model": f"m{number % 5}", "stream": False, **ways[number % len(ways)]}
        with contextlib.suppress(httpx.HTTPError):  # one that was quicker than the kill is good too
            site.client.post("/api/create", json=body)
        killer.join()
        site.server.process.wait()
        site.begin()
        assert not site.left_of_tasks()
        assert whole <= site.state()
        for blob in (site.models / "blobs").iterdir():
            if not blob.name.endswith(".writing"):  # of a writer that died, which a start removes
                assert blob.name == f"sha256-{digest_of(blob)}"
        for model in site.client.get("/api/tags").json()["models"]:
            site.client.post("/api/show", json={"model": model["name"]}).raise_for_status()
    site.works()


def digest_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
