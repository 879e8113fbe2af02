"""What a template speaks of, read from its syntax tree; it is not executed."""

from __future__ import annotations

from collections.abc import Iterator

from corral_chat.gotemplate import nodes
from corral_chat.gotemplate.parser import SyntaxProblem


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
