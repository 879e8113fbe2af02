"""Models of no known family: what their template shows of calls and thoughts is what they write."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import Final

from corral_chat.parsing.json_calls import JsonCalls
from corral_chat.parsing.plans import plan_of
from corral_chat.parsing.reading import TableParser
from corral_chat.parsing.tables import Calls, Family, Thinking
from corral_kernel.contracts import AnswerSpec, ChatParser, OutputParser, Plan

GENERIC: Final = "generic"
GO: Final = "go"
_KEPT: Final = 64
"""So many templates' tables are kept."""
_BARE: Final = "{"
_JINJA_TAGS: Final = (
    "<tool_call>",
    "<toolcall>",
    "<function_call>",
    "[TOOL_CALLS]",
    "<|tool_call|>",
    "functools",
)
_TAG: Final = re.compile(r"<(\|?)(\w+)(\|?)>\Z")


class GenericParser(ChatParser):
    """Reads by a table that is inferred from the model's template."""

    name = GENERIC
    capabilities = frozenset({"tools", "thinking"})

    def recognises(self, template: str) -> float:
        """Tell that it will do for any template, if nothing else does."""
        del template
        return 0.01

    def start(self, spec: AnswerSpec) -> OutputParser:
        """Make what reads one answer."""
        return TableParser(self._family(spec), spec)

    def plan(self, spec: AnswerSpec) -> Plan | None:
        """Tell the loop what the answer consists of."""
        return plan_of(self._family(spec), spec)

    def _family(self, spec: AnswerSpec) -> Family:
        read = _of_go if spec.renderer == GO else _of_jinja
        return read(spec.template, thinks=bool(spec.think) or spec.renderer != GO)


@lru_cache(_KEPT)
def _of_go(template: str, *, thinks: bool) -> Family:
    from corral_chat.gotemplate.chat import compiled
    from corral_chat.gotemplate.vocabulary import call_texts, think_tags

    tree = compiled(template).tree
    tags = think_tags(tree)
    tag, written = call_texts(tree)
    shown = "".join(item if isinstance(item, str) else _printed(str(item)) for item in written)
    thinking = None
    if thinks and all(tags):
        thinking = Thinking(*tags, trims=False, ends_at_call=False)
    return Family(name=GENERIC, thinking=thinking, calls=(calls_by(tag, shown),), trims=False)


@lru_cache(_KEPT)
def _of_jinja(template: str, *, thinks: bool) -> Family:
    tag = next((tag for tag in _JINJA_TAGS if tag in template), _BARE)
    key = "parameters" if '"parameters": ' in template and tag == _BARE else "arguments"
    shown = f'{tag.removesuffix(_BARE)}{{"name": "{_NAME}", "{key}": {_ARGUMENTS}}}'
    thinking = None
    if thinks and "<think>" in template and "</think>" in template:
        thinking = Thinking()
    return Family(name=GENERIC, thinking=thinking, calls=(calls_by(tag, shown),))


_NAME: Final = "\0name\0"
_ARGUMENTS: Final = "\0arguments\0"


def _printed(action: str) -> str:
    """Mark the places of name and arguments in what a template writes."""
    if ".Name" in action:
        return _NAME
    return _ARGUMENTS if ".Arguments" in action else "\0"


def calls_by(tag: str, shown: str) -> Calls:
    """Make the row of a table from how a template shows calls.

    Args:
        tag: That calls begin with; `{` or `[`: they have no mark.
        shown: The text of a call from its tag on, with the places of name and arguments marked.
    """
    begin = "" if tag in "{[" else tag
    listed = tag.endswith("[")
    form = JsonCalls(listed=listed, opened=listed and bool(begin), declared=True, loose=bool(begin))
    found = re.search(
        rf"{re.escape(begin)}(\s*)([^\0]*){_NAME}([^\0]*){_ARGUMENTS}", shown, re.DOTALL
    )
    before = ""
    if found is not None:
        before, before_name, between = found.groups()
        open_braces = (before_name + between).count("{") - (before_name + between).count("}")
        form = replace(
            form,
            before_name=before_name,
            between=between,
            behind="}" * max(0, open_braces),
            marks=(between,),
        )
    return Calls(form=form, begin=begin, end=_closing(tag), before=before, after=before)


def _closing(tag: str) -> str:
    """What is likely to end what a tag began."""
    if (met := _TAG.match(tag)) is not None:
        left, word, right = met.groups()
        return f"<{left}/{word}{right}>"
    return "```" if "```" in tag else ""
