"""gpt-oss: messages in channels, which OpenAI calls Harmony."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from corral_chat.parsing.forms import Call, MalformedCallError, Tools
from corral_chat.parsing.json_calls import literal
from corral_chat.parsing.json_text import read_json, write_json
from corral_chat.parsing.messages import MESSAGE, Frame, Header, MessageParser
from corral_chat.parsing.plans import constrained_by
from corral_kernel.contracts import (
    AnswerSpec,
    ChatParser,
    Constrained,
    Free,
    Literal,
    OutputParser,
    Plan,
    Step,
    Trigger,
)

_START: Final = "<|start|>"
_END: Final = "<|end|>"
_ENDS: Final = (_END, "<|return|>", "<|call|>")
_CHANNEL: Final = "<|channel|>"
_THOUGHT: Final = f"{_CHANNEL}analysis{MESSAGE}"
_ANSWER: Final = f"{_CHANNEL}final{MESSAGE}"
_CALL: Final = f"{_CHANNEL}commentary to=functions."
_CONSTRAIN: Final = "<|constrain|>"
_JSON: Final = f" {_CONSTRAIN}json{MESSAGE}"
_NEXT: Final = f"{_START}assistant"
_TYPES: Final = frozenset({"json", "code"})  # what a header may say last of its text
_PARTS: Final = re.compile(
    rf"{re.escape(_NEXT)}\b|(?<![^\s>])to=(?P<recipient>[^\s<]+)"
    rf"|{re.escape(_CHANNEL)}\s*(?P<channel>\w*)|{re.escape(_CONSTRAIN)}\s*\w*"
)
_FRAME: Final = Frame(
    start=_START,
    ends=_ENDS,
    silent=re.compile(  # `commentary` is two tokens, and an answer may end between them
        rf"{re.escape(_START)}|(?:{re.escape(_NEXT)})?"
        rf"(?:{re.escape(_CHANNEL)}(?:analysis|comment|commentary|final)?)?"
    ),
)
_BUILT_IN: Final = frozenset({"browser.open", "browser.search", "browser.find", "python"})
_FORBIDDEN: Final = re.compile(r"[^\w$]", re.ASCII)


class HarmonyParser(ChatParser):
    """Reads channels: `analysis` is thought, what has a recipient is a call, all else answer."""

    name = "harmony"
    capabilities = frozenset({"tools", "thinking"})
    levels: Mapping[str, str] = {"max": "high"}

    def recognises(self, template: str) -> float:
        """Tell by its marks."""
        return 0.9 if _CHANNEL in template and MESSAGE in template and "analysis" in template else 0

    def thinks(self, template: str) -> bool:
        """Tell that all its models do."""
        return bool(template)

    def shown_names(self, names: Sequence[str]) -> Mapping[str, str]:
        """Give the names that TypeScript takes."""
        shown = {original: safe for safe, original in safe_names(names).items()}
        return {original: safe for original, safe in shown.items() if safe != original}

    def start(self, spec: AnswerSpec) -> OutputParser:
        """Make what reads one answer."""
        names = safe_names(Tools(spec.tools))

        def header(text: str) -> Header:
            return _header(text, names)

        return MessageParser(header, _FRAME, inside=_inside(spec))

    def plan(self, spec: AnswerSpec) -> Plan | None:
        """Tell the loop what the answer consists of."""
        safe = {original: name for name, original in safe_names(Tools(spec.tools)).items()}
        tools = Tools(spec.tools)
        forced = tuple(_forced(spec, tools, safe))
        if forced:
            return Plan(steps=_forced_steps(spec, forced))
        triggers: tuple[Trigger, ...] = ()
        if spec.calls and spec.constrain_tools:
            triggers = tuple(_triggers(tools, safe))
        if spec.think_budget is None or not spec.think:
            return Plan(steps=(Free(triggers=triggers),)) if triggers else None
        thought = Free(until=_END, most_tokens=spec.think_budget)
        if _inside(spec) == _IN_THOUGHT:
            return Plan(steps=(thought, Free(triggers=triggers)))
        thinking = Trigger(mark=_THOUGHT, steps=(thought,))
        return Plan(steps=(Free(triggers=(thinking, *triggers)),))


_IN_THOUGHT: Final = Header("thought")
_IN_ANSWER: Final = Header("answer")


def _forced_steps(spec: AnswerSpec, forced: tuple[Step, ...]) -> tuple[Step, ...]:
    """Put what stands before the header of what is forced."""
    inside = _inside(spec)
    if inside == _IN_ANSWER:  # that message goes on, or is at its end
        return (Literal(text=_END + _NEXT), *forced) if spec.force_call else forced[1:]
    if not spec.think:
        return forced
    opening = () if inside else (Literal(text=_THOUGHT),)
    thought = Free(until=_END, most_tokens=spec.think_budget)
    return (*opening, thought, Literal(text=_NEXT), *forced)


def _inside(spec: AnswerSpec) -> Header | None:
    """What the answer belongs to where the last message goes on."""
    last = spec.last
    if last is None or last.role != "assistant":
        return None
    if last.content:
        return _IN_ANSWER
    return _IN_THOUGHT if last.thinking else None


def _forced(spec: AnswerSpec, tools: Tools, safe: Mapping[str, str]) -> Iterator[Step]:
    """Steps of what an answer has to be; the first writes the header."""
    if spec.force_call:
        names = list(tools)
        if len(names) == 1:
            yield Literal(text=_CALL + safe[names[0]] + _JSON)
            yield _arguments(tools, names[0])
            return
        # Which tool it is decides on the schema, so both are one grammar; marks in it are spelled.
        branches = (
            f"{literal(safe[name] + _JSON)} %json {json.dumps(tools.schema(name))}"
            for name in names
        )
        yield Literal(text=_CALL)
        yield constrained_by(f"start: {' | '.join(branches)}")
    elif spec.answer is not None:
        yield Literal(text=_ANSWER)
        yield spec.answer


def _triggers(tools: Tools, safe: Mapping[str, str]) -> Iterator[Trigger]:
    for name in tools:
        mark = f"functions.{safe[name]}{_JSON}"
        yield Trigger(mark=mark, steps=(_arguments(tools, name),))


def _arguments(tools: Tools, name: str) -> Constrained:
    return Constrained(kind="schema", format=json.dumps(tools.schema(name)).encode())


def _header(text: str, names: Mapping[str, str]) -> Header:
    """Read a header; what of it is not understood is shown, and where a name would be lost, all."""
    recipients, channels = (
        list(dict.fromkeys(met[part] for met in _PARTS.finditer(text) if met[part]))
        for part in ("recipient", "channel")
    )
    recipient, channel = (found[0] if found else "" for found in (recipients, channels))
    name = recipient.removeprefix("functions.")
    called = bool(name) and channel in ("analysis", "commentary", "")
    shown = _PARTS.sub("", text)
    if not shown.strip() or ((recipient or channel) and shown.strip() in _TYPES):
        shown = ""
    if _START in shown or len(recipients) > 1 or len(channels) > 1 or (recipient and not called):
        shown = text + MESSAGE
    if called:
        return Header("call", lambda body: [_read(names.get(name, name), body)], shown)
    return Header("thought" if channel == "analysis" else "answer", shown=shown)


def _read(name: str, body: str) -> Call:
    try:
        value = read_json(body)
    except MalformedCallError as error:
        raise MalformedCallError(f"error parsing tool call: raw='{body}', err={error}") from None
    if not isinstance(value, dict):
        raise MalformedCallError(f"error parsing tool call: raw='{body}', err=it is no object")
    return Call(name, write_json(value))


def safe_names(tools: Iterable[str]) -> dict[str, str]:
    """Names as TypeScript takes them, in which the template shows tools; by them, their own."""
    found: dict[str, str] = {}
    for name in tools:
        safe = base = _safe(name)
        number = 2
        while safe in found:
            safe, number = f"{base}_{number}", number + 1
        found[safe] = name
    return found


def _safe(name: str) -> str:
    if name in _BUILT_IN:
        return name
    safe = _FORBIDDEN.sub("", re.sub(r"[ \-.]", "_", name))
    if not safe:
        return "unnamed"
    return f"_{safe}" if safe[0].isdigit() else safe


FAMILIES = (HarmonyParser(),)
