"""What llguidance lacks or reads otherwise is said so that it is enforced, or refused."""

import json
import random
import re
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from corral_guidance.kinds import SchemaType
from corral_guidance.patterns import PatternError, plain_pattern
from corral_guidance.schema import checked
from corral_kernel.contracts import Tokenizer
from corral_kernel.errors import InvalidFormatError

Takes = Callable[..., bool]
CAT = {"properties": {"kind": {"const": "cat"}, "lives": {"type": "integer"}}, "required": ["kind"]}
DOG = {"properties": {"kind": {"const": "dog"}, "barks": {"type": "boolean"}}, "required": ["kind"]}


def required(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {}}, "required": [name], **more}


@pytest.mark.parametrize(
    "branches",
    [
        [{"type": "string"}, {"type": "array"}, {"type": ["null", "object"]}],
        [{"type": "integer"}, {"type": "string"}],
        [{"const": 1}, {"const": 2}, {"enum": [3, "1", True]}],
        [{"type": "string", "maxLength": 3}, {"type": "string", "minLength": 4}],
        [{"type": "number", "maximum": 0}, {"type": "number", "minimum": 0.5}],
        [{"type": "array", "maxItems": 1}, {"type": "array", "minItems": 2}],
        [{"enum": ["a", "b"]}, {"type": "string", "minLength": 2}],
        [{"type": "object", **CAT}, {"type": "object", **DOG}],
        [required("a", additionalProperties=False), required("b", additionalProperties=False)],
        [required("a", additionalProperties=False), required("b")],
        [required("a"), required("b")],
        [required("a"), {"type": "object", "properties": {"a": False}}],
        [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}],
        [{"allOf": [{"$ref": "#/$defs/cat"}, required("x")]}, {"$ref": "#/$defs/dog"}],
        [{"anyOf": [{"type": "null"}, {"const": 1}]}, {"oneOf": [{"const": 2}, {"const": "1"}]}],
        [required("a", properties={"a": {"properties": {"b": {"const": n}}, "required": ["b"],
                                         "type": "object"}}) for n in range(3)],
        [{"const": {"a": [1]}}, {"const": {"a": [1.5]}}, {"const": {"a": [True]}}],
        [{"type": "string"}],
    ],
    ids=[
        "types", "kinds", "values", "lengths", "ranges", "items", "enum", "discriminator", "keys",
        "one-closed", "closing", "forbidden", "refs", "allOf", "unions", "nested", "deep", "single",
    ],
)  # fmt: skip
def test_one_of_is_taken_where_its_branches_exclude_each_other(
    pieces: Tokenizer, branches: list[Any]
) -> None:
    schema = {"oneOf": branches, "$defs": {"cat": {"type": "object", **CAT},
                                           "dog": {"type": "object", **DOG}}}  # fmt: skip
    assert "oneOf" not in checked(schema)
    SchemaType().compile(schema, pieces, 300)


@pytest.mark.parametrize(
    ("schema", "pointer", "pair"),
    [
        ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, "#", "0 and 1"),
        ({"oneOf": [{"type": "string"}, {"type": "null"}, {"const": "x"}]}, "#", "0 and 2"),
        ({"oneOf": [{"const": 1}, {"const": 1.0}]}, "#", "0 and 1"),
        ({"oneOf": [CAT, DOG]}, "#", "0 and 1"),  # neither says that it is an object
        ({"oneOf": [required("a"), {"properties": {"b": {}}}]}, "#", "0 and 1"),
        ({"oneOf": [{"pattern": "^a"}, {"pattern": "^b"}]}, "#", "0 and 1"),
        ({"oneOf": [{"format": "date"}, {"format": "ipv4"}]}, "#", "0 and 1"),
        ({"items": {"oneOf": [{}, {}]}}, "#/items", "0 and 1"),
        ({"oneOf": [{"$ref": "#"}, {"type": "null"}]}, "#", "0 and 1"),
    ],
)
def test_one_of_whose_branches_may_both_hold_is_refused(
    schema: Any, pointer: str, pair: str
) -> None:
    wanted = f"format at {pointer}/oneOf: branches {pair} may both hold"
    with pytest.raises(InvalidFormatError, match=re.escape(wanted)):
        checked(schema)


