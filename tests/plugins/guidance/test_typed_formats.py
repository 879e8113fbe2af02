"""Formats that are objects with a type: regex, choice, lark."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from corral_guidance import corral_constraints
from corral_guidance.choice import ChoiceType
from corral_guidance.lark import LarkType
from corral_guidance.regex import RegexType
from corral_kernel.contracts import Constraint, Tokenizer
from corral_kernel.errors import InvalidFormatError

KINDS = {kind.name: kind for kind in corral_constraints()}
Takes = Callable[..., bool]


def regex(pattern: str) -> dict[str, Any]:
    return {"type": "regex", "pattern": pattern}


def choice(*choices: Any) -> dict[str, Any]:
    return {"type": "choice", "choices": list(choices)}


def lark(grammar: str) -> dict[str, Any]:
    return {"type": "lark", "grammar": grammar}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"type": "regex"}, "#: it has no pattern; wanted .*pattern"),
        ({"type": "regex", "pattern": 1}, "#/pattern: wanted a text, and not the empty one"),
        ({"type": "regex", "pattern": ""}, "#/pattern: wanted a text, and not the empty one"),
        ({"type": "regex", "pattern": "\ud800"}, "#/pattern: it is no Unicode text"),
        ({"type": "regex", "pattern": "a", "flags": "i"}, "#: there is no key 'flags'; wanted"),
        ({"type": "regex", "grammar": "a", "pattern": "a"}, "there is no key 'grammar'"),
        (regex("a" * 1001), "#/pattern: it has 1,001 characters: at most 1,000"),
        (regex("a(?=b)"), "#/pattern: patterns that look ahead or behind"),
        (regex("(?<!b)a"), "#/pattern: patterns that look ahead or behind"),
        ({"type": "choice", "choices": "yes"}, "#/choices: wanted an array of texts"),
        (choice(), "#/choices: wanted an array of texts"),
        (choice("yes", 1), "#/choices/1: wanted a text"),
        (choice("\ud800"), "#/choices/0: wanted a text"),
        (choice(*map(str, range(2001))), "#/choices: 2,001 choices: at most 2,000"),
        (choice("x" * 65_537), "#/choices: they have 65,537 bytes: at most 65,536"),
        ({"type": "choice", "options": ["a"]}, "there is no key 'options'"),
        ({"type": "lark", "grammar": ["start"]}, "#/grammar: wanted a text"),
        (lark('root: "a"'), "#/grammar: line 1: there is no rule named start"),
        (lark('start: "a"\n' * 10_000), "#/grammar: it has 110,000 bytes: at most 65,536"),
        (lark('start: "a" <|im_end|>'), r"line 1: <\|im_end\|> is a token"),
        (lark('start: "<|im_end|>"\n\nx: <[5-7]>'), r"line 3: <\[5-7\]> is a token"),
        (lark('start: a\na[temperature=0.5]: "a"'), "line 2: temperature cannot be enforced"),
        (lark('start: a\na[max_tokens=5]: "a"'), "line 2: max_tokens cannot be enforced"),
        (lark('start: a\na[stop = "x"]: /.*/'), "line 2: stop cannot be enforced"),
        (lark("start: @other"), "line 1: there are no other grammars"),
        (lark('%llguidance {"allow_invalid_utf8": true}\nstart: "a"'), "'allow_invalid_utf8'"),
        (lark('start: %json {"not": {}}'), "line 1: in its JSON Schema: format at #/not: not"),
        (lark('start: %json {"x-guidance": {"lenient": true}}'), "#/x-guidance"),
        (lark('start: %json {"type": "string"'), "line 1: that is no JSON"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_what_is_wrong_is_told_before_anything_is_compiled(spec: Any, message: str) -> None:
    with pytest.raises(InvalidFormatError, match=message) as caught:
        KINDS[spec["type"]].check(spec)
    assert str(caught.value).startswith("format at #")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (regex("("), "#/pattern: .*unclosed group"),
        (regex(r"a\b"), "#/pattern: .*lookarounds not supported"),
        (regex(r"(a)\1"), "#/pattern: .*backreferences are not supported"),
        (lark("start: other"), "#/grammar: .*unknown name"),
        (lark('start: "a" )'), "#/grammar: .*expecting rule"),
        (lark("start: start"), "#/grammar: there is no text that it allows"),
        (lark("%import other.WORD\nstart: WORD"), "#/grammar: .*Unknown common regex"),
        (lark('start: A\nA: "a" A'), "#/grammar: .*A"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_what_does_not_compile_is_told_in_a_line(
    tokenizer: Tokenizer, padded: int, spec: Any, message: str
) -> None:
    kind = KINDS[spec["type"]]
    kind.check(spec)
    for _ in range(2):  # the second answer comes from the cache
        with pytest.raises(InvalidFormatError, match=message) as caught:
            kind.compile(spec, tokenizer, padded)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        ("[a-c]{2,3}", ["ab", "abc"], ["a", "abcd", "xab"]),
        ("a|bc", ["a", "bc"], ["abc", "ac"]),
        ("^(yes|no)$", ["yes", "no"], ["yesno", "maybe"]),
        (r"\d+(\.\d+)?", ["1", "1.5"], ["1.", "x1"]),
        ("(?i)straße", ["STRASSE".lower().replace("ss", "ß"), "STRAßE"], ["strase"]),
        (".*", ["", "a b"], ["a\nb"]),
        ("(?s).*", ["", "a\nb"], []),
        ("a/b", ["a/b"], ["ab"]),
        ("[é🦙]+", ["é🦙é"], ["e"]),
        ("a*?b", ["b", "aab"], ["a"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_regular_expression_matches_the_whole_answer(
    takes: Takes, pattern: str, good: list[str], bad: list[str]
) -> None:
    for text in good:
        assert takes(RegexType(), regex(pattern), text), text
    for text in bad:
        assert not takes(RegexType(), regex(pattern), text), text


def test_a_choice_is_one_of_its_texts_and_nothing_else(takes: Takes) -> None:
    texts = ["yes", "no", "not yet", '"quoted\\"\n', "é🦙", "</s>", "\x7f\x01", "a/b"]
    for text in texts:
        assert takes(ChoiceType(), choice(*texts), text), text
    for text in ("", "ye", "yesno", "not", "<", "a"):
        assert not takes(ChoiceType(), choice(*texts), text), text


def test_after_a_choice_that_begins_another_the_model_decides(
    tokenizer: Tokenizer, padded: int, takes: Takes
) -> None:
    spec = choice("a", "ab", "abab", "ab")
    for text in ("a", "ab", "abab"):
        assert takes(ChoiceType(), spec, text)
    assert not takes(ChoiceType(), spec, "aba")
    constraint = ChoiceType().compile(spec, tokenizer, padded)
    (first,) = tokenizer.encode("a", special=False)
    assert constraint.accept(first)
    assert constraint.allows([min(tokenizer.end_ids)]) == 1
    assert constraint.allows(tokenizer.encode("b", special=False)) == 1
    assert not constraint.finished()


def test_with_the_empty_choice_an_answer_may_say_nothing(
    tokenizer: Tokenizer, padded: int, takes: Takes
) -> None:
    assert takes(ChoiceType(), choice("", "a"), "")
    assert takes(ChoiceType(), choice("", "a"), "a")
    alone = ChoiceType().compile(choice(""), tokenizer, padded)
    assert allowed(alone, padded) == {*tokenizer.end_ids}
    assert alone.accept(min(tokenizer.end_ids))


def test_two_thousand_choices_are_taken(takes: Takes) -> None:
    many = choice(*(f"choice number {index}" for index in range(2000)))
    assert takes(ChoiceType(), many, "choice number 1999")
    assert not takes(ChoiceType(), many, "choice number 2000")


@pytest.mark.parametrize(
    ("grammar", "good", "bad"),
    [
        ('start: start "+" NUM | NUM\nNUM: /[0-9]+/', ["1", "1+22+3"], ["+1", "1+"]),
        ('%ignore / +/\nstart: "a" "b"', ["ab", "a  b"], ["ba"]),
        ("%import common.INT\nstart: INT", ["12"], ["x"]),
        ('start: "call " %json {"type": "integer", "minimum": 5}', ["call 5"], ["call 4", "call"]),
        (
            'start: %json {"oneOf": [{"const": 1}, {"type": "string", "format": "date"}]}',
            ["1", '"2024-02-29"'],
            ['"2023-02-29"'],
        ),
        (
            'start: %json {"properties": {"a": {}, "b": {}}, "type": "object"}',
            ['{"a": 1, "b": 2}'],
            ['{"a":1}', '{"c": 1}'],
        ),
        ('// stop = <x> @y\nstart: "<x>" /<y>@/ # %json {', ["<x><y>@"], [""]),
        ('start: t "!"\nt[capture="x", lazy]: /[a-z]*z/', ["abz!"], ["abzz!"]),
        ('%llguidance {"no_forcing": true}\nstart: "abc"', ["abc"], ["a"]),
        ('stop: "b"\nstart: "a" stop', ["ab"], ["a"]),
    ],
    ids=[
        "left",
        "ignore",
        "import",
        "json",
        "oneOf",
        "closed",
        "marks",
        "lazy",
        "options",
        "names",
    ],
)
def test_a_lark_grammar_is_followed(
    takes: Takes, grammar: str, good: list[str], bad: list[str]
) -> None:
    for text in good:
        assert takes(LarkType(), lark(grammar), text), text
    for text in bad:
        assert not takes(LarkType(), lark(grammar), text), text


def allowed(constraint: Constraint, width: int) -> set[int]:
    out = np.zeros((width + 31) // 32, np.uint32)
    assert constraint.mask(out)
    return {int(i) for i in np.unpackbits(out.view(np.uint8), bitorder="little").nonzero()[0]}
