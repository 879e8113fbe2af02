"""Calls as Python writes them: LFM 2, OLMo 3."""

from corral_chat.parsing.python_calls import PythonCalls
from corral_chat.parsing.tables import Calls, Family, Thinking

_LFM = (
    Calls(form=PythonCalls(), begin="<|tool_call_start|>", end="<|tool_call_end|>"),
    Calls(form=PythonCalls(alone=True)),
)
_OLMO = Calls(form=PythonCalls(listed=False), begin="<function_calls>", end="</function_calls>")

FAMILIES = (
    Family(name="lfm2", calls=_LFM),
    Family(name="lfm2-thinking", thinking=Thinking(), calls=_LFM),
    Family(
        name="lfm",
        thinking=Thinking(),
        calls=_LFM,
        template_has=("<|tool_call_start|>",),
        certainty=0.8,
    ),
    Family(
        name="lfm-lists",
        calls=_LFM,
        template_has=("<|tool_list_start|>",),
        template_lacks=("<|tool_call_start|>",),
        certainty=0.7,
    ),
    Family(
        name="lfm-bare",
        thinking=Thinking(),
        calls=_LFM,
        template_has=("List of tools: [", "<|im_start|>"),
        template_lacks=("<|tool_call_start|>", "<|tool_list_start|>", "<tool_call>"),
        certainty=0.4,
    ),
    Family(name="olmo3", calls=(_OLMO,)),
    Family(name="olmo3-think", thinking=Thinking(starts_inside=True)),
    Family(
        name="olmo",
        calls=(_OLMO,),
        template_has=("<function_calls>", "<functions>"),
        certainty=0.8,
    ),
    Family(name="passthrough", trims=False),
)
