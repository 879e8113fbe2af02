"""One run: servers started, then measured in turns, all but one of them frozen."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks import floods, llama_bench, measures, servers
from benchmarks.client import RequestFailedError
from benchmarks.llama_bench import BenchFailedError
from benchmarks.machine import NoiseMeter, Patience
from benchmarks.measures import Values
from benchmarks.report import OURS, Sample
from benchmarks.servers import Load, NoServerError, Server

COUNTS: Final = (1, 4, 8)
MEASURES: Final = (
    "first-token",
    *(f"streams-{count}" for count in COUNTS),
    "second-turn",
    "structured",
    *(f"flood-{kind}" for kind in floods.FLOODS),
    "noop-sampler",
    "constraints",
    "cold",
    "start",
    "memory",
)
OURS_ALONE: Final = ("cold", *(f"flood-{kind}" for kind in floods.FLOODS))
CONSTRAINED: Final = (OURS, "llama-server")
"""Who is asked for `structured`: the third server wants a schema in a field of another name."""
WITHOUT_SERVER: Final = ("noop-sampler", "constraints", "start")
ONCE: Final = ("constraints",)
"""Long, and with thousands of samples within: measured in the first round alone."""
REPEATS: Final = {"first-token": 3, "streams-1": 3}
"""Samples a round of what is short: the machine's pace changes from one second to the next."""
PEERS: Final = ("llama-bench", "llama-server", "llama-cpp-python")
_PROMPTS_A_TURN: Final = 41  # odd, so that the kinds of prompts change places
_FLOODED: Final = 14  # after the prompts of all streams
_HEATING: Final = 100_000
_PROMPT_DEPTH: Final = 36  # tokens of a prompt, about
_FAILURES: Final = (RequestFailedError, BenchFailedError, NoServerError, OSError, ValueError)


@dataclass(frozen=True)
class Plan:
    """What is to be run.

    Attributes:
        load: The model and its sizes.
        peers: Of `PEERS`.
        only: Of `MEASURES`.
        rounds: Samples of each.
        tokens: Of each stream.
        history_characters: Of the long conversation.
        every: Of the schemas of `constraints` each n-th is measured.
        peers_python: Interpreter of the peers' environment.
        llama_bench: The program.
    """

    load: Load
    peers: tuple[str, ...]
    only: tuple[str, ...]
    rounds: int
    tokens: int
    history_characters: int
    every: int
    peers_python: Path
    llama_bench: Path


@dataclass
class Session:
    """Runs a plan; `samples` grows meanwhile.

    Attributes:
        plan: What to run.
        patience: With a busy machine.
        show: Told of each sample.
    """

    plan: Plan
    patience: Patience
    show: Callable[[Sample], None]
    samples: list[Sample] = field(default_factory=list)

    def run(self) -> None:
        """Start the servers, measure, and end them.

        Raises:
            NoServerError: If one does not start, or ends in between.
        """
        with contextlib.ExitStack() as stack:
            running = []
            for starting in self._servers():
                server = stack.enter_context(starting)
                stack.callback(server.thaw)  # a frozen process would not hear that it is to end
                self._heat(server)
                server.freeze()
                running.append(server)
            for turn in range(self.plan.rounds):
                for measure in self.plan.only:
                    repeats = REPEATS.get(measure, 1)
                    for repeat in range(repeats):
                        self._measure(measure, running, turn * repeats + repeat)

    def _servers(self) -> Iterator[contextlib.AbstractContextManager[Server]]:
        plan = self.plan
        yield servers.corral(plan.load)
        if "llama-server" in plan.peers:
            yield servers.llama_server(plan.load, plan.peers_python)
        if "llama-cpp-python" in plan.peers:
            yield servers.llama_cpp_python(plan.load, plan.peers_python)

    def _heat(self, server: Server) -> None:
        """Have the model loaded and every path walked once."""
        measures.first_token(server, _HEATING)
        measures.streams(server, COUNTS[0], 4, _HEATING + 1)

    def _measure(self, measure: str, running: list[Server], turn: int) -> None:
        """Measure everybody; who comes first changes from round to round."""
        if measure in WITHOUT_SERVER:
            self._measure_alone(measure, turn)
            return
        for server in running[:: 1 if turn % 2 == 0 else -1]:
            work = self._work(measure, server, turn)
            if work is None:
                continue
            server.thaw()
            try:
                self._sample(measure, server.name, turn, work)
            finally:
                server.freeze()
            if server.is_over:
                words = f"{server.name} has ended; it printed last:\n{server.last_words()}"
                raise NoServerError(words)
        if measure == "streams-1" and "llama-bench" in self.plan.peers:
            self._sample(measure, "llama-bench", turn, self._bench)

    def _measure_alone(self, measure: str, turn: int) -> None:
        """Measure what needs none of the running servers."""
        if turn and measure in ONCE:
            return
        plan = self.plan
        tasks: dict[str, Callable[[], Values]] = {
            "noop-sampler": lambda: measures.noop_sampler(plan.load, plan.tokens),
            "constraints": lambda: measures.constraints(plan.load, plan.every),
            "start": lambda: measures.start(plan.load.slots),
        }
        self._sample(measure, OURS, turn, tasks[measure])

    def _bench(self) -> Values:
        plan = self.plan
        return llama_bench.run(plan.llama_bench, plan.load, plan.tokens, _PROMPT_DEPTH)

    def _work(self, measure: str, server: Server, turn: int) -> Callable[[], Values] | None:
        """What to do for a measure at a server; None: it is not measured there."""
        if measure in OURS_ALONE and server.name != OURS:
            return None
        if measure == "structured" and server.name not in CONSTRAINED:
            return None
        plan = self.plan
        number = turn * _PROMPTS_A_TURN
        tasks: dict[str, Callable[[], Values]] = {
            "first-token": lambda: measures.first_token(server, number),
            "second-turn": lambda: measures.second_turn(server, plan.history_characters, turn),
            "structured": lambda: measures.structured(server, 2 * plan.tokens, turn),
            "cold": lambda: measures.cold(server, plan.load, self.patience, number + 31),
            "memory": lambda: measures.memory(server),
        }
        for count in COUNTS:
            first = number + 1 + sum(other for other in COUNTS if other < count)
            tasks[f"streams-{count}"] = partial(measures.streams, server, count, plan.tokens, first)
        for place, kind in enumerate(floods.FLOODS):
            first = number + _FLOODED + place * 2 * floods.STREAMS
            flood = partial(floods.flood, server, kind, 2 * plan.tokens, first, turn)
            tasks[f"flood-{kind}"] = flood
        return tasks[measure]

    def _sample(self, measure: str, server: str, turn: int, work: Callable[[], Values]) -> None:
        self.patience.wait()
        meter = NoiseMeter()
        values: Values = {}
        failure = ""
        try:
            values = work()
        except _FAILURES as error:
            failure = str(error) or type(error).__name__
        sample = Sample(measure, server, turn, meter.read(), values, failure)
        self.samples.append(sample)
        self.show(sample)
