"""A name, then keys and values between tags: GLM 4.5 and later, Laguna, Ling, Spark, Hy3."""

from dataclasses import replace

from corral_chat.parsing.json_calls import JsonCalls
from corral_chat.parsing.tables import Calls, Family, Thinking
from corral_chat.parsing.tagged_calls import TaggedCalls

_KEYED = TaggedCalls(
    open="",
    named="",
    key="<arg_key>",
    valued=("</arg_key>", "<arg_value>"),
    close="</arg_value>",
    end="",
    pad="",
    gap="",
    completes=True,
)
_LINES = replace(
    _KEYED,
    gap="\n",
    json_too=True,
    aliases=(
        ("read_file", "read"),
        ("write_file", "write"),
        ("edit_file", "edit"),
        ("web_fetch", "webfetch"),
    ),
)
_HY = replace(
    _KEYED,
    named="<tool_sep:opensource>",
    key="<arg_key:opensource>",
    valued=("</arg_key:opensource>", "<arg_value:opensource>"),
    close="</arg_value:opensource>",
    gap="\n",
)
_BEGIN, _END = "<tool_call>", "</tool_call>"
_GLM = Calls(form=_KEYED, begin=_BEGIN, end=_END)
_LAGUNA = Calls(form=_LINES, begin=_BEGIN, end=_END)
_TURNS = ("</assistant>", "</user>", "</system>")

FAMILIES = (
    Family(
        name="glm-4.7",
        thinking=Thinking(starts_inside=True, gap=""),
        calls=(_GLM,),
        malformed="error",
    ),
    Family(
        name="glm-ocr",
        thinking=Thinking(advertised=False, off="thought"),
        calls=(_GLM,),
        malformed="error",
    ),
    *(
        Family(
            name=name,
            thinking=Thinking(starts_inside=True, gap="", off="hidden"),
            calls=(_LAGUNA, Calls(form=JsonCalls(declared=True))),
            ends=_TURNS,
            malformed="error",
        )
        for name in ("laguna", "poolside-v1")
    ),
    Family(
        name="keyed",
        thinking=Thinking(gap=""),
        calls=(_GLM,),
        template_has=("<arg_key>", "<arg_value>"),
        certainty=0.8,
    ),
    Family(
        name="hy3",
        thinking=Thinking(
            open="<think:opensource>", close="</think:opensource>", gap="", written="<think{}>"
        ),
        calls=(Calls(form=_HY, begin="<tool_call:opensource>", end="</tool_call:opensource>"),),
        dropped=("<tool_calls:opensource>", "</tool_calls:opensource>"),
        template_has=("<tool_sep{}>", "<arg_key{}>"),
        certainty=0.9,
    ),
)
