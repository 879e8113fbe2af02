"""Gemma 4 and FunctionGemma: objects without quotes behind `call:`."""

from dataclasses import replace

from corral_chat.parsing.colon_calls import ColonCalls
from corral_chat.parsing.tables import Calls, Family, Thinking

_CALLS = Calls(form=ColonCalls(), begin="<|tool_call>", end="<tool_call|>")
_CHANNEL = Thinking(open="<|channel>thought\n", close="<channel|>", gap="", off="hidden")
_RESPONSE = "<|tool_response>"

FAMILIES = (
    Family(
        name="gemma4",
        thinking=replace(_CHANNEL, after_results=True),
        calls=(_CALLS,),
        ends=(_RESPONSE,),
    ),
    Family(name="gemma4-no-thinking", calls=(_CALLS,), ends=(_RESPONSE,)),
    Family(
        name="gemma-channels",
        thinking=_CHANNEL,
        calls=(_CALLS,),
        ends=(_RESPONSE,),
        template_has=("<|tool_call>call:",),
        certainty=0.9,
    ),
    Family(
        name="functiongemma",
        calls=(
            Calls(
                form=ColonCalls(quote="<escape>", marks=("<escape>",)),
                begin="<start_function_call>",
                end="<end_function_call>",
            ),
        ),
        template_has=("<start_function_call>", "<escape>"),
        certainty=0.9,
    ),
)
