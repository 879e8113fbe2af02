"""`kill -9` of the server at twenty points of a pull, and at twenty of a creation."""

import contextlib
import hashlib
import json
import random
import signal
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

TINY = Path(__file__).parents[1] / "models" / "tiny-chat-f32.gguf"
CONFIG = b'{"model_format":"gguf","model_family":"llama","file_type":"F32"}'
MEGABYTE = 1 << 20
POINTS = 20
SETTINGS = {"CORRAL_PLUGINS": "echo,chat,oci"}

# Counts what the server is about to do to its store once it has stored a certain blob, and kills
# it right before the step that it is told.
TRAP = """
import os, signal, sys
STEPS = {"open", "os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.utime"}
marker, models = os.environ["TRAP_MARKER"], os.environ["TRAP_MODELS"]
step, log = int(os.environ["TRAP_STEP"]), os.environ["TRAP_LOG"]
seen = -1
def trap(event, arguments):
    global seen
    if event in STEPS:
        paths = [str(argument) for argument in arguments[:2]]
        if seen < 0 and event == "os.rename" and paths[1].endswith(marker):
            seen = 0
        elif seen >= 0 and any(path.startswith(models) for path in paths):
            seen += 1
            if seen == step:
                os.kill(os.getpid(), signal.SIGKILL)
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(descriptor, f"{event} {paths}\\n".encode())
            os.close(descriptor)
sys.addaudithook(trap)
"""


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Home:
    """A store that outlives its servers, and what must hold of it at every moment."""

    def __init__(self, lab: Any, path: Path) -> None:
        self.lab, self.path = lab, path
        self.blobs = path / "models" / "blobs"

    @contextlib.contextmanager
    def server(self, **settings: str) -> Iterator[tuple[Any, httpx.Client]]:
        with (
            self.lab.running_server(self.path, **SETTINGS, **settings) as server,
            httpx.Client(base_url=server.url, timeout=60) as client,
        ):
            yield server, client

    def file(self, digest: str) -> Path:
        return self.blobs / digest.replace(":", "-")

    def bytes_there(self, blobs: list[bytes]) -> dict[str, int]:
        """By digest how much of each blob a server would not fetch again."""
        found = {}
        for blob in blobs:
            digest = digest_of(blob)
            parts = self.file(digest).with_name(f"{self.file(digest).name}.parts")
            if self.file(digest).exists():
                found[digest] = len(blob)
            else:
                raw = parts.read_bytes()[24:] if parts.exists() else b""
                found[digest] = sum(count for (count,) in struct.iter_unpack("<Q", raw))
        return found

    def check(self) -> None:
        """Nothing that is stored is wrong, and no manifest names what is not there."""
        for path in self.blobs.iterdir():
            if "." not in path.name:
                assert digest_of(path.read_bytes()).replace(":", "-") == path.name
        for path in (self.path / "models" / "manifests").glob("*/*/*/*"):
            document = json.loads(path.read_bytes())
            for layer in (document["config"], *document["layers"]):
                assert self.file(layer["digest"]).stat().st_size == layer["size"]


@pytest.fixture
def home(lab: Any, tmp_path: Path) -> Home:
    return Home(lab, tmp_path / "home")


def upload(client: httpx.Client, data: bytes) -> str:
    digest = digest_of(data)
    client.post(f"/api/blobs/{digest}", content=data).raise_for_status()
    return digest


def create(client: httpx.Client, name: str, data: bytes, **fields: Any) -> httpx.Response:
    files = {"m.gguf": upload(client, data)}
    body = {"model": name, "files": files, "parameters": {"backend": "echo"}, "stream": False}
    return client.post("/api/create", json=body | fields)


