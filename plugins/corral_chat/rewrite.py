"""Puts counters into a template's syntax tree, where Jinja has no hook for them."""

from __future__ import annotations

from typing import Any

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from corral_chat.bounds import OverBoundsError
from corral_chat.filters import BUILT, CHARGED, COUNTED, GROWING, JOINED, STEP

MAX_NODES = 10_000
"""Syntax nodes of one template."""


def rewrite(template: nodes.Template) -> nodes.Template:
    """Count loops, calls, and what literals, slices and `~` build.

    Raises:
        OverBoundsError: If the template has too many syntax nodes.
    """
    check_size(template)
    rewritten: nodes.Template = _Rewriter().visit(template)
    return rewritten


def check_size(template: nodes.Template) -> None:
    """Refuse a template that has too many syntax nodes."""
    if _size(template) > MAX_NODES:
        raise OverBoundsError(f"it has over {MAX_NODES:,} syntax nodes")


def _size(node: nodes.Node) -> int:
    return 1 + sum(1 for _ in node.find_all(nodes.Node))


def _filter(name: str, value: nodes.Expr, *more: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(value, name, list(more), [], None, None, lineno=value.lineno)


def _step(node: nodes.Node) -> nodes.ExprStmt:
    count = nodes.Const(_size(node), lineno=node.lineno)
    return nodes.ExprStmt(_filter(STEP, count), lineno=node.lineno)


class _Rewriter(NodeTransformer):
    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - the name is how Jinja finds it
        size = nodes.Const(_size(node), lineno=node.lineno)
        if node.recursive:  # `loop(…)` brings values that are not counted below
            node.body.insert(0, _step(node))
        self.generic_visit(node)
        values: Any = node.iter  # declared as any node, always an expression
        node.iter = _filter(COUNTED, values, size)
        return node

    def _visit_body(self, node: nodes.Macro) -> nodes.Node:
        counter = _step(node)
        self.generic_visit(node)
        node.body.insert(0, counter)
        return node

    visit_Macro = visit_CallBlock = visit_Block = _visit_body  # noqa: N815 - likewise

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - likewise
        self.generic_visit(node)
        first, *others = node.nodes
        return _filter(JOINED, first, *others)

    def _visit_literal(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        stored = isinstance(node, nodes.Tuple) and node.ctx != "load"
        leaves = nodes.Const | nodes.Pair
        if stored or all(isinstance(child, leaves) for child in _leaves(node)):
            return node
        return _filter(BUILT, node)

    visit_Tuple = visit_Dict = _visit_literal  # noqa: N815 - likewise

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802 - likewise
        counted: Any = self._visit_literal(node)
        return _filter(GROWING, counted)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802 - likewise
        self.generic_visit(node)
        return _filter(CHARGED, node) if isinstance(node.arg, nodes.Slice) else node


def _leaves(node: nodes.Expr) -> list[nodes.Node]:
    children = list(node.iter_child_nodes())
    for child in [child for child in children if isinstance(child, nodes.Pair)]:
        children.extend(child.iter_child_nodes())
    return children