def test_what_stands_beside_one_of_counts(takes: Takes) -> None:
    schema = {
        "type": "object",
        "properties": {"kind": {"enum": ["cat", "dog"]}, "name": {"type": "string"}},
        "required": ["kind"],
        "oneOf": [CAT, DOG],
    }
    good = ['{"kind": "cat", "name": "x", "lives": 9}', '{"kind": "dog", "barks": true}']
    bad = ['{"kind": "cat", "lives": true}', '{"kind": "cow"}', "{}"]
    for text in good:
        jsonschema.validate(json.loads(text), schema)
        assert takes(SchemaType(), schema, text), text
    assert not any(takes(SchemaType(), schema, text) for text in bad)


def test_a_choice_beside_a_choice_asks_for_both(takes: Takes) -> None:
    schema = {
        "anyOf": [{"type": "string"}, {"type": "number"}],
        "oneOf": [{"minimum": 5, "type": "number"}, {"type": "null"}],
    }
    assert takes(SchemaType(), schema, "7")
    for text in ("4", "null", '"x"'):
        assert not takes(SchemaType(), schema, text)


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "object", "propertyNames": {"pattern": "^[a-c]$"}}, '{"a": 1}', '{"d": 1}'),
        ({"type": "object", "propertyNames": {"enum": ["x", "y"]},
          "additionalProperties": {"type": "integer"}}, '{"x": 1}', '{"x": "1"}'),
        ({"type": "object", "propertyNames": {"const": "x"}}, '{"x": 1}', '{"z": 1}'),
        ({"type": "object", "propertyNames": {"maxLength": 2}}, '{"ab": 1}', '{"abc": 1}'),
        ({"type": "object", "propertyNames": False}, "{}", '{"a": 1}'),
        ({"type": "object", "propertyNames": {}}, '{"a": 1}', "[]"),
        ({"type": "array", "uniqueItems": True, "maxItems": 1}, "[1]", "[1, 1]"),
        ({"type": "object", "dependentRequired": {"a": ["b"]}}, '{"b": 1}', '{"a": 1}'),
        ({"type": "object", "dependentRequired": {"a": []}}, '{"a": 1}', "[]"),
        ({"type": "object", "properties": {"a": {}}, "unevaluatedProperties": False}, '{"a": 1}',
         '{"b": 1}'),
        ({"prefixItems": [{}], "type": "array", "unevaluatedItems": False}, "[1]", "[1, 1]"),
        ({"type": "object", "minProperties": 1}, '{"a": 1}', "{}"),
        ({"type": "object", "required": ["a"], "minProperties": 2}, '{"a": 1, "b": 2}', '{"a": 1}'),
        ({"type": "number", "minimum": 3, "exclusiveMinimum": True}, "4", "3"),
        ({"type": "number", "minimum": 3, "exclusiveMinimum": False}, "3", "2"),
        ({"if": {"type": "string"}, "type": "null"}, "null", "1"),
        ({"then": {"type": "string"}, "type": "null"}, "null", "1"),
        ({"$schema": "http://example.org/unheard-of", "$id": "x", "type": "null"}, "null", "1"),
        ({"properties": {"a": {"$id": "#/properties/a", "type": "null"}}, "required": ["a"],
          "type": "object"}, '{"a": null}', "{}"),
        ({"type": "integer", "maximum": 2**63 - 1, "minimum": -(2**63)}, "9007199254740992",
         "9007199254740993"),
        ({"const": 2**53}, "9007199254740992", "9007199254740993"),
        ({"type": "string", "format": "int32"}, '"x"', "1"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else json.dumps(value)[:40],
)  # fmt: skip
def test_keywords_are_said_by_others(takes: Takes, schema: Any, good: str, bad: str) -> None:
    assert takes(SchemaType(), schema, good)
    assert not takes(SchemaType(), schema, bad)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"const": 2**53 + 1}, "#/const: the number 9007199254740993 has too many digits"),
        ({"enum": [1, {"a": [12345678901234567890]}]}, "#/enum/1/a/0: the number"),
        ({"minimum": 2**60 + 1}, "#/minimum: the number has too many digits"),
        ({"type": "object", "minProperties": 2}, "#/minProperties: it is over what is required"),
        ({"propertyNames": {"format": "date"}}, "#/propertyNames: of names, format cannot be"),
        ({"propertyNames": {"maxLength": 3}, "properties": {}}, "#/propertyNames: .* beside"),
        ({"uniqueItems": True, "maxItems": 2}, "#/uniqueItems: uniqueItems cannot be enforced"),
        ({"dependentRequired": {str(i): ["a"] for i in range(5)}}, "#/dependentRequired: at most"),
        ({"$defs": {"a": {"$id": "http://x/a", "$ref": "#/$defs/a"}}},
         r"#/\$defs/a/\$id: references"),
        ({"disallow": "string"}, "#/disallow: disallow cannot be enforced"),
        ({"extends": {}}, "#/extends: extends cannot"),
        ({"divisibleBy": 2}, "#/divisibleBy: divisibleBy cannot"),
        ({"formatMinimum": "2020-01-01"}, "#/formatMinimum: formatMinimum cannot"),
        ({"patternProperties": {"a.": {}}, "additionalProperties": {"type": "null"}},
         "#/patternProperties/a.: beside additionalProperties this pattern is read in several"),
        ({"oneOf": [{"const": i} for i in range(65)]}, "#/oneOf: 65 branches: at most 64"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)  # fmt: skip
