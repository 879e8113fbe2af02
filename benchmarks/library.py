"""The model library beside the tools that do the same without it.

    python -m benchmarks.library --gguf FILE [--gemma FILE] [--rounds N] [--out FILE]

- `create`: a file is sent and made a model, beside `sha256sum` and `cp` of it (with a `sync`, since
  what Corral answers for is on the disk).
- `quantize`: to Q4_K_M, from the request to `success`, beside the library's own call, in a process
  that has it imported. Half precision of the same model is made first, by the library.
- `header`: reading the head of a file.
- `show`: `POST /api/show`, warm, of the model and of one with a large vocabulary.

Each round does both sides one after the other, with a rest between; the median of the rounds'
ratios counts.
"""

import argparse
import ctypes
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from benchmarks import machine, servers
from benchmarks.machine import NoiseMeter

TYPE: Final = "Q4_K_M"
SPEED_BAR: Final = 0.8
SHOWS: Final = 50
SETTLE_S: Final = 1.5
_TIMEOUT_S: Final = 3600.0
_F16: Final = 1
_Q4_K_M: Final = 15


@dataclass(frozen=True)
class Figure:
    """One measure.

    Attributes:
        measure: Of what.
        ours: Seconds.
        theirs: Seconds of the other side; None: there is none.
        quiet: Whether the machine was.
    """

    measure: str
    ours: float
    theirs: float | None
    quiet: bool


def timed(work: Callable[[], object]) -> float:
    """Give the seconds that something takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class Corral:
    """A server with a home of its own."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._client = httpx.Client(base_url=self._url, timeout=_TIMEOUT_S)

    def upload(self, path: Path, digest: str) -> None:
        """Send a file, by a tool that does nothing else meanwhile."""
        command = ["curl", "-sSf", "-X", "POST", "-T", path, f"{self._url}/api/blobs/{digest}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def create(self, model: str, **fields: Any) -> None:
        """Create a model."""
        body = {"model": model, "stream": False, **fields}
        self._client.post("/api/create", json=body).raise_for_status()

    def show(self, model: str) -> None:
        """Show a model."""
        self._client.post("/api/show", json={"model": model}).raise_for_status()

    def delete(self, model: str) -> None:
        """Delete a model, and with it its files."""
        self._client.request("DELETE", "/api/delete", json={"model": model}).raise_for_status()


@contextmanager
def corral(folder: Path) -> Iterator[Corral]:
    """Start Corral with its store in a folder."""
    port = servers.free_port()
    environment = servers.corral_environment(str(folder / "home"), port, 1)
    with servers.started(servers.SERVE, port, "/api/version", environment):
        yield Corral(port)


def digest_of(path: Path) -> str:
    """Give the digest of a file, as the tools give it."""
    done = subprocess.run(["sha256sum", path], check=True, capture_output=True, text=True)
    return f"sha256:{done.stdout.split()[0]}"


def by_tools(path: Path, target: Path) -> None:
    """Do what keeping a file by digest takes, with the usual tools."""
    digest_of(path)
    subprocess.run(["cp", "--reflink=never", path, target], check=True)
    subprocess.run(["sync", target], check=True)


def measure_create(server: Corral, path: Path, folder: Path, turn: int) -> tuple[float, float]:
    """Time a create beside the tools."""
    digest = digest_of(path)

    def ours() -> None:
        server.upload(path, digest)
        server.create("created", files={path.name: digest})

    def theirs() -> None:
        by_tools(path, folder / "copy")

    times = in_turns(ours, theirs, turn)
    server.delete("created")
    (folder / "copy").unlink()
    return times


def in_turns(
    ours: Callable[[], object], theirs: Callable[[], object], turn: int
) -> tuple[float, float]:
    """Time both, in another order each turn, each on a machine that has come to rest."""
    if turn % 2:
        their_s = settled(theirs)
        return settled(ours), their_s
    our_s = settled(ours)
    return our_s, settled(theirs)


def settled(work: Callable[[], object]) -> float:
    """Time something once what ran before has left nothing to do: a next spare process, a disk."""
    os.sync()
    time.sleep(SETTLE_S)
    return timed(work)


def measure_quantize(server: Corral, half: Path, folder: Path, turn: int) -> tuple[float, float]:
    """Time quantizing beside the library's own call."""

    def ours() -> None:
        server.create("small", **{"from": "half"}, quantize=TYPE)

    with library() as quantize:
        times = in_turns(ours, lambda: quantize(half, folder / "small.gguf", _Q4_K_M), turn)
    server.delete("small")
    (folder / "small.gguf").unlink()
    return times


@contextmanager
def library() -> Iterator[Callable[[Path, Path, int], None]]:
    """Start a process that has llama.cpp imported; gives what has it quantize a file."""
    command = [sys.executable, "-m", "benchmarks.library", "--child"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        asking, answering = child.stdin, child.stdout
        assert answering.readline() == "ready\n"

        def quantize(source: Path, target: Path, file_type: int) -> None:
            asking.write(json.dumps([str(source), str(target), file_type]) + "\n")
            asking.flush()
            assert answering.readline() == "done\n"

        try:
            yield quantize
        finally:
            asking.close()


def serve_library() -> None:
    """Quantize what is asked for: the process of `library`."""
    import llama_cpp.llama_cpp as lib

    from corral_kernel.tasks.working import NICENESS

    os.nice(NICENESS)  # as the processes of our tasks: others' work takes from both alike
    lib.llama_backend_init()
    print("ready", flush=True)
    for line in sys.stdin:
        source, target, file_type = json.loads(line)
        params = lib.llama_model_quantize_default_params()
        params.ftype = file_type
        params.allow_requantize = True
        status = lib.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params))
        print("failed" if status else "done", flush=True)


