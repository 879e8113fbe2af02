"""Servers as processes: started, asked, frozen while another is measured, and ended."""

import contextlib
import hashlib
import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import httpx
import psutil  # type: ignore[import-untyped] # it has no stubs here

from benchmarks.dialects import Dialect, Ollama, OpenAi

MODEL: Final = "bench"
SERVE: Final = (sys.executable, "-m", "corral_cli", "serve")
START_S: Final = 60.0
_STEP_S: Final = 0.002
_END_S: Final = 20.0
_TAIL_BYTES: Final = 2000
_LLAMA_SERVER: Final = Path(__file__).with_name("llama_server.py")


@dataclass(frozen=True)
class Load:
    """What is run, the same for every server.

    Attributes:
        model: A GGUF file.
        threads: CPU threads.
        slots: Requests at once.
        context_tokens: Of each of them.
    """

    model: Path
    threads: int
    slots: int
    context_tokens: int

    @property
    def options(self) -> dict[str, int]:
        """Corral's load options."""
        return {"num_ctx": self.context_tokens, "num_thread": self.threads}


class NoServerError(Exception):
    """A server ended, or did not answer in time."""


@dataclass(frozen=True)
class Server:
    """A server that answers.

    Attributes:
        name: As the tables show it.
        port: On 127.0.0.1.
        dialect: How to ask it.
        process: Its main process.
        last_words: Gives the end of what it has printed.
    """

    name: str
    port: int
    dialect: Dialect
    process: psutil.Process
    last_words: Callable[[], str]

    @property
    def is_over(self) -> bool:
        """Whether its main process has ended."""
        return not self.process.is_running() or self.process.status() == psutil.STATUS_ZOMBIE

    def workers(self) -> list[psutil.Process]:
        """Processes below the main one."""
        found: list[psutil.Process] = self.process.children(recursive=True)
        return found

    def freeze(self) -> None:
        """Stop it where it is, so that it cannot disturb what is measured."""
        for process in (self.process, *self.workers()):
            process.suspend()

    def thaw(self) -> None:
        """Let it go on."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in (*self.workers(), self.process):
                process.resume()


@contextlib.contextmanager
def corral(load: Load) -> Iterator[Server]:
    """Start Corral in a home of its own that holds the model, loaded when first asked for."""
    with tempfile.TemporaryDirectory() as home:
        port = free_port()
        environment = corral_environment(home, port, load.slots)
        with started(SERVE, port, "/api/version", environment) as (process, last_words):
            create(port, load.model)
            yield Server("corral", port, Ollama(MODEL, dict(load.options)), process, last_words)


def corral_environment(home: str, port: int, slots: int) -> dict[str, str]:
    """Give the variables for a server of ours: nothing of the user's own settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CORRAL_", "OLLAMA_"))}
    return kept | {
        "CORRAL_HOME": home,
        "CORRAL_MODEL_PATHS": "none",
        "CORRAL_HOST": f"127.0.0.1:{port}",
        "CORRAL_NUM_PARALLEL": str(slots),
        "CORRAL_KEEP_ALIVE": "-1",
    }


def create(port: int, path: Path, parameters: dict[str, Any] | None = None) -> None:
    """Make a model of a file, or of all files of a folder, through the API."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    digests: dict[str, str] = {}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=START_S) as client:
        for one in files:
            name = one.name if one == path else one.relative_to(path).as_posix()
            with one.open("rb") as file:
                digests[name] = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
                file.seek(0)
                client.post(f"/api/blobs/{digests[name]}", content=file).raise_for_status()
        body = {"model": MODEL, "files": digests, "parameters": parameters or {}, "stream": False}
        client.post("/api/create", json=body).raise_for_status()


@contextlib.contextmanager
def llama_server(load: Load, python: Path) -> Iterator[Server]:
    """Start llama.cpp's own server, which `xllamacpp` runs.

    Args:
        load: What to run.
        python: Interpreter of the peers' environment.
    """
    port = free_port()
    numbers = map(str, (load.threads, load.slots, load.context_tokens * load.slots, port))
    command = [str(python), str(_LLAMA_SERVER), str(load.model), *numbers]
    with started(command, port, "/health") as (process, last_words):
        yield Server("llama-server", port, OpenAi(), process, last_words)


@contextlib.contextmanager
def llama_cpp_python(load: Load, python: Path) -> Iterator[Server]:
    """Start the server of `llama-cpp-python[server]`, which runs one request after the other."""
    port = free_port()
    options = {
        "model": load.model,
        "n_ctx": load.context_tokens,
        "n_threads": load.threads,
        "n_threads_batch": load.threads,
        "logits_all": "false",
        "interrupt_requests": "false",
        "verbose": "false",
        "port": port,
    }
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    command = [str(python), "-m", "llama_cpp.server", *words]
    with started(command, port, "/v1/models") as (process, last_words):
        yield Server("llama-cpp-python", port, OpenAi(), process, last_words)


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@contextlib.contextmanager
def started(
    command: Sequence[str], port: int, path: str, environment: dict[str, str] | None = None
) -> Iterator[tuple[psutil.Process, Callable[[], str]]]:
    """Start a server and wait until a GET of `path` is answered; end it afterwards.

    Gives the process, and a function that gives the end of what it has printed.

    Raises:
        NoServerError: With what the server printed last.
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            if not _answers(process, port, path):
                words = f"{command[:4]} does not answer; it printed last:\n{_tail(output)}"
                raise NoServerError(words)
            yield psutil.Process(process.pid), lambda: _tail(output)
        finally:
            process.terminate()
            try:
                process.wait(timeout=_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _tail(output: IO[bytes]) -> str:
    """The end of a file that a process still writes to, by a descriptor that shares its place."""
    size = os.fstat(output.fileno()).st_size
    start = max(0, size - _TAIL_BYTES)
    return os.pread(output.fileno(), size - start, start).decode(errors="replace").strip()


def _answers(process: subprocess.Popen[bytes], port: int, path: str) -> bool:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_S)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == http.client.OK:
                return True
        except (OSError, http.client.HTTPException):
            pass  # not yet
        finally:
            connection.close()
        time.sleep(_STEP_S)
    return False
