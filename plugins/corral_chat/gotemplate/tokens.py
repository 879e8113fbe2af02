"""The tokens of a template, one after the other, and what a parser may make of them at most."""

from __future__ import annotations

from corral_chat.bounds import OverBoundsError
from corral_chat.gotemplate.lexer import Kind, Lexer, Token

MAX_NODES = 10_000
"""Of one template with all that it defines."""
MAX_DEPTH = 100
"""Of branches and parentheses in one another; an `else if` is in the `if` before it."""


class SyntaxProblem(Exception):  # noqa: N818 - what is wrong is the template's, not ours
    """A template that does not parse; the text is Go's."""


class TokenReader:
    """Gives tokens, takes them back, and says in Go's words what is wrong with one.

    Args:
        source: Of the template.
    """

    def __init__(self, source: str) -> None:
        self._lexer = Lexer(source)
        self._pushed: list[Token] = []
        self._newest = Token(Kind.EOF, 0, "", 1)  # its line is the one that errors name
        self._action_line = 0
        self._count = self._depth = 0

    # ------------------------------------------------------------------------- the tokens

    def _next(self) -> Token:
        if self._pushed:
            return self._pushed.pop()
        self._newest = self._lexer.next()
        self._count += 1
        if self._count > 4 * MAX_NODES:
            raise OverBoundsError(f"it has over {4 * MAX_NODES:,} tokens")
        return self._newest

    def _peek(self) -> Token:
        token = self._next()
        self._pushed.append(token)
        return token

    def _next_word(self) -> Token:
        token = self._next()
        while token.kind is Kind.SPACE:
            token = self._next()
        return token

    def _peek_word(self) -> Token:
        token = self._next_word()
        self._pushed.append(token)
        return token

    def _fail(self, message: str) -> SyntaxProblem:
        return SyntaxProblem(f"template: :{self._newest.line}: {message}")

    def _unexpected(self, token: Token, context: str) -> SyntaxProblem:
        if token.kind is not Kind.ERROR:
            return self._fail(f"unexpected {token} in {context}")
        extra = ""
        if self._action_line not in (0, token.line):
            extra = f" in action started at :{self._action_line}"
            if token.text.endswith(" action"):
                extra = extra.removeprefix(" in action")
        return self._fail(f"{token}{extra}")

    def _expect(self, kinds: tuple[Kind, ...], context: str) -> Token:
        token = self._next_word()
        if token.kind not in kinds:
            raise self._unexpected(token, context)
        return token

    # ---------------------------------------------------------------------------- bounds

    def _made(self) -> None:
        self._nodes_left -= 1
        if self._nodes_left < 0:
            raise OverBoundsError(f"it has over {MAX_NODES:,} syntax nodes")

    _nodes_left = MAX_NODES

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise OverBoundsError("it is nested too deeply")
