"""How files reach the server: a few at a time, each once, and given up at once."""

import contextlib
import hashlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

LIMIT_S = 60.0
WEIGHTS = (Path(__file__).parents[1] / "models" / "tiny-chat-f32.gguf").read_bytes()
DONE = {"status": "success"}


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Blobs:
    """What a server that takes blobs was asked; `hold` keeps it from reading one."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.posts: list[str] = []
        self.at_once = self.most_at_once = 0
        self.two = threading.Barrier(2, timeout=LIMIT_S)
        self.hold = False
        self.begun = threading.Event()
        self.released = threading.Event()
        self.body: Any = None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    blobs: Blobs

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(200 if self.path == "/" else 404)

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        if self.path == "/api/create":
            self.blobs.body = json.loads(self.rfile.read(length))
            self._answer(200, json.dumps(DONE).encode() + b"\n")
            return
        with self.blobs.lock:
            self.blobs.posts.append(self.path.rpartition("/")[2])
            self.blobs.at_once += 1
            self.blobs.most_at_once = max(self.blobs.most_at_once, self.blobs.at_once)
            is_early = len(self.blobs.posts) <= 2
        self.blobs.begun.set()
        if self.blobs.hold:
            self.blobs.released.wait(LIMIT_S)
            self.close_connection = True
            return
        if is_early:
            self.blobs.two.wait()
        self.rfile.read(length)
        with self.blobs.lock:
            self.blobs.at_once -= 1
        self._answer(201)

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def blobs(corral: Any) -> Iterator[Blobs]:
    blobs = Blobs()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"blobs": blobs}))
    server.daemon_threads = True
    corral.env["CORRAL_HOST"] = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield blobs
    blobs.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_files_are_sent_side_by_side_and_never_many(
    blobs: Blobs, corral: Any, tmp_path: Path
) -> None:
    files = {f"{number}.bin": bytes([number]) * 1000 for number in range(12)}
    files |= {"genai_config.json": b"{}", "twin.bin": files["3.bin"]}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)

    result = corral("create", "mine", cwd=tmp_path)

    assert result.status == 0, result.err
    assert blobs.body["files"] == {name: digest_of(data) for name, data in files.items()}
    assert sorted(blobs.posts) == sorted({digest_of(data) for data in files.values()})
    assert 2 <= blobs.most_at_once <= 4


@contextlib.contextmanager
def begun(corral: Any, folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "corral_cli", *words],
        env=corral.env,
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process
        process.kill()


def interrupted(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, err
    return err


def test_ctrl_c_ends_an_upload_that_nobody_reads(blobs: Blobs, corral: Any, tmp_path: Path) -> None:
    blobs.hold = True
    for name in ("a", "b"):
        (tmp_path / f"{name}.gguf").write_bytes(WEIGHTS + name.encode() * 8_000_000)
    (tmp_path / "Modelfile").write_text("FROM a.gguf\nFROM b.gguf")

    with begun(corral, tmp_path, "create", "mine") as process:
        assert blobs.begun.wait(LIMIT_S)
        err = interrupted(process)

    assert "Traceback" not in err
    assert blobs.body is None


def test_ctrl_c_has_the_server_give_up_the_creation(
    scripted: Any, answer: Any, corral: Any, tmp_path: Path
) -> None:
    hold = threading.Event()
    lines = [{"status": "converting model"}, DONE]
    scripted.on("POST", "/api/create", answer(lines=lines, hold=hold))
    (tmp_path / "Modelfile").write_text("FROM a")

    with begun(corral, tmp_path, "create", "mine", "-q", "q8_0") as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "converting model\n"
        assert interrupted(process) == ""
    assert scripted.gone.wait(LIMIT_S)
    hold.set()


def test_a_file_that_changes_meanwhile_is_told(
    scripted: Any, answer: Any, corral: Any, tmp_path: Path
) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(WEIGHTS)

    def shorten(_request: Any) -> Any:
        path.write_bytes(WEIGHTS[:100])
        return answer(status=404)

    scripted.on("HEAD", f"/api/blobs/{digest_of(WEIGHTS)}", shorten)
    (tmp_path / "Modelfile").write_text("FROM ./x.gguf")

    result = corral("create", "mine", cwd=tmp_path)

    assert result.status == 1
    assert result.err.endswith(f"Error: {path} became shorter while it was read: try again\n")
    assert not scripted.bodies("/api/create")


def test_what_a_file_is_quantized_to_and_by_is_sent(
    blobs: Blobs, corral: Any, tmp_path: Path
) -> None:
    (tmp_path / "big.gguf").write_bytes(WEIGHTS)
    (tmp_path / "small.gguf").write_bytes(WEIGHTS + b"x")
    (tmp_path / "m.dat").write_bytes(b"matrix")
    (tmp_path / "Modelfile").write_text("FROM ./big.gguf\nDRAFT ./small.gguf")
    flags = ["-q", "q4_K_M", "--draft-quantize", "q8_0", "--imatrix", "m.dat", "--experimental"]
    flags.append("--insecure")

    result = corral("create", "mine", *flags, cwd=tmp_path)

    assert result.status == 0, result.err
    assert blobs.body == {
        "model": "mine",
        "files": {"big.gguf": digest_of(WEIGHTS)},
        "draft_files": {"small.gguf": digest_of(WEIGHTS + b"x")},
        "quantize": "q4_K_M",
        "draft_quantize": "q8_0",
        "imatrix": digest_of(b"matrix"),
        "insecure": True,
        "stream": True,
    }
