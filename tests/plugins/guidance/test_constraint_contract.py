"""Every kind of format keeps the contract: among it, that what is refused changes nothing."""

import json
import re
from typing import Any, ClassVar

import jsonschema

from corral_guidance.choice import ChoiceType
from corral_guidance.gbnf import GbnfType
from corral_guidance.kinds import JsonType, SchemaType
from corral_guidance.lark import LarkType
from corral_guidance.regex import RegexType
from corral_kernel.testing import ConstraintSuite


class TestJson(ConstraintSuite):
    kind = JsonType()
    bad_specs = ("xml", {"type": "object"})

    def finished_text(self, spec: Any, text: bytes) -> None:
        assert spec == "json"
        assert isinstance(json.loads(text), dict)


class TestSchema(ConstraintSuite):
    kind = SchemaType()
    specs: ClassVar = (
        *kind.examples,
        {"oneOf": [{"const": 1}, {"enum": ["one", "ones"]}]},
        {"type": "array", "items": {"type": "string", "pattern": "^[a-c]+$"}, "maxItems": 3},
    )
    bad_specs = ("json", {"not": {}})

    def finished_text(self, spec: Any, text: bytes) -> None:
        jsonschema.validate(json.loads(text), spec)


class TestRegex(ConstraintSuite):
    kind = RegexType()
    specs: ClassVar = (*kind.examples, {"type": "regex", "pattern": "(a|ab|é)*x?"})
    bad_specs = ({"type": "regex", "pattern": "a(?=b)"},)

    def finished_text(self, spec: Any, text: bytes) -> None:
        assert re.fullmatch(spec["pattern"], text.decode())


class TestChoice(ConstraintSuite):
    kind = ChoiceType()
    specs: ClassVar = (*kind.examples, {"type": "choice", "choices": ["", "a", "ab", "🦙"]})
    bad_specs = ({"type": "choice", "choices": []},)

    def finished_text(self, spec: Any, text: bytes) -> None:
        assert text.decode() in spec["choices"]


class TestLark(ConstraintSuite):
    kind = LarkType()
    bad_specs = ({"type": "lark", "grammar": "start: <x>"},)


class TestGbnf(ConstraintSuite):
    kind = GbnfType()
    specs: ClassVar = (
        *kind.examples,
        {"type": "gbnf", "grammar": 'root ::= [a-z]* "a" | "é" root'},
    )
    bad_specs = ({"type": "gbnf", "grammar": "root ::= a"},)
