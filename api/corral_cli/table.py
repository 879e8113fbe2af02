"""Tables without borders: columns as wide as their widest cell, four blanks between them."""

import sys
from collections.abc import Iterable, Sequence
from typing import Final

from corral_cli.terminal import columns, fitted

_GAP: Final = 4
_LEAST: Final = 20  # columns that a long cell keeps, however narrow the terminal is


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
    lines = (
        "".join(cell.ljust(widths[column] + _GAP) for column, cell in enumerate(row))
        for row in cells
    )
    return "".join(f"{line.rstrip(' ') if trimmed else line}\n" for line in lines)


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
