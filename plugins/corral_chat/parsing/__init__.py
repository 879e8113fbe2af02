"""How families of models write thoughts and calls: a table each, and what reads by it.

Family(name=…, thinking=Thinking(…), calls=(Calls(form=JsonCalls(), begin=…, end=…),))
"""

from corral_chat.parsing.forms import (
    Call,
    CallForm,
    MalformedCallError,
    MarkScanner,
    NotACallError,
    Scanner,
    Tools,
)
from corral_chat.parsing.json_calls import JsonCalls, literal
from corral_chat.parsing.json_text import JsonScanner, read_json, write_json
from corral_chat.parsing.tables import Calls, Family, Thinking

__all__ = [
    "Call",
    "CallForm",
    "Calls",
    "Family",
    "JsonCalls",
    "JsonScanner",
    "MalformedCallError",
    "MarkScanner",
    "NotACallError",
    "Scanner",
    "Thinking",
    "Tools",
    "literal",
    "read_json",
    "write_json",
]
