"""Glimmer: messages to a recipient, which is the user, the model itself, or a tool."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from corral_chat.parsing.forms import Call, MalformedCallError, Tools
from corral_chat.parsing.json_calls import literal
from corral_chat.parsing.messages import MESSAGE, Frame, Header, MessageParser
from corral_chat.parsing.plans import constrained_by
from corral_chat.parsing.tagged_calls import invokes
from corral_kernel.contracts import (
    AnswerSpec,
    ChatParser,
    Free,
    Literal,
    OutputParser,
    Plan,
    Step,
    Trigger,
)
from corral_kernel.errors import UnsupportedError

_START: Final = "<|start|>"
_NEXT_MESSAGE: Final = "<|eom|>"
_ENDS: Final = (_NEXT_MESSAGE, "<|eot|>")
_SELF, _USER = f" to=self{MESSAGE}", f" to=user{MESSAGE}"
_NEXT: Final = f"{_START}assistant"
_ROLE: Final = re.compile(rf"\A{re.escape(_NEXT)}\b")
_TO: Final = re.compile(r"(?:\A|\s)to=(\S+)\s*\Z")
_FRAME: Final = Frame(
    start=_START,
    ends=_ENDS,
    silent=re.compile(rf"{re.escape(_START)}|(?:{re.escape(_NEXT)})?(?:to=(?:self|user)?)?"),
)
_NEWLINE: Final = "\n"
_CALLS, _CALLS_END = "<atem:function_calls>", "</atem:function_calls>"
_FORM: Final = invokes("atem:")


class GlimmerParser(ChatParser):
    """Reads messages by their recipient; one that is no tool of the request gets an answer."""

    name = "glimmer"
    capabilities = frozenset({"tools", "thinking"})

    def recognises(self, template: str) -> float:
        """Tell by its marks."""
        return 0.9 if "to=self" in template and "atem:invoke" in template else 0.0

    def thinks(self, template: str) -> bool:
        """Tell that all its models do."""
        return bool(template)

    def start(self, spec: AnswerSpec) -> OutputParser:
        """Make what reads one answer."""
        tools = Tools(spec.tools if spec.calls else ())

        def header(text: str) -> Header:
            return _header(text, tools)

        last = spec.last
        goes_on = last is not None and last.role == "assistant" and bool(last.content)
        return MessageParser(
            header,
            _FRAME,
            inside=ANSWER if goes_on else None,
            shows_thoughts=bool(spec.think),
        )

    def plan(self, spec: AnswerSpec) -> Plan | None:
        """Tell the loop what the answer consists of.

        Raises:
            UnsupportedError: If a call is to be forced and the tools' schemas cannot be written.
        """
        tools = Tools(spec.tools)
        forced = _forced(spec, tools)
        thought = Free(until=_NEXT_MESSAGE, most_tokens=spec.think_budget)
        if forced:
            if not spec.think:
                return Plan(steps=forced)
            begin = Literal(text=_NEXT)
            return Plan(steps=(Literal(text=_SELF), thought, begin, *forced))
        triggers: list[Trigger] = []
        if spec.think and spec.think_budget is not None:
            triggers.append(Trigger(mark=_SELF, steps=(thought,)))
        if spec.calls and spec.constrain_tools:
            for name in tools:
                if (grammar := _FORM.grammar(_only(tools, name))) is not None:
                    mark = f" to={name}{MESSAGE}"
                    triggers.append(Trigger(mark=mark, steps=_call(grammar)))
        return Plan(steps=(Free(triggers=tuple(triggers)),)) if triggers else None


ANSWER: Final = Header("answer")


def _forced(spec: AnswerSpec, tools: Tools) -> tuple[Step, ...]:
    if not spec.force_call:
        return (Literal(text=_USER), spec.answer) if spec.answer is not None else ()
    grammar = _FORM.grammar(tools) if len(tools) else None
    if grammar is None:
        raise UnsupportedError(
            "this model cannot be made to call these tools: leave tool_choice out"
        )
    names = list(tools)
    if len(names) == 1:
        return (Literal(text=f" to={names[0]}{MESSAGE}"), *_call(grammar))
    # The header names the tool as well as the call, so both are one grammar; its mark is spelled.
    starts = (
        f"{literal(f'{name}{MESSAGE}{_CALLS}{_NEWLINE}')} call_{place}"
        for place, name in enumerate(names)
    )
    rules = grammar.partition("\n")[2]
    both = f"start: {' | '.join(starts)}\n{rules}"
    return (Literal(text=" to="), constrained_by(both), Literal(text=f"\n{_CALLS_END}"))


def _call(grammar: str) -> tuple[Step, ...]:
    begin, end = Literal(text=f"{_CALLS}\n"), Literal(text=f"\n{_CALLS_END}")
    return (begin, constrained_by(grammar), end)


def _only(tools: Tools, name: str) -> Tools:
    function = {"name": name, "parameters": tools.schema(name)}
    return Tools([{"type": "function", "function": function}])


def _header(text: str, tools: Tools) -> Header:
    """Read a header; one to nobody who is known is shown, as is what stands before a recipient."""
    shown = _ROLE.sub("", text)
    met = _TO.search(shown)
    name, shown = (met.group(1), shown[: met.start()]) if met else ("user", shown)
    shown = text + MESSAGE if _START in shown else shown if shown.strip() else ""
    if name in ("self", "user"):
        return Header("thought" if name == "self" else "answer", shown=shown)
    if name in tools:
        return Header("call", lambda body: _read(name, body, tools), shown)
    return Header("answer", shown=text + MESSAGE)


def _read(name: str, body: str, tools: Tools) -> Sequence[Call]:
    text = body.strip().removeprefix(_CALLS).removesuffix(_CALLS_END)
    try:
        calls = _FORM.parse(text, tools)
    except MalformedCallError as error:
        raise MalformedCallError(f"parse Glimmer call to {name}: {error}") from None
    if any(call.name != name for call in calls):
        raise MalformedCallError(f"parse Glimmer call to {name}: it invokes {calls[0].name}")
    return calls


FAMILIES = (GlimmerParser(),)