def measure_header(path: Path) -> tuple[float, None]:
    """Time reading a head, in a process that has read it before."""
    from corral_kernel.gguf import read_header

    read_header(path)
    return timed(lambda: read_header(path)), None


def measure_show(server: Corral, model: str) -> tuple[float, None]:
    """Give the median time of showing a model, warm."""
    server.show(model)
    return statistics.median(timed(lambda: server.show(model)) for _ in range(SHOWS)), None


def run(arguments: argparse.Namespace, folder: Path) -> Iterator[Figure]:
    """Measure everything."""
    half = folder / "half.gguf"
    with library() as quantize:
        quantize(arguments.gguf, half, _F16)
    with corral(folder) as server:
        for name, path in (("half", half), ("model", arguments.gguf), ("gemma", arguments.gemma)):
            if path is not None:
                digest = digest_of(path)
                server.upload(path, digest)
                server.create(name, files={path.name: digest})
        # A file whose blob is not there yet, of a usual size.
        fresh = folder / "fresh.gguf"
        shutil.copy(half, fresh)
        with fresh.open("ab") as stream:
            stream.write(b"another digest")
        for turn in range(arguments.rounds):
            work: dict[str, Callable[[], tuple[float, float | None]]] = {
                "create": lambda turn=turn: measure_create(server, fresh, folder, turn),  # type: ignore[misc] # mypy knows no defaults of lambdas
                "quantize": lambda turn=turn: measure_quantize(server, half, folder, turn),  # type: ignore[misc] # likewise
                "header": lambda: measure_header(arguments.gguf),
                "show": lambda: measure_show(server, "model"),
            }
            if arguments.gemma is not None:
                work["header of gemma"] = lambda: measure_header(arguments.gemma)
                work["show of gemma"] = lambda: measure_show(server, "gemma")
            for measure, do in work.items():
                meter = NoiseMeter()
                ours, theirs = do()
                figure = Figure(measure, ours, theirs, meter.read().is_quiet)
                print(figure, flush=True)
                yield figure


def rows(figures: list[Figure]) -> Iterator[dict[str, Any]]:
    """Give a line of the table for each measure."""
    for measure in dict.fromkeys(figure.measure for figure in figures):
        of_it = [figure for figure in figures if figure.measure == measure]
        ratios = [f.theirs / f.ours for f in of_it if f.theirs is not None]
        yield {
            "measure": measure,
            "ours_s": round(statistics.median(f.ours for f in of_it), 4),
            "theirs_s": round(statistics.median(f.theirs or 0 for f in of_it), 4),
            "speed": round(statistics.median(ratios), 3) if ratios else None,
            "quiet": sum(f.quiet for f in of_it),
            "rounds": len(of_it),
        }


def main() -> int:
    """Measure, print the table, write the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.library", description=__doc__)
    parser.add_argument("--gguf", type=Path, help="a GGUF file of any type")
    parser.add_argument("--gemma", type=Path, help="one with a large vocabulary")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write everything to this JSON file")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        serve_library()
        return 0
    if arguments.gguf is None:
        parser.error("--gguf is missing")
    with tempfile.TemporaryDirectory() as folder:
        figures = list(run(arguments, Path(folder)))
    table = list(rows(figures))
    for row in table:
        speed = "" if row["speed"] is None else f"  speed {row['speed']} (bar {SPEED_BAR})"
        print(f"{row['measure']:16} {row['ours_s'] * 1000:9.1f} ms{speed}  quiet {row['quiet']}")
    machine.record(arguments.out, rows=table, figures=list(map(asdict, figures)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
