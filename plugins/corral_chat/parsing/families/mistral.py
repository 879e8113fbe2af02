"""Mistral: a list of JSON objects, or a name and its arguments, behind `[TOOL_CALLS]`."""

from dataclasses import replace

from corral_chat.parsing.json_calls import JsonCalls
from corral_chat.parsing.named_json import NamedJson
from corral_chat.parsing.tables import Calls, Family, Thinking

_MARK, _ARGUMENTS = "[TOOL_CALLS]", "[ARGS]"
_THINKING = Thinking(open="[THINK]", close="[/THINK]", gap="", off="thought")
_NAMED = Calls(
    form=NamedJson(between=_ARGUMENTS, skipped="[CALL_ID]", marks=(_ARGUMENTS, "[CALL_ID]")),
    begin=_MARK,
)
_LIST = Calls(form=JsonCalls(listed=True), begin=_MARK)

FAMILIES = (
    Family(
        name="ministral",
        thinking=replace(_THINKING, advertised=False),
        calls=(
            Calls(
                form=NamedJson(between=_ARGUMENTS, declared=True, marks=(_ARGUMENTS,)), begin=_MARK
            ),
        ),
        malformed="error",
    ),
    Family(
        name="mistral-named",
        thinking=_THINKING,
        calls=(_NAMED,),
        template_has=(_MARK, _ARGUMENTS),
        certainty=0.8,
    ),
    Family(
        name="mistral-list",
        calls=(_LIST,),
        template_has=(_MARK,),
        template_lacks=(_ARGUMENTS,),
        certainty=0.7,
    ),
)
