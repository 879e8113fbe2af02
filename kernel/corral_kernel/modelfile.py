"""The Modelfile: its grammar, what its instructions mean, and how one is printed.

    modelfile = parse(data)     # ModelfileError if it is none
    modelfile.sources           # the FROM texts: paths or a model name, as written
    str(Instruction("system", "You are terse."))   # one line of a printed Modelfile

The reader is the character machine of Ollama's own parser: an odd file that works there means the
same here. Paths are not looked at: that is for whoever sends the model on.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from enum import Enum, auto
from types import MappingProxyType
from typing import Final

from msgspec import Struct

from corral_kernel.errors import InvalidRequestError
from corral_kernel.gotext import parse_bool, parse_float32, parse_int64

MAX_BYTES: Final = 4 * 1024 * 1024
"""The longest Modelfile that is read: weights are named in it, never held."""

INSTRUCTIONS: Final = (
    "from",
    "license",
    "template",
    "system",
    "adapter",
    "draft",
    "renderer",
    "parser",
    "parameter",
    "message",
    "requires",
)
ROLES: Final = ("system", "user", "assistant")

_BYTE_ORDER_MARKS: Final = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
_LARGEST_SHOWN: Final = 200  # characters of a hostile file that an error repeats


ParameterValue = int | float | bool | str | list[str]


class ModelfileError(InvalidRequestError):
    """A text that is no Modelfile, in the words of Ollama's parser."""


class Instruction(Struct, frozen=True):
    """One entry of a Modelfile; its `str` is the line that says it.

    `keyword` is one of `INSTRUCTIONS`; `name` is the name of a parameter or the role of a message,
    and empty for the rest.
    """

    keyword: str
    value: str
    name: str = ""

    def __str__(self) -> str:
        # FROM is never quoted: neither a path nor a model name may need it.
        value = self.value if self.keyword == "from" else quote(self.value)
        name = f"{self.name} " if self.name else ""
        return f"{self.keyword.upper()} {name}{value}"


class Message(Struct, frozen=True):
    """An example message of a model."""

    role: str
    content: str


class Modelfile(Struct, frozen=True, kw_only=True):
    """What a Modelfile says. Texts that it does not give are empty."""

    sources: tuple[str, ...]  # FROM, in order; at least one
    adapter: str = ""
    drafts: tuple[str, ...] = ()
    template: str = ""
    system: str = ""
    licenses: tuple[str, ...] = ()
    parameters: Mapping[str, ParameterValue] = MappingProxyType({})
    messages: tuple[Message, ...] = ()
    renderer: str = ""
    parser: str = ""
    requires: str = ""  # a version without its `v`
    deprecated: tuple[str, ...] = ()  # parameters that were given and mean nothing any more


def parse(data: bytes | str) -> Modelfile:
    """Read a Modelfile.

    Args:
        data: Its bytes (UTF-8, or UTF-16 with a byte order mark; bytes that are no text become
            U+FFFD), or its text.

    Raises:
        ModelfileError: For anything that Ollama's parser refuses, and for one that is too long.
    """
    if len(data) > MAX_BYTES:
        raise ModelfileError(f"a Modelfile has at most {MAX_BYTES} bytes, this one has {len(data)}")
    return interpret(read_instructions(decode(data) if isinstance(data, bytes) else data))


def decode(data: bytes) -> str:
    """Turn the bytes of a Modelfile into text, by its byte order mark if it has one."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    return data.decode("utf-8", "replace")


# --- The character machine -----------------------------------------------------------------------


class _State(Enum):
    START = auto()  # where an instruction may begin
    COMMENT = auto()
    WORD = auto()
    PARAMETER = auto()  # the name of a parameter
    MESSAGE = auto()  # the role of a message
    VALUE = auto()


class _Value:
    """The characters of a value so far, with its trimmed end known at all times."""

    def __init__(self) -> None:
        self._characters: list[str] = []
        self._end = 0  # behind the last character that is not blank

    def add(self, character: str) -> None:
        """Take one more character; blanks before the first other one are left out."""
        if character not in " \t\r\n":
            self._characters.append(character)
            self._end = len(self._characters)
        elif self._characters:
            self._characters.append(character)

    def finished(self) -> str | None:
        """Give the trimmed, unquoted value, or `None` where an opening quote still waits."""
        for quotes in ('"""', '"'):
            if self._characters[: len(quotes)] == list(quotes):
                inner = slice(len(quotes), self._end - len(quotes))
                closing = self._characters[max(inner.stop, 0) : self._end]
                if inner.start > inner.stop or closing != list(quotes):
                    return None
                return "".join(self._characters[inner])
        return "".join(self._characters[: self._end])


