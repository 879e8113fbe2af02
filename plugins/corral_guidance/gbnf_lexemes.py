"""Which parts of a GBNF grammar may be read as one lexeme.

GBNF is read character by character, with every way of going on kept open. llguidance cuts the text
into lexemes first, each as long as it can be, and never thinks better of it: `[a-z]* "a"` would
allow nothing. Read one character at a time it allows the same texts as llama.cpp, and takes a
millisecond and a half for a mask; with longer lexemes it takes microseconds. So the longest parts
that are regular expressions are made lexemes, and those are taken apart that could run on into what
follows another one.
"""

from __future__ import annotations

from collections.abc import Mapping

from corral_guidance.gbnf_conflicts import Conflicts, TooLongError
from corral_guidance.gbnf_nodes import EMPTY, Alt, Chars, Node, Ref, Rep, Seq, children, walk

MAX_STEPS = 200_000
"""Of looking for conflicts; with more, all is read character by character."""
MAX_INLINED = 2_000
"""Nodes of a rule that is put where it is named; `MAX_HEIGHT` of them within each other."""
MAX_HEIGHT = 60

Rules = Mapping[str, Node]


def lexemes(rules: Rules) -> tuple[dict[str, Node], set[Node]]:
    """Choose lexemes.

    Returns:
        The rules, the same texts allowed, and those nodes of them that may be read as one lexeme.
        None of these matches the empty text, or stands within another.
    """
    flat = _inlined(rules)
    whole: set[Node] = set()
    parts = {name: _marked(node, whole) for name, node in flat.items()}
    steps = [MAX_STEPS]
    try:
        while torn := Conflicts(parts, whole, steps).found():
            parts = {name: _torn(node, torn, whole) for name, node in parts.items()}
    except TooLongError:
        return flat, {n for node in flat.values() for n in walk(node) if isinstance(n, Chars)}
    return parts, whole


# ------------------------------------------------------------------------------- candidates


def _inlined(rules: Rules) -> dict[str, Node]:
    """Put regular rules where they are named."""
    done = _regular(rules)
    kept = {name: _inline(node, done) for name, node in rules.items() if name not in done}
    if "root" in done:
        kept["root"] = done["root"]
    if not all(_is_small(node, MAX_HEIGHT * 4) for node in kept.values()):
        kept = dict(rules)
    return {name: _copied(node) for name, node in kept.items()}


def _regular(rules: Rules) -> dict[str, Node]:
    """Give the bodies of rules that name no others, or such ones alone."""
    done: dict[str, Node] = {}
    needs = {name: _refs(node) for name, node in rules.items()}
    users: dict[str, list[str]] = {}
    for name, named in needs.items():
        for other in named:
            users.setdefault(other, []).append(name)
    todo = [name for name, named in needs.items() if not named]
    while todo:
        name = todo.pop()
        body = _inline(rules[name], done)
        if not _is_small(body):
            continue
        done[name] = body
        for user in users.get(name, ()):
            needs[user].discard(name)
            if not needs[user]:
                todo.append(user)
    return done


def _inline(node: Node, bodies: Rules) -> Node:
    if isinstance(node, Ref):
        return bodies.get(node.name, node)
    if isinstance(node, Seq):
        return Seq(tuple(_inline(part, bodies) for part in node.parts))
    if isinstance(node, Alt):
        return Alt(tuple(_inline(part, bodies) for part in node.parts))
    if isinstance(node, Rep):
        return Rep(_inline(node.part, bodies), node.least, node.most)
    return node


def _copied(node: Node) -> Node:
    """Give a tree of its own: what is named twice is followed by two things."""
    if isinstance(node, Seq):
        return Seq(tuple(_copied(part) for part in node.parts))
    if isinstance(node, Alt):
        return Alt(tuple(_copied(part) for part in node.parts))
    if isinstance(node, Rep):
        return Rep(_copied(node.part), node.least, node.most)
    return Chars(node.ranges) if isinstance(node, Chars) else Ref(node.name)


def _refs(node: Node) -> set[str]:
    return {inner.name for inner in walk(node) if isinstance(inner, Ref)}


def _is_small(node: Node, max_height: int = MAX_HEIGHT) -> bool:
    count = 0
    todo = [(node, 1)]
    while todo:
        inner, height = todo.pop()
        count += 1
        if count > MAX_INLINED or height > max_height:
            return False
        todo += [(part, height + 1) for part in children(inner)]
    return True


def _is_regular(node: Node) -> bool:
    return not any(isinstance(inner, Ref) for inner in walk(node))


def _nullable(node: Node) -> bool:
    """Whether a regular node matches the empty text."""
    if isinstance(node, Seq):
        return all(map(_nullable, node.parts))
    if isinstance(node, Alt):
        return any(map(_nullable, node.parts))
    return isinstance(node, Rep) and (node.least == 0 or _nullable(node.part))


def _marked(node: Node, whole: set[Node]) -> Node:
    """Make the longest regular parts of a node lexemes."""
    if isinstance(node, Ref) or node is EMPTY:
        return node
    if _is_regular(node):
        if not _nullable(node):
            whole.add(node)
            return node
        if isinstance(node, Rep) and node.least == 0 and not _nullable(node.part):
            if node.most == 1:
                return Rep(_marked(node.part, whole), 0, 1)
            some = Rep(node.part, 1, node.most)
            whole.add(some)
            return Rep(some, 0, 1)
    return _opened(node, whole)


def _opened(node: Node, whole: set[Node]) -> Node:
    """Make the parts of a node lexemes."""
    if isinstance(node, Seq):
        return Seq(tuple(_marked(part, whole) for part in node.parts))
    if isinstance(node, Alt):
        return Alt(tuple(_marked(part, whole) for part in node.parts))
    if isinstance(node, Rep):
        return Rep(_marked(node.part, whole), node.least, node.most)
    return node


def _torn(node: Node, torn: set[Node], whole: set[Node]) -> Node:
    """Take lexemes apart, by one level."""
    if node in torn:
        whole.discard(node)
        return _opened(node, whole)
    if node in whole or not children(node):
        return node
    if isinstance(node, Seq):
        return Seq(tuple(_torn(part, torn, whole) for part in node.parts))
    if isinstance(node, Alt):
        return Alt(tuple(_torn(part, torn, whole) for part in node.parts))
    assert isinstance(node, Rep)
    return Rep(_torn(node.part, torn, whole), node.least, node.most)
