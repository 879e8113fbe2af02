"""`{"type": "lark", "grammar": …}`: a grammar in llguidance's variant of Lark."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from corral_guidance.guided import TypedType
from corral_guidance.kinds import SCHEMA_SPACE
from corral_guidance.schema import checked
from corral_kernel.errors import InvalidFormatError

# In the order in which llguidance's lexer tells them apart.
_PIECE = re.compile(
    r"""
    (?P<comment> (?://|\#)[^\n]* )
    | (?P<string> "(?:\\.|[^"\\\n])*" )
    | (?P<regex> /(?:\\.|[^/\\\n])+/ )
    | (?P<token> <[^<>\s]+> )
    | (?P<json> %(?:json|llguidance)\s*(?=\{) )
    | (?P<option> \b(?:max_tokens|stop|stop_capture|temperature)(?=\s*=) )
    | (?P<grammar> @[a-zA-Z] )
    """,
    re.VERBOSE,
)
_OPTIONS_ENFORCED = frozenset({"no_forcing"})


class LarkType(TypedType):
    """Texts of a context-free grammar."""

    name = "lark"
    field = "grammar"
    pointer = "#/grammar"
    examples = (
        {"type": "lark", "grammar": 'start: WORD (", " WORD)*\nWORD: /[a-z]+/'},
        {"type": "lark", "grammar": 'start: "call " %json {"type": "object"}'},
    )

    def check(self, spec: Any) -> None:
        """Look at a grammar's size, and for what would be dropped.

        Raises:
            InvalidFormatError: What is wrong, with its line.
        """
        enforceable(self.text(spec))

    def write(self, spec: Any) -> tuple[str, bool]:
        """Give llguidance's form.

        Raises:
            InvalidFormatError: What is wrong, with its line.
        """
        from llguidance import LLMatcher  # native: only ever in a worker

        return str(LLMatcher.grammar_from_lark(enforceable(self.text(spec)))), False


def enforceable(grammar: str) -> str:
    """Give a grammar with its JSON Schemas in the form that is compiled.

    Raises:
        InvalidFormatError: For what llguidance takes and does not enforce, or what reaches beyond
            the text of an answer.
    """
    if not re.search(r"(?m)^\s*[?!]?start\b", grammar):
        _refuse(grammar, len(grammar), "there is no rule named start")
    written = []
    done = 0
    for begin, end, text in _changes(grammar):
        written += [grammar[done:begin], text]
        done = end
    return "".join([*written, grammar[done:]])


def _changes(grammar: str) -> Iterator[tuple[int, int, str]]:
    """Give stretches that are to be replaced, and by what."""
    at = 0
    while piece := _PIECE.search(grammar, at):
        at = piece.end()
        words = piece.group()
        if piece.lastgroup == "token":
            _refuse(grammar, piece.start(), f"{words} is a token, and answers are made of text")
        if piece.lastgroup == "option":
            _refuse(grammar, piece.start(), f"{words} cannot be enforced; take it out")
        if piece.lastgroup == "grammar":
            _refuse(grammar, piece.start(), "there are no other grammars to refer to")
        if piece.lastgroup == "json":
            value, at = _json(grammar, piece.end())
            if words.startswith("%json"):
                yield piece.end(), at, _schema(grammar, piece.start(), value)
            elif unknown := sorted({*value} - _OPTIONS_ENFORCED):
                _refuse(grammar, piece.start(), f"the option {unknown[0]!r} cannot be enforced")


def _json(grammar: str, at: int) -> tuple[dict[str, Any], int]:
    try:
        value, end = json.JSONDecoder().raw_decode(grammar, at)
    except (ValueError, RecursionError) as error:
        _refuse(grammar, at, f"that is no JSON: {error}")
    if not isinstance(value, dict):  # what begins with a brace is an object
        _refuse(grammar, at, "wanted an object")
    return value, end


def _schema(grammar: str, at: int, value: dict[str, Any]) -> str:
    try:
        return json.dumps({**checked(value), "x-guidance": SCHEMA_SPACE})
    except InvalidFormatError as error:
        _refuse(grammar, at, f"in its JSON Schema: {error}")


def _refuse(grammar: str, at: int, why: str) -> NoReturn:
    line = grammar.count("\n", 0, at) + 1
    raise InvalidFormatError(f"format at #/grammar: line {line}: {why}")
