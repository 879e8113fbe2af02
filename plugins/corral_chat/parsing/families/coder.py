"""Arguments between tags: Qwen 3 Coder and 3.5, Nemotron 3, Step, Seed, MiniMax, DeepSeek 3.2."""

# ruff: noqa: RUF001 - DeepSeek's marks have wide bars

from corral_chat.parsing.element_calls import ElementCalls
from corral_chat.parsing.tables import Calls, Family, Thinking
from corral_chat.parsing.tagged_calls import TaggedCalls, invokes

_TAGGED = TaggedCalls()
_CALLS = Calls(form=_TAGGED, begin="<tool_call>", end="</tool_call>", before="\n", after="\n")
_INSIDE = Thinking(starts_inside=True)
_SEED = Thinking(open="<seed:think>", close="</seed:think>")


_MINIMAX = "]<]minimax[>["
_DSML = "｜DSML｜"
_JSON_TYPES = frozenset({"integer", "number", "boolean", "array", "object", "null"})
_DSML_KINDS = (
    ('" string="true">', frozenset({"string"})),
    ('" string="false">', _JSON_TYPES),
)

FAMILIES = (
    Family(
        name="qwen3-coder",
        calls=(_CALLS,),
        template_has=("<function=", "<parameter=", "<tool_call>"),
        template_lacks=("<think>",),
        certainty=0.7,
        malformed="error",
    ),
    *(
        Family(name=name, thinking=_INSIDE, calls=(_CALLS,), malformed="error")
        for name in ("qwen3.5", "ornith", "nemotron-3-nano", "nemotron-3.5-nano")
    ),
    Family(
        name="xml-thinking",
        thinking=Thinking(),
        calls=(_CALLS,),
        template_has=("<function=", "<parameter=", "<tool_call>", "<think>"),
        certainty=0.7,
    ),
    Family(
        name="seed-oss",
        thinking=_SEED,
        calls=(
            Calls(
                form=TaggedCalls(pad=""),
                begin="<seed:tool_call>",
                end="</seed:tool_call>",
                before="\n",
                after="\n",
            ),
        ),
        template_has=("<seed:tool_call>",),
        certainty=0.9,
    ),
    Family(
        name="minicpm5",
        thinking=Thinking(),
        calls=(
            Calls(
                form=TaggedCalls(
                    open="",
                    named='">',
                    key='<param name="',
                    valued=('">',),
                    close="</param>",
                    end="",
                    pad="",
                    gap="",
                ),
                begin='<function name="',
                end="</function>",
            ),
        ),
        template_has=('<function name="', '<param name="'),
        certainty=0.8,
    ),
    Family(
        name="minimax-m2",
        thinking=Thinking(),
        calls=(
            Calls(
                form=invokes(),
                begin="<minimax:tool_call>",
                end="</minimax:tool_call>",
                before="\n",
                after="\n",
            ),
        ),
        template_has=("minimax:tool_call", "<invoke name="),
        certainty=0.9,
    ),
    Family(
        name="minimax-m3",
        thinking=Thinking(open="<mm:think>", close="</mm:think>", gap=""),
        calls=(
            Calls(
                form=ElementCalls(),
                begin=f"{_MINIMAX}<tool_call>",
                end=f"{_MINIMAX}</tool_call>",
                before="\n",
                after="\n",
            ),
        ),
        template_has=(_MINIMAX, "<mm:think>"),
        certainty=0.9,
    ),
    Family(
        name="deepseek-v3.2",
        thinking=Thinking(),
        calls=tuple(
            Calls(
                form=invokes(_DSML, _DSML_KINDS),
                begin=f"<{_DSML}{name}>",
                end=f"</{_DSML}{name}>",
                before="\n",
                after="\n",
            )
            for name in ("function_calls", "tool_calls")
        ),
        template_has=("DSML", "invoke name="),
        certainty=0.9,
    ),
)
