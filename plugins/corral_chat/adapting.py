"""Families of models whose Jinja templates want their messages otherwise than others.

Each row of the table has the words in a template by which its family is known. llama.cpp adapts the
messages of the same ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from corral_chat.shapes import Fields

GEMMA4: Final = "'<|tool_call>call:'"
"""In the templates of Gemma 4."""
_SHORT_ID_CHARS: Final = 9

Adapt = Callable[[list[Fields]], list[Fields]]


@dataclass(frozen=True, slots=True)
class Family:
    """Templates that want their messages otherwise.

    Args:
        words: That are all in such a template.
        adapt: Gives the messages as it wants them.
        without: Words of which none is in it.
    """

    words: tuple[str, ...]
    adapt: Adapt
    without: tuple[str, ...] = ()

    def has(self, template: str) -> bool:
        """Whether a template is of this family."""
        return all(word in template for word in self.words) and not any(
            word in template for word in self.without
        )


def _developer_as_system(shown: list[Fields]) -> list[Fields]:
    return [{**f, "role": "system"} if f["role"] == "developer" else f for f in shown]


def _thought_without_content(shown: list[Fields]) -> list[Fields]:
    """Of a message that thinks and calls, its text is left out: the template refuses both."""
    return [
        {key: value for key, value in f.items() if key != "content"}
        if f.get("tool_calls") and f.get("thinking")
        else f
        for f in shown
    ]


def _trimmed(shown: list[Fields]) -> list[Fields]:
    trimmed = {"content", "reasoning_content", "thinking"}
    return [{k: v.strip() if k in trimmed else v for k, v in f.items()} for f in shown]


def _thoughts_as_parts(shown: list[Fields]) -> list[Fields]:
    return [_thought_as_part(f) if f["role"] in ("system", "assistant") else f for f in shown]


def _thought_as_part(fields: Fields) -> Fields:
    content = []
    if fields.get("thinking"):
        content.append({"type": "thinking", "thinking": fields["thinking"]})
    content.append({"type": "text", "text": fields["content"]})
    others = {k: v for k, v in fields.items() if k not in ("thinking", "reasoning_content")}
    return {**others, "content": content}


def _results_in_order(shown: list[Fields]) -> list[Fields]:
    """Sort the results that stand between two answers in the order of the calls."""
    ordered, order = list(shown), dict[str, int]()
    at = 0
    while at < len(ordered):
        if ordered[at]["role"] == "assistant" and ordered[at].get("tool_calls"):
            ids = [call.get("id", "") for call in ordered[at]["tool_calls"]]
            order = {name: place for place, name in enumerate(ids) if name}
        begin = at
        while at < len(ordered) and ordered[at]["role"] in ("user", "tool"):
            at += 1
        places = [i for i in range(begin, at) if ordered[i]["role"] == "tool"]
        results = sorted(
            (ordered[i] for i in places), key=lambda f: order.get(f.get("tool_call_id", ""), 0)
        )
        for place, result in zip(places, results, strict=True):
            ordered[place] = result
        at = max(at, begin + 1)
    return ordered


def _short_ids(shown: list[Fields]) -> list[Fields]:
    """Give ids of nine letters and digits, which is what the template insists on."""
    adapted = []
    for fields in shown:
        changed = dict(fields)
        if "tool_call_id" in fields:
            changed["tool_call_id"] = _short_id(fields["tool_call_id"])
        if "tool_calls" in fields:
            calls = fields["tool_calls"]
            changed["tool_calls"] = [{**c, "id": _short_id(c.get("id", ""))} for c in calls]
        adapted.append(changed)
    return adapted


def _short_id(given: str) -> str:
    if len(given) == _SHORT_ID_CHARS and given.isalnum():
        return given
    return hashlib.sha256(given.encode("utf-8", "replace")).hexdigest()[:_SHORT_ID_CHARS]


def _results_in_calls(shown: list[Fields]) -> list[Fields]:
    """Put results into the message with their calls, and the answer that follows."""
    merged: list[Fields] = []
    results: list[Fields] | None = None
    for fields in shown:
        if results is not None and fields["role"] == "tool":
            results.append(_result(fields, merged[-1]["tool_calls"][len(results) :]))
            merged[-1]["tool_responses"] = results
            continue
        calls = fields["role"] == "assistant" and fields.get("tool_calls")
        if results is not None and fields["role"] == "assistant" and not calls:
            merged[-1]["content"] = fields["content"]
            results = None
            continue
        merged.append({k: v for k, v in fields.items() if k != "content"} if calls else fields)
        results = [] if calls else None
    return merged


def _result(fields: Fields, calls: list[Fields]) -> Fields:
    name = calls[0]["function"]["name"] if calls else ""
    try:
        response = json.loads(fields["content"])
    except (ValueError, RecursionError):
        response = fields["content"]
    return {"name": name or fields.get("tool_call_id", ""), "response": response}


FAMILIES: Final = (
    Family((), _developer_as_system, without=("<|channel|>",)),
    # gpt-oss
    Family(("<|channel|>",), _thought_without_content),
    # StepFun: white space around a text drives the model into loops
    Family(("You have access to the following functions in JSONSchema format",), _trimmed),
    # Ministral 3, Mistral Large 3
    Family(
        ("[SYSTEM_PROMPT]", "[TOOL_CALLS]", "[ARGS]", "[THINK]"), _thoughts_as_parts, ("[CALL_ID]",)
    ),
    # DeepSeek V4
    Family(("dsml_token", "DSML", "tool_calls"), _results_in_order, without=("function_calls",)),
    # Mistral Nemo and its like
    Family(("length != 9",), _short_ids),
    # Gemma 4, as its template was at first
    Family((GEMMA4,), _results_in_calls, without=("{#- OpenAI Chat Completions:",)),
)


def asked_for_answer(template: str, rendered: str) -> str:
    """Ask for an answer where a template does not.

    Gemma 4's does not behind results of calls that came with a text; llama.cpp does it then.
    """
    if GEMMA4 in template and rendered.endswith("<turn|>\n"):
        return rendered + "<|turn>model\n"
    return rendered
