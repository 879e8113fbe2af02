"""Cuts the source of a template into tokens."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final, NamedTuple

from corral_chat.gotemplate.strings import quote

LEFT, RIGHT = "{{", "}}"
BLANKS: Final = " \t\r\n"
_LONGEST_SHOWN: Final = 10
_END: Final = ""  # as `peek` gives it


class Kind(Enum):
    """What a token is."""

    ERROR = auto()
    EOF = auto()
    TEXT = auto()
    LEFT_DELIM = auto()
    RIGHT_DELIM = auto()
    SPACE = auto()
    ASSIGN = auto()
    DECLARE = auto()
    PIPE = auto()
    LEFT_PAREN = auto()
    RIGHT_PAREN = auto()
    CHAR = auto()
    CHARACTER = auto()
    STRING = auto()
    RAW_STRING = auto()
    NUMBER = auto()
    COMPLEX = auto()
    BOOL = auto()
    FIELD = auto()
    VARIABLE = auto()
    IDENTIFIER = auto()
    BLOCK = auto()
    BREAK = auto()
    CONTINUE = auto()
    DOT = auto()
    DEFINE = auto()
    ELSE = auto()
    END = auto()
    IF = auto()
    NIL = auto()
    RANGE = auto()
    TEMPLATE = auto()
    WITH = auto()


KEYWORDS: Final = {
    kind.name.lower(): kind for kind in list(Kind)[list(Kind).index(Kind.BLOCK) :]
} | {".": Kind.DOT}
del KEYWORDS["dot"]
_KEYWORD_KINDS: Final = frozenset(KEYWORDS.values())


class Token(NamedTuple):
    """One token: `at` counts characters from the source's beginning."""

    kind: Kind
    at: int
    text: str
    line: int

    def __str__(self) -> str:
        if self.kind is Kind.EOF:
            return "EOF"
        if self.kind is Kind.ERROR:
            return self.text
        if self.kind in _KEYWORD_KINDS:
            return f"<{self.text}>"
        if len(self.text) > _LONGEST_SHOWN:
            return quote(self.text[:_LONGEST_SHOWN]) + "..."
        return quote(self.text)


