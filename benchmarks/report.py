"""From samples to medians, ratios, bars, a table and a file."""

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.machine import QUIET_CORES, Noise

LEAST_QUIET: Final = 2
"""With so many quiet samples the others are left out of the medians."""
OURS: Final = "corral"


@dataclass(frozen=True)
class Sample:
    """One measurement of one server.

    Attributes:
        measure: What was measured.
        server: Of whom.
        turn: In which round, from 0.
        noise: What else ran meanwhile.
        values: Numbers by name; empty: it failed.
        failure: Why.
    """

    measure: str
    server: str
    turn: int
    noise: Noise
    values: dict[str, float]
    failure: str = ""


@dataclass(frozen=True)
class Comparison:
    """A line of the table.

    Attributes:
        title: What people read.
        measure: The measure.
        value: Which of its values.
        peer: Whose value ours is divided by; empty: ours stands alone.
        at_least: The bar from below, for the ratio or for ours alone.
        at_most: The bar from above.
    """

    title: str
    measure: str
    value: str
    peer: str = ""
    at_least: float | None = None
    at_most: float | None = None


@dataclass(frozen=True)
class Row:
    """A comparison with its numbers: medians, how many samples they are of, how many quiet."""

    comparison: Comparison
    ours: float
    theirs: float | None
    samples: int
    quiet: int
    lowest: float
    highest: float

    @property
    def ratio(self) -> float | None:
        """Ours over theirs."""
        return None if self.theirs is None else self.ours / self.theirs

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None: there is none."""
        bar, number = self.comparison, self.ours if self.ratio is None else self.ratio
        if bar.at_least is not None:
            return number >= bar.at_least
        if bar.at_most is not None:
            return number <= bar.at_most
        return None


def comparisons(counts: Sequence[int], peers: Iterable[str]) -> list[Comparison]:
    """Give the lines of the table, those with a bar first."""
    barred = [
        Comparison(
            "1 stream, decode tokens/s", "streams-1", "decode_tokens_per_s", "llama-bench", 0.97
        ),
        Comparison("8 streams, tokens/s", "streams-8", "tokens_per_s", "llama-server", 1.0),
        Comparison("second turn over first, to first token", "second-turn", "share", at_most=0.1),
        Comparison(
            "structured over free text, time a token", "structured", "share", at_most=0.8
        ),
        Comparison("cold request beyond the library, s", "cold", "beyond_s", at_most=0.3),
        Comparison("serve to first answer, s", "start", "first_answer_s", at_most=1.0),
        Comparison("server process resident, MiB", "memory", "server_mib", at_most=120.0),
    ]
    plain = [
        Comparison("workers resident, MiB", "memory", "workers_mib"),
        *(
            Comparison(f"server processor time a token, ms, {n} streams", f"streams-{n}",
                       "server_cpu_ms_per_token")
            for n in counts
        ),
    ]
    for peer in peers:
        plain.append(Comparison("time to first token, s", "first-token", "first_token_s", peer))
        for n in counts:
            plain.append(Comparison(f"{n} streams, tokens/s", f"streams-{n}", "tokens_per_s", peer))
        plain += [
            Comparison("first turn of 1,500 tokens, s", "second-turn", "first_turn_s", peer),
            Comparison("second turn, to first token, s", "second-turn", "second_turn_s", peer),
        ]
    known = {(line.measure, line.value, line.peer) for line in barred}
    return barred + [line for line in plain if (line.measure, line.value, line.peer) not in known]


def rows(samples: Sequence[Sample], lines: Iterable[Comparison]) -> list[Row]:
    """Work out the lines that there are samples for."""
    found = (_row(samples, line) for line in lines)
    return [row for row in found if row is not None]


def _row(samples: Sequence[Sample], line: Comparison) -> Row | None:
    ours = _of(samples, line, OURS)
    theirs = _of(samples, line, line.peer) if line.peer else []
    if not ours or (line.peer and not theirs):
        return None
    numbers = [sample.values[line.value] for sample in _best(ours)]
    other = [sample.values[line.value] for sample in _best(theirs)]
    return Row(
        line,
        statistics.median(numbers),
        statistics.median(other) if other else None,
        len(ours) + len(theirs),
        sum(sample.noise.is_quiet for sample in (*ours, *theirs)),
        min(numbers),
        max(numbers),
    )


def _of(samples: Sequence[Sample], line: Comparison, server: str) -> list[Sample]:
    return [
        sample
        for sample in samples
        if (sample.measure, sample.server) == (line.measure, server) and line.value in sample.values
    ]


def _best(samples: Sequence[Sample]) -> Sequence[Sample]:
    quiet = [sample for sample in samples if sample.noise.is_quiet]
    return quiet if len(quiet) >= min(LEAST_QUIET, len(samples)) else samples


def table(lines: Sequence[Row]) -> str:
    """Write the rows for people; times and rates with three digits that count."""
    head = ("what", "Corral", "(range)", "peer", "", "ratio", "bar", "", "quiet")
    body = [head, *map(_cells, lines)]
    widths = [max(len(cells[column]) for cells in body) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in body
    )


def _cells(row: Row) -> tuple[str, ...]:
    line = row.comparison
    bar = "" if line.at_most is None else f"<= {line.at_most:g}"
    bar = bar if line.at_least is None else f">= {line.at_least:g}"
    return (
        line.title,
        f"{row.ours:.3g}",
        f"({row.lowest:.3g} to {row.highest:.3g})",
        "" if row.theirs is None else f"{row.theirs:.3g}",
        line.peer,
        "" if row.ratio is None else f"{row.ratio:.3f}",
        bar,
        {True: "met", False: "NOT MET", None: ""}[row.met],
        f"{row.quiet} of {row.samples}",
    )


def troubles(samples: Sequence[Sample]) -> list[str]:
    """Say what failed, and whether the machine was too busy for the numbers to be trusted."""
    failed = {f"{s.measure} of {s.server}: {s.failure}" for s in samples if s.failure}
    loud = sum(not sample.noise.is_quiet for sample in samples)
    if not loud:
        return sorted(failed)
    words = f"{loud} of {len(samples)} measurements ran beside others' work of over "
    return [*sorted(failed), f"{words}{QUIET_CORES:g} cores: their times say little"]


def write(path: Path, facts: dict[str, Any], samples: Sequence[Sample], lines: list[Row]) -> None:
    """Write everything down as JSON: what ran where, each sample, and the table."""
    summary = [
        {**asdict(row.comparison), "ours": row.ours, "theirs": row.theirs, "ratio": row.ratio,
         "met": row.met, "samples": row.samples, "quiet": row.quiet}
        for row in lines
    ]  # fmt: skip
    record = {**facts, "summary": summary, "samples": [asdict(sample) for sample in samples]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
