"""Hermes, Qwen 2.5 and Qwen 3: JSON between tags."""

from corral_chat.parsing.json_calls import JsonCalls
from corral_chat.parsing.tables import Calls, Family, Thinking

_CALLS = Calls(form=JsonCalls(), begin="<tool_call>", end="</tool_call>", before="\n", after="\n")

FAMILIES = (
    Family(name="qwen3", calls=(_CALLS,)),
    Family(name="qwen3-vl-instruct", calls=(_CALLS,)),
    *(
        Family(name=name, thinking=Thinking(starts_inside=True), calls=(_CALLS,))
        for name in ("qwen3-thinking", "qwen3-vl-thinking")
    ),
    Family(
        name="hermes",
        thinking=Thinking(),
        calls=(_CALLS,),
        template_has=("<tool_call>", "</tool_call>"),
        template_lacks=("<function=", "<arg_key>", "]<]minimax"),
    ),
)
