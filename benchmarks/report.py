"""From samples to medians, ratios, bars, a table and a file."""

import json
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.machine import QUIET_CORES, Noise

LEAST_QUIET: Final = 2
"""With so many quiet samples (or pairs of them) the others are left out."""
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
    """A comparison with its numbers.

    Attributes:
        comparison: Of what.
        ours: Our median.
        theirs: The peer's.
        number: What the bar is for: the median of the ratios of pairs, which were measured one
            right after the other; without a peer our median.
        lowest: The least such number.
        highest: The greatest.
        samples: Pairs, or our samples alone.
        quiet: How many of these were measured on a quiet machine.
    """

    comparison: Comparison
    ours: float
    theirs: float | None
    number: float
    lowest: float
    highest: float
    samples: int
    quiet: int

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None: there is none."""
        bar = self.comparison
        if bar.at_least is not None:
            return self.number >= bar.at_least
        if bar.at_most is not None:
            return self.number <= bar.at_most
        return None


_BARRED: Final = (
    Comparison(
        "1 stream, tokens/s of decoding", "streams-1", "decode_tokens_per_s", "llama-bench", 0.97
    ),
    Comparison("8 streams, tokens/s", "streams-8", "tokens_per_s", "llama-server", 1.0),
    Comparison("second turn over first, to first token", "second-turn", "share", at_most=0.1),
    Comparison("structured over free text, time a token", "structured", "share", at_most=0.8),
    Comparison("pace beside new schemas over without", "flood-schemas", "share", at_least=0.5),
    Comparison("pace beside attacks over without", "flood-attacks", "share", at_least=0.5),
    Comparison("pace beside hostile templates", "flood-templates", "share", at_least=0.5),
    Comparison("a mask, p99, ms", "constraints", "mask_p99_ms", at_most=1.0),
    Comparison("compiling a schema, p95, ms", "constraints", "compile_p95_ms", at_most=10.0),
    Comparison("no-op sampler at the end adds, us", "noop-sampler", "last_adds_us", at_most=60.0),
    Comparison("no-op sampler in front adds, us", "noop-sampler", "first_adds_us", at_most=60.0),
    Comparison("cold request beyond the library, s", "cold", "beyond_s", at_most=0.3),
    Comparison("serve to first answer, s", "start", "first_answer_s", at_most=1.0),
    Comparison("server process resident, MB", "memory", "server_mb", at_most=120.0),
)


_BARLESS: Final = (
    Comparison("workers resident, MB", "memory", "workers_mb"),
    Comparison("compiling in a trial, p95, ms", "constraints", "trial_p95_ms"),
    Comparison("of that, no native choice by the engine, us", "noop-sampler", "unlisted_adds_us"),
    Comparison("of that, the sampler itself, us", "noop-sampler", "beside_kernel_us"),
)


def comparisons(counts: Sequence[int], peers: Iterable[str]) -> list[Comparison]:
    """Give the lines of the table, those with a bar first."""
    lines = [*_BARRED, *_BARLESS]
    for count in counts:
        title = f"{count} streams, server's processor time a token, ms"
        lines.append(Comparison(title, f"streams-{count}", "server_cpu_ms_per_token"))
    for peer in peers:
        lines += _beside(peer, counts)
    return lines


def _beside(peer: str, counts: Sequence[int]) -> Iterator[Comparison]:
    yield Comparison("time to first token, s", "first-token", "first_token_s", peer)
    yield Comparison("1 stream, tokens/s of decoding", "streams-1", "decode_tokens_per_s", peer)
    for count in counts:
        yield Comparison(f"{count} streams, tokens/s", f"streams-{count}", "tokens_per_s", peer)
    yield Comparison("structured text, ms a token", "structured", "structured_ms_per_token", peer)
    yield Comparison("structured over free text, each's own", "structured", "share", peer)
    yield Comparison("first turn of 1,500 tokens, s", "second-turn", "first_turn_s", peer)
    yield Comparison("second turn, to first token, s", "second-turn", "second_turn_s", peer)


def rows(samples: Sequence[Sample], lines: Iterable[Comparison]) -> list[Row]:
    """Work out the lines that there are samples for, each once."""
    found: dict[tuple[str, str, str], Comparison] = {}
    for line in lines:
        found.setdefault((line.measure, line.value, line.peer), line)
    made = (_row(samples, line) for line in found.values())
    return [row for row in made if row is not None]


def _row(samples: Sequence[Sample], line: Comparison) -> Row | None:
    ours = _of(samples, line, OURS)
    theirs = _of(samples, line, line.peer) if line.peer else ours
    turns = sorted(ours.keys() & theirs.keys())
    if not turns:
        return None
    quiet = [turn for turn in turns if ours[turn].noise.is_quiet and theirs[turn].noise.is_quiet]
    best = quiet if len(quiet) >= min(LEAST_QUIET, len(turns)) else turns
    mine = [ours[turn].values[line.value] for turn in best]
    others = [theirs[turn].values[line.value] for turn in best] if line.peer else []
    numbers = [own / other for own, other in zip(mine, others, strict=True)] if line.peer else mine
    return Row(
        line,
        ours=statistics.median(mine),
        theirs=statistics.median(others) if others else None,
        number=statistics.median(numbers),
        lowest=min(numbers),
        highest=max(numbers),
        samples=len(turns),
        quiet=len(quiet),
    )


def _of(samples: Sequence[Sample], line: Comparison, server: str) -> dict[int, Sample]:
    return {
        sample.turn: sample
        for sample in samples
        if (sample.measure, sample.server) == (line.measure, server) and line.value in sample.values
    }


def table(lines: Sequence[Row]) -> str:
    """Write the rows for people: medians, and ratios of pairs."""
    head = ("what", "Corral", "peer", "", "ratio", "(range)", "bar", "", "quiet")
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
        f"{row.ours:.4g}",
        "" if row.theirs is None else f"{row.theirs:.4g}",
        line.peer,
        "" if row.theirs is None else f"{row.number:.3f}",
        f"({row.lowest:.3g} to {row.highest:.3g})",
        bar,
        {True: "met", False: "NOT MET", None: ""}[row.met] + _doubt(row),
        f"{row.quiet} of {row.samples}",
    )


def _doubt(row: Row) -> str:
    return "?" if row.met is not None and not row.quiet else ""


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
        {**numbers.pop("comparison"), **numbers, "met": row.met}
        for row, numbers in ((row, asdict(row)) for row in lines)
    ]
    record = {**facts, "summary": summary, "samples": [asdict(sample) for sample in samples]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
