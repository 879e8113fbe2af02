"""Each backend, through the API, beside the bare loop of its own library on the same model.

    python -m benchmarks.backends --gguf FILE [--onnx FOLDER] [--legacy FILE] [--out FILE]

A round asks Corral and the library the same prompts one right after the other, the next round the
other way round; ratios are of such pairs, and their median counts. The library waits in a process
of its own while it is not asked, and Corral is frozen. `benchmarks/README.md` tells where models
come from. Server and client take their time from the cores that compute, where these are all busy
(`--threads` as many as there are cores): the bare loop has neither.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psutil  # type: ignore[import-untyped] # it has no stubs here

from benchmarks import machine, prompts, servers
from benchmarks.bare_loops import LEGACY_TYPE, TEMPERATURE, TOP_K
from benchmarks.dialects import Ollama
from benchmarks.machine import NoiseMeter, Patience
from benchmarks.servers import MODEL, Server

CONTEXT: Final = 1024
CHARACTERS: Final = 1600
"""Of a prompt whose feeding is timed; some 500 tokens, but of a vocabulary of bytes."""
LEGACY_CHARACTERS: Final = 600
STREAMS: Final = 4
BARS: Final = {"prefill": 0.95, "decode": 0.95, "together": 0.9}

Ask = Callable[[Sequence[str], int], dict[str, float]]


@dataclass(frozen=True)
class Case:
    """A backend and what it runs.

    Attributes:
        library: As `bare_loops` names it.
        model: A file or folder.
        parameters: Of the model in Corral.
        options: Of each request.
        characters: Of a long prompt.
    """

    library: str
    model: Path
    parameters: dict[str, Any]
    options: dict[str, Any]
    characters: int = CHARACTERS


@dataclass(frozen=True)
class Pair:
    """One measure of both, tokens a second."""

    library: str
    measure: str
    ours: float
    bare: float
    quiet: bool
    way: str = ""


def cases(arguments: argparse.Namespace) -> Iterator[Case]:
    """What is to be measured."""
    common = {"num_ctx": CONTEXT, "num_thread": arguments.threads}
    if arguments.gguf is not None:
        yield Case("llamacpp", arguments.gguf, {}, common)
    if arguments.onnx is not None:
        yield Case("onnx", arguments.onnx, {}, common)
    if arguments.legacy is not None:
        # Greedy, random weights write one token for ever, which ends an answer.
        drawn = {"temperature": TEMPERATURE, "top_k": TOP_K, "top_p": 1.0}
        kind = {"model_type": LEGACY_TYPE}
        yield Case("ctransformers", arguments.legacy, kind, common | drawn, LEGACY_CHARACTERS)


@contextmanager
def corral(case: Case) -> Iterator[Server]:
    """Start Corral with the model loaded."""
    with tempfile.TemporaryDirectory() as home:
        port = servers.free_port()
        environment = servers.corral_environment(home, port, STREAMS)
        starting = servers.started(servers.SERVE, port, "/api/version", environment)
        with starting as (process, last_words):
            servers.create(port, case.model, case.parameters)
            server = Server("corral", port, Ollama(MODEL, case.options), process, last_words)
            asyncio.run(server.dialect.complete(port, "Hello", 2))
            yield server


@contextmanager
def bare(case: Case, threads: int) -> Iterator[Callable[[Sequence[str], int], dict[str, Any]]]:
    """Start the library's own loop; gives what asks it."""
    command = [sys.executable, "-m", "benchmarks.bare_loops", case.library]
    with subprocess.Popen(
        [*command, str(case.model), str(threads)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        given, printed = process.stdin, process.stdout

        def ask(texts: Sequence[str], tokens: int) -> dict[str, Any]:
            given.write(json.dumps({"prompts": texts, "tokens": tokens}) + "\n")
            given.flush()
            return _answer(printed.readline())

        _answer(printed.readline())
        yield ask
        given.close()


def _answer(line: str) -> dict[str, Any]:
    if not line:
        sys.exit("the library's own loop ended")
    found: dict[str, Any] = json.loads(line)
    return found


def measure(case: Case, threads: int, rounds: int, tokens: int) -> Iterator[Pair]:
    """Measure both in turns."""
    patience = Patience(60)
    with bare(case, threads) as library, corral(case) as server:
        server.freeze()
        for number in range(rounds):
            for name, ours, theirs in _measures(case, server, library, number, tokens):
                patience.wait()
                meter = NoiseMeter()
                values: dict[str, tuple[float, str]] = {}
                sides = [("ours", _thawed(server, ours)), ("bare", theirs)]
                for side, ask in sides if number % 2 else sides[::-1]:
                    values[side] = ask()
                (our_pace, _), (bare_pace, way) = values["ours"], values["bare"]
                quiet = meter.read().is_quiet
                yield Pair(case.library, name, our_pace, bare_pace, quiet, way)
        server.thaw()


def _thawed(
    server: Server, ask: Callable[[], tuple[float, str]]
) -> Callable[[], tuple[float, str]]:
    def run() -> tuple[float, str]:
        server.thaw()
        try:
            return ask()
        finally:
            server.freeze()

    return run


Paced = Callable[[], tuple[float, str]]


def _measures(
    case: Case,
    server: Server,
    library: Callable[[Sequence[str], int], dict[str, Any]],
    number: int,
    tokens: int,
) -> Iterator[tuple[str, Paced, Paced]]:
    """Name, and how to ask either side for a pace: tokens a second, and a word on how."""
    long_text = prompts.history(number, case.characters)[: case.characters]
    text = prompts.endless(number)
    complete = server.dialect.complete

    def our_prefill() -> tuple[float, str]:
        answer = asyncio.run(complete(server.port, long_text, 2))
        return answer.prompt_tokens / answer.first_s, ""

    def bare_prefill() -> tuple[float, str]:
        found = library([long_text], 2)
        return found["prompt_tokens"] / found["prefill_s"], ""

    def our_decode() -> tuple[float, str]:
        return 1 / asyncio.run(complete(server.port, text, tokens)).token_s, ""

    def bare_decode() -> tuple[float, str]:
        found = library([text], tokens)
        return (found["tokens"] - 1) / found["decode_s"], ""

    yield "prefill", our_prefill, bare_prefill
    yield "decode", our_decode, bare_decode
    if case.library == "onnx":
        texts = [prompts.endless(number + place) for place in range(STREAMS)]

        async def all_of_them() -> tuple[float, str]:
            asked = (complete(server.port, one, tokens) for one in texts)
            answers = await asyncio.gather(*asked)
            return sum(a.tokens for a in answers) / max(a.end_s for a in answers), ""

        def bare_together() -> tuple[float, str]:
            found = library(texts, tokens)
            return found["tokens"] / found["all_s"], found["way"]

        yield "together", lambda: asyncio.run(all_of_them()), bare_together


def summary(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """One row for each backend and measure: medians, and the ratios of pairs."""
    rows = []
    for library, name in dict.fromkeys((pair.library, pair.measure) for pair in pairs):
        found = [pair for pair in pairs if (pair.library, pair.measure) == (library, name)]
        quiet = [pair for pair in found if pair.quiet]
        counted = quiet if len(quiet) > 1 else found
        ratios = [pair.ours / pair.bare for pair in counted]
        rows.append(
            {
                "library": library,
                "measure": name,
                "ours_tokens_per_s": statistics.median(pair.ours for pair in counted),
                "bare_tokens_per_s": statistics.median(pair.bare for pair in counted),
                "ratio": statistics.median(ratios),
                "lowest": min(ratios),
                "highest": max(ratios),
                "bar": BARS[name],
                "quiet": f"{len(quiet)} of {len(found)}",
                "ways": sorted({pair.way for pair in found if pair.way}),
            }
        )
    return rows


def main() -> None:
    """Measure, print the rows, write the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backends", description=__doc__)
    parser.add_argument("--gguf", type=Path, help="a GGUF file")
    parser.add_argument("--onnx", type=Path, help="a folder of an ONNX GenAI model")
    parser.add_argument("--legacy", type=Path, help="what `benchmarks.legacy_model` wrote")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=96, help="of each answer")
    parser.add_argument("--out", type=Path, help="write everything to this JSON file")
    arguments = parser.parse_args()
    pairs = []
    for case in cases(arguments):
        for pair in measure(case, arguments.threads, arguments.rounds, arguments.tokens):
            pairs.append(pair)
            print(f"{pair.library} {pair.measure}: {pair.ours:.1f} of {pair.bare:.1f}", flush=True)
    rows = summary(pairs)
    for row in rows:
        print(
            f"{row['library']:14} {row['measure']:9} {row['ours_tokens_per_s']:8.1f} "
            f"{row['bare_tokens_per_s']:8.1f}  {row['ratio']:.3f} "
            f"({row['lowest']:.3f} to {row['highest']:.3f}) bar {row['bar']} "
            f"quiet {row['quiet']} {' '.join(row['ways'])}"
        )
    memory = psutil.virtual_memory().total
    compared = [asdict(pair) for pair in pairs]
    machine.record(arguments.out, memory=memory, rows=rows, pairs=compared)


if __name__ == "__main__":
    main()
