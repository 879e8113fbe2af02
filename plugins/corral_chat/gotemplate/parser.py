"""Parses a template, with the words and lines of Go's errors."""

from __future__ import annotations

from collections.abc import Collection

from corral_chat.bounds import OverBoundsError
from corral_chat.gotemplate import nodes
from corral_chat.gotemplate.lexer import Kind, Token
from corral_chat.gotemplate.numbers import parse_number
from corral_chat.gotemplate.strings import quote, unquote, unquote_character
from corral_chat.gotemplate.tokens import TokenReader

MAX_CHARS = 64 * 1024
"""Of a source."""

_OPERANDS = frozenset(
    {
        Kind.BOOL,
        Kind.CHARACTER,
        Kind.COMPLEX,
        Kind.DOT,
        Kind.FIELD,
        Kind.IDENTIFIER,
        Kind.NUMBER,
        Kind.NIL,
        Kind.RAW_STRING,
        Kind.STRING,
        Kind.VARIABLE,
        Kind.LEFT_PAREN,
    }
)
_LITERALS = (nodes.Constant, nodes.Nil, nodes.Dot)
_WORDS = {Kind.IF: "if", Kind.RANGE: "range", Kind.WITH: "with"}
_BRANCHES = {"if": nodes.If, "range": nodes.Range, "with": nodes.With}


def parse(source: str, functions: Collection[str]) -> nodes.Tree:
    """Parse a template.

    Args:
        source: Of the template.
        functions: Names of those that it may call.

    Raises:
        SyntaxProblem: If it does not parse.
        OverBoundsError: If it is too long, too large or too deep.
    """
    if len(source) > MAX_CHARS:
        raise OverBoundsError(f"it has {len(source):,} characters: at most {MAX_CHARS:,} are read")
    return _Parser(source, functions).parse()


class _Scope:
    """What a definition has of its own: the variables in sight, and how many loops it is in."""

    def __init__(self) -> None:
        self.variables = ["$"]
        self.loops = 0


