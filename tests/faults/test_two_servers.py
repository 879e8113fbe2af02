"""Two servers on one store: what one makes, the other does not take apart."""

import concurrent.futures
import hashlib
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

TINY = Path(__file__).parents[1] / "models" / "tiny-chat-f32.gguf"
CONFIG = b'{"model_format":"gguf","model_family":"llama","file_type":"F32"}'
ROUNDS = 12
GONE = "no such file or directory"
"""What a creation says whose weights were deleted after they were sent and before it began."""


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def pair(serve: Callable[..., Any], models: Path) -> tuple[Any, Any]:
    settings = {"MODELS": str(models), "PLUGINS": "echo,chat,oci"}
    return serve(**settings), serve(**settings)


@pytest.fixture
def registry(lab: Any) -> Iterator[Any]:
    with lab.imitation() as running:
        yield running


class Owner:
    """Makes and deletes a model of its own, over and over, of weights that others share."""

    def __init__(self, served: Any, models: Path, name: str) -> None:
        self.client = httpx.Client(base_url=served.server.url, timeout=60)
        self.models = models
        self.name = name

    def create(self, number: int) -> None:
        """Send the weights as the command does, and make a model of them."""
        digest = digest_of(TINY.read_bytes())
        body = {
            "model": self.name,
            "files": {"m.gguf": digest},
            "system": f"round {number}",
            "parameters": {"backend": "echo"},
            "stream": False,
        }
        while True:
            if self.client.head(f"/api/blobs/{digest}").status_code != 200:
                self.client.post(f"/api/blobs/{digest}", content=TINY.read_bytes())
            answer = self.client.post("/api/create", json=body)
            if answer.status_code == 200:
                return
            assert GONE in answer.json()["error"], answer.text

    def pull(self, number: int) -> None:
        del number
        body = {"model": self.name, "insecure": True, "stream": False}
        answer = self.client.post("/api/pull", json=body)
        assert answer.json() == {"status": "success"}

    def check(self) -> None:
        """All that the manifest names is there, and is what it says."""
        host, _, rest = self.name.rpartition("/lib/")
        host, space = (host, "lib") if host else ("registry.ollama.ai", "library")
        manifest = self.models / "manifests" / host / space / rest / "latest"
        document = json.loads(manifest.read_bytes())
        for layer in (document["config"], *document["layers"]):
            path = self.models / "blobs" / layer["digest"].replace(":", "-")
            assert digest_of(path.read_bytes()) == layer["digest"]

    def ask(self) -> None:
        body = {"model": self.name, "prompt": "it works", "raw": True, "stream": False}
        answer = self.client.post("/api/generate", json=body)
        assert answer.status_code == 200, answer.text

    def delete(self) -> None:
        body = {"model": self.name}
        self.client.request("DELETE", "/api/delete", json=body).raise_for_status()

    def go(self, make: Callable[[int], None]) -> None:
        with self.client:
            for number in range(ROUNDS):
                make(number)
                self.check()
                if make == self.create and number % 4 == 0:
                    self.ask()
                self.check()
                self.delete()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_they_create_pull_and_delete_at_once_and_every_model_is_whole(
    lab: Any, registry: Any, pair: tuple[Any, Any], models: Path
) -> None:
    tiny = TINY.read_bytes()
    raw = lab.manifest_of(CONFIG, tiny)
    owners = []
    for number, served in enumerate(pair):
        name = registry.offer(f"lib/pulled{number}", raw, CONFIG, tiny)
        owners.append((Owner(served, models, f"made{number}"), Owner(served, models, name)))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        work = [pool.submit(making.go, making.create) for making, _ in owners]
        work += [pool.submit(pulling.go, pulling.pull) for _, pulling in owners]
        for one in work:
            one.result()
    first, second = (served.client for served in pair)
    assert first.get("/api/tags").json() == second.get("/api/tags").json() == {"models": []}


def test_a_model_that_one_server_runs_is_deleted_by_the_other(
    pair: tuple[Any, Any], models: Path, tools: Any
) -> None:
    runs, deletes = pair
    runs.create("running")  # of weights that no other model has
    runs.works("running")
    weights = runs.client.post("/api/show", json={"model": "running"}).json()["modelfile"]
    path = Path(weights.partition("\nFROM ")[2].partition("\n")[0])
    assert path.parent == models / "blobs"
    body = {"model": "running"}
    deletes.client.request("DELETE", "/api/delete", json=body).raise_for_status()
    assert runs.client.get("/api/tags").json() == {"models": []}
    assert path.exists()
    for pid in runs.workers():
        os.kill(pid, signal.SIGKILL)
    tools.until(lambda: not path.exists())
