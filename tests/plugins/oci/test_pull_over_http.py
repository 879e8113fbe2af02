"""Pulls through a real server: clients that leave, memory, the `ollama` client."""

import contextlib
import fcntl
import hashlib
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import ollama
import psutil
import pytest

TINY = Path(__file__).parents[2] / "models" / "tiny-chat-f32.gguf"
CONFIG = b'{"model_format":"gguf","model_family":"llama","file_type":"F32"}'
MEGABYTE = 1 << 20
PART = 16 * MEGABYTE


def lines_of(answer: httpx.Response) -> list[Any]:
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.fixture(scope="module")
def running(lab: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with lab.running_server(tmp_path_factory.mktemp("home")) as server:
        yield server


@pytest.fixture
def client(running: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, timeout=60) as found:
        yield found


def body(name: str, **more: Any) -> dict[str, Any]:
    return {"model": name, "insecure": True, **more}


def test_a_model_that_was_pulled_runs(lab: Any, registry: Any, client: httpx.Client) -> None:
    tiny = TINY.read_bytes()
    raw = lab.manifest_of(CONFIG, tiny)
    name = registry.offer("lib/tiny:x", raw, CONFIG, tiny)

    told = lines_of(client.post("/api/pull", json=body(name)))

    assert told[0] == {"status": "pulling manifest"}
    assert told[-1] == {"status": "success"}
    (listed,) = [m for m in client.get("/api/tags").json()["models"] if m["name"] == name]
    assert listed["digest"] == hashlib.sha256(raw).hexdigest()
    asked = {"model": name, "prompt": "hello", "stream": False, "options": {"num_predict": 2}}
    assert client.post("/api/generate", json=asked).json()["eval_count"] == 2


def test_an_answer_without_stream_is_one_line_and_errors_have_a_status(
    lab: Any, registry: Any, client: httpx.Client
) -> None:
    name = registry.offer("lib/m", lab.manifest_of(CONFIG, b"w"), CONFIG, b"w")
    assert client.post("/api/pull", json=body(name, stream=False)).json() == {"status": "success"}

    missing = client.post("/api/pull", json=body(f"{name}-not", stream=False))
    assert missing.status_code == 500
    assert missing.json() == {"error": "pull model manifest: file does not exist"}

    streamed = client.post("/api/pull", json=body(f"{name}-not"))
    assert streamed.status_code == 200
    assert lines_of(streamed) == [
        {"status": "pulling manifest"},
        {"error": "pull model manifest: file does not exist"},
    ]


def test_a_model_is_made_of_one_that_is_pulled_first(lab: Any, tmp_path: Path) -> None:
    tiny = TINY.read_bytes()
    with (
        lab.imitation(tls=True) as registry,
        lab.running_server(tmp_path, SSL_CERT_FILE=str(lab.CERTIFICATE)) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        name = registry.offer("lib/m:x", lab.manifest_of(CONFIG, tiny), CONFIG, tiny)
        request = {"model": "mine", "from": name, "system": "Be brief."}

        told = lines_of(client.post("/api/create", json=request))

        statuses = [line["status"] for line in told]
        assert statuses[0] == "pulling manifest"
        assert f"using existing layer {lab.digest_of(tiny)}" in statuses
        assert statuses.count("success") == 1
        assert statuses[-1] == "success"
        listed = {model["name"] for model in client.get("/api/tags").json()["models"]}
        assert {"mine:latest", name} <= listed
        assert client.post("/api/show", json={"model": "mine"}).json()["system"] == "Be brief."

        request["from"] = f"{name}-not"
        words = {"error": "pull model manifest: file does not exist"}
        assert lines_of(client.post("/api/create", json=request))[-1] == words
        refused = client.post("/api/create", json=request | {"stream": False})
        assert (refused.status_code, refused.json()) == (500, words)


@pytest.mark.parametrize("command", ["create", "quantize"])
def test_a_model_is_made_of_one_of_a_registry_of_plain_http_only_if_that_is_wanted(
    lab: Any, registry: Any, running: Any, tmp_path: Path, command: str
) -> None:
    tiny = TINY.read_bytes()
    name = registry.offer(f"lib/{command}:x", lab.manifest_of(CONFIG, tiny), CONFIG, tiny)
    (tmp_path / "Modelfile").write_text(f"FROM {name}\nSYSTEM Be brief.\n")
    words = {"create": ["create", "mine"], "quantize": ["quantize", name, "F32", "mine"]}[command]

    def run(*flags: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "corral_cli", *words, *flags],
            cwd=tmp_path,
            env=os.environ | {"CORRAL_HOST": running.url},
            capture_output=True,
            text=True,
            check=False,
        )

    refused = run()
    assert refused.returncode == 1
    assert registry.seen == []  # which is no request of TLS
    done = run("--insecure")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "success")
    with httpx.Client(base_url=running.url, timeout=60) as client:
        listed = {model["name"] for model in client.get("/api/tags").json()["models"]}
    assert {"mine:latest", name} <= listed


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(
    lab: Any, client: httpx.Client
) -> None:
    with lab.imitation(tls=True) as registry:
        asked = {"model": f"{registry.authority}/lib/m", "stream": False}
        error = client.post("/api/pull", json=asked).json()["error"]
    assert "tls: failed to verify certificate: self" in error