def answers(client: httpx.Client, name: str) -> None:
    body = {"model": name, "prompt": "it works", "raw": True, "stream": False, "keep_alive": 0}
    answer = client.post("/api/generate", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["response"] == "it works"


def shown(client: httpx.Client, name: str) -> Any:
    answer = client.post("/api/show", json={"model": name})
    assert answer.status_code == 200, answer.text
    return answer.json()


def listed(client: httpx.Client) -> set[str]:
    return {model["name"] for model in client.get("/api/tags").json()["models"]}


class ByteTrap:
    """Kills a server once a registry has sent so many bytes; then it sends no more."""

    def __init__(self, process: Any, left: int) -> None:
        self.process, self.left, self.sprung = process, left, False
        self.lock = threading.Lock()

    def __call__(self, number: int) -> None:
        with self.lock:
            self.left -= number
            if self.left <= 0 and not self.sprung:
                self.sprung = True
                self.process.kill()
                self.process.wait()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_pull_goes_on_where_it_was_after_every_kill(lab: Any, home: Home) -> None:
    dice = random.Random(20261130)
    # More than one part of a blob, several blobs, and some that come in one piece.
    blobs = [dice.randbytes(size) for size in (20 * MEGABYTE, 3 * MEGABYTE, 1000, MEGABYTE)]
    wanted = [*blobs, CONFIG]
    whole = sum(map(len, wanted))
    points = sorted(dice.randrange(1, whole) for _ in range(POINTS))
    with lab.imitation() as registry:
        name = registry.offer("lib/big", lab.manifest_of(CONFIG, *blobs), CONFIG, *blobs)
        body = {"model": name, "insecure": True, "stream": False}
        there = dict.fromkeys(map(digest_of, wanted), 0)
        for number, point in enumerate(points):
            with home.server() as (server, client):
                if number == 0:
                    create(client, "kept", TINY.read_bytes()).raise_for_status()
                assert listed(client) == {"kept:latest"}
                assert shown(client, "kept")["details"]["family"] == "llama"
                if number % 5 == 0:
                    answers(client, "kept")
                registry.seen.clear()
                registry.on_send = trap = ByteTrap(
                    server.process, max(1, point - sum(there.values()))
                )
                with pytest.raises(httpx.HTTPError):
                    client.post("/api/pull", json=body)
                registry.on_send = None
                assert trap.sprung
            for digest, count in there.items():
                assert registry.wanted_bytes(digest) <= len(registry.blobs[digest]) - count
            before, there = there, home.bytes_there(wanted)
            assert all(there[digest] >= count for digest, count in before.items())
            home.check()
        registry.seen.clear()
        with home.server() as (_, client):
            assert client.post("/api/pull", json=body).json() == {"status": "success"}
            assert listed(client) == {"kept:latest", f"{name}:latest"}
            answers(client, "kept")
        for digest, count in there.items():
            assert registry.wanted_bytes(digest) == len(registry.blobs[digest]) - count
    assert sum(there.values()) > 0
    home.check()
    assert not [path for path in home.blobs.iterdir() if path.suffix in (".partial", ".parts")]


class StepTrap:
    """Servers that are killed right before one of their steps."""

    def __init__(self, home: Home, folder: Path) -> None:
        self.home, self.log = home, folder / "steps"
        self.marker = folder.name.encode()
        (folder / "site").mkdir()
        (folder / "site" / "sitecustomize.py").write_text(TRAP)
        self.settings = {
            "PYTHONPATH": str(folder / "site"),
            "TRAP_MARKER": digest_of(self.marker).replace(":", "-"),
            "TRAP_MODELS": str(home.path / "models"),
            "TRAP_LOG": str(self.log),
        }

    def steps(self) -> list[str]:
        return self.log.read_text().splitlines()

    @contextlib.contextmanager
    def server(self, step: int) -> Iterator[tuple[Any, httpx.Client]]:
        with self.home.server(**self.settings, TRAP_STEP=str(step)) as found:
            yield found

    def arm(self, client: httpx.Client) -> None:
        """From here on steps count."""
        self.home.file(digest_of(self.marker)).unlink(missing_ok=True)
        upload(client, self.marker)


def replace(client: httpx.Client, number: int) -> httpx.Response:
    """Make the model `m` anew, of weights and texts that no other has."""
    return create(
        client,
        "m",
        TINY.read_bytes() + bytes([number]),
        system=f"round {number}",
        license=[f"first of {number}", f"second of {number}"],
        messages=[{"role": "user", "content": f"{number}"}],
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_creation_leaves_the_old_model_or_the_new_one_after_every_kill(
    home: Home, tmp_path: Path
) -> None:
    trap = StepTrap(home, tmp_path)
    with trap.server(0) as (_, client):
        create(client, "kept", TINY.read_bytes()).raise_for_status()
        replace(client, 0).raise_for_status()
        trap.arm(client)
        replace(client, 1).raise_for_status()
    total = len(trap.steps())
    assert total > POINTS
    assert [step for step in trap.steps() if step.startswith("os.remove")], "the old blobs go"
    points = sorted(random.Random(20261130).sample(range(1, total + 1), POINTS))

    last = 1
    for number, step in enumerate([*points, 0], start=2):
        with trap.server(step) as (server, client):
            assert listed(client) == {"kept:latest", "m:latest"}
            if number % 5 == 0:
                answers(client, "m")
            system = shown(client, "m")["system"]
            assert system in (f"round {last}", f"round {number - 1}")
            last = int(system.rpartition(" ")[2])
            if not step:
                answers(client, "kept")
                answers(client, "m")
                client.post("/api/gc", json={"all": True}).raise_for_status()
                break
            with contextlib.suppress(httpx.HTTPError):  # the last steps may be after the answer
                trap.arm(client)
                replace(client, number)
            assert server.process.wait(60) == -signal.SIGKILL
        home.check()
    assert last > 1, "no point lay behind the new manifest"
    home.check()
    assert sorted(home.blobs.iterdir()) == sorted(needed(home))


def needed(home: Home) -> set[Path]:
    found = set()
    for path in (home.path / "models" / "manifests").glob("*/*/*/*"):
        document = json.loads(path.read_bytes())
        found |= {home.file(e["digest"]) for e in (document["config"], *document["layers"])}
    return found