def test_what_cannot_be_said_is_refused_with_a_pointer(schema: Any, message: str) -> None:
    with pytest.raises(InvalidFormatError, match=f"format at {message}"):
        checked(schema)


# ------------------------------------------------------------------------------- patterns


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        ("^[a&&b]$", ["a", "&", "b"], ["c"]),
        ("^[[a]$", ["[", "a"], ["]"]),
        ("^[a~~b]$", ["~"], ["c"]),
        ("^x{$", ["x{"], ["x"]),
        ("^x{2}$", ["xx"], ["x{2}"]),
        ("^}]$", ["}]"], ["}"]),
        (r"^\$\^\/\-\_$", ["$^/-_"], ["a"]),
        (r"a\$", ["xa$y"], ["a", "xay"]),
        (r"^\^a", ["^ab"], ["a"]),
        ("^a|b$", ["ax", "xb", "a"], ["xa", "bx"]),
        ("^(a|b)$", ["a", "b"], ["ab"]),
        ("(^a|b$)", ["a"], ["c"]),
        (r"^\d+$", ["12"], ["٣", ""]),
        (r"^[^\d]$", ["x"], ["1", "٣"]),
        (r"^\D$", ["x"], ["1", "٣"]),
        (r"^[^\w]$", ["-"], ["é", "a", "_"]),
        (r"^\W$", ["-"], ["é", "a"]),
        (r"^\s\S$", [" x"], ["xx", " \u2003", "  "]),
        (r"^[\s\d]$", [" ", "1"], ["x"]),
        ("^.$", ["a", "é"], ["\n", "\u2028", ""]),
        (r"^\x41\u00e9\cI\0$", ["Aé\t\0"], ["A"]),
        (r"^\ud83e\udd99$", ["🦙"], ["x"]),
        (r"^[\b]$", ["\b"], ["b"]),
        ("^(?:a)(?<n>b)(?P<m>c)$", ["abc"], ["ab"]),
        ("^a#b ~&$", ["a#b ~&"], ["a"]),
        ("^a+?b*?c??$", ["abc"], ["c"]),
        ("", ["", "anything"], []),
        (r"^\p{Lu}$", ["É"], ["é"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_patterns_mean_what_they_mean_elsewhere(
    takes: Takes, pattern: str, good: list[str], bad: list[str]
) -> None:
    schema = {"type": "string", "pattern": pattern}
    for text in good:
        assert takes(SchemaType(), schema, json.dumps(text, ensure_ascii=False)), text
    for text in bad:
        assert not takes(SchemaType(), schema, json.dumps(text, ensure_ascii=False)), text


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(?=a)", "patterns that look ahead or behind"),
        ("[]", "a class with nothing in it"),
        ("[^]", "a class with nothing in it"),
        ("[a--b]", "-- within a class"),
        ("[a", "a class is not closed"),
        (r"\ba", "word boundaries"),
        (r"(a)\1", "backreferences are not supported"),
        (r"(?<n>a)\k<n>", "backreferences are not supported"),
        (r"\Aa", r"the escape \\A is read in several ways"),
        ("a\\", "the escape"),
        ("a{,3}", "{,n} is read in several ways"),
        ("a++", "what is repeated is repeated again"),
        ("a{1}+", "what is repeated is repeated again"),
        ("(a)?*", "what is repeated is repeated again"),
        ("a{2}{3}", "what is repeated is repeated again"),
        ("(?i)a", r"the group \(\?i\) is not one"),
        ("(?#x)", "the group"),
        (r"\ud83e", "half a surrogate pair"),
        (r"\x4", "the escape"),
        ("a" * 1001, "it has 1,001 characters"),
    ],
    ids=lambda value: value[:20],
)
def test_patterns_that_are_read_in_several_ways_are_refused(pattern: str, message: str) -> None:
    with pytest.raises(PatternError, match=message):
        plain_pattern(pattern)


