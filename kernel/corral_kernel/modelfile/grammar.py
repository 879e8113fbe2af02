"""The grammar of a Modelfile: its text split into instructions, without asking what they mean.

The reader is the character machine of Ollama's own parser: an odd file that works there means the
same here.
"""

from enum import Enum, auto
from typing import Final

from msgspec import Struct

from corral_kernel.errors import InvalidRequestError
from corral_kernel.modelfile.printing import BLANKS, is_sayable, quote

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

LARGEST_SHOWN: Final = 200
"""Characters of a hostile file that an error repeats."""


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
        name = f"{self.name} " if self.keyword in _AFTER_WORD else ""
        return f"{self.keyword.upper()} {name}{quote(self.value)}"

    @property
    def is_sayable(self) -> bool:
        """Whether a Modelfile that holds its line gives it back the same."""
        sound = {
            "parameter": all(_is_letter(c) or _in_name(c) for c in self.name),
            "message": self.name in ROLES,
        }
        return sound.get(self.keyword, True) and is_sayable(self.value)


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
        if character not in BLANKS:
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
        elif character not in BLANKS:
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
            raise ModelfileError(f"unexpected EOF: {''.join(self._word)[:LARGEST_SHOWN]}")

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
        if character in BLANKS or character.isprintable():
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
