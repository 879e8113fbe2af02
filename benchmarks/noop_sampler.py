"""What a Python sampler that does nothing adds to a token: prints JSON, times in microseconds.

    python -m benchmarks.noop_sampler --model FILE [--threads N] [--tokens N] [--rounds N]

The worker's loop runs in this process, as in `benchmarks.overheads`: one stream with the default
chain as it is, with the sampler at the chain's end, with it in front of all others, and with the
kernel's own samplers where the engine's native ones would do. The sampler is a stranger's, not the
kernel's, so each step is watched for its time. In front it gets the whole row, which the engine's
samplers then find as it left it.
"""

import argparse
import json
import os
import statistics
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from benchmarks import overheads, prompts
from corral_kernel.chains import Chain
from corral_kernel.contracts import (
    Candidates,
    JobView,
    Sampler,
    SamplerSpec,
    SamplerType,
    TokenEngine,
)
from corral_kernel.frames import Generate, PromptSpec
from corral_kernel.options import RequestOptions
from corral_kernel.plugins import Plugin, Plugins
from corral_kernel.testing.chains import chain_of
from corral_llamacpp import engine as llamacpp

PLAIN: Final = "plain"
KERNEL: Final = "kernel"
LAST: Final = "last"
FIRST: Final = "first"
KINDS: Final = (PLAIN, LAST, FIRST, KERNEL)


class Noop(Sampler):
    """Leaves everything as it is, and says of itself no more than any sampler."""

    def apply(self, candidates: Candidates) -> None:
        """Do nothing."""


class NoopType(SamplerType):
    """The sampler of that name."""

    name = "noop"

    def start(self, options: Any, job: JobView) -> Sampler:
        """Make one job's."""
        del options, job
        return Noop()


class Strangers(Plugins):
    """The plugins of a worker, and one more that gives the sampler."""

    @cached_property
    def samplers(self) -> dict[str, tuple[Plugin, SamplerType]]:
        """As installed, and `noop`."""
        giver = Plugin("noop", "benchmarks", "0")
        return super().samplers | {NoopType.name: (giver, NoopType())}


@dataclass(frozen=True)
class Bench:
    """A loaded model and what is run on it.

    Attributes:
        engine: Idle.
        tokens: Of each answer.
        rounds: In each all chains have their turn.
    """

    engine: TokenEngine
    tokens: int
    rounds: int

    def run(self) -> dict[str, float]:
        """Measure.

        Returns:
            Of each chain the median time around the library's calls; and what the sampler adds at
            the end (`last_adds_us`) and in front (`first_adds_us`); and what it costs where the
            engine chooses nothing itself (`unlisted_adds_us`). All are medians of rounds.
        """
        plugins = Strangers(("llamacpp",))
        self._outside_us(PLAIN, plugins)  # the first one feeds the prompt
        rounds = [
            {kind: self._outside_us(kind, plugins) for kind in _in_turn(number)}
            for number in range(self.rounds)
        ]
        medians = {f"{kind}_us": statistics.median(r[kind] for r in rounds) for kind in KINDS}
        return {
            **medians,
            "last_adds_us": statistics.median(r[LAST] - r[PLAIN] for r in rounds),
            "first_adds_us": statistics.median(r[FIRST] - r[PLAIN] for r in rounds),
            "unlisted_adds_us": statistics.median(r[KERNEL] - r[PLAIN] for r in rounds),
            "vocab_size": self.engine.info.vocab_size,
        }

    def _outside_us(self, kind: str, plugins: Plugins) -> float:
        spec = Generate(
            job_id=1,
            prompt=PromptSpec(text=prompts.endless(0)),
            options=RequestOptions(seed=1, num_predict=self.tokens),
            chain=chain_with(kind),
        )
        with patch.object(llamacpp, "native_part", _none) if kind == KERNEL else nullcontext():
            clock = overheads.run(self.engine, [spec], plugins)
        return statistics.median(clock.outside_us())


def _none(_chain: Sequence[SamplerSpec]) -> Sequence[int]:
    """Which samplers of a chain the engine applies, where it shall apply none."""
    return ()


def _in_turn(number: int) -> Sequence[str]:
    """The kinds of chain, each round beginning with another one."""
    start = number % len(KINDS)
    return KINDS[start:] + KINDS[:start]


def chain_with(kind: str) -> Chain:
    """The default chain, with the sampler where the kind says; resolved as a request's is."""
    plain = chain_of({})
    if kind in {PLAIN, KERNEL}:
        return plain
    names = [spec.name for spec in plain.samplers]
    names = [*names, NoopType.name] if kind == LAST else [NoopType.name, *names]
    return chain_of({"samplers": names}, [NoopType()])


def main() -> None:
    """Measure on one model."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.noop_sampler", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a GGUF file")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--context", type=int, default=2048, help="tokens a request")
    parser.add_argument("--tokens", type=int, default=128, help="of each answer")
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    engine = overheads.open_engine(arguments.model, arguments.threads, arguments.context)
    print(json.dumps(Bench(engine, arguments.tokens, arguments.rounds).run()))
    engine.close()


if __name__ == "__main__":
    main()
