"""Arguments of any depth come out as they were, whatever way of writing calls a family has."""

import json
import keyword
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral_chat.parsing.families import families
from corral_kernel.contracts import AnswerSpec
from corral_kernel.testing.parsers import Read, read

BY_NAME = {family.name: family for family in families()}
KEYS = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True).filter(
    lambda key: not keyword.iskeyword(key)
)
# Bare text cannot hold the marks around it, nor the word for nothing.
TEXTS = st.text(max_size=20).filter(lambda text: "<" not in text and text.lower() != "null")
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}


def typed(value: Any) -> dict[str, Any]:
    return {"type": "null" if value is None else TYPES.get(type(value), "object")}


def bare(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def tagged(arguments: Mapping[str, Any]) -> str:
    inner = "".join(
        f"<parameter={key}>\n{bare(value)}\n</parameter>\n" for key, value in arguments.items()
    )
    return f"<tool_call>\n<function=f>\n{inner}</function>\n</tool_call>"


def keyed(arguments: Mapping[str, Any]) -> str:
    inner = "".join(
        f"<arg_key>{key}</arg_key><arg_value>{bare(value)}</arg_value>"
        for key, value in arguments.items()
    )
    return f"<tool_call>f{inner}</tool_call>"


def said(arguments: Mapping[str, Any]) -> str:
    """As DeepSeek 3.2 does, which says of each value whether it is text."""
    bar = "\uff5c"
    inner = "".join(
        f'<{bar}DSML{bar}parameter name="{key}" string="{json.dumps(isinstance(value, str))}">'
        f"{bare(value)}</{bar}DSML{bar}parameter>\n"
        for key, value in arguments.items()
    )
    call = f'<{bar}DSML{bar}invoke name="f">\n{inner}</{bar}DSML{bar}invoke>'
    return f"<{bar}DSML{bar}tool_calls>\n{call}\n</{bar}DSML{bar}tool_calls>"


def python(arguments: Mapping[str, Any]) -> str:
    inner = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    return f"<|tool_call_start|>[f({inner})]<|tool_call_end|>"


def colon(arguments: Mapping[str, Any]) -> str:
    return f"<|tool_call>call:f{unquoted(arguments)}<tool_call|>"


def unquoted(value: Any) -> str:
    if isinstance(value, str):
        return f'<|"|>{value}<|"|>'
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{unquoted(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(unquoted, value)) + "]"
    return json.dumps(value)


FORMS: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = [
    ("qwen3-coder", tagged),
    ("glm-ocr", keyed),
    ("deepseek-v3.2", said),
    ("lfm2", python),
    ("gemma4", colon),
]


@pytest.mark.parametrize(("name", "write"), FORMS, ids=[name for name, _ in FORMS])
@given(arguments=st.dictionaries(KEYS, VALUES, max_size=4), cut=st.integers(0, 300))
@settings(max_examples=60, deadline=None)
def test_arguments_come_out_as_they_were(
    name: str, write: Callable[[Mapping[str, Any]], str], arguments: Mapping[str, Any], cut: int
) -> None:
    properties = {key: typed(value) for key, value in arguments.items()}
    parameters = {"type": "object", "properties": properties}
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    spec = AnswerSpec(calls=True, tools=(tool,))
    text = write(arguments)
    assert read(BY_NAME[name], spec, [text[:cut], text[cut:]]) == Read(
        calls=(("f", dict(arguments)),)
    )