class _Reader:
    """Ollama's state machine: characters in, instructions out."""

    def __init__(self) -> None:
        self.instructions: list[Instruction] = []
        self._state = _State.START
        self._line = 1
        self._word: list[str] = []  # keyword, parameter name or role, whichever is being read
        self._keyword = ""
        self._name = ""
        self._value = _Value()

    def feed(self, character: str) -> None:
        if character in "\r\n":
            self._line += 1
        match self._state:
            case _State.START:
                self._start(character)
            case _State.COMMENT:
                if character in "\r\n":
                    self._state = _State.START
            case _State.VALUE:
                self._in_value(character)
            case _:
                self._in_word(character)

    def finish(self) -> None:
        if self._state is _State.VALUE:
            value = self._value.finished()
            if value is None:
                raise ModelfileError("unexpected EOF")
            self._emit(value)
        elif self._state not in (_State.START, _State.COMMENT):
            raise ModelfileError("unexpected EOF")

    def _start(self, character: str) -> None:
        if character == "#":
            self._state = _State.COMMENT
        elif character not in " \t\r\n":
            self._state = _State.WORD
            self._keyword = self._name = ""
            self._word = [character] if character.isprintable() else []

    def _in_word(self, character: str) -> None:
        if character in " \t":
            self._end_word("".join(self._word))
        elif _is_letter(character) or (self._state is _State.PARAMETER and _in_name(character)):
            self._word.append(character)
        elif self._state is _State.WORD:
            raise self._at_line(_INVALID_COMMAND)
        else:
            raise ModelfileError(f"unexpected EOF: {''.join(self._word)[:_LARGEST_SHOWN]}")

    def _end_word(self, word: str) -> None:
        self._word = []
        self._value = _Value()
        if self._state is _State.WORD:
            self._keyword = word.lower()
            if self._keyword not in INSTRUCTIONS:
                raise self._at_line(_INVALID_COMMAND)
            self._state = _AFTER_WORD.get(self._keyword, _State.VALUE)
            return
        if self._state is _State.MESSAGE and word not in ROLES:
            raise self._at_line(_INVALID_ROLE)
        self._name = word
        self._state = _State.VALUE

    def _in_value(self, character: str) -> None:
        if character in "\r\n":
            value = self._value.finished()
            if value is not None:
                self._emit(value)
                return
        if character in " \t\r\n" or character.isprintable():
            self._value.add(character)

    def _emit(self, value: str) -> None:
        self.instructions.append(Instruction(self._keyword, value, self._name))
        self._state = _State.START

    def _at_line(self, message: str) -> ModelfileError:
        return ModelfileError(f"(line {self._line}): {message}")


_AFTER_WORD: Final = {"parameter": _State.PARAMETER, "message": _State.MESSAGE}
_INVALID_COMMAND: Final = (
    "command must be one of "
    + ", ".join(f'"{name}"' for name in INSTRUCTIONS[:-1])
    + f', or "{INSTRUCTIONS[-1]}"'
)
_INVALID_ROLE: Final = 'message role must be one of "system", "user", or "assistant"'


def _is_letter(character: str) -> bool:
    return character.isascii() and character.isalpha()


def _in_name(character: str) -> bool:
    return character == "_" or (character.isascii() and character.isdigit())


def read_instructions(text: str) -> tuple[Instruction, ...]:
    """Split the text of a Modelfile into its instructions, without asking what they mean.

    Raises:
        ModelfileError: If the text breaks the grammar or has no FROM.
    """
    reader = _Reader()
    for character in text:
        reader.feed(character)
    reader.finish()
    if not any(instruction.keyword == "from" for instruction in reader.instructions):
        raise ModelfileError("no FROM line")
    return tuple(reader.instructions)


# --- What the instructions mean ------------------------------------------------------------------


