"""What a family's plan allows is read back as calls that its tools' schemas accept."""

import random
from typing import Any

import jsonschema
import llguidance
import msgspec
import numpy as np
import pytest
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

from corral_chat.parsing.families import families
from corral_guidance.kinds import SchemaType
from corral_guidance.lark import LarkType
from corral_kernel.contracts import AnswerSpec, Constrained, Free, Literal
from corral_kernel.errors import UnsupportedError
from corral_kernel.testing.parsers import read

TOKENIZER = llguidance.LLTokenizer("byte")
BYTES = 256
DRAWS = 6
MOST_BYTES = 1500
DIGITS = 6

PLACE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 2, "maxLength": 12},
        "unit": {"enum": ["celsius", "fahrenheit"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
ORDER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "fast": {"type": "boolean"},
        "price": {"type": "number", "minimum": 0, "maximum": 99},
        "counts": {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3},
        "to": {
            "type": "object",
            "properties": {"zip": {"type": "integer", "minimum": 100, "maximum": 999}},
            "required": ["zip"],
            "additionalProperties": False,
        },
    },
    "required": ["fast", "to"],
    "additionalProperties": False,
}
NOTHING: dict[str, Any] = {"type": "object", "properties": {}}
SCHEMAS = {"get_weather": PLACE, "order": ORDER, "now": NOTHING}
TOOLS = tuple(
    {"type": "function", "function": {"name": name, "parameters": schema}}
    for name, schema in SCHEMAS.items()
)
CALLING = [family for family in families() if "tools" in family.capabilities]
THINKING = [family for family in CALLING if "thinking" in family.capabilities]


def draw(step: Constrained, dice: random.Random) -> str:
    """A text that a constraint allows, of bytes as they come; mostly letters."""
    spec = msgspec.json.decode(step.format)
    kind = LarkType() if step.kind == "lark" else SchemaType()
    matcher = llguidance.LLMatcher(TOKENIZER, kind.write(spec)[0])
    assert not matcher.is_error(), matcher.get_error()
    mask = allocate_token_bitmask(1, TOKENIZER.vocab_size)
    text = bytearray()
    while len(text) < MOST_BYTES:
        if matcher.is_stopped() or (matcher.is_accepting() and dice.random() < 0.5):
            return text.decode()
        fill_next_token_bitmask(matcher, mask)
        allowed = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")[:BYTES])
        plain = [token for token in allowed if 32 <= token < 127] or list(allowed)
        if text[-DIGITS:].isdigit() and len(text) >= DIGITS:  # fractions have no end of their own
            plain = [token for token in allowed if not chr(token).isdigit()] or plain
        token = dice.choice(plain)
        assert matcher.consume_token(int(token)), matcher.get_error()
        text.append(token)
    pytest.fail(f"the grammar does not end: {bytes(text[:300])!r}")


@pytest.mark.parametrize("family", CALLING, ids=lambda family: family.name)
@pytest.mark.parametrize("tools", [TOOLS, *[(tool,) for tool in TOOLS]], ids=["all", *SCHEMAS])
def test_a_forced_call_is_one_that_its_schema_accepts(
    family: Any, tools: tuple[dict[str, Any], ...]
) -> None:
    spec = AnswerSpec(renderer="jinja", calls=True, tools=tools, force_call=True)
    plan = family.plan(spec)
    assert plan is not None
    dice = random.Random(f"{family.name}{len(tools)}")
    for _ in range(DRAWS):
        text = ""
        for step in plan.steps:
            assert not isinstance(step, Free), "a model that does not think begins at once"
            text += step.text if isinstance(step, Literal) else draw(step, dice)
        found = read(family, msgspec.structs.replace(spec, force_call=False), list(text))
        assert found.calls, f"no call in {text!r}"
        assert not found.content, f"text beside the call: {found.content!r} of {text!r}"
        for name, arguments in found.calls:
            jsonschema.validate(arguments, SCHEMAS[name])


@pytest.mark.parametrize("family", THINKING, ids=lambda family: family.name)
def test_a_forced_call_comes_behind_the_thought(family: Any) -> None:
    spec = AnswerSpec(
        renderer="jinja", calls=True, tools=TOOLS, force_call=True, think=True, think_budget=7
    )
    steps = family.plan(spec).steps
    (thought,) = (step for step in steps if isinstance(step, Free))
    assert thought.most_tokens == 7
    assert isinstance(steps[-1] if isinstance(steps[-1], Constrained) else steps[-2], Constrained)


@pytest.mark.parametrize("family", CALLING, ids=lambda family: family.name)
def test_a_schema_that_no_grammar_says_is_refused_where_a_call_is_forced(family: Any) -> None:
    schema = {"type": "object", "properties": {"a": {"not": {"type": "string"}}}}
    tools = ({"type": "function", "function": {"name": "f", "parameters": schema}},)
    spec = AnswerSpec(renderer="jinja", calls=True, tools=tools, force_call=True)
    try:
        plan = family.plan(spec)
    except UnsupportedError:
        return
    assert any(isinstance(step, Constrained) for step in plan.steps)
