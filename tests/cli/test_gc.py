"""`corral gc` and `corral rm` against a real server, its store and its workers."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

TINY = Path(__file__).parents[1] / "models" / "tiny-chat-f32.gguf"


@pytest.fixture(scope="module")
def served(start_server: Any) -> Any:
    return start_server(CORRAL_PLUGINS="echo,chat,packages")


@pytest.fixture
def client(served: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, timeout=60) as found:
        yield found


def command(served: Any, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CORRAL_", "OLLAMA_"))}
    return subprocess.run(
        [sys.executable, "-m", "corral_cli", *words],
        env=kept | {"CORRAL_HOST": served.url, "CORRAL_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )


def create(client: httpx.Client, name: str) -> Path:
    """Make a model of weights of its own; gives the digest's file name."""
    data = TINY.read_bytes() + name.encode()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    client.post(f"/api/blobs/{digest}", content=data).raise_for_status()
    body = {
        "model": name,
        "files": {"m.gguf": digest},
        "parameters": {"backend": "echo"},
        "stream": False,
    }
    client.post("/api/create", json=body).raise_for_status()
    return Path("models") / "blobs" / digest.replace(":", "-")


def test_gc_tells_and_deletes(served: Any, client: httpx.Client, tmp_path: Path) -> None:
    data = b"sent, and never made a model of"
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    client.post(f"/api/blobs/{digest}", content=data).raise_for_status()
    path = served.home / "models" / "blobs" / digest.replace(":", "-")

    young = command(served, tmp_path, "gc")
    told = command(served, tmp_path, "gc", "--dry-run", "--all")
    assert path.exists()
    done = command(served, tmp_path, "gc", "--all")
    assert not path.exists()
    again = command(served, tmp_path, "gc", "--all")

    stays = "1 younger than an hour (31 B) stay; --all takes them too"
    assert young.stdout.splitlines() == ["nothing to delete", stays]
    lines = [line.rstrip() for line in told.stdout.splitlines()]
    assert lines[0].split() == ["WHAT", "COUNT", "SIZE"]
    assert lines[1].endswith("1        31 B")
    assert lines[2] == "31 B would be freed"
    assert done.stdout.splitlines()[-1] == "31 B freed"
    assert again.stdout == "nothing to delete\n"
    assert [run.returncode for run in (young, told, done, again)] == [0, 0, 0, 0]


def test_gc_answers_with_counts_and_sizes(client: httpx.Client) -> None:
    answer = client.post("/api/gc", json={"dry_run": True}).json()
    nothing = {"count": 0, "size": 0}
    heaps = ("blobs", "partials", "others", "folders", "cached", "young", "in_use")
    assert answer == {"dry_run": True, "size": 0, "files": [], **dict.fromkeys(heaps, nothing)}
    refused = client.post("/api/gc", json={"dry_run": "yes"})
    assert refused.status_code == 400
    assert "GcRequest.dry_run" in refused.json()["error"]


def test_rm_deletes_several_models_running_ones_too(
    served: Any, client: httpx.Client, tmp_path: Path
) -> None:
    paths = [served.home / create(client, name) for name in ("one", "two")]
    body = {"model": "one", "prompt": "x", "raw": True, "stream": False}
    client.post("/api/generate", json=body).raise_for_status()
    assert [entry["name"] for entry in client.get("/api/ps").json()["models"]] == ["one:latest"]

    done = command(served, tmp_path, "rm", "one", "two")

    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "deleted 'one'\ndeleted 'two'\n",
        "",
    )
    listed = {model["name"] for model in client.get("/api/tags").json()["models"]}
    assert not listed & {"one:latest", "two:latest"}
    assert not paths[1].exists()
    deadline = time.monotonic() + 20  # its worker is on its way out, and takes the file with it
    while paths[0].exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_running_model_that_is_deleted_answers_to_the_end(
    served: Any, client: httpx.Client
) -> None:
    path = served.home / create(client, "running")
    body = {"model": "running", "prompt": "a b c", "raw": True}
    with client.stream("POST", "/api/generate", json=body) as answer:
        lines = answer.iter_lines()
        next(lines)
        gone = client.request("DELETE", "/api/delete", json={"model": "running"})
        assert (gone.status_code, gone.content) == (200, b"")
        assert path.exists()
        assert '"done":true' in list(lines)[-1]
    assert client.post("/api/show", json={"model": "running"}).status_code == 404
    running = client.get("/api/ps").json()["models"]
    assert [entry["name"] for entry in running] == ["running:latest"]


def test_rm_of_a_lent_model_says_whose_it_is(
    served: Any, client: httpx.Client, tmp_path: Path, smollm2: Path
) -> None:
    del smollm2  # the package lends it
    create(client, "mine")
    done = command(served, tmp_path, "rm", "smollm2", "mine")
    assert done.returncode == 1
    assert "is lent by" in done.stderr
    assert "cannot be deleted here" in done.stderr
    assert done.stdout == ""
    listed = {model["name"] for model in client.get("/api/tags").json()["models"]}
    assert {"smollm2:latest", "mine:latest"} <= listed


def test_rm_stops_at_the_first_that_is_not_there(
    served: Any, client: httpx.Client, tmp_path: Path
) -> None:
    create(client, "first")
    create(client, "last")
    done = command(served, tmp_path, "rm", "first", "none", "last")
    assert (done.returncode, done.stdout) == (1, "deleted 'first'\n")
    assert done.stderr == "Error: model 'none' not found\n"
    listed = {model["name"] for model in client.get("/api/tags").json()["models"]}
    assert "last:latest" in listed
    assert "first:latest" not in listed
