"""What a template speaks of, read from its syntax tree; it is not executed."""

from __future__ import annotations

from collections.abc import Iterator

from corral_chat.gotemplate import nodes
from corral_chat.gotemplate.tokens import SyntaxProblem


def words_of(tree: nodes.Tree) -> frozenset[str]:
    """Give the names of all fields and variables, in lower case.

    Raises:
        SyntaxProblem: For `{{template "x"}}` without what it is to work on.
    """
    bodies = (tree.root, *tree.defined.values())
    return frozenset(name.lower() for body in bodies for name in _names(body))


def _names(node: nodes.Node) -> Iterator[str]:
    match node:
        case nodes.Field() | nodes.Variable():
            yield from node.names
            return
        case nodes.Invocation(pipe=None):
            raise SyntaxProblem("undefined template specified")
        case nodes.Chain():
            return  # as in Ollama: fields of what stands in parentheses do not count
    for child in nodes.children(node):
        yield from _names(child)


def think_tags(tree: nodes.Tree) -> tuple[str, str]:
    """Infer the tags around thoughts: what stands before and behind `.Thinking` of a message.

    Both are empty where nothing tells.
    """
    tags = ("", "")
    for path in _paths_to_thinking(tree.root, ()):
        loops = [node for node in path if isinstance(node, nodes.Range)]
        if loops and _mentions(loops[-1].pipe, "Messages"):
            around = next(node for node in reversed(path) if isinstance(node, nodes.List))
            first, last = around.nodes[0], around.nodes[-1]
            tags = (
                first.text.strip() if isinstance(first, nodes.Text) else tags[0],
                last.text.strip() if isinstance(last, nodes.Text) else tags[1],
            )
    return tags if all(tags) else ("", "")


def call_texts(tree: nodes.Tree) -> tuple[str, list[str | nodes.Node]]:
    """Infer how calls are written: what stands in the first branch for messages with `.ToolCalls`.

    Returns:
        The text that tells a call from other text, which ends before the first brace; `{` where
        nothing else tells. And all of the branch in order: texts, and what is printed.
    """
    branch = next(_branches_for_calls(tree.root), None)
    if branch is None:
        return "{", []
    first = _first_text(branch.body) or ""
    return first.partition("{")[0].strip() or "{", list(_written(branch.body))


def _branches_for_calls(node: nodes.Node) -> Iterator[nodes.If]:
    if isinstance(node, nodes.If) and any(
        isinstance(arg, nodes.Field) and arg.names == ("ToolCalls",)
        for command in node.pipe.commands
        for arg in command.args
    ):
        yield node
    for child in nodes.children(node):
        yield from _branches_for_calls(child)


def _first_text(body: nodes.List) -> str | None:
    """The first text that is not blank; None if something is printed before it."""
    for node in body.nodes:
        match node:
            case nodes.Text():
                if node.text.strip():
                    return node.text
            case nodes.Action(pipe=nodes.Pipe(variables=[])):
                return None
            case nodes.If() | nodes.Range():
                return _first_text(node.body)
    return None


def _written(body: nodes.List) -> Iterator[str | nodes.Node]:
    for node in body.nodes:
        match node:
            case nodes.Text():
                yield node.text
            case nodes.Action(pipe=nodes.Pipe(variables=[])):
                yield node.pipe
            case nodes.If() | nodes.Range() | nodes.With():
                yield from _written(node.body)


def _paths_to_thinking(
    node: nodes.Node, path: tuple[nodes.Node, ...]
) -> Iterator[tuple[nodes.Node, ...]]:
    if isinstance(node, nodes.Field) and node.names[0] == "Thinking":
        yield path
    for child in nodes.children(node):
        yield from _paths_to_thinking(child, (*path, node))


def _mentions(node: nodes.Node, name: str) -> bool:
    if isinstance(node, nodes.Field | nodes.Variable):
        return name in node.names
    return any(_mentions(child, name) for child in nodes.children(node))
