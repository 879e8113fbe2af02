"""Tables without borders: columns as wide as their widest cell, four blanks between them."""

import sys
from collections.abc import Iterable, Sequence
from typing import Final

from corral_cli.terminal import columns, fitted

_GAP: Final = 4
_LEAST: Final = 20  # columns that the last cell keeps, however narrow the terminal is


def render(rows: Iterable[Sequence[str]], *, cut: bool = False) -> str:
    """Lay out rows of cells, one line each; the last column is padded like the others.

    On a terminal it is not: what is as wide as a terminal would take two lines for its blanks.
    With `cut`, a terminal gets of each last cell what its row has room for.
    Control characters of a cell are dropped: a name from a server never moves the cursor.
    """
    trimmed = sys.stdout.isatty()
    cells = [[_plain(cell) for cell in row] for row in rows]
    widths = _widths(cells)
    if cut and trimmed:
        room = max(columns() - sum(width + _GAP for width in widths[:-1]), _LEAST)
        cells = [[*row[:-1], fitted(row[-1], room)] for row in cells]
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


def _plain(cell: str) -> str:
    return "".join(character for character in cell if character.isprintable())