def test_a_client_that_leaves_ends_its_download_and_the_next_goes_on(
    lab: Any, registry: Any, running: Any, client: httpx.Client
) -> None:
    data = lab.random_bytes(40 * MEGABYTE)
    digest = lab.digest_of(data)
    name = registry.offer("lib/left", lab.manifest_of(CONFIG, data), CONFIG, data)
    held: list[Any] = []

    def hold(seen: Any, reply: Any) -> Any:
        if seen.span and len(reply.body) > MEGABYTE:
            reply.hold = 4 * MEGABYTE
            held.append(reply)
        return reply

    registry.script = hold
    with client.stream("POST", "/api/pull", json=body(name)) as answer:
        for line in answer.iter_lines():
            if json.loads(line).get("completed", 0) >= 12 * MEGABYTE:  # all three streams wait
                break
    for reply in held:
        reply.gate.set()
    registry.script = None
    registry.seen.clear()
    told = lines_of(client.post("/api/pull", json=body(name)))
    assert told[-1] == {"status": "success"}
    assert registry.wanted_bytes(digest) == len(data) - 12 * MEGABYTE


def test_two_clients_share_one_download_and_each_sees_it_grow(
    lab: Any, registry: Any, running: Any
) -> None:
    data = lab.random_bytes(40 * MEGABYTE)
    digest = lab.digest_of(data)
    name = registry.offer("lib/shared", lab.manifest_of(CONFIG, data), CONFIG, data)
    gate, growing = threading.Event(), threading.Barrier(3)

    def hold(seen: Any, reply: Any) -> Any:
        if seen.span == (0, PART - 1):
            reply.hold, reply.gate = MEGABYTE, gate
        return reply

    registry.script = hold

    def pull(lines: list[Any]) -> None:
        with (
            httpx.Client(base_url=running.url, timeout=60) as client,
            client.stream("POST", "/api/pull", json=body(name)) as answer,
        ):
            for line in answer.iter_lines():
                lines.append(json.loads(line))
                if len([1 for line in lines if line.get("digest")]) == 1:
                    growing.wait(lab.LIMIT_S)

    told: list[list[Any]] = [[], []]
    threads = [threading.Thread(target=pull, args=(lines,)) for lines in told]
    for thread in threads:
        thread.start()
    growing.wait(lab.LIMIT_S)  # both are told of the blob, which is not whole yet
    gate.set()
    for thread in threads:
        thread.join()

    for lines in told:
        assert lines[-1] == {"status": "success"}
        assert len([line for line in lines if line.get("digest") == digest]) > 1
    assert registry.wanted_bytes(digest) == len(data)


