"""The plan of an answer, by the table of its family."""

from __future__ import annotations

import json

from corral_chat.parsing.forms import Tools
from corral_chat.parsing.tables import Calls, Family
from corral_kernel.contracts import (
    AnswerSpec,
    Constrained,
    Free,
    Literal,
    Plan,
    Step,
    Trigger,
)
from corral_kernel.errors import UnsupportedError

GRAMMAR = "lark"
"""The kind of constraint that holds calls to their schemas."""


def plan_of(family: Family, spec: AnswerSpec) -> Plan | None:
    """Tell the loop what an answer consists of; None: nothing rules it.

    Raises:
        UnsupportedError: If a call is to be forced and this family's cannot be.
    """
    tools = Tools(spec.tools)
    thinking = family.thinking
    where = "off" if thinking is None else thinking.where(spec)
    if where == "before" and not spec.think:
        where = "off"  # it is not asked for
    forced = _forced(family, tools, spec) if spec.force_call else spec.answer and (spec.answer,)
    if forced:
        if thinking is None or where == "off":
            return Plan(steps=forced)
        thought = Free(until=thinking.close, most_tokens=spec.think_budget)
        gap = Literal(text=thinking.gap)
        before = (
            (Literal(text=thinking.open), thought, gap) if where == "before" else (thought, gap)
        )
        return Plan(steps=(*before, *forced))
    triggers = _triggers(family, tools, spec) if spec.calls and spec.constrain_tools else ()
    answer = Free(triggers=triggers)
    if thinking is None or where == "off":
        return Plan(steps=(answer,)) if triggers else None
    bare = any(trigger.at_start for trigger in triggers)
    if spec.think_budget is None and not bare:
        return Plan(steps=(answer,)) if triggers else None
    thought = Free(until=thinking.close, most_tokens=spec.think_budget)
    if where == "inside":
        return Plan(steps=(thought, answer))
    opening = Trigger(mark=thinking.open, steps=(thought,), at_start=True)
    return Plan(steps=(Free(triggers=(opening, *triggers)),))


def _forced(family: Family, tools: Tools, spec: AnswerSpec) -> tuple[Step, ...]:
    begun = family.begun(spec)
    for way in family.calls:
        form = way.form.single()
        grammar = form.grammar(tools, begun=not way.begin) if len(tools) else None
        if grammar is not None:
            begin = way.begin + way.before if way.begin else way.form.opening
            if begun is not None:
                begin = begin.removeprefix(begun.begin)
            before = (Literal(text=begin),) if begin else ()
            return (*before, *_call(way, grammar))
    raise UnsupportedError(
        f"a model of the family {family.name!r} cannot be made to call a tool: "
        'leave tool_choice out, or set it to "auto"'
    )


def _triggers(family: Family, tools: Tools, spec: AnswerSpec) -> tuple[Trigger, ...]:
    found = []
    if (begun := family.begun(spec)) is not None:
        heads = ((begun.form.head(name), name) for name in tools)
        for head, name in heads:
            if head:
                arguments = json.dumps(tools.schema(name)).encode()
                held = Constrained(kind="schema", format=arguments)
                found.append(Trigger(mark=head, steps=(held,), at_start=True))
    for way in family.calls:
        grammar = way.form.grammar(tools, begun=not way.begin) if len(tools) else None
        if grammar is None:
            continue
        steps = _call(way, grammar)
        if way.begin:
            before = (Literal(text=way.before),) if way.before else ()
            found.append(Trigger(mark=way.begin, steps=(*before, *steps)))
        elif way.form.opening:
            found.append(Trigger(mark=way.form.opening, steps=steps, at_start=True))
    return tuple(found)


def _call(way: Calls, grammar: str) -> tuple[Step, ...]:
    end = way.after + way.end
    after = (Literal(text=end),) if end else ()
    return (constrained_by(grammar), *after)


def constrained_by(grammar: str) -> Constrained:
    """Make a step of a plan of a Lark grammar."""
    spec = {"type": GRAMMAR, "grammar": grammar}
    return Constrained(kind=GRAMMAR, format=json.dumps(spec).encode())
