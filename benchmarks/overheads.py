"""What the worker's loop costs around the library: `python -m benchmarks.overheads --model FILE`.

Runs the loop as a worker does (requests prepared, frames written to a process that reads them),
with the library's calls timed. Given are low percentiles of single steps, which a busy machine
spoils least: time in the library, time outside it, and that as a share of the whole.
"""

import argparse
import contextlib
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import llama_cpp.llama_cpp as lib
import numpy as np

from benchmarks import prompts
from corral_kernel.contracts import Claim, FileRef, LoadRequest, TokenEngine
from corral_kernel.frames import Done, Failed, FromWorker, Generate, PromptSpec, Step
from corral_kernel.options import RequestOptions
from corral_kernel.plugins import Plugins
from corral_kernel.testing.chains import chain_of
from corral_kernel.worker.channel import Channel
from corral_kernel.worker.loop import Loop
from corral_kernel.worker.preparing import Preparer
from corral_llamacpp import batch
from corral_llamacpp.loading import load
from corral_llamacpp.options import LlamaOptions

PERCENTILES = (10, 50)
STEP_TIMEOUT_S = 60.0


class _AllDone(Exception):  # noqa: N818 - no error: the way out of a loop without an end
    pass


class _CountingChannel(Channel):
    """Writes as a worker does, and ends the loop with its last job."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.left = 0

    def send(self, message: FromWorker) -> None:
        super().send(message)
        assert isinstance(message, Step), "the model is loaded already"
        for event in message.events:
            if isinstance(event, Failed):
                sys.exit(f"a job failed: {event.message}")
            self.left -= isinstance(event, Done)
        if not self.left:
            raise _AllDone


class Clock:
    """Times the library's calls in a step: `llama_decode`, and `llama_get_logits`, which waits."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, float]] = []  # beginning and end of the library's part
        self._began = 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Have the calls timed meanwhile."""
        decode, read = lib.llama_decode, batch.get_logits

        def timed_decode(*arguments: Any) -> Any:
            self._began = perf_counter()
            return decode(*arguments)

        def timed_read(*arguments: Any) -> Any:
            logits = read(*arguments)
            self.steps.append((self._began, perf_counter()))
            return logits

        lib.llama_decode, batch.get_logits = timed_decode, timed_read
        try:
            yield
        finally:
            lib.llama_decode, batch.get_logits = decode, read

    def within_us(self) -> list[float]:
        """Time in the library, of each step but the first and last few."""
        return [1e6 * (end - begin) for begin, end in self._middle()]

    def outside_us(self) -> list[float]:
        """Time from the library's return until it is called again."""
        steps = self._middle()
        return [1e6 * (after[0] - before[1]) for before, after in itertools.pairwise(steps)]

    def _middle(self) -> Sequence[tuple[float, float]]:
        # Prompts are fed in the first steps; at the end streams leave one by one.
        return self.steps[len(self.steps) // 8 : -(len(self.steps) // 8)]


def main() -> None:
    """Measure 1, 4 and 8 streams, greedy and with the default chain."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overheads", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a GGUF file")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--context", type=int, default=2048, help="tokens a request")
    parser.add_argument("--tokens", type=int, default=128, help="of each stream")
    arguments = parser.parse_args()
    engine = open_engine(arguments.model, arguments.threads, arguments.context)
    print("streams  chain    percentile  library us  outside us  outside us/token  outside share")
    chains = {"greedy": {"temperature": 0.0}, "default": {}}
    for name, fields in chains.items():
        for count in (1, 4, 8):
            clock = run(engine, _specs(fields, count, arguments.tokens))
            for percentile in PERCENTILES:
                within = np.percentile(clock.within_us(), percentile)
                outside = np.percentile(clock.outside_us(), percentile)
                print(
                    f"{count:7}  {name:7}  {percentile:10}  {within:10.0f}  {outside:10.0f}"
                    f"  {outside / count:16.0f}  {outside / (within + outside):13.3f}"
                )


def open_engine(path: Path, threads: int, context_tokens: int) -> TokenEngine:
    """Load a model for eight streams."""
    file = FileRef(role="weights", digest="", size_bytes=path.stat().st_size, path=str(path))
    claim = Claim(backend="llamacpp", confidence=1, why="asked for", capabilities=("completion",))
    options = LlamaOptions(num_ctx=context_tokens, num_thread=threads)
    engine = load(
        LoadRequest(
            claim=claim, options=options, files=(file,), slots=8, report=lambda _share: True
        )
    )
    if not isinstance(engine, TokenEngine):
        sys.exit(f"{path} makes no text")
    return engine


def _specs(fields: dict[str, float], count: int, tokens: int) -> list[Generate]:
    options, chain = RequestOptions(seed=1, num_predict=tokens), chain_of(fields)
    texts = (prompts.endless(number) for number in range(count))
    return [
        Generate(job_id=job_id, prompt=PromptSpec(text=text), options=options, chain=chain)
        for job_id, text in enumerate(texts, 1)
    ]


def run(engine: TokenEngine, specs: Sequence[Generate], plugins: Plugins | None = None) -> Clock:
    """Run all requests at once, to their ends.

    Args:
        engine: Idle.
        specs: The requests.
        plugins: Whose samplers they use; by default the kernel's own are enough.
    """
    preparer = Preparer(engine, plugins or Plugins(("llamacpp",)), 0)
    ours, theirs = socket.socketpair()
    sink = ["cat"]
    with (
        ours,
        theirs,
        subprocess.Popen(sink, stdin=theirs.fileno(), stdout=subprocess.DEVNULL) as reader,
    ):
        channel = _CountingChannel(ours)
        channel.left = len(specs)
        loop = Loop(engine, channel, STEP_TIMEOUT_S)
        for spec in specs:
            loop.opened(spec.job_id)
            loop.take(preparer.prepare(spec))
        clock = Clock()
        with clock.running(), contextlib.suppress(_AllDone):
            loop.run()
        reader.terminate()
    return clock


if __name__ == "__main__":
    main()
