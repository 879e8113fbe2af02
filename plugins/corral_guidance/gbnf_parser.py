"""Reads GBNF, the grammars of llama.cpp.

Source: llama.cpp, grammars/README.md and src/llama-grammar.cpp.
"""

from __future__ import annotations

import re
from typing import NoReturn

from corral_guidance.gbnf_nodes import (
    EMPTY,
    LAST_CODE_POINT,
    Alt,
    Chars,
    Node,
    Ref,
    Rep,
    Seq,
    all_but,
    ranges_of,
    walk,
)
from corral_kernel.errors import InvalidFormatError

MAX_RULES = 2_000
MAX_DEPTH = 100
MAX_ALTERNATIVES = 2_000
MAX_TIMES = 100_000

_BLANK = re.compile(r"(?:[ \t]|\#[^\r\n]*)*")
_BLANK_LINES = re.compile(r"(?:[ \t\r\n]|\#[^\r\n]*)*")
_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_TIMES = re.compile(r"\{\s*([0-9]{1,9})\s*(?:(,)\s*([0-9]{1,9})?\s*)?\}")
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([tnr\\\"\[\]]))")
_ESCAPED = {"t": "\t", "n": "\n", "r": "\r"}
_SIMPLE = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_CONTINUES = re.compile(r"[ \t\r\n]*\|")


def parse_gbnf(text: str) -> dict[str, Node]:
    """Read a grammar; its rules by name, those alone that `root` needs.

    Raises:
        InvalidFormatError: If it is no GBNF, or names what is not in it, with the line.
    """
    return _Parser(text).rules()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._alternatives = 0
        self._named: dict[str, int] = {}  # where a rule was named first

    def rules(self) -> dict[str, Node]:
        found: dict[str, Node] = {}
        self._skip(lines=True)
        while self._at < len(self._text):
            begin = self._at
            name = self._name("the name of a rule")
            if name in found:
                self._refuse(f"there is a rule {name} already", begin)
            if len(found) >= MAX_RULES:
                self._refuse(f"over {MAX_RULES:,} rules", begin)
            self._skip(lines=False)
            if not self._text.startswith("::=", self._at):
                self._refuse(f"wanted ::= after {name}")
            self._at += 3
            self._skip(lines=True)
            found[name] = self._choices(nested=False)
            if self._at < len(self._text) and self._text[self._at] not in "\r\n":
                self._refuse(f"{self._text[self._at]!r} is not understood here")
            self._skip(lines=True)
        return self._needed(found)

    def _needed(self, found: dict[str, Node]) -> dict[str, Node]:
        if "root" not in found:
            self._refuse("there is no rule named root", len(self._text))
        for name, at in self._named.items():
            if name not in found:
                self._refuse(f"there is no rule {name}", at)
        needed = {"root": found["root"]}
        todo = ["root"]
        while todo:
            for node in walk(found[todo.pop()]):
                if isinstance(node, Ref) and node.name not in needed:
                    needed[node.name] = found[node.name]
                    todo.append(node.name)
        return needed

    # ----------------------------------------------------------------------------- expressions

    def _choices(self, *, nested: bool) -> Node:
        parts = [self._sequence(nested=nested)]
        while self._bar(nested=nested):
            self._alternatives += 1
            if self._alternatives > MAX_ALTERNATIVES:
                self._refuse(f"over {MAX_ALTERNATIVES:,} alternatives")
            self._skip(lines=True)
            parts.append(self._sequence(nested=nested))
        return parts[0] if len(parts) == 1 else Alt(tuple(parts))

    def _bar(self, *, nested: bool) -> bool:
        # A rule's next line may begin with a bar, which begins no rule.
        here = _CONTINUES.match(self._text, self._at)
        if here is None or (nested and self._text[self._at] != "|"):
            return False
        self._at = here.end()
        return True

    def _sequence(self, *, nested: bool) -> Node:
        parts: list[Node] = []
        while (part := self._part()) is not None:
            self._skip(lines=nested)
            parts.append(self._repeated(part))
            self._skip(lines=nested)
        if not parts:
            return EMPTY
        return parts[0] if len(parts) == 1 else Seq(tuple(parts))

    def _part(self) -> Node | None:
        here = self._text[self._at : self._at + 1]
        if here == '"':
            return self._literal()
        if here == "[":
            return self._class()
        if here == "(":
            return self._group()
        if here == ".":
            self._at += 1
            return Chars(all_but(()))
        if here in ("<", "!") and here:
            self._refuse("tokens cannot be named: answers are made of text")
        if here and _NAME.match(here):
            begin = self._at
            name = self._name("a name")
            self._named.setdefault(name, begin)
            return Ref(name)
        return None

    def _group(self) -> Node:
        begin = self._at
        self._at += 1
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._refuse(f"groups are nested over {MAX_DEPTH} levels deep")
        self._skip(lines=True)
        inner = self._choices(nested=True)
        if not self._text.startswith(")", self._at):
            self._refuse("this group is not closed", begin)
        self._at += 1
        self._depth -= 1
        return inner

    def _repeated(self, part: Node) -> Node:
        here = self._text[self._at : self._at + 1]
        if here in _SIMPLE:
            self._at += 1
            least, most = _SIMPLE[here]
        elif here == "{":
            least, most = self._times()
        else:
            return part
        self._skip(lines=False)
        if self._text[self._at : self._at + 1] in ("*", "+", "?", "{"):
            self._refuse("what is repeated is repeated again: put it into parentheses")
        return EMPTY if most == 0 else Rep(part, least, most)

    def _times(self) -> tuple[int, int | None]:
        found = _TIMES.match(self._text, self._at)
        if found is None:
            self._refuse("wanted {n}, {n,} or {n,m}")
        least = int(found[1])
        most = least if not found[2] else int(found[3]) if found[3] else None
        if max(least, most or 0) > MAX_TIMES:
            self._refuse(f"at most {MAX_TIMES:,} times")
        if most is not None and most < least:
            self._refuse(f"at least {least} times and at most {most}")
        self._at = found.end()
        return least, most

    # ------------------------------------------------------------------------------ characters

    def _literal(self) -> Node:
        begin = self._at
        self._at += 1
        parts: list[Node] = []
        while not self._text.startswith('"', self._at):
            code = self._char(begin)
            parts.append(Chars(ranges_of([(code, code)])))
        self._at += 1
        return parts[0] if len(parts) == 1 else Seq(tuple(parts))

    def _class(self) -> Node:
        begin = self._at
        self._at += 1
        negated = self._text.startswith("^", self._at)
        self._at += negated
        pairs: list[tuple[int, int]] = []
        while not self._text.startswith("]", self._at):
            first = last = self._char(begin)
            if (
                self._text.startswith("-", self._at)
                and self._text[self._at + 1 : self._at + 2] != "]"
            ):
                self._at += 1
                last = self._char(begin)
                if last < first:
                    self._refuse("a range that ends before it begins", begin)
            pairs.append((first, last))
        self._at += 1
        ranges = ranges_of(pairs)
        ranges = all_but(ranges) if negated else ranges
        if not ranges:
            self._refuse("no character is in this class", begin)
        return Chars(ranges)

    def _char(self, begin: int) -> int:
        """Give the code point of the next character of a literal or class."""
        here = self._text[self._at : self._at + 1]
        if not here:
            self._refuse(f"the {self._text[begin]} that begins here is not closed", begin)
        if here != "\\":
            self._at += 1
            return ord(here)
        found = _ESCAPE.match(self._text, self._at)
        if found is None:
            self._refuse(f"the escape {self._text[self._at : self._at + 2]} is not known")
        self._at = found.end()
        number = found[1] or found[2] or found[3]
        if number is None:
            return ord(_ESCAPED.get(found[4], found[4]))
        code = int(number, 16)
        if code > LAST_CODE_POINT or 0xD800 <= code <= 0xDFFF:  # noqa: PLR2004 - Unicode's
            self._refuse(f"there is no character {found[0]}", found.start())
        return code

    # ----------------------------------------------------------------------------------- words

    def _skip(self, *, lines: bool) -> None:
        blank = (_BLANK_LINES if lines else _BLANK).match(self._text, self._at)
        self._at = blank.end() if blank else self._at

    def _name(self, wanted: str) -> str:
        found = _NAME.match(self._text, self._at)
        if found is None:
            self._refuse(f"wanted {wanted}, found {self._text[self._at : self._at + 1]!r}")
        self._at = found.end()
        return found[0]

    def _refuse(self, why: str, at: int | None = None) -> NoReturn:
        line = self._text.count("\n", 0, self._at if at is None else at) + 1
        raise InvalidFormatError(f"format at #/grammar: line {line}: {why}")
