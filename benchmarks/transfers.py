"""Pulls and pushes beside `curl` and `sha256sum`: `python -m benchmarks.transfers`.

A registry on loopback has one blob of random bytes (`--megabytes`, in `--folder`). Each round pulls
it through Corral's API into an empty store, and fetches the same file by `curl` and hashes it by
`sha256sum`, one right after the other, in an order that changes with the round. Then it is pushed.
Meanwhile the resident memory of Corral's server process is looked at all the time.
"""

import argparse
import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

import httpx
import psutil  # type: ignore[import-untyped] # it has no stubs here

from benchmarks import machine, report
from benchmarks.machine import NoiseMeter
from benchmarks.report import Comparison, Sample
from benchmarks.servers import SERVE, corral_environment, free_port, started

_CHAIN: Final = "curl+sha256sum"
_MEGABYTE: Final = 10**6
_LOOK_S: Final = 0.01
_LONG_S: Final = 600.0
_LINES: Final = (
    Comparison("pull, MB/s", "pull", "mb_per_s", _CHAIN, at_least=0.8),
    Comparison("server resident while pulling, most, MB", "pull", "most_mb", at_most=200.0),
    Comparison("of that, more than before, MB", "pull", "grown_mb"),
    Comparison("push, MB/s", "push", "mb_per_s"),
    Comparison("server resident while pushing, most, MB", "push", "most_mb", at_most=200.0),
    Comparison("of that, more than before, MB", "push", "grown_mb"),
)


class Memory:
    """The most that a process occupied while this was open."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.before = self.most = process.memory_info().rss

    def _look(self) -> None:
        while not self._over.wait(_LOOK_S):
            self.most = max(self.most, self._process.memory_info().rss)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def values(self) -> dict[str, float]:
        """In millions of bytes."""
        return {
            "most_mb": self.most / _MEGABYTE,
            "grown_mb": (self.most - self.before) / _MEGABYTE,
        }


class Bench:
    """One blob, its registry, and a server.

    Args:
        blob: The file.
        digest: Of it.
        registry: `127.0.0.1:PORT`.
        client: Of the server.
        process: The server.
    """

    def __init__(
        self, blob: Path, digest: str, registry: str, client: httpx.Client, process: psutil.Process
    ) -> None:
        self.blob, self.digest, self.registry = blob, digest, registry
        self.client, self.process = client, process
        self.megabytes = blob.stat().st_size / _MEGABYTE

    def pull(self) -> dict[str, float]:
        """Pull the model into the store, and delete it again."""
        found = self._asked("/api/pull")
        gone = self.client.request("DELETE", "/api/delete", json={"model": self._name})
        gone.raise_for_status()
        return found

    def push(self) -> dict[str, float]:
        """Push the model, which is pulled before and deleted after."""
        self._asked("/api/pull")
        found = self._asked("/api/push")
        self.client.request("DELETE", "/api/delete", json={"model": self._name})
        return found

    @property
    def _name(self) -> str:
        return f"{self.registry}/bench/blob:x"

    def _asked(self, path: str) -> dict[str, float]:
        body = {"model": self._name, "insecure": True, "stream": False}
        with Memory(self.process) as memory:
            began = time.perf_counter()
            answer = self.client.post(path, json=body)
            took_s = time.perf_counter() - began
        if answer.json().get("status") != "success":
            raise SystemExit(f"{path}: {answer.text[:500]}")
        return {"mb_per_s": self.megabytes / took_s, **memory.values}

    def chain(self) -> dict[str, float]:
        """Fetch the file as one would by hand."""
        target = self.blob.with_name("fetched")
        url = f"http://{self.registry}/v2/bench/blob/blobs/{self.digest}"
        began = time.perf_counter()
        subprocess.run(["curl", "--silent", "--fail", "--output", target, url], check=True)
        summed = subprocess.run(["sha256sum", target], capture_output=True, text=True, check=True)
        took_s = time.perf_counter() - began
        target.unlink()
        if summed.stdout.split()[0] != self.digest.removeprefix("sha256:"):
            raise SystemExit("curl got another file")
        return {"mb_per_s": self.megabytes / took_s}


def main() -> int:
    """Measure, print the table, write the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfers", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1000, help="size of the blob")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where blob and store lie (default: temporary)")
    parser.add_argument("--out", type=Path, help="write the record to this file")
    arguments = parser.parse_args()
    for tool in ("curl", "sha256sum"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is not installed")
    started_at = datetime.now(UTC)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        samples = _measured(Path(folder), arguments.megabytes, arguments.rounds)
    lines = report.rows(samples, _LINES)
    print(report.table(lines))
    if arguments.out is not None:
        facts = {
            "started": started_at.isoformat(timespec="seconds"),
            "machine": machine.facts(),
            "megabytes": arguments.megabytes,
        }
        report.write(arguments.out, facts, samples, lines)
    return 0


def _measured(folder: Path, megabytes: int, rounds: int) -> list[Sample]:
    blob = folder / "blob"
    digest = _make(blob, megabytes)
    samples: list[Sample] = []
    with _bench(folder, blob, digest) as bench:
        ways: list[tuple[str, str, Callable[[], dict[str, float]]]] = [
            ("pull", report.OURS, bench.pull),
            ("pull", _CHAIN, bench.chain),
        ]
        bench.chain()  # what is read for the first time is slower
        for turn in range(rounds):
            for measure, server, way in ways if turn % 2 == 0 else reversed(ways):
                samples.append(_sample(measure, server, turn, way))
            samples.append(_sample("push", report.OURS, turn, bench.push))
    return samples


def _sample(measure: str, server: str, turn: int, way: Callable[[], dict[str, float]]) -> Sample:
    meter = NoiseMeter()
    values = way()
    print(f"{measure} {server} {turn}: {values}", flush=True)
    return Sample(measure, server, turn, meter.read(), values)


@contextlib.contextmanager
def _bench(folder: Path, blob: Path, digest: str) -> Iterator[Bench]:
    """Start the registry and the server."""
    port, ours = free_port(), free_port()
    registry = [sys.executable, "-m", "benchmarks.file_registry", str(blob), digest, str(port)]
    environment = corral_environment(str(folder / "home"), ours, 1)
    with (
        started(registry, port, "/v2/bench/blob/manifests/x", dict(os.environ)),
        started(SERVE, ours, "/api/version", environment) as (process, _),
        httpx.Client(base_url=f"http://127.0.0.1:{ours}", timeout=_LONG_S) as client,
    ):
        yield Bench(blob, digest, f"127.0.0.1:{port}", client, process)


def _make(path: Path, megabytes: int) -> str:
    hasher = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(megabytes):
            piece = os.urandom(_MEGABYTE)
            hasher.update(piece)
            file.write(piece)
    return f"sha256:{hasher.hexdigest()}"


if __name__ == "__main__":
    sys.exit(main())