def test_the_ollama_client_pulls_and_pushes_with_its_progress(
    lab: Any, registry: Any, running: Any
) -> None:
    data = lab.random_bytes(3 * MEGABYTE)
    raw = lab.manifest_of(CONFIG, data)
    name = registry.offer("lib/client:x", raw, CONFIG, data)
    with ollama.Client(host=running.url) as client:
        steps = list(client.pull(name, insecure=True, stream=True))
        assert steps[-1].status == "success"
        assert max(step.completed or 0 for step in steps) == len(data)
        assert client.pull(name, insecure=True).status == "success"

        registry.blobs.clear()
        registry.manifests.clear()
        pushed = list(client.push(name, insecure=True, stream=True))
        assert [step.status for step in pushed][-2:] == ["pushing manifest", "success"]
        assert registry.manifests["/v2/lib/client/manifests/x"] == raw
        assert registry.blobs[lab.digest_of(data)] == data
        assert client.push(name, insecure=True).status == "success"
        with pytest.raises(ollama.ResponseError, match="pull model manifest: file does not exist"):
            client.pull(f"{name}-not", insecure=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_memory_stays_flat_and_the_server_answers_while_it_pulls_and_pushes(
    lab: Any, registry: Any, tmp_path: Path
) -> None:
    data = lab.random_bytes(300 * MEGABYTE)
    name = registry.offer("lib/large", lab.manifest_of(CONFIG, data), CONFIG, data)
    with (
        lab.running_server(tmp_path) as server,
        httpx.Client(base_url=server.url, timeout=200) as client,
    ):
        process = psutil.Process(server.process.pid)
        most = 0
        done = threading.Event()

        def watch() -> None:
            nonlocal most
            with httpx.Client(base_url=server.url, timeout=lab.LIMIT_S) as other:
                while not done.is_set():
                    most = max(most, process.memory_info().rss)
                    assert other.get("/api/version").status_code == 200

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            told = lines_of(client.post("/api/pull", json=body(name)))
            assert told[-1] == {"status": "success"}
            copied = f"{registry.authority}/lib/copy"
            client.post("/api/copy", json={"source": name, "destination": copied})
            registry.blobs.clear()
            pushed = lines_of(client.post("/api/push", json=body(copied)))
            assert pushed[-1] == {"status": "success"}
        finally:
            done.set()
            watcher.join()
    assert most < 200 * MEGABYTE, f"{most / MEGABYTE:.0f} MB"
    assert registry.blobs[lab.digest_of(data)] == data


def test_the_command_pushes_pulls_and_runs_with_bars_in_a_terminal(
    lab: Any, registry: Any, running: Any, tmp_path: Path
) -> None:
    tiny = TINY.read_bytes()
    raw = lab.manifest_of(CONFIG, tiny)
    name = registry.offer("lib/shown:x", raw, CONFIG, tiny)
    short = lab.digest_of(tiny)[7:19]

    status, shown = in_a_terminal(running.url, tmp_path, "pull", "--insecure", name)
    assert status == 0
    assert "pulling manifest" in shown
    assert re.search(rf"pulling {short}: 100% ▕█+▏ {len(tiny) // 1000} KB", shown)
    assert re.search(r"success +\x1b\[K(?:\x1b\[J)?\x1b\[\?25h\x1b\[\?2026l\s*$", shown)

    registry.blobs.clear()
    status, shown = in_a_terminal(running.url, tmp_path, "push", "--insecure", name)
    assert status == 0
    assert re.search(rf"pushing {short}: 100% ▕█+▏", shown)
    assert registry.blobs[lab.digest_of(tiny)] == tiny

    other = registry.offer("lib/run:x", raw)
    status, shown = in_a_terminal(running.url, tmp_path, "run", "--insecure", other, "hello")
    assert status == 0, shown
    assert "pulling manifest" in shown
    assert {"lib/run"} & {seen.path[4:11] for seen in registry.asked("GET", "/manifests/")}


def test_the_command_makes_a_model_with_bars_in_a_terminal(lab: Any, tmp_path: Path) -> None:
    modelfile = tmp_path / "Modelfile"
    modelfile.write_text(f"FROM {TINY}\nSYSTEM Be brief.\n")
    words = ("create", "small", "-q", "q8_0", "-f", str(modelfile))
    with lab.running_server(tmp_path / "home") as server:
        status, shown = in_a_terminal(server.url, tmp_path, *words)
    assert status == 0, shown
    size = len(TINY.read_bytes()) // 1000
    assert re.search(r"copying file sha256:[0-9a-f]{12}.* 100%", shown)
    assert re.search(rf"quantizing F32 model to Q8_0: 100% ▕█+▏ {size} KB", shown)
    assert re.search(r"success +\x1b\[K(?:\x1b\[J)?\x1b\[\?25h\x1b\[\?2026l\s*$", shown)


def in_a_terminal(url: str, home: Path, *words: str) -> tuple[int, str]:
    """Run the command where it sees a terminal; gives its status and what stands there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CORRAL_", "OLLAMA_"))}
    env = kept | {"CORRAL_HOST": url, "CORRAL_HOME": str(home), "TERM": "xterm-256color"}
    process = subprocess.Popen(
        [sys.executable, "-m", "corral_cli", *words],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env=env,
    )
    os.close(theirs)
    shown = bytearray()
    with contextlib.suppress(OSError):  # what a terminal says when nobody writes any more
        while piece := os.read(ours, 65536):
            shown += piece
    os.close(ours)
    return process.wait(), shown.decode()
