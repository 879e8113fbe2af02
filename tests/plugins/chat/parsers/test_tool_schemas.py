"""What grammars are told of tools' schemas."""

import json
from typing import Any

import pytest

from corral_chat.parsing import Tools
from corral_chat.parsing.families import families
from corral_guidance.lark import LarkType
from corral_kernel.contracts import AnswerSpec, Constrained


def of(parameters: Any) -> dict[str, Any]:
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    return Tools((tool,)).schema("f")


NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, NOTHING),
        ({"type": "object"}, NOTHING),
        ({"type": "object", "additionalProperties": True}, None),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "object"}}}, None),
    ],
    ids=["none", "no properties", "any", "elsewhere"],
)
def test_a_schema_that_lists_nothing_is_of_no_arguments(given: Any, expected: Any) -> None:
    assert of(given) == ({"type": "object", **given} if expected is None else expected)


def test_remarks_are_left_out_and_properties_of_their_names_stay() -> None:
    given = {
        "type": "object",
        "description": "x",
        "properties": {
            "description": {"type": "string", "description": "x", "default": "a"},
            "title": {"type": "array", "items": {"title": "x", "enum": [{"title": "kept"}]}},
        },
        "anyOf": [{"title": "x", "required": ["title"]}],
        "required": ["description"],
    }
    assert of(given) == {
        "type": "object",
        "properties": {
            "description": {"type": "string"},
            "title": {"type": "array", "items": {"enum": [{"title": "kept"}]}},
        },
        "anyOf": [{"required": ["title"]}],
        "required": ["description"],
    }


def test_a_hundred_tools_with_long_descriptions_fit_into_a_grammar() -> None:
    def tool(number: int) -> dict[str, Any]:
        text = {"type": "string", "description": "What it is about, in detail. " * 40}
        parameters = {"type": "object", "properties": {f"a{n}": text for n in range(5)}}
        return {"type": "function", "function": {"name": f"t{number}", "parameters": parameters}}

    hermes = next(family for family in families() if family.name == "hermes")
    tools = tuple(map(tool, range(100)))
    plan = hermes.plan(AnswerSpec(calls=True, tools=tools, force_call=True))
    assert plan is not None
    (held,) = [step for step in plan.steps if isinstance(step, Constrained)]
    LarkType().check(json.loads(held.format))
