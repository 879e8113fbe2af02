"""A JSON object and nothing before it: Llama 3.x; and names before objects: Functionary."""

from corral_chat.parsing.json_calls import JsonCalls
from corral_chat.parsing.named_json import NamedJson
from corral_chat.parsing.tables import Calls, Family

_OBJECT = JsonCalls(between='", "parameters": ', declared=True)
_BARE = Calls(form=_OBJECT)
_PYTHON = Calls(form=_OBJECT, begin="<|python_tag|>")

FAMILIES = (
    Family(
        name="llama3-json",
        calls=(_BARE, _PYTHON),
        template_has=('"parameters": ', "<|eot_id|>"),
        template_lacks=("<tool_call>", "<function=", "functools"),
        certainty=0.6,
    ),
    Family(
        name="functionary-v3.1",
        calls=(Calls(form=NamedJson(between=">"), begin="<function=", end="</function>"),),
        template_has=("<function=", "</function>", "<|python_tag|>"),
        template_lacks=("<parameter=",),
        certainty=0.8,
    ),
    Family(
        name="functionary-v3.2",
        calls=(Calls(form=NamedJson(between="\n", declared=True), begin=">>>"),),
        dropped=(">>>all\n",),
        template_has=(">>>all", ">>>"),
        certainty=0.8,
    ),
)
