"""What goes on while something takes long: spinners and bars on standard error.

On a terminal the lines are drawn again ten times a second. Elsewhere each step is one plain line,
printed once, so that logs stay readable.
"""

import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final, Protocol, Self, TextIO

from corral_cli import human
from corral_cli.terminal import cell_width, fitted, harmless
from corral_kernel.durations import SECOND, format_duration

_FRAMES: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_FRAME_S: Final = 0.1
_SAMPLES: Final = 10
_STALLED_S: Final = 1.0
_ENDS: Final = "▕▏ "
_WIDEST_BAR: Final = 60
_NARROWEST_BAR: Final = 10
_SHORTEST_LABEL: Final = 20
# Columns for "999 MB/999 MB   999 MB/s   59m59s", for it without the rate, and for the first part.
_NUMBERS: Final = (33, 22, 13)
_LONGEST_S: Final = 100 * 3600
_LONG: Final = "99h+"
_DONE: Final = 100
# A terminal that knows them shows a redraw in one piece.
_BEGIN: Final = "\x1b[?2026h\x1b[?25l"
_END: Final = "\x1b[?25h\x1b[?2026l"


class _Item(Protocol):
    def draw(self, width: int, frame: str) -> str: ...


class Spinner:
    """A step of unknown length; its glyph goes when it is finished."""

    def __init__(self, text: str) -> None:
        self.text = harmless(text)
        self.finished = False

    def draw(self, width: int, frame: str) -> str:
        """Give the line as it is now."""
        return fitted(self.text, width - 4) + (" " if self.finished else f" {frame} ")


class Bar:
    """A step of known length, in bytes."""

    def __init__(self, label: str, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._label = harmless(label)
        self._total = total
        self._clock = clock
        self._completed = 0
        self._samples: deque[tuple[float, int]] = deque(maxlen=_SAMPLES)
        self._lock = threading.Lock()

    def add(self, size_bytes: int) -> None:
        """Note that so many more bytes are done; any thread may."""
        with self._lock:
            self.advance(self._completed + size_bytes)

    def advance(self, completed: int) -> None:
        """Note that so many bytes are done."""
        moment = self._clock()
        if not self._samples or moment - self._samples[-1][0] >= _FRAME_S:
            self._samples.append((moment, completed))
        self._completed = min(completed, self._total)

    def finish(self) -> None:
        """Note that all is done."""
        self._completed = self._total

    def draw(self, width: int, frame: str) -> str:
        """Give the line as it is now; `frame` is for spinners.

        What does not fit goes in this order: the rate, the time left, the label's end, the bar.
        """
        del frame
        percent = self._completed * _DONE // self._total if self._total else _DONE
        middle = f": {percent:3d}% "
        room = 0
        for numbers in self._numbers(finished=percent == _DONE):
            room = width - 1 - len(middle) - len(_ENDS) - len(numbers)
            if room - cell_width(self._label) >= _NARROWEST_BAR:
                break
        label = fitted(self._label, max(room - _NARROWEST_BAR, _SHORTEST_LABEL))
        room = min(_WIDEST_BAR, room - cell_width(label))
        if room <= 0:
            return fitted(f"{label}{middle}{numbers}".rstrip(), width - 1)
        filled = room * percent // _DONE
        return f"{label}{middle}▕{'█' * filled}{' ' * (room - filled)}▏ {numbers}".rstrip()

    def _numbers(self, *, finished: bool) -> list[str]:
        """What stands behind the bar, the longest first; each as wide at all times."""
        total = human.size(self._total)
        if finished:
            return [total.ljust(width) for width in _NUMBERS]
        amounts = f"{human.size(self._completed)}/{total}"
        rate = self._rate()
        if rate <= 0:
            return [amounts.ljust(width) for width in _NUMBERS]
        left_s = int((self._total - self._completed) / rate)
        left = format_duration(left_s * SECOND) if left_s < _LONGEST_S else _LONG
        found = (f"{amounts}   {human.size(int(rate))}/s   {left}", f"{amounts}   {left}", amounts)
        return [text.ljust(width) for text, width in zip(found, _NUMBERS, strict=True)]

    def _rate(self) -> float:
        """Bytes a second of late; it falls while nothing comes."""
        if len(self._samples) < 2:  # noqa: PLR2004 - a rate needs two points
            return 0.0
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        now = self._clock()
        span = now - first_s if now - last_s > _STALLED_S else last_s - first_s
        return (last - first) / span if span > 0 else 0.0


class Progress:
    """The steps of one command, newest last; a context manager that leaves the cursor behind them.

    With `fleeting`, nothing of it stays to be read: for waiting that ends in an answer.
    """

    def __init__(self, out: TextIO | None = None, *, fleeting: bool = False) -> None:
        self._out = out or sys.stderr
        self._tty = self._out.isatty()
        self._fleeting = fleeting
        self._items: list[_Item] = []
        self._drawn = 0
        self._frame = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._tty:
            self._thread = threading.Thread(target=self._redraw, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Draw the last state (or wipe it away), once; further calls do nothing."""
        if self._thread is None:
            return
        self._stopped.set()
        self._thread.join()
        self._thread = None
        self._finish_step()
        if self._fleeting:
            self._items = []
        self._draw()
        if self._items:
            self._out.write("\n")
            self._out.flush()

    def step(self, text: str) -> Spinner:
        """Begin the next step; the one before is finished by it."""
        spinner = Spinner(text)
        self._begin(spinner, text)
        return spinner

    def bar(self, label: str, total: int) -> Bar:
        """Begin the next step, one of `total` bytes."""
        bar = Bar(label, total)
        self._begin(bar, label)
        return bar

    def _begin(self, item: _Item, text: str) -> None:
        with self._lock:
            last = self._items[-1] if self._items else None
            # A step that turns out to have a length becomes a bar.
            goes_on = isinstance(last, Spinner) and last.text == harmless(text)
            if goes_on:
                self._items[-1] = item
            else:
                self._finish_step()
                self._items.append(item)
        if not self._tty and text and not self._fleeting and not goes_on:
            self._out.write(f"{harmless(text)}\n")
            self._out.flush()

    def _finish_step(self) -> None:
        if self._items and isinstance(self._items[-1], Spinner):
            self._items[-1].finished = True

    def _redraw(self) -> None:
        while not self._stopped.wait(_FRAME_S):
            self._frame += 1
            self._draw()

    def _draw(self) -> None:
        size = shutil.get_terminal_size()
        frame = _FRAMES[self._frame % len(_FRAMES)]
        with self._lock:
            lines = [item.draw(size.columns, frame) for item in self._items[-size.lines + 1 :]]
        up = f"\x1b[{self._drawn - 1}A" if self._drawn > 1 else ""
        # Each line goes over the old one; nothing is wiped before it is drawn anew.
        body = "\n".join(f"\r{line}\x1b[K" for line in lines)
        wiped = f"\r{up}{body}\x1b[J" if self._drawn or lines else ""
        self._out.write(f"{_BEGIN}{wiped}{_END}")
        self._out.flush()
        self._drawn = len(lines)
