"""A name and its arguments between marks: DeepSeek 3 and 3.1, Cogito, Kimi K2."""

# ruff: noqa: RUF001 - DeepSeek's marks have wide bars

from corral_chat.parsing.named_json import NamedJson
from corral_chat.parsing.tables import Calls, Family, Thinking

_CALLS, _CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
_CALL, _CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"
_SEPARATOR = "<｜tool▁sep｜>"
_SHORT = NamedJson(between=_SEPARATOR, marks=(_SEPARATOR,))
_FENCED = NamedJson(
    before=f"function{_SEPARATOR}",
    between="\n```json\n",
    behind="\n```",
    closers=("```",),
    marks=(_SEPARATOR,),
)
_KIMI = NamedJson(
    before="functions.",
    between="<|tool_call_argument_begin|>",
    numbered=True,
    marks=("<|tool_call_argument_begin|>",),
)


def _rows(form: NamedJson) -> tuple[Calls, ...]:
    """Give one row for the first call, whose mark stands behind that of all, and one for more."""
    return (
        Calls(form=form, begin=_CALLS + _CALL, end=_CALL_END),
        Calls(form=form, begin=_CALL, end=_CALL_END),
    )


_DROPPED = (_CALLS, _CALLS_END)

FAMILIES = (
    Family(name="deepseek3", thinking=Thinking(gap=""), calls=_rows(_SHORT), dropped=_DROPPED),
    Family(name="cogito", thinking=Thinking(), calls=_rows(_FENCED), dropped=_DROPPED),
    Family(
        name="deepseek-v3.1",
        thinking=Thinking(gap=""),
        calls=_rows(_SHORT),
        dropped=_DROPPED,
        template_has=("tool▁sep",),
        template_lacks=("```json",),
        certainty=0.8,
    ),
    Family(
        name="deepseek-r1",
        thinking=Thinking(),
        calls=_rows(_FENCED),
        dropped=_DROPPED,
        template_has=("tool▁sep", "```json"),
        certainty=0.8,
    ),
    Family(
        name="kimi-k2",
        thinking=Thinking(),
        calls=(
            Calls(
                form=_KIMI,
                begin="<|tool_calls_section_begin|><|tool_call_begin|>",
                end="<|tool_call_end|>",
            ),
            Calls(form=_KIMI, begin="<|tool_call_begin|>", end="<|tool_call_end|>"),
        ),
        dropped=("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
        template_has=("<|tool_call_argument_begin|>",),
        certainty=0.9,
    ),
)
