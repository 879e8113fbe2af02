"""Cuts a template behind its first `{{ .Response }}`."""

from __future__ import annotations

from typing import TypeVar

from corral_chat.gotemplate import nodes

_Branch = TypeVar("_Branch", bound=nodes.Branch)


def cut_after_response(root: nodes.List) -> nodes.List:
    """Give what is left of a template when all behind the first `.Response` is deleted.

    The search looks into branches, not at their conditions; operands behind it in its own action
    are deleted too.
    """
    body = _Cutter().list(root)
    return nodes.List(root.at) if body is None else body


class _Cutter:
    def __init__(self) -> None:
        self._found = False

    def _node(self, node: nodes.Node) -> nodes.Node | None:  # noqa: PLR0911 - a way for each kind
        if isinstance(node, nodes.Field) and "Response" in node.names:
            self._found = True
            return node
        if self._found:
            return None
        match node:
            case nodes.List():
                return self.list(node)
            case nodes.If() | nodes.With() | nodes.Range():
                return self._branch(node)
            case nodes.Action():
                return nodes.Action(node.at, self._pipe(node.pipe))
            case nodes.Pipe():
                return self._pipe(node)
        return node

    def list(self, node: nodes.List) -> nodes.List | None:
        if self._found:
            return None
        kept = (self._node(child) for child in node.nodes)
        return nodes.List(node.at, [child for child in kept if child is not None])

    def _branch(self, node: _Branch) -> _Branch:
        body = self.list(node.body)
        assert body is not None, "nothing is found in a condition, which is not searched"
        otherwise = None if node.otherwise is None else self.list(node.otherwise)
        return type(node)(node.at, node.pipe, body, otherwise)

    def _pipe(self, node: nodes.Pipe) -> nodes.Pipe:
        commands = []
        for command in node.commands:
            args = [arg for arg in map(self._node, command.args) if arg is not None]
            if args:
                commands.append(nodes.Command(command.at, args))
        return nodes.Pipe(node.at, commands, node.variables, node.assigns)
