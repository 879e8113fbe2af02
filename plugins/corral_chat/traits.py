"""What templates have places for, read from them without running them."""

from __future__ import annotations

import re
from typing import Final

from corral_chat.gotemplate.chat import compiled
from corral_chat.gotemplate.vocabulary import think_tags
from corral_kernel.contracts import TemplateTraits

_GO_RESULTS: Final = ('eq .Role "tool"', "tool_response", "TOOL_RESULTS")
_JINJA_RESULTS: Final = ("tool_response", "tool_results", "ipython")
_JINJA_ROLE: Final = re.compile(
    r"""(?:\brole|\[\s*['"]role['"]\s*\])\s*==\s*['"]tool['"]"""
    r"""|['"]tool['"]\s*==\s*[\w.]*(?:\brole|\[\s*['"]role['"]\s*\])"""
)
_SPLIT: Final = re.compile(r"""content\.split\(\s*['"]</think>['"]\s*\)""")


def go_traits(template: str) -> TemplateTraits:
    """Describe a Go template, by the fields that it uses.

    Raises:
        TemplateError: If it does not parse, or is over the bounds.
    """
    known = compiled(template)
    found = {
        "tools": "tools" in known.words,
        "insert": "suffix" in known.words,
        "thinking": any(think_tags(known.tree)),
    }
    uses_both = {"tools", "toolcalls"} <= known.words
    return TemplateTraits(
        capabilities=_true(found),
        tool_round_trip=uses_both and any(mark in template for mark in _GO_RESULTS),
    )


def jinja_traits(template: str) -> TemplateTraits:
    """Describe a Jinja template, by the words in it."""
    knows_tags = "<think>" in template and "</think>" in template
    knows_field = "reasoning_content" in template or "<SPECIAL_12>" in template
    found = {
        "tools": "tools" in template or "tool_call" in template,
        "thinking": knows_tags or (bool(_SPLIT.search(template)) and not knows_field),
    }
    shows_calls = "tool_calls" in template or "assistant_tool_call" in template
    shows_results = any(mark in template for mark in _JINJA_RESULTS)
    return TemplateTraits(
        capabilities=_true(found),
        tool_round_trip=shows_calls and (shows_results or bool(_JINJA_ROLE.search(template))),
    )


def _true(found: dict[str, bool]) -> frozenset[str]:
    return frozenset(name for name, is_there in found.items() if is_there)
