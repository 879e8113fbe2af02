"""Tables without borders: columns as wide as their widest cell, four blanks between them."""

import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from corral_cli.terminal import columns, fitted

_GAP: Final = 4
_LEAST: Final = 20  # columns that a long cell keeps, however narrow the terminal is
_PROSE: Final = 28  # columns in which a text of several lines can be read


def render(rows: Iterable[Sequence[str]], *, cut: bool = False) -> str:
    """Lay out rows of cells, one line each; the last column is padded like the others.

    On a terminal it is not: what is as wide as a terminal would take two lines for its blanks.
    With `cut`, a terminal gets of the longest cells what a row of one line has room for.
    Control characters of a cell are dropped: a name from a server never moves the cursor.
    """
    trimmed = sys.stdout.isatty()
    cells = [[_plain(cell) for cell in row] for row in rows]
    widths = _widths(cells)
    if cut and trimmed:
        _narrow(widths, columns())
        cells = [[fitted(cell, widths[column]) for column, cell in enumerate(row)] for row in cells]
    lines = (_padded(row, widths) for row in cells)
    return "".join(f"{line.rstrip(' ') if trimmed else line}\n" for line in lines)


def flowing(rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows that end in prose: as `render` does, but on a terminal no line is too long.

    What has no room beside the other cells goes on below: the last cell under its own beginning,
    where that leaves it enough room; else the last cells together, under the row.
    """
    if not sys.stdout.isatty():
        return render(rows)
    cells = [[_plain(cell) for cell in row] for row in rows]
    widths = _widths(cells)
    starts = [0, *accumulate(width + _GAP for width in widths)]
    room, last = columns(), len(widths) - 1
    fitting = sum(start - _GAP <= room for start in starts[1:])
    if fitting == last and room - starts[last] >= _PROSE:
        flowed = (_beside(row, widths[:last], starts[last]) for row in cells)
    else:
        kept = max(1, fitting)
        flowed = (_below(row, widths[:kept], starts[1 if widths[0] == 0 else 0]) for row in cells)
    return "".join(f"{line.rstrip(' ')}\n" for lines in flowed for line in lines)


def _beside(row: Sequence[str], widths: Sequence[int], start: int) -> Iterator[str]:
    """A row whose last cell goes on under its own beginning."""
    head, prose = row[: len(widths)], "".join(row[len(widths) :])
    first, *more = _lines(prose, columns() - start) or [""]
    yield _padded(head, widths) + first
    for line in more:
        yield " " * start + line


def _below(row: Sequence[str], widths: Sequence[int], start: int) -> Iterator[str]:
    """A row, and under it the cells that it has no room for."""
    yield _padded(row[: len(widths)], widths)
    start += _GAP
    rest = ": ".join(filter(None, row[len(widths) :]))
    for line in _lines(rest, columns() - start):
        yield " " * start + line


def _lines(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(width, 1), break_on_hyphens=False)


def _padded(row: Sequence[str], widths: Sequence[int]) -> str:
    return "".join(cell.ljust(widths[column] + _GAP) for column, cell in enumerate(row))


def _widths(cells: Iterable[Sequence[str]]) -> list[int]:
    widths: list[int] = []
    for row in cells:
        widths += [0] * (len(row) - len(widths))
        for column, cell in enumerate(row):
            widths[column] = max(widths[column], len(cell))
    return widths


def _narrow(widths: list[int], room: int) -> None:
    """Take from the widest columns what a row is wider than the terminal."""
    while sum(widths) + _GAP * (len(widths) - 1) > room and max(widths) > _LEAST:
        widths[widths.index(max(widths))] -= 1


def _plain(cell: str) -> str:
    return "".join(character for character in cell if character.isprintable())
