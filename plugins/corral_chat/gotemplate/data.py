"""A conversation as Go templates of models see it, and the functions that they have for it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from corral_chat.bounds import charged
from corral_chat.gotemplate.functions import Function
from corral_chat.gotemplate.gojson import to_json
from corral_chat.gotemplate.strings import clean
from corral_chat.gotemplate.values import GoList, GoMap, Struct, StructKind
from corral_kernel.contracts import Conversation, Message

_PROPERTY_FIELDS = {
    "AnyOf": "anyOf?",
    "Type": "type?",
    "Items": "items~",
    "Description": "description?",
    "Enum": "enum?",
    "Properties": "properties~",
    "Required": "required?",
}


def typescript_type(value: Any) -> str:
    """Name a property's type as TypeScript does; `any` for what is no property."""
    if not isinstance(value, Struct) or value.kind is not PROPERTY:
        return "any"
    alternatives = value.values["AnyOf"].items
    if alternatives:
        return " | ".join(typescript_type(item) for item in alternatives)
    types = value.values["Type"].items
    if not types:
        return "any"
    return " | ".join(_typescript(name, value.values["Items"]) for name in types)


def _typescript(name: str, items: Any) -> str:
    if name == "array":
        inner = items.items.get("type") if isinstance(items, GoMap) else None
        return f"{_typescript(inner, None)}[]" if isinstance(inner, str) else "any[]"
    plain = {"integer": "number", "object": "Record<string, any>"}
    return name if name in ("string", "number", "boolean", "null") else plain.get(name, "any")


PROPERTY = StructKind(
    "api.ToolProperty", _PROPERTY_FIELDS, methods={"ToTypeScriptType": typescript_type}
)
_TOOL = StructKind(
    "template.templateTool",
    {"Type": "type", "Items": "items~", "Function": "function"},
    prints_json=True,
)
_FUNCTION = StructKind(
    "template.templateToolFunction",
    {"Name": "name", "Description": "description", "Parameters": "parameters"},
    prints_json=True,
)
_PARAMETERS = StructKind(
    "template.templateToolFunctionParameters",
    {
        "Type": "type",
        "Defs": "$defs~",
        "Items": "items~",
        "Required": "required?",
        "Properties": "properties",
    },
    prints_json=True,
)
_CALL = StructKind("template.templateToolCall", {"ID": "ID", "Function": "Function"})
_CALLED = StructKind(
    "template.templateToolCallFunction",
    {"Index": "Index", "Name": "Name", "Arguments": "Arguments"},
)
_MESSAGE = StructKind(
    "template.templateMessage",
    {
        name: name
        for name in (
            "Role",
            "Content",
            "Thinking",
            "Images",
            "ToolCalls",
            "ToolName",
            "ToolCallID",
        )
    },
    pointer=True,
)


def from_json(value: Any) -> Any:
    """Give decoded JSON as Go decodes it: every number is a float."""
    match value:
        case str():
            return clean(value)
        case None | bool():
            return value
        case int() | float():
            try:
                return float(value)
            except OverflowError:
                return float("inf") if value > 0 else float("-inf")
        case Mapping():
            return GoMap({clean(str(key)): from_json(item) for key, item in value.items()})
    return GoList([from_json(item) for item in value])


def _texts(value: Any, go_type: str = "[]string", *, prints: bool = False) -> GoList:
    given = [value] if isinstance(value, str) else value if isinstance(value, Sequence) else ()
    items = [clean(item) for item in given if isinstance(item, str)]
    return GoList(items, go_type, nil=not isinstance(value, (str, Sequence)), prints_json=prints)


def _text(given: Mapping[str, Any], key: str) -> str:
    value = given.get(key)
    return clean(value) if isinstance(value, str) else ""


