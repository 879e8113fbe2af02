"""The families that the documentation shows how to write."""

import re
from pathlib import Path
from typing import Any

import pytest

from corral_chat.parsing import Calls, Family
from corral_kernel.contracts import AnswerSpec
from corral_kernel.testing.parsers import Read, Unsaid, check_reading, check_truncation

PAGE = Path(__file__).parents[4] / "docs" / "plugins" / "chat.md"


@pytest.fixture
def shown() -> dict[str, Any]:
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(block, names)
    return names


def test_the_table_on_the_page_reads_what_it_says(shown: dict[str, Any], spec: AnswerSpec) -> None:
    (mine,) = shown["corral_chat_formats"]()
    text = '<reason>Hm.</reason>Ok. <call>{"name": "search", "arguments": {"q": "a"}}</call>'
    assert check_reading(mine, spec, text) == Read("Ok.", "Hm.", (("search", {"q": "a"}),))
    unsaid = Unsaid(frozenset({"<reason>", "</reason>"}), frozenset({"}", "</call>"}))
    check_truncation(mine, spec, text, unsaid)
    assert mine.recognises("… <call> … <reason>") > 0


def test_the_form_on_the_page_reads_and_forces_what_it_says(
    shown: dict[str, Any], spec: AnswerSpec
) -> None:
    calls = Calls(form=shown["LineCalls"](), begin="[", end="]")
    mine = Family(name="lines", calls=(calls,))
    assert check_reading(mine, spec, "a [search: b c]") == Read(
        "a", calls=(("search", {"q": "b c"}),)
    )
    assert check_reading(mine, spec, "a [b]") == Read("a [b]")
    plan = mine.plan(AnswerSpec(calls=True, tools=spec.tools, force_call=True))
    assert plan is not None
    assert len(plan.steps) == 3
