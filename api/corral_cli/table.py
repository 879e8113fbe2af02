"""Tables without borders: columns as wide as their widest cell, four blanks between them."""

import sys
from collections.abc import Iterable, Sequence
from typing import Final

_GAP: Final = 4


def render(rows: Iterable[Sequence[str]]) -> str:
    """Lay out rows of cells, one line each; the last column is padded like the others.

    On a terminal it is not: what is as wide as a terminal would take two lines for its blanks.
    Control characters of a cell are dropped: a name from a server never moves the cursor.
    """
    trimmed = sys.stdout.isatty()
    cells = [[_plain(cell) for cell in row] for row in rows]
    widths: list[int] = []
    for row in cells:
        widths += [0] * (len(row) - len(widths))
        for column, cell in enumerate(row):
            widths[column] = max(widths[column], len(cell))
    lines = (
        "".join(cell.ljust(widths[column] + _GAP) for column, cell in enumerate(row))
        for row in cells
    )
    return "".join(f"{line.rstrip(' ') if trimmed else line}\n" for line in lines)


def _plain(cell: str) -> str:
    return "".join(character for character in cell if character.isprintable())