def _mapping(given: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = given.get(key)
    return value if isinstance(value, Mapping) else {}


def _property(given: Mapping[str, Any]) -> Struct:
    nested = given.get("properties")
    any_of = [_property(item) for item in given.get("anyOf") or () if isinstance(item, Mapping)]
    enum = given.get("enum")
    values = {
        "AnyOf": GoList(any_of, "[]api.ToolProperty", nil=not any_of),
        "Type": _texts(given.get("type"), "api.PropertyType", prints=True),
        "Items": from_json(given.get("items")),
        "Description": _text(given, "description"),
        "Enum": from_json(enum) if isinstance(enum, Sequence) else GoList(nil=True),
        "Properties": _properties(nested) if isinstance(nested, Mapping) else None,
        "Required": _texts(given.get("required")),
    }
    return Struct(PROPERTY, values)


def _properties(given: Any) -> GoMap:
    items = given if isinstance(given, Mapping) else {}
    return GoMap(
        {clean(name): _property(p) for name, p in items.items() if isinstance(p, Mapping)},
        "template.templateProperties",
        nil=not isinstance(given, Mapping),
        prints_json=True,
        zero=_property({}),
    )


def tool_value(given: Mapping[str, Any]) -> Struct:
    """Give a tool as templates see it; what they do not know of its schema is gone."""
    function = _mapping(given, "function")
    parameters = _mapping(function, "parameters")
    shown = Struct(
        _PARAMETERS,
        {
            "Type": _text(parameters, "type"),
            "Defs": from_json(parameters.get("$defs")),
            "Items": from_json(parameters.get("items")),
            "Required": _texts(parameters.get("required")),
            "Properties": _properties(parameters.get("properties")),
        },
    )
    values = {
        "Name": _text(function, "name"),
        "Description": _text(function, "description"),
        "Parameters": shown,
    }
    return Struct(
        _TOOL,
        {
            "Type": _text(given, "type"),
            "Items": from_json(given.get("items")),
            "Function": Struct(_FUNCTION, values),
        },
    )


def _call_value(given: Mapping[str, Any]) -> Struct:
    function = _mapping(given, "function")
    index = function.get("index")
    arguments = from_json(_mapping(function, "arguments"))
    arguments.go_type, arguments.prints_json = "template.templateArgs", True
    called = {
        "Index": index if isinstance(index, int) and not isinstance(index, bool) else 0,
        "Name": _text(function, "name"),
        "Arguments": arguments,
    }
    return Struct(_CALL, {"ID": _text(given, "id"), "Function": Struct(_CALLED, called)})


def _message_value(message: Message, content: str) -> Struct:
    calls = [_call_value(call) for call in message.tool_calls]
    values = {
        "Role": clean(message.role),
        "Content": content,
        "Thinking": clean(message.thinking),
        "Images": GoList((), "[]api.ImageData", nil=True),
        "ToolCalls": GoList(calls, "[]template.templateToolCall", nil=not calls),
        "ToolName": clean(message.tool_name),
        "ToolCallID": clean(message.tool_call_id),
    }
    return Struct(_MESSAGE, values)


def merged(messages: Sequence[Message]) -> list[tuple[Message, str]]:
    """Give messages and their texts; neighbours of one role are one, those of tools apart.

    Of a message that is put to another one its text alone is kept.
    """
    found: list[tuple[Message, list[str]]] = []
    for message in messages:
        if found and found[-1][0].role == message.role != "tool":
            found[-1][1].append(clean(message.content))
        else:
            found.append((message, [clean(message.content)]))
    return [(message, "\n\n".join(texts)) for message, texts in found]


def messages_value(messages: Sequence[Message]) -> GoList:
    """Give a conversation as templates see it."""
    items = [_message_value(message, content) for message, content in merged(messages)]
    return GoList(items, "[]*template.templateMessage", nil=not items)


def tools_value(tools: Sequence[Mapping[str, Any]]) -> GoList:
    """Give the tools of a request as templates see them."""
    items = [tool_value(tool) for tool in tools]
    return GoList(items, "template.templateTools", nil=not items, prints_json=True)


def thinking_values(conversation: Conversation) -> dict[str, Any]:
    """Give what templates are told of thinking: whether, how much, and whether that was asked."""
    think = conversation.think
    level = think if isinstance(think, str) else "medium" if think else ""
    return {"Think": bool(think), "ThinkLevel": level, "IsThinkSet": think is not None}


def functions_at(now: float) -> dict[str, Function]:
    """Give the functions that models' templates have beside Go's own.

    Args:
        now: Seconds since 1970.
    """
    today = dt.datetime.fromtimestamp(now).astimezone()

    def date(days: int) -> Function:
        text = (today + dt.timedelta(days=days)).strftime("%Y-%m-%d")
        return Function(lambda *_ignored: text, 0, variadic=True)

    return {
        "json": Function(lambda value: charged(to_json(value)), 1),
        "currentDate": date(0),
        "yesterdayDate": date(-1),
        "toTypeScriptType": Function(typescript_type, 1),
    }
