"""Calls of MiniMax M3: arguments are elements, named as they are, with a mark before each tag."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from corral_chat.parsing.forms import Call, CallForm, MalformedCallError, Tools
from corral_chat.parsing.json_calls import literal
from corral_chat.parsing.json_text import write_json
from corral_chat.parsing.rules import plain_properties
from corral_chat.parsing.typed import CannotHoldError, typed_value, types_of, value_rule

_ITEM: Final = "item"
_DEEPEST: Final = 64
_INVOKE: Final = re.compile(r'invoke\s+name="([^"]*)"\Z')


@dataclass(frozen=True, slots=True)
class ElementCalls(CallForm):
    """`<invoke name="f"><city>Oslo</city></invoke>`; lists are elements named `item`.

    Attributes:
        mark: Before each tag.
        marks: As `CallForm` has it.
    """

    mark: str = "]<]minimax[>["
    marks: tuple[str, ...] = ("]<]minimax[>[",)

    def parse(self, text: str, tools: Tools) -> Sequence[Call]:
        """Read all calls of a text; values are typed by the schema.

        Raises:
            MalformedCallError: If its elements do not fit into each other, or name no tool.
        """
        calls = []
        for element in self._tree(text).inner:
            met = _INVOKE.match(element.name)
            if met is None or not met.group(1):
                raise MalformedCallError("empty function name")
            name = met.group(1)
            arguments = {e.name: _value(e, tools.property(name, e.name)) for e in element.inner}
            calls.append(Call(name, write_json(arguments)))
        if not calls:
            raise MalformedCallError("no invocation between the marks")
        return calls

    def _tree(self, text: str) -> _Element:
        root = _Element("")
        open_ones = [root]
        for name, is_end, behind in self._tags(text):
            if is_end:
                if len(open_ones) == 1 or open_ones[-1].name.partition(" ")[0] != name:
                    raise MalformedCallError(f"an end of {name!r:.100} that has no beginning")
                open_ones.pop()
                continue
            if len(open_ones) > _DEEPEST:
                raise MalformedCallError("arguments that are nested too deeply")
            element = _Element(name, behind)
            open_ones[-1].inner.append(element)
            open_ones.append(element)
        if len(open_ones) > 1:
            raise MalformedCallError(f"{open_ones[-1].name!r:.100} has no end")
        return root

    def _tags(self, text: str) -> Iterator[tuple[str, bool, str]]:
        """Give the name of each tag, whether it ends an element, and the text behind it."""
        for piece in text.split(self.mark)[1:]:
            tag, closed, behind = piece.partition(">")
            if not tag.startswith("<") or not closed:
                raise MalformedCallError("a mark without a tag behind it")
            name = tag[1:]
            yield name.removeprefix("/"), name.startswith("/"), behind

    def grammar(self, tools: Tools, *, begun: bool = False) -> str | None:
        """Write the grammar: a branch for each tool, its arguments in the schema's order."""
        del begun  # such calls have marks
        writer = _Writer(self.mark)
        try:
            names = [
                f"{literal(f'{self.mark}<invoke name={_quoted(name)}>')} "
                + writer.content(tools.schema(name), f"{self.mark}</invoke>", {}, 0)
                for name in tools
            ]
        except CannotHoldError:
            return None
        return "\n".join([f"start: {' | '.join(names)}", *writer.rules])


def _quoted(name: str) -> str:
    return f'"{name}"'


class _Writer:
    """Writes rules of what elements hold, each up to the tag that ends it and with that."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._count = 0
        self.rules: list[str] = []

    def content(
        self, schema: Mapping[str, Any], end: str, root: Mapping[str, Any], depth: int
    ) -> str:
        """Write the rule; give its name.

        Raises:
            CannotHoldError: If it cannot be said.
        """
        if depth > _DEEPEST:
            raise CannotHoldError
        self._count += 1
        name = f"content_{self._count}"
        types = types_of(schema)
        if types == {"object"}:
            rule = f"{name}: {self._parts(schema, root or schema, depth)} {literal(end)}"
        elif types == {"array"}:
            rule = f"{name}: {self._items(schema, root or schema, depth)} {literal(end)}"
        elif types & {"array", "object"}:
            raise CannotHoldError
        else:
            rule = value_rule(name, schema, end, root or schema)
        self.rules.append(rule)
        return name

    def _parts(self, schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> str:
        properties, required = plain_properties(schema)
        parts = []
        for key, inner in properties.items():
            held = self.content(inner, f"{self._mark}</{key}>", root, depth + 1)
            part = f"{literal(f'{self._mark}<{key}>')} {held}"
            parts.append(part if key in required else f"({part})?")
        return " ".join(parts)

    def _items(self, schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> str:
        items, least, most = schema.get("items"), schema.get("minItems", 0), schema.get("maxItems")
        if not isinstance(items, Mapping) or schema.keys() & {"prefixItems", "contains"}:
            raise CannotHoldError
        if schema.get("uniqueItems") or not isinstance(least, int):
            raise CannotHoldError
        if not (most is None or isinstance(most, int)):
            raise CannotHoldError
        held = self.content(items, f"{self._mark}</{_ITEM}>", root, depth + 1)
        bounds = f"{{{least},{'' if most is None else most}}}"
        return f"({literal(f'{self._mark}<{_ITEM}>')} {held}){bounds}"


@dataclass(slots=True)
class _Element:
    """An element: its name, the text at its beginning, and the elements in it."""

    name: str
    text: str = ""
    inner: list[_Element] = field(default_factory=list)


def _value(element: _Element, schema: Mapping[str, Any]) -> Any:
    """Read a value; without elements in it, it is what its text is by the schema."""
    types = types_of(schema)
    if not element.inner:
        if not element.text.strip() and types & {"array", "object"}:
            return [] if "array" in types else {}
        return typed_value(element.text, schema)
    is_list = "array" in types or ("object" not in types and _all_items(element))
    if is_list:
        items = schema.get("items")
        inner = items if isinstance(items, Mapping) else {}
        return [_value(item, inner) for item in element.inner]
    properties = schema.get("properties")
    known = properties if isinstance(properties, Mapping) else {}
    found = {}
    for part in element.inner:
        said = known.get(part.name)
        found[part.name] = _value(part, said if isinstance(said, Mapping) else {})
    return found


def _all_items(element: _Element) -> bool:
    return all(part.name == _ITEM for part in element.inner)
