"""Tables without borders: columns as wide as their widest cell, four blanks between them."""

from collections.abc import Iterable, Sequence
from typing import Final

_GAP: Final = 4


def render(rows: Iterable[Sequence[str]]) -> str:
    """Lay out rows of cells, one line each; the last column is padded like the others.

    Control characters of a cell are dropped: a name from a server never moves the cursor.
    """
    cells = [[_plain(cell) for cell in row] for row in rows]
    widths: list[int] = []
    for row in cells:
        widths += [0] * (len(row) - len(widths))
        for column, cell in enumerate(row):
            widths[column] = max(widths[column], len(cell))
    return "".join(
        "".join(cell.ljust(widths[column] + _GAP) for column, cell in enumerate(row)) + "\n"
        for row in cells
    )


def _plain(cell: str) -> str:
    return "".join(character for character in cell if character.isprintable())
