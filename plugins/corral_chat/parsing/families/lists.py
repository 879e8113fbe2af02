"""JSON objects in a list behind a mark: Cohere, Granite, Phi 4, Firefunction, Nemotron, xLAM."""

from corral_chat.parsing.json_calls import JsonCalls
from corral_chat.parsing.tables import Calls, Family, Thinking

_LIST = JsonCalls(listed=True)
_COHERE = JsonCalls(
    listed=True,
    before_name='{"tool_call_id": "0", "tool_name": "',
    between='", "parameters": ',
)
_COMMAND_R = JsonCalls(
    listed=True,
    before_name='{"tool_name": "',
    between='", "parameters": ',
    closers=("]", "```"),
)
_ACTION, _ACTION_END = "<|START_ACTION|>", "<|END_ACTION|>"
_SHOWN = ("<|START_TEXT|>", "<|END_TEXT|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>")
_PLAN = Thinking(open="<|START_THINKING|>", close="<|END_THINKING|>", gap="", starts_inside=True)
_PLANNING = Thinking(open="<|START_THINKING|>", close="<|END_THINKING|>", gap="")
_COHERE_CALLS = Calls(form=_COHERE, begin=_ACTION, end=_ACTION_END)
_PIPED = "<|tool_call|>"
_NEMOTRON, _NEMOTRON_END = "<TOOLCALL>", "</TOOLCALL>"
_APRIEL, _APRIEL_END = "<tool_calls>", "</tool_calls>"

FAMILIES = (
    Family(name="cohere", thinking=_PLAN, calls=(_COHERE_CALLS,), dropped=_SHOWN),
    Family(
        name="command-r7b",
        thinking=_PLANNING,
        calls=(_COHERE_CALLS,),
        dropped=_SHOWN,
        template_has=(_ACTION, "<|START_THINKING|>"),
        certainty=0.9,
    ),
    Family(
        name="command-r",
        calls=tuple(
            Calls(form=_COMMAND_R, begin=begin, before="\n", after="\n", end="```")
            for begin in ("Action: ```json", "Action:\n```json")
        ),
        template_has=("Action:", "```json", "tool_name"),
        certainty=0.8,
    ),
    Family(
        name="granite",
        thinking=Thinking(),
        calls=(Calls(form=_LIST, begin=_PIPED),),
        template_has=(_PIPED,),
        certainty=0.6,
    ),
    Family(
        name="phi-4",
        calls=(Calls(form=_LIST, begin=_PIPED, end="<|/tool_call|>"),),
        template_has=(_PIPED, "<|/tool_call|>"),
        certainty=0.8,
    ),
    Family(
        name="firefunction",
        calls=(Calls(form=_LIST, begin="functools"),),
        template_has=("functools[",),
        certainty=0.8,
    ),
    Family(
        name="nemotron-list",
        thinking=Thinking(),
        calls=(Calls(form=_LIST, begin=_NEMOTRON, end=_NEMOTRON_END),),
        template_has=(_NEMOTRON,),
        certainty=0.8,
    ),
    Family(
        name="apertus",
        calls=(
            Calls(
                form=JsonCalls(listed=True, before_name='{"', between='": ', declared=True),
                begin="<|tools_prefix|>",
                end="<|tools_suffix|>",
            ),
        ),
        template_has=("<|tools_prefix|>",),
        certainty=0.9,
    ),
    Family(
        name="xlam",
        calls=(Calls(form=_LIST, begin="### Response:", before="\n"),),
        template_has=("### Response:", "### Tools"),
        certainty=0.4,
    ),
    Family(
        name="tool-calls-list",
        thinking=Thinking(),
        calls=(Calls(form=_LIST, begin=_APRIEL, end=_APRIEL_END),),
        template_has=(_APRIEL, _APRIEL_END),
        template_lacks=("<invoke",),
        certainty=0.6,
    ),
)
