"""What a terminal needs: its width, text that cannot steer it, words kept whole at line ends."""

import shutil
import sys
import unicodedata
from typing import Final, TextIO

GREY: Final = "\x1b[38;5;245m"
BOLD: Final = "\x1b[1m"
PLAIN: Final = "\x1b[0m"

_MARGIN: Final = 5  # columns left free at the right
_NARROWEST: Final = 10  # below this nothing is wrapped


def columns() -> int:
    """Give the width of the terminal."""
    return shutil.get_terminal_size().columns


def cell_width(text: str) -> int:
    """Count the columns that a text takes: 2 for wide characters, 0 for combining ones."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def fitted(text: str, width: int) -> str:
    """Cut a text to so many columns, with a mark at the cut."""
    if cell_width(text) <= width:
        return text
    kept, taken = [], 1  # the mark
    for character in text:
        taken += cell_width(character)
        if taken > width:
            break
        kept.append(character)
    return f"{''.join(kept)}…" if width > 0 else ""


def harmless(text: str) -> str:
    """Drop control characters other than newline and tab: a model's text never steers."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")


class Writer:
    """Writes text to standard output as it comes.

    On a terminal, control characters are dropped and, if `wrap` is on, words that do not fit are
    moved to the next line. Into a pipe or file everything goes as it is.
    """

    def __init__(self, *, wrap: bool, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._tty = self._out.isatty()
        self._wrap = wrap and self._tty
        self._column = 0
        self._word = ""  # what stands since the last blank of this line
        self._written = ""  # the last piece

    def write(self, text: str) -> None:
        """Write a piece of text, and let it be seen at once."""
        shown = harmless(text) if self._tty else text
        limit = columns() - _MARGIN
        if self._wrap and limit + _MARGIN >= _NARROWEST:
            shown = "".join(self._place(character, limit) for character in shown)
        self._out.write(shown)
        self._out.flush()
        self._written = shown or self._written

    def end_line(self) -> None:
        """Go to a new line, on a terminal only, and only if something stands on this one."""
        if self._tty and self._written and not self._written.endswith("\n"):
            self._out.write("\n")
            self._out.flush()
            self._written = "\n"

    def style(self, codes: str) -> None:
        """Change colours, on a terminal only."""
        if self._tty:
            self._out.write(codes)

    def _place(self, character: str, limit: int) -> str:
        if character == "\n":
            self._column, self._word = 0, ""
            return character
        width = cell_width(character)
        if self._column + width > limit and character != " ":
            return self._break_line(character, width, limit)
        self._column += width
        self._word = "" if character in " \t" or width > 1 else self._word + character
        return character

    def _break_line(self, character: str, width: int, limit: int) -> str:
        length = cell_width(self._word)
        if length >= limit - _MARGIN:  # a word as long as the line is cut
            self._column, self._word = width, character
            return f"\n{character}"
        moved = f"{self._word}{character}"
        back = f"\x1b[{length}D\x1b[K" if length else ""
        self._column, self._word = length + width, moved
        return f"{back}\n{moved}"
