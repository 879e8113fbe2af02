"""Answers held to a format by llguidance: JSON, JSON Schema, regex, choices and grammars."""

import importlib.util
from collections.abc import Sequence

from corral_guidance.choice import ChoiceType
from corral_guidance.gbnf import GbnfType
from corral_guidance.kinds import JsonType, SchemaType
from corral_guidance.lark import LarkType
from corral_guidance.regex import RegexType
from corral_kernel.contracts import ConstraintType
from corral_kernel.plugins import hookimpl

CORRAL_API_VERSION = 1


@hookimpl
def corral_constraints() -> Sequence[ConstraintType]:
    if importlib.util.find_spec("llguidance") is None:
        return []  # what `pip install corral[llamacpp]` brings
    return [JsonType(), SchemaType(), RegexType(), ChoiceType(), LarkType(), GbnfType()]
