"""The format string of `printf`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from corral_chat.bounds import check_chars, step
from corral_chat.gotemplate.formatting import PLAIN, Spec, format_argument
from corral_chat.gotemplate.values import type_name

_MOST = 1_000_000
"""Of a width or precision; Go takes no larger ones either."""
_FLAGS = {"#": "sharp", "0": "zero", "+": "plus", "-": "minus", " ": "space"}


def sprintf(form: str, values: Sequence[Any]) -> str:
    """`fmt.Sprintf`."""
    return _Printer(form, values).run()


class _Printer:
    def __init__(self, form: str, values: Sequence[Any]) -> None:
        self._form = form
        self._values = values
        self._at = 0
        self._argument = 0
        self._good = True  # whether the argument's number, if any was named, is one
        self._reordered = False
        self._after_index = False
        self._parts: list[str] = []
        self._chars = 0

    def run(self) -> str:
        form = self._form
        while self._at < len(form):
            self._good = True
            found = form.find("%", self._at)
            end = len(form) if found < 0 else found
            self._write(form[self._at : end])
            self._at = end + 1
            if found >= 0 and not self._directive():
                break
        self._extra()
        return "".join(self._parts)

    def _write(self, text: str) -> None:
        step()
        self._chars += len(text)
        check_chars(self._chars)
        self._parts.append(text)

    def _directive(self) -> bool:
        """Read one verb and print its argument; False: there was none."""
        spec = Spec()
        self._flags(spec)
        self._index()
        self._width(spec)
        self._precision(spec)
        if not self._after_index:
            self._index()
        verb = self._peek()
        if not verb:
            self._write("%!(NOVERB)")
            return False
        self._at += 1
        self._after_index = False
        if verb == "%":
            self._write("%")
        elif not self._good:
            self._write(f"%!{verb}(BADINDEX)")
        elif self._argument >= len(self._values):
            self._write(f"%!{verb}(MISSING)")
        else:
            self._print(verb, spec)
        return True

    def _print(self, verb: str, spec: Spec) -> None:
        spec.verb = verb
        if verb == "v":
            spec.go_syntax, spec.sharp = spec.sharp, False
            spec.names, spec.plus = spec.plus, False
        self._write(format_argument(self._values[self._argument], spec))
        self._argument += 1

    def _flags(self, spec: Spec) -> None:
        while flag := _FLAGS.get(self._peek()):
            setattr(spec, flag, True)
            self._at += 1

    def _width(self, spec: Spec) -> None:
        if self._peek() == "*":
            self._at += 1
            spec.width = self._integer_argument()
            if spec.width is None:
                self._write("%!(BADWIDTH)")
            elif spec.width < 0:
                spec.width, spec.minus, spec.zero = -spec.width, True, False
            self._after_index = False
            return
        spec.width = self._number()
        if self._after_index and spec.width is not None:
            self._good = False

    def _precision(self, spec: Spec) -> None:
        if self._peek() != "." or self._at + 1 >= len(self._form):
            return
        self._at += 1
        if self._after_index:
            self._good = False
        self._index()
        if self._peek() == "*":
            self._at += 1
            spec.precision = self._integer_argument()
            if spec.precision is not None and spec.precision < 0:
                spec.precision = None
            if spec.precision is None:
                self._write("%!(BADPREC)")
            self._after_index = False
        else:
            spec.precision = self._number() or 0

    def _integer_argument(self) -> int | None:
        if self._argument >= len(self._values):
            return None
        value = self._values[self._argument]
        self._argument += 1
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _MOST:
            return None
        return int(value)

    def _number(self) -> int | None:
        begin = self._at
        while self._peek() and self._peek() in "0123456789":
            self._at += 1
            if int(self._form[begin : self._at]) > _MOST * 10:
                self._at = len(self._form)
                return None
        return int(self._form[begin : self._at]) if self._at > begin else None

    def _index(self) -> None:
        """Read `[3]`: the argument's number, from 1."""
        self._after_index = False
        if self._peek() != "[":
            return
        self._reordered = True
        end = self._form.find("]", self._at)
        digits = self._form[self._at + 1 : end] if end > 0 else ""
        if end < 0:
            self._good = False
            self._at += 1
            return
        self._at = end + 1
        is_number = digits.isascii() and digits.isdigit() and len(digits) < 8  # noqa: PLR2004 - as above
        if is_number and 0 < int(digits) <= len(self._values):
            self._argument = int(digits) - 1
            self._after_index = True
        else:
            self._good = False
            self._after_index = is_number

    def _extra(self) -> None:
        if self._reordered or self._argument >= len(self._values):
            return
        rest = [
            "<nil>" if value is None else f"{type_name(value)}={format_argument(value, PLAIN)}"
            for value in self._values[self._argument :]
        ]
        self._write(f"%!(EXTRA {', '.join(rest)})")

    def _peek(self) -> str:
        return self._form[self._at : self._at + 1]
