"""What reading an answer adds to each of its tokens: `python -m benchmarks.parsing`.

Every parser reads answers token by token, as a worker has it read them: text, a thought before it,
and behind the marks of its calls a long object, whether or not its family writes calls so. Given is
the time of the processor by token, less that of an answer which nothing reads; the median of some
runs.
"""

import argparse
import contextlib
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks import machine
from corral_kernel.contracts import AnswerSpec, ChatParser
from corral_kernel.errors import OutputError
from corral_kernel.plugins import Plugins
from corral_kernel.worker.reading import Reader

TOKENS: Final = 2000
TOKEN_CHARS: Final = 4
SHOWN: Final = 10
"""Of the table, the costliest rows."""
BAR_US: Final = 20.0
"""No parser may add more to a token."""

PROSE: Final = "Norway's weather is mild along the coast, with rain <b>all</b> year [1] {so far}. "
VALUE: Final = 'line of a file that a call writes, with \\"quotes\\" and [brackets] in {it}\\n'


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds that a parser adds to a token of an answer."""

    parser: str
    answer: str
    added_us: float


def main() -> int:
    """Measure, print the table, write the record; fails where one is over the bar."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parsing", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="of each, of which the median counts")
    parser.add_argument("--out", type=Path, help="write everything to this JSON file")
    arguments = parser.parse_args()
    found = list(costs(arguments.runs))
    print(f"{'parser':<20}{'answer':<10}{'added us':>10}  (a token; bar: {BAR_US:g})")
    for cost in sorted(found, key=lambda cost: -cost.added_us)[:SHOWN]:
        print(f"{cost.parser:<20}{cost.answer:<10}{cost.added_us:>10.2f}")
    print(f"{'median':<30}{median(cost.added_us for cost in found):>10.2f}")
    machine.record(arguments.out, costs=[asdict(cost) for cost in found])
    return 1 if any(cost.added_us > BAR_US for cost in found) else 0


def costs(runs: int) -> Iterator[Cost]:
    """Measure every parser that is installed."""
    tool = {"type": "function", "function": {"name": "write_file", "parameters": {}}}
    spec = AnswerSpec(renderer="jinja", think=True, calls=True, tools=(tool,))
    plain = _us(None, spec, list(_pieces(PROSE)), runs)
    for _, parser in Plugins(("chat",)).parsers.values():
        for name, text in _answers(parser).items():
            added = _us(parser, spec, list(_pieces(text)), runs) - plain
            yield Cost(parser.name, name, round(added, 3))


def _answers(parser: ChatParser) -> dict[str, str]:
    long = PROSE * (TOKENS * TOKEN_CHARS // len(PROSE))
    found = {"text": long}
    thinking = getattr(parser, "thinking", None)
    if thinking is not None:
        found["thought"] = f"{thinking.open}{long}{thinking.close}Yes."
    value = VALUE * (TOKENS * TOKEN_CHARS // len(VALUE))
    call = f'{{"name": "write_file", "arguments": {{"text": "{value}"}}}}'
    for way in getattr(parser, "calls", ()):
        found["call"] = f"{way.begin}{call}{way.end}"
    if parser.name == "generic":
        found["call"] = call
    return found


def _pieces(text: str) -> Iterator[str]:
    for at in range(0, len(text), TOKEN_CHARS):
        yield text[at : at + TOKEN_CHARS]


def _us(parser: ChatParser | None, spec: AnswerSpec, pieces: list[str], runs: int) -> float:
    """Microseconds a token, events made."""
    readers = [Reader(1, parser, spec) for _ in range(runs)]
    return median(
        machine.thread_us(partial(_read, reader, pieces)) / len(pieces) for reader in readers
    )


def _read(reader: Reader, pieces: list[str]) -> None:
    with contextlib.suppress(OutputError):  # at the end of a call that another family writes
        for piece in pieces:
            reader.feed(piece)
            reader.take()
        reader.finish("stop")
        reader.take()


if __name__ == "__main__":
    sys.exit(main())
