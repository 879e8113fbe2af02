"""Flags and arguments, read by the rules of the parser that Ollama's command uses, in its words.

Flags may stand between arguments; `--` ends them. A flag with a value takes `--name value` or
`--name=value`; one whose value may be left out takes it only behind `=`.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from msgspec import Struct

from corral_cli.errors import UsageError
from corral_kernel.gotext import parse_bool, parse_int64, quote

Value = str | bool | int
Kind = Literal["bool", "string", "int"]


class Flag(Struct, frozen=True):
    """One flag of a command."""

    name: str
    help: str
    kind: Kind = "bool"
    short: str = ""
    bare: str | None = None  # the value of a flag without one; None: it needs one


class Call(Struct, frozen=True):
    """A command line that was understood: arguments, and the flags that were given."""

    args: tuple[str, ...]
    flags: Mapping[str, Value]

    def on(self, name: str) -> bool:
        """Tell whether a yes-or-no flag was given and is on."""
        return self.flags.get(name) is True

    def text(self, name: str) -> str | None:
        """Give the value of a text flag, or `None` if it was not given."""
        value = self.flags.get(name)
        return None if value is None else str(value)


_HELP: Final = Flag("help", "show this help", short="h")


def parse(flags: Sequence[Flag], argv: Sequence[str]) -> Call:
    """Split a command's words into arguments and flags (`--help` is always one of them).

    Raises:
        UsageError: For a flag that nobody knows, lacks its value or has a wrong one.
    """
    reader = _Reader((*flags, _HELP), argv)
    reader.read()
    return Call(tuple(reader.args), reader.values)


class _Reader:
    def __init__(self, flags: Sequence[Flag], argv: Sequence[str]) -> None:
        self._long = {flag.name: flag for flag in flags}
        self._short = {flag.short: flag for flag in flags if flag.short}
        self._waiting = list(argv)
        self.args: list[str] = []
        self.values: dict[str, Value] = {}

    def read(self) -> None:
        while self._waiting:
            word = self._waiting.pop(0)
            if word == "--":
                self.args += self._waiting
                return
            if word.startswith("--"):
                self._read_long(word)
            elif word.startswith("-") and word != "-":
                self._read_short(word)
            else:
                self.args.append(word)

    def _read_long(self, word: str) -> None:
        name, equals, value = word[2:].partition("=")
        if not name or name.startswith("-"):
            raise UsageError(f"bad flag syntax: {word}")
        flag = self._long.get(name)
        if flag is None:
            raise UsageError(f"unknown flag: --{name}")
        self._set(flag, value if equals else self._value_of(flag, f"--{name}"))

    def _read_short(self, word: str) -> None:
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            flag = self._short.get(letter)
            if flag is None:
                raise UsageError(f"unknown shorthand flag: {_quote_letter(letter)} in {word}")
            if letters.startswith("="):
                self._set(flag, letters[1:])
                return
            if flag.kind != "bool" and flag.bare is None and letters:
                self._set(flag, letters)
                return
            self._set(flag, self._value_of(flag, f"{_quote_letter(letter)} in {word}"))

    def _value_of(self, flag: Flag, shown: str) -> str:
        if flag.kind == "bool":
            return "true"
        if flag.bare is not None:
            return flag.bare
        if not self._waiting:
            raise UsageError(f"flag needs an argument: {shown}")
        return self._waiting.pop(0)

    def _set(self, flag: Flag, text: str) -> None:
        if flag.kind == "string":
            self.values[flag.name] = text
            return
        parse, name = (
            (parse_bool, "ParseBool") if flag.kind == "bool" else (parse_int64, "ParseInt")
        )
        try:
            self.values[flag.name] = parse(text)
        except ValueError:
            shown = f"-{flag.short}, --{flag.name}" if flag.short else f"--{flag.name}"
            raise UsageError(
                f'invalid argument {quote(text)} for "{shown}" flag: '
                f"strconv.{name}: parsing {quote(text)}: invalid syntax"
            ) from None


def _quote_letter(letter: str) -> str:
    return f"'{letter}'"
