import copy
from typing import Any

import pytest

from corral_guidance.keywords import MAX_ALTERNATIVES
from corral_guidance.kinds import JsonType, SchemaType
from corral_guidance.schema import checked, is_small
from corral_kernel.contracts import Tokenizer
from corral_kernel.errors import InvalidFormatError


def field(schema: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a/b": schema}}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("json", "format at #: a JSON Schema is an object, not a string"),
        (None, "not null"),
        ([], "not an array"),
        (field({"uniqueItems": True}), "#/properties/a~1b/uniqueItems: uniqueItems cannot be"),
        (
            field({"if": {}, "then": {}}),
            "#/properties/a~1b/if: if cannot be enforced; take it out",
        ),
        ({"not": {}}, "#/not"),
        ({"anyOf": [{}, {"contains": {}}]}, "#/anyOf/1/contains"),
        ({"items": [{"anyOf": [{}], "unevaluatedItems": False}]}, "#/items/0/unevaluatedItems"),
        ({"$defs": {"x": {"dependencies": {"a": {}}}}}, r"#/\$defs/x/dependencies"),
        ({"$ref": "#/odd/place", "odd": {"place": {"not": {}}}}, "#/odd/place/not"),
        ({"type": "text"}, "#/type: wanted one or more of array, boolean"),
        ({"type": ["string", 1]}, "#/type"),
        ({"type": ["string", ["null"]]}, "#/type"),
        ({"properties": []}, "#/properties: it is an array, wanted an object"),
        ({"anyOf": {}}, "#/anyOf: it is an object, wanted an array"),
        ({"properties": {"a": 1}}, "#/properties/a: a schema is an object or a boolean, not a"),
        ({"items": "x"}, "#/items: a schema is an object or a boolean, not a string"),
        ({"required": ["a", 1]}, "#/required: wanted an array of strings"),
        ({"enum": []}, "#/enum: wanted an array of 1 to 2,000 values"),
        ({"enum": list(range(MAX_ALTERNATIVES + 1))}, "#/enum"),
        ({"anyOf": [{}] * (MAX_ALTERNATIVES + 1)}, "#/anyOf: 2,001 alternatives"),
        ({"minLength": -1}, "#/minLength: wanted a whole number from 0 on"),
        ({"maxItems": 1.5}, "#/maxItems"),
        ({"minimum": "1"}, "#/minimum: wanted a number"),
        ({"exclusiveMinimum": "1"}, "#/exclusiveMinimum: wanted a number"),
        ({"multipleOf": 0}, "#/multipleOf: wanted a number above 0"),
        ({"pattern": 1}, "#/pattern: wanted a string"),
        ({"pattern": "a" * 1001}, "#/pattern: it has 1,001 characters"),
        ({"pattern": "a(?!b)"}, "#/pattern: patterns that look ahead or behind"),
        ({"patternProperties": {"(?<=a)": {}}}, "#/patternProperties/"),
        ({"format": "regex"}, "#/format: the format regex cannot be enforced"),
        (field({"multipleOf": 0.123456789}), "#/properties/a~1b/multipleOf: the number has too"),
        (field({"multipleOf": 5_000_000_000}), "#/properties/a~1b/multipleOf: the number has too"),
        ({"anyOf": [{"multipleOf": 0.07}]}, "#/anyOf/0/multipleOf: the number has too many digits"),
        ({"$ref": "https://example.org/x"}, r"#/\$ref: wanted a reference within the schema"),
        ({"$ref": "#/$defs/none"}, r"#/\$ref: there is nothing at #/\$defs/none"),
        ({"$ref": "#/anyOf/7", "anyOf": [{}]}, "there is nothing at"),
        ({"x-guidance": {"lenient": True}}, "#/x-guidance"),
        ({"description": "x" * 140_000}, "the schema has 140,018 bytes: at most 131,072"),
        (nested(101), "nested over 100 levels"),
        (nested(100_000), "nested over 100 levels"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_what_is_wrong_is_told_with_a_pointer(spec: Any, message: str) -> None:
    with pytest.raises(InvalidFormatError, match=message):
        SchemaType().check(spec)


OVERLAP = {"patternProperties": {"^a": {"type": "null"}, "b$": {"type": "string"}}}
AROUND = {"$ref": "#", "required": ["a/b"]}
INNER = {"properties": {"x": {"$ref": "#/$defs/b", "required": ["x"]}}}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (field(OVERLAP), r"#/properties/a~1b/patternProperties: .* are not disjoint"),
        ({"items": {"anyOf": [{}, OVERLAP]}}, "#/items/anyOf/1/patternProperties: "),
        (
            {"oneOf": [{"type": "null"}, {**field(OVERLAP), "required": ["a/b"]}]},
            "#/oneOf/1/properties/a~1b/patternProperties: ",
        ),
        (
            {"allOf": [{"patternProperties": {"^a": {}}}, {"patternProperties": {"b": {}}}]},
            "#/allOf/0/patternProperties: ",
        ),
        (field(AROUND), r"#/properties/a~1b/\$ref: circular references with sibling keys"),
        ({"$defs": {"c": field(AROUND)}, "$ref": "#/$defs/c"}, r"#/\$defs/c/properties/a~1b/\$ref"),
        (
            {
                "$ref": "#/$defs/a",
                "$defs": {"a": INNER, "b": field({"$ref": "#/$defs/a", "type": "object"})},
            },
            r"#/\$defs/b/properties/a~1b/\$ref: circular",
        ),
        (field({"$ref": "#none"}), r"#/properties/a~1b/\$ref: Anchor 'none' does not exist"),
        (field({"pattern": "("}), "#/properties/a~1b/pattern: regex parse error.*unclosed group"),
        (field({"propertyNames": {"pattern": "("}}), "#/properties/a~1b: regex parse error"),
        (field({"patternProperties": {"(": {}}}), "#/properties/a~1b/patternProperties: regex"),
        (
            {
                "properties": {"a": {}, "b": {}},
                "type": "object",
                "required": ["a"],
                "maxProperties": 1,
            },
            "#/maxProperties: min/maxProperties only supported",
        ),
        ({"$ref": "#/$defs/no", "$defs": {"no": False}}, r"#/\$defs/no: Unsatisfiable schema"),
        (
            {"$ref": "#/$defs/n", "$defs": {"n": {"type": "null", "allOf": [False]}}},
            r"#/\$defs/n: Unsatisfiable schema",
        ),
        ({"allOf": [False]}, "#: Unsatisfiable schema"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_what_the_compiler_complains_of_is_told_with_a_pointer(
    pieces: Tokenizer, spec: Any, message: str
) -> None:
    SchemaType().check(spec)
    with pytest.raises(InvalidFormatError, match=f"format at {message}"):
        SchemaType().compile(spec, pieces, len(pieces.pieces))


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"type": ["string", "null"], "title": "T", "default": {"not": 1}, "examples": [{}]},
        {"properties": {"not": {"type": "string"}, "if": True, "format": {}}},
        {"$ref": "#/$defs/a", "$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}},
        {"$ref": "#/%24defs/a~1b", "$defs": {"a/b": {"type": "null"}}},
        {"enum": list(range(MAX_ALTERNATIVES))},
        {"uniqueItems": False, "format": "int32"},
        nested(99),
    ],
    ids=["empty", "remarks", "names like keywords", "cycle", "escapes", "enum", "noops", "deep"],
)
def test_what_can_be_enforced_passes_and_is_left_as_it_is(spec: dict[str, Any]) -> None:
    before = copy.deepcopy(spec)
    SchemaType().check(spec)
    assert spec == before


def test_only_the_text_json_is_json() -> None:
    JsonType().check("json")
    with pytest.raises(InvalidFormatError):
        JsonType().check("xml")
    with pytest.raises(InvalidFormatError):
        JsonType().check({"type": "object"})


@pytest.mark.parametrize(
    ("spec", "closed"),
    [
        ({"properties": {"a": {}}}, True),
        ({"properties": {"a": {}}, "required": ["a"]}, True),
        ({"properties": {"a": {}}, "required": ["b"]}, False),
        ({"properties": {"a": {}}, "additionalProperties": True}, False),
        ({"properties": {"a": {}}, "patternProperties": {"b": {}}}, False),
        ({"properties": {"a": {}}, "allOf": [{"properties": {"b": {}}}]}, False),
        ({"type": "object"}, False),
    ],
)
def test_an_object_that_lists_its_properties_gets_no_others(
    spec: dict[str, Any], *, closed: bool
) -> None:
    assert (checked(spec).get("additionalProperties") is False) == closed


def test_objects_that_are_joined_to_one_stay_open() -> None:
    base: dict[str, Any] = {"properties": {"a": {}}}
    more: dict[str, Any] = {"properties": {"b": {}}}
    joined = {"allOf": [{"$ref": "#/$defs/base"}, more], "$defs": {"base": base}}
    assert checked(joined) == joined
    alone = {"allOf": [{"$ref": "#/$defs/base"}], "$defs": {"base": base}}
    assert checked(alone)["$defs"]["base"]["additionalProperties"] is False


@pytest.mark.parametrize(
    ("spec", "small"),
    [
        (field({"type": "string", "maxLength": 10}), True),
        (field({"enum": ["x" * 9000]}), False),
        (field({"pattern": "a"}), False),
        (field({"multipleOf": 3}), False),
        (field({"allOf": [{}]}), False),
        ({"properties": {"pattern": {"type": "string"}}}, True),
    ],
)
def test_costly_schemas_are_known_by_size_and_keywords(
    spec: dict[str, Any], *, small: bool
) -> None:
    assert is_small(checked(spec)) == small