class _Parser(TokenReader):
    def __init__(self, source: str, functions: Collection[str]) -> None:
        super().__init__(source)
        self._source = source
        self._functions = functions
        self._scope = _Scope()
        self._defined: dict[str, nodes.List] = {}

    # ------------------------------------------------------------------ texts and actions

    def parse(self) -> nodes.Tree:
        root = nodes.List(0)
        while self._peek().kind is not Kind.EOF:
            if self._peek().kind is Kind.LEFT_DELIM:
                delimiter = self._next()
                word = self._next_word()
                if word.kind is Kind.DEFINE:
                    self._definition()
                    continue
                self._pushed += [word, delimiter]
            node = self._text_or_action()
            if isinstance(node, nodes.End | nodes.Else):
                raise self._fail(f"unexpected {node}")
            root.nodes.append(node)
        self._add("", root)
        own = self._defined.pop("")
        return nodes.Tree(self._source, own, self._defined)

    def _add(self, name: str, body: nodes.List) -> None:
        before = self._defined.get(name)
        if before is None or nodes.is_empty(before):
            self._defined[name] = body
        elif not nodes.is_empty(body):
            raise self._fail(f"template: multiple definition of template {quote(name)}")

    def _definition(self) -> None:
        context = "define clause"
        name = self._unquoted(self._expect((Kind.STRING, Kind.RAW_STRING), context))
        self._expect((Kind.RIGHT_DELIM,), context)
        self._body(name, context)

    def _body(self, name: str, context: str) -> None:
        outer, self._scope = self._scope, _Scope()
        line, self._action_line = self._action_line, 0
        body, end = self._list()
        if not isinstance(end, nodes.End):
            raise self._fail(f"unexpected {end} in {context}")
        self._add(name, body)
        self._scope, self._action_line = outer, line

    def _list(self) -> tuple[nodes.List, nodes.Node]:
        """Parse up to `{{end}}` or `{{else}}`, which is given apart."""
        self._deeper()
        result = nodes.List(self._peek_word().at)
        while self._peek_word().kind is not Kind.EOF:
            node = self._text_or_action()
            if isinstance(node, nodes.End | nodes.Else):
                self._depth -= 1
                return result, node
            result.nodes.append(node)
        raise self._fail("unexpected EOF")

    def _text_or_action(self) -> nodes.Node:
        token = self._next_word()
        self._made()
        if token.kind is Kind.TEXT:
            return nodes.Text(token.at, token.text)
        if token.kind is not Kind.LEFT_DELIM:
            raise self._unexpected(token, "input")
        self._action_line = token.line
        node = self._action()
        self._action_line = 0
        return node

    def _action(self) -> nodes.Node:  # noqa: PLR0911 - a way for each kind
        token = self._next_word()
        match token.kind:
            case Kind.BLOCK:
                return self._block()
            case Kind.BREAK | Kind.CONTINUE:
                return self._jump(token)
            case Kind.ELSE:
                return self._else()
            case Kind.END:
                return nodes.End(self._expect((Kind.RIGHT_DELIM,), "end").at)
            case Kind.IF | Kind.RANGE | Kind.WITH:
                return self._branch(_WORDS[token.kind])
            case Kind.TEMPLATE:
                return self._invocation()
        self._pushed.append(token)
        return nodes.Action(token.at, self._pipeline("command", Kind.RIGHT_DELIM))

    def _jump(self, token: Token) -> nodes.Node:
        end = self._next_word()
        if end.kind is not Kind.RIGHT_DELIM:
            raise self._unexpected(end, f"{{{{{token.text}}}}}")
        if not self._scope.loops:
            raise self._fail(f"{{{{{token.text}}}}} outside {{{{range}}}}")
        return nodes.Break(token.at) if token.kind is Kind.BREAK else nodes.Continue(token.at)

    def _else(self) -> nodes.Node:
        token = self._peek_word()
        if token.kind in (Kind.IF, Kind.WITH):
            return nodes.Else(token.at)
        return nodes.Else(self._expect((Kind.RIGHT_DELIM,), "else").at)

    def _branch(self, word: str) -> nodes.Node:
        seen = len(self._scope.variables)
        pipe = self._pipeline(word, Kind.RIGHT_DELIM)
        is_loop = word == "range"
        self._scope.loops += is_loop
        body, end = self._list()
        self._scope.loops -= is_loop
        otherwise = None
        if isinstance(end, nodes.Else):
            following = self._peek().kind
            if word != "range" and _WORDS.get(following) == word:
                self._next()
                self._deeper()
                otherwise = nodes.List(end.at, [self._branch(word)])
                self._depth -= 1
            else:
                otherwise, end = self._list()
                if not isinstance(end, nodes.End):
                    raise self._fail(f"expected end; found {end}")
        del self._scope.variables[seen:]
        return _BRANCHES[word](pipe.at, pipe, body, otherwise)

    def _block(self) -> nodes.Node:
        context = "block clause"
        token = self._next_word()
        name = self._template_name(token, context)
        pipe = self._pipeline(context, Kind.RIGHT_DELIM)
        self._body(name, context)
        return nodes.Invocation(token.at, name, quote(name), pipe)

    def _invocation(self) -> nodes.Node:
        context = "template clause"
        token = self._next_word()
        name = self._template_name(token, context)
        following = self._next_word()
        pipe = None
        if following.kind is not Kind.RIGHT_DELIM:
            self._pushed.append(following)
            pipe = self._pipeline(context, Kind.RIGHT_DELIM)
        return nodes.Invocation(token.at, name, quote(name), pipe)

    def _template_name(self, token: Token, context: str) -> str:
        if token.kind not in (Kind.STRING, Kind.RAW_STRING):
            raise self._unexpected(token, context)
        return self._unquoted(token)

    def _unquoted(self, token: Token) -> str:
        try:
            return unquote(token.text)
        except ValueError as error:
            raise self._fail(str(error)) from None

    # --------------------------------------------------------------------------- pipelines

    def _pipeline(self, context: str, end: Kind) -> nodes.Pipe:
        pipe = nodes.Pipe(self._peek_word().at)
        self._made()
        self._declarations(pipe, context)
        while True:
            token = self._next_word()
            if token.kind is end:
                break
            if token.kind not in _OPERANDS:
                raise self._unexpected(token, context)
            self._pushed.append(token)
            pipe.commands.append(self._command())
        if not pipe.commands:
            raise self._fail(f"missing value for {context}")
        for stage, command in enumerate(pipe.commands[1:], 2):
            if isinstance(command.args[0], _LITERALS):
                raise self._fail(f"non executable command in pipeline stage {stage}")
        return pipe

    def _declarations(self, pipe: nodes.Pipe, context: str) -> None:
        while self._peek_word().kind is Kind.VARIABLE:
            variable = self._next()
            after = self._peek()
            following = self._peek_word()
            is_comma = following.kind is Kind.CHAR and following.text == ","
            if following.kind in (Kind.ASSIGN, Kind.DECLARE):
                pipe.assigns = following.kind is Kind.ASSIGN
            elif not is_comma:
                if after.kind is Kind.SPACE:
                    self._pushed.append(after)
                self._pushed.append(variable)
                return
            self._next_word()
            pipe.variables.append(nodes.Variable(variable.at, (variable.text,)))
            self._scope.variables.append(variable.text)
            if not is_comma:
                return
            if context != "range" or len(pipe.variables) > 1:
                raise self._fail(f"too many declarations in {context}")
            if self._peek_word().kind not in (Kind.VARIABLE, Kind.RIGHT_DELIM, Kind.RIGHT_PAREN):
                raise self._fail("range can only initialize variables")

    def _command(self) -> nodes.Command:
        command = nodes.Command(self._peek_word().at)
        self._made()
        while True:
            self._peek_word()
            operand = self._operand()
            if operand is not None:
                command.args.append(operand)
            token = self._next()
            if token.kind is Kind.SPACE:
                continue
            if token.kind in (Kind.RIGHT_DELIM, Kind.RIGHT_PAREN):
                self._pushed.append(token)
            elif token.kind is not Kind.PIPE:
                raise self._unexpected(token, "operand")
            break
        if not command.args:
            raise self._fail("empty command")
        return command

    def _operand(self) -> nodes.Node | None:
        node = self._term()
        if node is None or self._peek().kind is not Kind.FIELD:
            return node
        chain = nodes.Chain(self._peek().at, node)
        while self._peek().kind is Kind.FIELD:
            chain.names.append(self._next().text[1:])
        if isinstance(node, nodes.Field):
            return nodes.Field(chain.at, (*node.names, *chain.names))
        if isinstance(node, nodes.Variable):
            return nodes.Variable(chain.at, (*node.names, *chain.names))
        if isinstance(node, _LITERALS):
            raise self._fail(f"unexpected . after term {quote(str(node))}")
        return chain

    def _term(self) -> nodes.Node | None:  # noqa: PLR0911 - a way for each kind
        token = self._next_word()
        self._made()
        match token.kind:
            case Kind.IDENTIFIER:
                if token.text not in self._functions:
                    raise self._fail(f"function {quote(token.text)} not defined")
                return nodes.Identifier(token.at, token.text)
            case Kind.DOT:
                return nodes.Dot(token.at)
            case Kind.NIL:
                return nodes.Nil(token.at)
            case Kind.VARIABLE:
                if token.text not in self._scope.variables:
                    raise self._fail(f"undefined variable {quote(token.text)}")
                return nodes.Variable(token.at, (token.text,))
            case Kind.FIELD:
                return nodes.Field(token.at, (token.text[1:],))
            case Kind.LEFT_PAREN:
                self._deeper()
                pipe = self._pipeline("parenthesized pipeline", Kind.RIGHT_PAREN)
                self._depth -= 1
                return pipe
        return self._constant(token)

    def _constant(self, token: Token) -> nodes.Node | None:
        value: bool | int | float | str
        try:
            match token.kind:
                case Kind.BOOL:
                    value = token.text == "true"
                case Kind.CHARACTER:
                    value = unquote_character(token.text)
                case Kind.NUMBER if not token.text.endswith("i"):
                    value = parse_number(token.text)
                case Kind.NUMBER | Kind.COMPLEX:
                    if token.kind is Kind.NUMBER:
                        _check_imaginary(token.text)
                    raise ValueError(f"complex numbers are not supported: {quote(token.text)}")
                case Kind.STRING | Kind.RAW_STRING:
                    value = unquote(token.text)
                case _:
                    self._pushed.append(token)
                    return None
        except ValueError as error:
            raise self._fail(str(error)) from None
        return nodes.Constant(token.at, token.text, value)


def _check_imaginary(text: str) -> None:
    try:
        parse_number(text[:-1])
    except ValueError:
        raise ValueError(f"illegal number syntax: {quote(text)}") from None
