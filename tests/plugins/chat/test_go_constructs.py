"""All that Go templates of real models use is used by ones of ours, which have golden files.

The table is that of a count over 70 templates of library models, from their parse trees.
"""

import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral_chat.gotemplate import nodes
from corral_chat.gotemplate.chat import NAMES
from corral_chat.gotemplate.parser import parse

TEMPLATES: dict[str, str] = runpy.run_path(str(Path(__file__).with_name("gocases.py")))["TEMPLATES"]

CONTROL = (
    "action|if|if … else|else if|range|range with 2 variables|continue|comment|{{-|-}}|(…)"
    "|(…).Field"
)
VARIABLES = (
    "$v|declare|assign|$.Messages|$.Tools|$.System|$.Think|$.IsThinkSet|$v.Role|$v.Content"
    "|$v.Thinking|$v.ToolCalls|$v.ToolName|$v.Function.Name|$v.Function.Arguments|$v.Type"
    "|$v.Description"
)
FIELDS = (
    ".Messages|.Role|.Content|.System|.Prompt|.Response|.Suffix|.Tools|.ToolCalls|.Function"
    "|.Function.Name|.Function.Arguments|.Function.Description|.Function.Parameters.Properties"
    "|.Thinking|.Think|.ThinkLevel|.IsThinkSet|."
)
FUNCTIONS = (
    "eq/2|ne/2|not/1|and/2|and/3|or/2|or/3|or/4|len/1|slice/2|slice/3|index/2|gt/2|ge/2|lt/2|le/2"
    "|printf/3|print/2|print/3|print/5|json/1|currentDate/0"
)
LITERALS = "string|number|bool|-1"
IDIOMS = (
    "eq (len (slice $.Messages $v)) 1|le (len (slice $.Messages $v)) 2|or .System .Tools"
    "|printed .Tools|printed $.Tools|printed . in range of tools|json .Tools|printed .Function"
    "|printed .Function.Arguments|range .Function.Parameters.Properties|assign printf|assign print"
    "|no .Messages|.Messages and .Response"
)
# Seen in none of them; users' Modelfiles have them.
UNSEEN = (
    "with|else with|break|define|template|range over a number|range … else|println/2|html/1|js/1"
    "|urlquery/1|pipeline|raw string|yesterdayDate/1|toTypeScriptType/1|.ToolCallID"
    "|.Function.Index|.Function.Parameters.Required"
)


def constructs(source: str) -> Iterator[str]:
    tree = parse(source, NAMES)
    for mark, name in (("{{-", "{{-"), ("-}}", "-}}"), ("{{/*", "comment"), ("{{- /*", "comment")):
        if mark in source:
            yield name
    if tree.defined:
        yield "define"
    found = [*walk(tree.root), *(name for body in tree.defined.values() for name in walk(body))]
    yield from found
    if not {".Messages", "$.Messages"} & set(found):
        yield "no .Messages"
    elif ".Response" in found:
        yield ".Messages and .Response"


def walk(node: nodes.Node) -> Iterator[str]:
    yield from own(node)
    for child in nodes.children(node):
        yield from walk(child)


def own(node: nodes.Node) -> Iterator[str]:  # noqa: C901, PLR0912 - a table
    match node:
        case nodes.Action(pipe=pipe):
            yield "action"
            if not pipe.variables:
                yield f"printed {shown(pipe)}"
            else:
                yield "assign" if pipe.assigns else "declare"
                first = pipe.commands[0].args[0]
                if pipe.assigns and isinstance(first, nodes.Identifier):
                    yield f"assign {first.name}"
        case nodes.Branch(pipe=pipe, otherwise=otherwise):
            kind = type(node).__name__.lower()
            yield kind
            yield f"{kind} {shown(pipe)}"
            if kind == "range":
                yield f"range with {len(pipe.variables)} variables"
                if isinstance(pipe.commands[0].args[0], nodes.Constant):
                    yield "range over a number"
                if shown(pipe).endswith(".Tools"):
                    yield from (
                        "printed . in range of tools"
                        for one in walk(node.body)
                        if one == "printed ."
                    )
            if otherwise is not None:
                inner = otherwise.nodes[0] if len(otherwise.nodes) == 1 else None
                chained = type(inner) is type(node)
                yield f"else {kind}" if chained else f"{kind} … else"
        case nodes.Continue():
            yield "continue"
        case nodes.Break():
            yield "break"
        case nodes.Invocation():
            yield "template"
        case nodes.Chain(node=inner):
            yield "(…).Field" if isinstance(inner, nodes.Pipe) else "chain"
        case nodes.Field(names=names):
            yield "." + ".".join(names)
        case nodes.Variable(names=names):
            yield variable(names)
        case nodes.Dot():
            yield "."
        case nodes.Constant(text=text, value=value):
            yield literal(text, value)
            yield text
        case nodes.Command(args=args):
            yield shown(node)
            yield from ("(…)" for arg in args if isinstance(arg, nodes.Pipe))
            if isinstance(args[0], nodes.Identifier):
                yield f"{args[0].name}/{len(args) - 1}"
        case nodes.Pipe(commands=commands) if len(commands) > 1:
            yield "pipeline"


def variable(names: tuple[str, ...]) -> str:
    first, *rest = names
    return ".".join(["$" if first == "$" else "$v", *rest])


def literal(text: str, value: object) -> str:
    if isinstance(value, str):
        return "raw string" if text.startswith("`") else "string"
    return "bool" if isinstance(value, bool) else "number"


def shown(node: nodes.Node) -> str:
    match node:
        case nodes.Pipe(commands=commands):
            return " | ".join(shown(command) for command in commands)
        case nodes.Command(args=args):
            return " ".join(
                f"({shown(arg)})" if isinstance(arg, nodes.Pipe) else shown(arg) for arg in args
            )
        case nodes.Variable(names=names):
            return variable(names)
    return str(node)


@pytest.fixture(scope="module")
def found() -> frozenset[str]:
    return frozenset(name for source in TEMPLATES.values() for name in constructs(source))


@pytest.mark.parametrize(
    "construct",
    f"{CONTROL}|{VARIABLES}|{FIELDS}|{FUNCTIONS}|{LITERALS}|{IDIOMS}|{UNSEEN}".split("|"),
)
def test_a_template_of_ours_uses_it(found: frozenset[str], construct: str) -> None:
    assert construct in found