def test_random_patterns_allow_nothing_that_python_does_not_match(
    pieces: Tokenizer, takes_schema: Callable[..., list[bool]]
) -> None:
    draw = random.Random(11)
    atoms = ["a", "b", "[ab]", "[^a]", ".", r"\d", r"\w", r"\s", r"\W", r"\S", "(a|b)", "(?:ab)*",
             "^", "$", "|", "[a-]", r"[^\s]", "1", "é"]  # fmt: skip
    texts = [
        "".join(draw.choice("ab1é _-\n٣A") for _ in range(draw.randint(0, 4))) for _ in range(60)
    ]
    taken = 0
    for _ in range(150):
        parts = (draw.choice(atoms) + draw.choice(["", "", "?", "*", "{1,2}"])
                 for _ in range(draw.randint(1, 5)))  # fmt: skip
        pattern = "".join(parts).replace("^?", "^").replace("^*", "^").replace("^{1,2}", "^")
        try:
            told = takes_schema({"type": "string", "pattern": pattern}, texts)
        except InvalidFormatError:
            continue
        taken += 1
        for text, got in zip(texts, told, strict=True):
            assert not got or re.search(pattern, text), (pattern, text)
    assert taken > 60


# -------------------------------------------------------------------------------- formats


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date", ["2024-02-29", "2000-02-29", "0001-01-31"],
         ["2023-02-29", "1900-02-29", "2024-02-30", "2024-04-31", "0000-01-01", "2024-1-1"]),
        ("date-time", ["2024-07-03T09:46:40Z", "2024-02-29T23:59:59.123+14:00"],
         ["2023-02-29T00:00:00Z", "2024-07-03 09:46:40Z", "2024-07-03T24:00:00Z", "2024-07-03"]),
        ("time", ["09:46:40Z"], ["09:46:40", "25:00:00Z", "09:46:60Z"]),
        ("hostname", ["example.org", "a-b.c"], ["-a.b", "a..b", "xn--a.b", "a_b", "x" * 64]),
        ("email", ["joe.bloggs@example.org"], ["joe", "joe@", "a..b@c", "joe@-x"]),
        ("idn-email", ["joe.bloggs@example.org"], ["joe"]),
        ("ipv4", ["127.0.0.1"], ["127.0.0.256", "127.0.0.01", "127.0.0"]),
        ("ipv6", ["::1", "1:2:3:4:5:6:7:8"], ["1:2", ":::1", "12345::"]),
        ("uuid", ["2eb8aa08-aa98-11ea-b4aa-73b441d16380"], ["2eb8aa08"]),
        ("uri", ["https://example.org/a?b#c"], ["//example.org", "a b:c"]),
        ("iri", ["https://example.org/a?b#c"], ["//example.org"]),
        ("uri-reference", ["/a/b?c#d", "abc", "https://a.b/c"], ["a b", "\\a"]),
        ("duration", ["P1Y2M3DT4H", "PT1S", "P2W"], ["P", "1Y", "P1S"]),
        ("json-pointer", ["", "/a~1b/0"], ["a", "/~2"]),
        ("relative-json-pointer", ["0#", "1/a"], ["/a", "01"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_formats_are_enforced(takes: Takes, name: str, good: list[str], bad: list[str]) -> None:
    schema = {"type": "string", "format": name}
    for text in good:
        assert takes(SchemaType(), schema, json.dumps(text)), text
    for text in bad:
        assert not takes(SchemaType(), schema, json.dumps(text)), text


def test_a_format_and_a_pattern_both_hold(takes: Takes) -> None:
    schema = {"type": "string", "format": "date", "pattern": "^2"}
    assert takes(SchemaType(), schema, '"2024-02-29"')
    for text in ('"1999-01-01"', '"2023-02-29"', '"2"'):
        assert not takes(SchemaType(), schema, text)