def interpret(instructions: Iterable[Instruction]) -> Modelfile:
    """Gather instructions: some accumulate, of the others the last one counts.

    Raises:
        ModelfileError: For a parameter that nobody knows or a value of a wrong type.
    """
    many: dict[str, list[str]] = {key: [] for key in ("from", "draft", "license")}
    last: dict[str, str] = {}
    parameters: dict[str, ParameterValue] = {}
    messages: list[Message] = []
    deprecated: list[str] = []
    for keyword, value, name in ((i.keyword, i.value, i.name) for i in instructions):
        if keyword in many:
            many[keyword].append(value)
        elif keyword == "message":
            messages.append(Message(name, value))
        elif keyword != "parameter":
            last[keyword] = value
        elif name in DEPRECATED_PARAMETERS:
            deprecated.append(name)
        else:
            _set_parameter(parameters, name, value)
    return Modelfile(
        sources=tuple(many["from"]),
        adapter=last.get("adapter", ""),
        drafts=tuple(many["draft"]),
        licenses=tuple(many["license"]),
        template=last.get("template", ""),
        system=last.get("system", ""),
        renderer=last.get("renderer", ""),
        parser=last.get("parser", ""),
        requires=_version(last["requires"]) if "requires" in last else "",
        parameters=MappingProxyType(parameters),
        messages=tuple(messages),
        deprecated=tuple(deprecated),
    )


_INTEGERS: Final = (
    "num_keep",
    "seed",
    "num_predict",
    "top_k",
    "repeat_last_n",
    "num_ctx",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "num_thread",
    "draft_num_predict",
)
_FLOATS: Final = (
    "temperature",
    "top_p",
    "min_p",
    "typical_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
)
DEPRECATED_PARAMETERS: Final = frozenset(
    {
        "penalize_newline",
        "low_vram",
        "f16_kv",
        "logits_all",
        "vocab_only",
        "use_mlock",
        "mirostat",
        "mirostat_tau",
        "mirostat_eta",
    }
)
_PRERELEASE: Final = r"(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_SEMVER: Final = re.compile(
    r"(0|[1-9][0-9]*)"
    r"(\.(0|[1-9][0-9]*)"
    r"(\.(0|[1-9][0-9]*)"
    rf"(-{_PRERELEASE}(\.{_PRERELEASE})*)?"
    r"(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?)?)?"
)


def parse_parameter(name: str, text: str) -> ParameterValue:
    """Read one value of a parameter, `PARAMETER name text`.

    Returns:
        An int, a float of 32 bits, a bool or a str, as the parameter's type is. `stop`, a list,
        gives one of its texts.

    Raises:
        ModelfileError: For an unknown name or a value of a wrong type.
    """
    reader = _PARAMETERS.get(name)
    if reader is None:
        raise ModelfileError(f"unknown parameter '{name[:_LARGEST_SHOWN]}'")
    kind, read = reader
    try:
        return read(text)
    except ValueError:
        shown = text[:_LARGEST_SHOWN]
        raise ModelfileError(f"invalid {kind} value [{shown}]") from None


def _set_parameter(parameters: dict[str, ParameterValue], name: str, text: str) -> None:
    value = parse_parameter(name, text)
    if name == "stop":
        stops = parameters.setdefault(name, [])
        if isinstance(stops, list):
            stops.append(text)
        return
    parameters[name] = value


_PARAMETERS: Final[Mapping[str, tuple[str, Callable[[str], ParameterValue]]]] = MappingProxyType(
    dict.fromkeys(_INTEGERS, ("int", parse_int64))
    | dict.fromkeys(_FLOATS, ("float", parse_float32))
    | {"use_mmap": ("bool", parse_bool), "stop": ("string", str), "backend": ("string", str)}
)


def _version(text: str) -> str:
    version = text.removeprefix("v")
    if len(version) > _LARGEST_SHOWN or not _SEMVER.fullmatch(version):
        raise ModelfileError("requires must be a valid semver (e.g. 0.14.0)")
    return version


# --- Printing ------------------------------------------------------------------------------------


def quote(value: str) -> str:
    """Quote a value as far as the grammar needs it: for newlines and for blanks at its ends."""
    if "\n" not in value and not value.startswith(" ") and not value.endswith(" "):
        return value
    quotes = '"""' if '"' in value else '"'
    return f"{quotes}{value}{quotes}"
