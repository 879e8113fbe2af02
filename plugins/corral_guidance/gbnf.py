"""`{"type": "gbnf", "grammar": …}`: a grammar as llama.cpp has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from corral_guidance.gbnf_lexemes import lexemes
from corral_guidance.gbnf_nodes import Alt, Chars, Node, Ref, Rep, Seq
from corral_guidance.gbnf_parser import parse_gbnf
from corral_guidance.guided import TypedType


class GbnfType(TypedType):
    """Texts of a context-free grammar, character by character."""

    name = "gbnf"
    field = "grammar"
    pointer = "#/grammar"
    examples = ({"type": "gbnf", "grammar": 'root ::= "yes" | "no" | [0-9]+'},)

    def check(self, spec: Any) -> None:
        """Read a grammar.

        Raises:
            InvalidFormatError: What is wrong, with its line.
        """
        parse_gbnf(self.text(spec))

    def write(self, spec: Any) -> tuple[str, bool]:
        """Give llguidance's form.

        Raises:
            InvalidFormatError: What is wrong, with its line.
        """
        from llguidance import LLMatcher  # native: only ever in a worker

        return str(LLMatcher.grammar_from_lark(to_lark(parse_gbnf(self.text(spec))))), False


def to_lark(rules: Mapping[str, Node]) -> str:
    """Write rules in llguidance's variant of Lark, which allows the same texts."""
    parts, whole = lexemes(rules)
    others = (name for name in parts if name != "root")
    names = {"root": "start", **{name: f"r{index}" for index, name in enumerate(others)}}
    writer = _Writer(names, whole)
    return "".join(f"{names[name]}: {writer.rule(node)}\n" for name, node in parts.items())


class _Writer:
    def __init__(self, names: Mapping[str, str], whole: set[Node]) -> None:
        self._names = names
        self._whole = whole

    def rule(self, node: Node) -> str:
        """Write a node as an expression of rules."""
        if node in self._whole:
            return f"/{_regex(node)}/"
        if isinstance(node, Ref):
            return self._names[node.name]
        if isinstance(node, Seq):
            return " ".join(map(self._grouped, node.parts)) or '""'
        if isinstance(node, Alt):
            return " | ".join(map(self._grouped, node.parts))
        assert isinstance(node, Rep), "a character is a lexeme"
        return self._grouped(node.part) + _times(node)

    def _grouped(self, node: Node) -> str:
        words = self.rule(node)
        return words if node in self._whole or isinstance(node, Ref) else f"({words})"


def _regex(node: Node) -> str:
    if isinstance(node, Chars):
        return f"[{''.join(_range(first, last) for first, last in node.ranges)}]"
    if isinstance(node, Seq):
        return "".join(map(_regex, node.parts))
    if isinstance(node, Alt):
        return f"(?:{'|'.join(map(_regex, node.parts))})"
    assert isinstance(node, Rep), "there are no rules within a lexeme"
    return f"(?:{_regex(node.part)}){_times(node)}"


def _range(first: int, last: int) -> str:
    return _char(first) if first == last else f"{_char(first)}-{_char(last)}"


def _char(code: int) -> str:
    text = chr(code)
    return text if text.isascii() and text.isalnum() else f"\\x{{{code:x}}}"


def _times(node: Rep) -> str:
    if (node.least, node.most) == (0, 1):
        return "?"
    if node.most is None and node.least <= 1:
        return "+" if node.least else "*"
    return f"{{{node.least},{'' if node.most is None else node.most}}}"
