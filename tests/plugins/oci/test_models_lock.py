"""`models.lock`: written, brought back elsewhere, and served, with a real registry."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from corral_kernel.errors import InvalidLockError
from corral_kernel.lockfile import LockedModel, dump, parse
from corral_kernel.names import ModelName

TINY = Path(__file__).parents[2] / "models" / "tiny-chat-f32.gguf"
pytestmark = pytest.mark.timeout(300)  # many servers are started, one after the other
needs_registry = pytest.mark.skipif(
    shutil.which("docker-registry") is None,
    reason="needs docker-registry: apt-get install docker-registry",
)


@pytest.fixture(scope="module")
def address(lab: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with lab.docker_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


class Machine:
    """A home of its own: with a server in it, or without."""

    def __init__(self, lab: Any, home: Path) -> None:
        self.lab, self.home = lab, home
        self.lock = home / "models.lock"
        home.mkdir(exist_ok=True)

    def server(self, **settings: str) -> Any:
        settings = {"CORRAL_PLUGINS": "echo,chat,oci", **settings}
        return self.lab.running_server(self.home, **settings)

    def command(self, url: str, *words: str) -> subprocess.CompletedProcess[str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("CORRAL_", "OLLAMA_"))}
        return subprocess.run(
            [sys.executable, "-m", "corral_cli", *words],
            env=kept | {"CORRAL_HOST": url, "CORRAL_HOME": str(self.home / "client")},
            capture_output=True,
            text=True,
            check=False,
            cwd=self.home,
        )

    def wipe(self) -> None:
        shutil.rmtree(self.home / "models")


@pytest.fixture
def machine(lab: Any, tmp_path: Path) -> Machine:
    return Machine(lab, tmp_path / "machine")


def client_of(server: Any) -> httpx.Client:
    return httpx.Client(base_url=server.url, timeout=60)


def create(client: httpx.Client, name: str, system: str) -> None:
    data = TINY.read_bytes()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    client.post(f"/api/blobs/{digest}", content=data).raise_for_status()
    body = {
        "model": name,
        "files": {"m.gguf": digest},
        "system": system,
        "parameters": {"backend": "echo"},
        "stream": False,
    }
    client.post("/api/create", json=body).raise_for_status()


def publish(client: httpx.Client, name: str, system: str) -> None:
    """Put a model into the registry; it stays here too."""
    create(client, name, system)
    body = {"model": name, "insecure": True, "stream": False}
    assert client.post("/api/push", json=body).json() == {"status": "success"}


def digests(client: httpx.Client) -> dict[str, str]:
    return {m["name"]: f"sha256:{m['digest']}" for m in client.get("/api/tags").json()["models"]}


def system_of(client: httpx.Client, name: str) -> str:
    return str(client.post("/api/show", json={"model": name}).json()["system"])


@needs_registry
def test_what_is_locked_comes_back_on_an_empty_machine_after_the_tag_moved(
    lab: Any, machine: Machine, address: str
) -> None:
    name = f"{address}/lib/moving:x"
    with machine.server() as server, client_of(server) as client:
        publish(client, name, "the first")
        client.post("/api/copy", json={"source": name, "destination": "mine"}).raise_for_status()
        before = digests(client)
        done = machine.command(server.url, "lock")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "locked 2 models in models.lock\n"
        publish(client, name, "the second")
        assert digests(client)[name] != before[name]

    models = parse(machine.lock.read_text())
    assert {n.short: m.manifest for n, m in models.items()} == before
    assert {m.source for m in models.values()} == {name}
    assert {m.registry for m in models.values()} == {"oci"}

    machine.wipe()
    with machine.server() as server, client_of(server) as client:
        done = machine.command(server.url, "pull", "--insecure", "--locked", "models.lock")
        assert done.returncode == 0, done.stderr
        assert digests(client) == before
        assert system_of(client, name) == system_of(client, "mine") == "the first"
        again = machine.command(server.url, "lock", "-o", "again.lock")
        assert again.returncode == 0
        assert (machine.home / "again.lock").read_text() == machine.lock.read_text()
        asked = {"model": "mine", "prompt": "x", "raw": True, "stream": False}
        assert client.post("/api/generate", json=asked).status_code == 200


@needs_registry
def test_a_blob_that_the_registry_has_lost_is_a_clear_error_and_changes_nothing(
    lab: Any, machine: Machine, tmp_path: Path
) -> None:
    (tmp_path / "registry").mkdir()
    with lab.docker_registry(tmp_path / "registry") as address:
        name = f"{address}/lib/lost:x"
        with machine.server() as server, client_of(server) as client:
            publish(client, name, "kept")
            assert machine.command(server.url, "lock", name).returncode == 0
            create(client, name, "of today")
            today = digests(client)
            lost = hashlib.sha256(b"kept").hexdigest()
            folders = [path for path in (tmp_path / "registry").rglob(lost) if path.is_dir()]
            assert folders
            for path in folders:
                shutil.rmtree(path)
            done = machine.command(server.url, "pull", "--insecure", "--locked", "models.lock")
            assert done.returncode == 1
            assert f"{name} cannot be had as it is locked: " in done.stderr
            assert digests(client) == today
            assert system_of(client, name) == "of today"


def test_nobody_is_asked_for_what_is_here(lab: Any, machine: Machine, registry: Any) -> None:
    tiny = TINY.read_bytes()
    config = b'{"model_format":"gguf","model_family":"llama"}'
    name = registry.offer("lib/m:x", lab.manifest_of(config, tiny), config, tiny)
    with machine.server() as server, client_of(server) as client:
        body = {"model": name, "insecure": True, "stream": False}
        assert client.post("/api/pull", json=body).json() == {"status": "success"}
        before = digests(client)
        assert machine.command(server.url, "lock").returncode == 0
        registry.seen.clear()
        manifests = machine.home / "models" / "manifests"
        shutil.rmtree(manifests)  # of the blobs all are still there
        assert digests(client) == {}
        done = machine.command(server.url, "pull", "--locked", "models.lock", name)
        assert done.returncode == 0, done.stderr
        assert digests(client) == before
    assert registry.seen == []
    with machine.server(CORRAL_LOCKED=str(machine.lock)) as server, client_of(server) as client:
        assert digests(client) == before
    assert registry.seen == []


def test_a_lock_of_what_nobody_has_a_source_of_says_so(lab: Any, machine: Machine) -> None:
    with machine.server() as server, client_of(server) as client:
        create(client, "made-here", "x")
        done = machine.command(server.url, "lock", "made-here")
        assert done.returncode == 0
        assert done.stderr.startswith("made-here:latest has no source: ")
        create(client, "too", "y")
        done = machine.command(server.url, "lock", "too", "made-here", "-o", "two.lock")
        (told,) = done.stderr.splitlines()
        assert told.startswith("2 of them have no source: ")
        assert told.endswith(": made-here:latest, too:latest")
        missing = machine.command(server.url, "lock", "made-here", "not-there")
        assert (missing.returncode, missing.stdout) == (1, "")
        assert missing.stderr == "Error: model 'not-there:latest' not found\n"
        unknown = machine.command(server.url, "pull", "--locked", "models.lock", "not-there")
        assert unknown.stderr == "Error: models.lock has no model not-there:latest\n"
    machine.wipe()
    with machine.server() as server, client_of(server) as client:
        done = machine.command(server.url, "pull", "--locked", "models.lock")
        assert done.returncode == 1
        assert "made-here:latest cannot be had as it is locked: " in done.stderr
        assert "the lock names no source of it" in done.stderr
        assert digests(client) == {}


def test_a_server_of_a_lock_serves_exactly_its_models_and_changes_none(
    lab: Any, machine: Machine
) -> None:
    with machine.server() as server, client_of(server) as client:
        create(client, "one", "of the lock")
        create(client, "other", "not of it")
        assert machine.command(server.url, "lock", "one").returncode == 0
    with machine.server(CORRAL_LOCKED=str(machine.lock)) as server, client_of(server) as client:
        assert list(digests(client)) == ["one:latest"]
        show = client.post("/api/show", json={"model": "other"})
        assert show.status_code == 404
        asked = {"model": "ONE", "prompt": "x", "raw": True, "stream": False}
        assert client.post("/api/generate", json=asked).status_code == 200
        changes: dict[str, tuple[str, dict[str, Any]]] = {
            "/api/create": ("POST", {"model": "new", "from": "one"}),
            "/api/copy": ("POST", {"source": "one", "destination": "new"}),
            "/api/delete": ("DELETE", {"model": "one"}),
            "/api/pull": ("POST", {"model": "other", "stream": False}),
        }
        for path, (method, body) in changes.items():
            refused = client.request(method, path, json=body)
            assert refused.status_code == 403, path
            assert refused.json()["error"] == (
                f"this server serves exactly the models of {machine.lock} and changes none: "
                "start it without --locked (CORRAL_LOCKED) to change models"
            )
        pulled = client.post("/api/pull", json={"model": "one", "stream": False})
        assert pulled.json() == {"status": "success"}
        # Another server, which is bound to nothing, may change the store all the same.
        with machine.server() as free, client_of(free) as other:
            create(other, "one", "changed by somebody else")
            changed = client.post("/api/generate", json=asked)
            assert changed.status_code == 500
            assert "another server changed it" in changed.json()["error"]
            assert digests(client) == {}
    # The next start makes it what the lock says: its blobs went with the change, and have no source
    done = subprocess.run(
        [sys.executable, "-m", "corral_cli", "serve", "--locked", str(machine.lock)],
        env={**os.environ, "CORRAL_HOME": str(machine.home), "CORRAL_HOST": "127.0.0.1:0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 1
    assert "Error: one:latest cannot be had as it is locked" in done.stderr


def test_a_server_of_a_lock_fetches_what_is_not_here_before_it_answers(
    lab: Any, machine: Machine, registry: Any
) -> None:
    tiny = TINY.read_bytes()
    config = b'{"model_format":"gguf","model_family":"llama"}'
    raw = lab.manifest_of(config, tiny)
    name = registry.offer("lib/m:x", raw, config, tiny)
    model = LockedModel(name=ModelName.parse(name), source=name, registry="oci", document=raw)
    machine.lock.write_text(dump([model]))
    registry.manifests.clear()
    words = ["serve", "--locked", str(machine.lock), "--insecure"]
    with subprocess.Popen(
        [sys.executable, "-m", "corral_cli", *words],
        env={**os.environ, "CORRAL_HOME": str(machine.home), "CORRAL_HOST": "127.0.0.1:0"},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        try:
            line = next(line for line in process.stderr if "Listening on " in line)
            url = "http://" + line.partition("Listening on ")[2].strip()
            with httpx.Client(base_url=url, timeout=60) as client:
                assert digests(client) == {name: f"sha256:{hashlib.sha256(raw).hexdigest()}"}
        finally:
            process.terminate()
            process.stderr.read()
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("version = 1", "version = 7"), "has version 7"),
        (lambda text: text.replace('\\"model_fo', '\\"madel_fo'), None),
        (lambda text: text.replace("size = ", "size = 1"), "other blobs than its document"),
        (lambda text: text.replace('manifest = "sha256:', 'manifest = "sha256:0'), "by hand"),
        (lambda text: text.replace("made-here", "../x"), "which is no model's name"),
        (lambda text: text + "[", "is no TOML"),
        (lambda _: "a = " + "[" * 100_000, "is no TOML"),
        (lambda _: "\x00" * 10, "is no TOML"),
        (lambda _: "version = 1\nmodels = 3\n", "has no table 'models'"),
        (lambda _: 'version = 1\n[models]\n"a" = 3\n', "is no table"),
        (lambda _: "version = 1\n[models.a]\nsource = 3\n", "a source that is no text"),
        (lambda _: "version = 1\n[models.a]\n", "has no document"),
        (lambda text: text + text[text.index("[models") :].replace("made", "MADE"), "twice"),
    ],
    ids=[
        "version", "nothing", "sizes", "digest", "name", "cut", "deep", "zeros",
        "no table", "no entry", "no text", "no document",
        "twice",
    ],
)  # fmt: skip
def test_a_lock_that_was_changed_is_refused_by_what_is_wrong(
    locked: str, change: Any, words: str | None
) -> None:
    if words is None:
        assert len(parse(change(locked))) == 1
        return
    with pytest.raises(InvalidLockError, match=words):
        parse(change(locked))


@pytest.fixture(scope="module")
def locked() -> str:
    document = json.dumps(
        {
            "config": {"digest": f"sha256:{'ab' * 32}", "size": 5},
            "layers": [{"digest": f"sha256:{'cd' * 32}", "size": 7}],
        }
    ).encode()
    model = LockedModel(name=ModelName.parse("made-here"), source="s", document=document)
    text = dump([model])
    assert parse(text) == {model.name: model}
    return text
