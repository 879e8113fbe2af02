"""Messages as Jinja templates see them: as llama.cpp hands them over, and as transformers does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from corral_chat.adapting import FAMILIES
from corral_chat.shapes import Fields, Shape
from corral_kernel.contracts import Message


def shown_messages(template: str, shape: Shape, messages: Sequence[Message]) -> list[Fields]:
    """Give messages in the form that a template wants."""
    shown = [_fields(message) for message in messages]
    for family in FAMILIES:
        if family.has(template):
            shown = family.adapt(shown)
    if shown and shown[0]["role"] == "system" and not shape.knows_system:
        shown = _folded(shown)
    calls = [call for fields in shown for call in fields.get("tool_calls", ())]
    if calls and shape.wants_json_arguments:
        for call in calls:
            function = call["function"]
            function["arguments"] = json.dumps(function["arguments"], ensure_ascii=False)
    if shape.wants_parts:
        shown = [_in_parts(fields) for fields in shown]
    return shown


def _fields(message: Message) -> Fields:
    fields: Fields = {"role": message.role, "content": message.content}
    if message.thinking:
        fields["reasoning_content"] = fields["thinking"] = message.thinking
    if message.tool_name:
        fields["name"] = message.tool_name
    if message.tool_call_id:
        fields["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        fields["tool_calls"] = [_call_fields(call) for call in message.tool_calls]
    return fields


def _call_fields(call: Mapping[str, Any]) -> Fields:
    function = call.get("function") or {}
    arguments = function.get("arguments")
    shown = {"name": function.get("name", ""), "arguments": {} if arguments is None else arguments}
    named = {"id": call["id"]} if call.get("id") else {}
    return {"type": "function", "function": shown, **named}


def _folded(shown: list[Fields]) -> list[Fields]:
    """Put the system message before the text of the next one; alone it is the user's."""
    system, *others = shown
    if not others:
        return [{**system, "role": "user"}]
    first, *rest = others
    return [{**first, "content": f"{system['content']}\n{first['content']}"}, *rest]


def _in_parts(fields: Fields) -> Fields:
    content = fields["content"]
    if not isinstance(content, str):
        return fields
    return {**fields, "content": [{"type": "text", "text": content}]}