class Lexer:
    """Gives one token after the other; after an error, ends."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0
        self._line = 1
        self._begun = 1  # the line on which the token that is being read began
        self._in_action = False
        self._parens = 0

    def next(self) -> Token:
        """Give the next token; at the end `EOF`, again and again."""
        return self._action() if self._in_action else self._text()

    # ------------------------------------------------------------------------ outside actions

    def _text(self) -> Token:
        while True:
            found = self._source.find(LEFT, self._at)
            end = len(self._source) if found < 0 else found
            text = self._source[self._at : end]
            token = Token(Kind.TEXT, self._at, text, self._line)
            if text:
                kept = text
                if found >= 0 and self._trims_left(end + len(LEFT)):
                    kept = text.rstrip(BLANKS)
                self._skip_to(end)
                if kept:
                    return token._replace(text=kept)
            if found < 0:
                return Token(Kind.EOF, self._at, "EOF", self._line)
            after = end + len(LEFT)
            if self._trims_left(after):
                after += 2
            if not self._source.startswith("/*", after):
                return self._left(after)
            problem = self._comment(after)
            if problem:
                return problem

    def _trims_left(self, at: int) -> bool:
        return self._source[at : at + 1] == "-" and self._blank(at + 1)

    def _blank(self, at: int) -> bool:
        return at < len(self._source) and self._source[at] in BLANKS

    def _left(self, after: int) -> Token:
        token = Token(Kind.LEFT_DELIM, self._at, LEFT, self._line)
        self._in_action, self._parens = True, 0
        self._skip_to(after)
        return token

    def _comment(self, begin: int) -> Token | None:
        self._skip_to(begin)
        self._begun = self._line
        end = self._source.find("*/", begin + 2)
        if end < 0:
            return self._error("unclosed comment")
        trims = self._right_at(end + 2)
        if trims is None:
            return self._error("comment ends before closing delimiter")
        self._skip_to(end + 2 + len(RIGHT) + 2 * trims)
        if trims:
            self._skip_blanks()
        return None

    # ------------------------------------------------------------------------- inside actions

    def _right_at(self, at: int) -> bool | None:
        """Whether the action ends here, and trims what follows; None: it does not end."""
        if self._source.startswith("-" + RIGHT, at + 1) and self._blank(at):
            return True
        return False if self._source.startswith(RIGHT, at) else None

    def _action(self) -> Token:  # noqa: C901,PLR0911,PLR0912 - a way for each kind
        trims = self._right_at(self._at)
        if trims is not None:
            self._begun = self._line
            return self._error("unclosed left paren") if self._parens else self._right(trims)
        begin, self._begun = self._at, self._line
        character = self._peek()
        self._advance(character)
        match character:
            case "":
                return self._error("unclosed action")
            case " " | "\t" | "\r" | "\n":
                return self._space(begin)
            case "=":
                return self._emit(Kind.ASSIGN, begin)
            case ":":
                if self._take() != "=":
                    return self._error("expected :=")
                return self._emit(Kind.DECLARE, begin)
            case "|":
                return self._emit(Kind.PIPE, begin)
            case '"':
                return self._quoted(begin, '"', Kind.STRING, "unterminated quoted string")
            case "'":
                return self._quoted(begin, "'", Kind.CHARACTER, "unterminated character constant")
            case "`":
                return self._raw(begin)
            case "$":
                return self._name(begin, Kind.VARIABLE, Kind.VARIABLE)
            case "(":
                self._parens += 1
                return self._emit(Kind.LEFT_PAREN, begin)
            case ")":
                self._parens -= 1
                if self._parens < 0:
                    return self._error("unexpected right paren")
                return self._emit(Kind.RIGHT_PAREN, begin)
        return self._word(begin, character)

    def _word(self, begin: int, character: str) -> Token:
        following = self._peek()
        if character == "." and following and not ("0" <= following <= "9"):
            return self._name(begin, Kind.FIELD, Kind.DOT)
        if character in "+-." or "0" <= character <= "9":
            self._at = begin
            return self._number(begin)
        if _is_word(character):
            return self._identifier(begin)
        if character.isascii() and character.isprintable():
            return self._emit(Kind.CHAR, begin)
        return self._error(f"unrecognized character in action: {_unicode(character)}")

    def _right(self, trims: bool) -> Token:  # noqa: FBT001 - says what `_right_at` found
        if trims:
            self._skip_to(self._at + 2)
        token = Token(Kind.RIGHT_DELIM, self._at, RIGHT, self._line)
        self._skip_to(self._at + len(RIGHT))
        self._in_action = False
        if trims:
            self._skip_blanks()
        return token

    def _space(self, begin: int) -> Token:
        self._skip_blanks()
        if self._right_at(self._at - 1):  # the blank before it belongs to the marker
            self._line -= self._source.count("\n", self._at - 1, self._at)
            self._at -= 1
            if self._at == begin:
                return self._right(trims=True)
        return Token(Kind.SPACE, begin, self._source[begin : self._at], self._begun)

    def _identifier(self, begin: int) -> Token:
        self._skip_word()
        word = self._source[begin : self._at]
        if not self._at_terminator():
            return self._bad_character()
        if word in ("true", "false"):
            return self._emit(Kind.BOOL, begin)
        return self._emit(KEYWORDS.get(word, Kind.IDENTIFIER), begin)

    def _name(self, begin: int, kind: Kind, alone: Kind) -> Token:
        """Read on after `.` or `$`."""
        if self._at_terminator():
            return self._emit(alone, begin)
        self._skip_word()
        return self._emit(kind, begin) if self._at_terminator() else self._bad_character()

    def _bad_character(self) -> Token:
        return self._error(f"bad character {_unicode(self._peek())}")

    def _at_terminator(self) -> bool:
        character = self._peek()
        if character == _END or character in " \t\r\n.,|:)(":
            return True
        return self._source.startswith(RIGHT, self._at)

    def _number(self, begin: int) -> Token:
        if not self._scan_number():
            return self._bad_number(begin)
        if self._peek() not in ("+", "-"):
            return self._emit(Kind.NUMBER, begin)
        if not self._scan_number() or self._source[self._at - 1] != "i":
            return self._bad_number(begin)
        return self._emit(Kind.COMPLEX, begin)

    def _bad_number(self, begin: int) -> Token:
        return self._error(f"bad number syntax: {quote(self._source[begin : self._at])}")

    def _scan_number(self) -> bool:
        self._accept("+-")
        digits, powers = "0123456789_", "eE"
        if self._accept("0"):
            if self._accept("xX"):
                digits, powers = "0123456789abcdefABCDEF_", "pP"
            elif self._accept("oO"):
                digits, powers = "01234567_", ""
            elif self._accept("bB"):
                digits, powers = "01_", ""
        self._run(digits)
        if self._accept("."):
            self._run(digits)
        if powers and self._accept(powers):
            self._accept("+-")
            self._run("0123456789_")
        self._accept("i")
        if _is_word(self._peek()):
            self._take()
            return False
        return True

    def _quoted(self, begin: int, end: str, kind: Kind, problem: str) -> Token:
        while True:
            character = self._take()
            if character == "\\":
                character = self._take()
                if character not in (_END, "\n"):
                    continue
            if character in (_END, "\n"):
                return self._error(problem)
            if character == end:
                return self._emit(kind, begin)

    def _raw(self, begin: int) -> Token:
        end = self._source.find("`", self._at)
        if end < 0:
            return self._error("unterminated raw quoted string")
        self._skip_to(end + 1)
        return self._emit(Kind.RAW_STRING, begin)

    # ------------------------------------------------------------------------ the small steps

    def _peek(self) -> str:
        return self._source[self._at : self._at + 1]

    def _advance(self, character: str) -> None:
        self._at += len(character)
        self._line += character == "\n"

    def _take(self) -> str:
        character = self._peek()
        self._advance(character)
        return character

    def _accept(self, valid: str) -> bool:
        character = self._peek()
        if character == _END or character not in valid:
            return False
        self._at += 1
        return True

    def _run(self, valid: str) -> None:
        while self._accept(valid):
            pass

    def _skip_word(self) -> None:
        while _is_word(self._peek()):
            self._at += 1

    def _skip_blanks(self) -> None:
        while self._blank(self._at):
            self._advance(self._peek())

    def _skip_to(self, at: int) -> None:
        self._line += self._source.count("\n", self._at, at)
        self._at = at

    def _emit(self, kind: Kind, begin: int) -> Token:
        return Token(kind, begin, self._source[begin : self._at], self._begun)

    def _error(self, message: str) -> Token:
        token = Token(Kind.ERROR, self._at, message, self._begun)
        self._source, self._at, self._in_action = "", 0, False
        return token


def _is_word(character: str) -> bool:
    """Letters, decimal digits and the underscore."""
    return character == "_" or character.isalpha() or character.isdecimal()


def _unicode(character: str) -> str:
    """Name a character as `%#U` does."""
    if character == _END:
        return "U+FFFFFFFFFFFFFFFF"  # Go prints its mark of the end so
    shown = f" '{character}'" if character.isprintable() else ""
    return f"U+{ord(character):04X}{shown}"
