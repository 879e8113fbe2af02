"""Calls behind marks of their own message: Kimi K3, Solar Open, GigaChat 3."""

from corral_chat.parsing.json_calls import JsonCalls
from corral_chat.parsing.named_json import NamedJson
from corral_chat.parsing.tables import Calls, Family, Thinking
from corral_chat.parsing.tagged_calls import TaggedCalls

_SEP = "<|sep|>"
_KIMI = TaggedCalls(
    open="",
    named=_SEP,
    written=f'" index="1"{_SEP}',
    key='<|open|>argument key="',
    valued=(f'"{_SEP}',),
    kinds=tuple(
        (f'" type="{kind}"{_SEP}', frozenset({kind, "integer"} if kind == "number" else {kind}))
        for kind in ("string", "number", "boolean", "object", "array", "null")
    ),
    close=f"<|close|>argument{_SEP}",
    end="",
    pad="",
    gap="",
)
_KIMI_CALL, _KIMI_END = '<|open|>call tool="', f"<|close|>call{_SEP}"
_KIMI_TOOLS = f"<|open|>tools{_SEP}"
_SOLAR_NAME, _SOLAR_ARGUMENTS = "<|tool_call:name|>", "<|tool_call:args|>"
_SOLAR = NamedJson(
    before=f"call00001{_SOLAR_NAME}",
    named=_SOLAR_NAME,
    between=_SOLAR_ARGUMENTS,
    marks=(_SOLAR_NAME, _SOLAR_ARGUMENTS),
)
_SOLAR_CALLS, _SOLAR_CALL, _SOLAR_END = (
    "<|tool_calls|>",
    "<|tool_call:begin|>",
    "<|tool_call:end|>",
)
_GIGA_SEP, _GIGA_CALL = "<|message_sep|>", "function call<|role_sep|>\n"

FAMILIES = (
    Family(
        name="kimi-k3",
        thinking=Thinking(
            open=f"<|open|>think{_SEP}",
            close=f"<|close|>think{_SEP}",
            gap="",
            written="open_tag('think')",
        ),
        calls=(
            Calls(form=_KIMI, begin=_KIMI_TOOLS + _KIMI_CALL, end=_KIMI_END),
            Calls(form=_KIMI, begin=_KIMI_CALL, end=_KIMI_END),
        ),
        dropped=(
            _KIMI_TOOLS,
            *(f"<|open|>response{_SEP}",),
            *(f"<|close|>{name}{_SEP}" for name in ("response", "tools", "message")),
        ),
        template_has=("<|open|>", _SEP, "'argument', [('key'"),
        certainty=0.9,
    ),
    Family(
        name="solar-open",
        thinking=Thinking(open="<|think|>", close="<|end|>", gap="<|begin|>assistant"),
        calls=(
            Calls(form=_SOLAR, begin=_SOLAR_CALLS + _SOLAR_CALL, end=_SOLAR_END),
            Calls(form=_SOLAR, begin=_SOLAR_CALL, end=_SOLAR_END),
        ),
        dropped=("<|begin|>assistant", "<|content|>", "<|end|>", _SOLAR_CALLS, "<|calls|>"),
        template_has=(_SOLAR_CALL, _SOLAR_ARGUMENTS),
        certainty=0.9,
    ),
    Family(
        name="gigachat3",
        calls=(
            Calls(form=JsonCalls(), begin=f"{_GIGA_SEP}\n\n{_GIGA_CALL}"),
            Calls(form=JsonCalls(), begin=_GIGA_CALL),
        ),
        dropped=(_GIGA_SEP,),
        template_has=(_GIGA_SEP, "function call"),
        template_lacks=("<|function_call|>",),
        certainty=0.8,
    ),
    Family(
        name="gigachat3.1",
        calls=(Calls(form=JsonCalls(), begin="<|function_call|>"),),
        dropped=(_GIGA_SEP,),
        template_has=(_GIGA_SEP, "<|function_call|>"),
        certainty=0.8,
    ),
)
