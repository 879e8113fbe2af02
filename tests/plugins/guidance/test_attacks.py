"""Formats that are meant to do harm: each ends with a clear error or a bounded success."""

import os
import random
import re
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
import pytest

from corral_guidance import corral_constraints
from corral_kernel.contracts import Constraint, Tokenizer
from corral_kernel.errors import EngineError, InvalidFormatError

KINDS = {kind.name: kind for kind in corral_constraints()}
PREPARING_S = 20.0
"""What preparing a request may take; a worker ends what takes longer."""


def processor_s() -> float:
    """Of this process and those that it waited for: the clock tells of other processes too."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def nested(levels: int, key: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema} if key == "items" else {key: [schema, {}]}
    return schema


def properties(count: int) -> dict[str, Any]:
    names = {f"f{i}": {"type": "string", "pattern": f"^a{{{i}}}b*$"} for i in range(count)}
    return {"type": "object", "properties": names}


def product(lists: int, alternatives: int) -> dict[str, Any]:
    """Unions that are joined to each other: each alternative meets each."""
    union = [
        {"properties": {f"k{i}": {"const": i}}, "required": [f"k{i}"]} for i in range(alternatives)
    ]
    return {"type": "object", "allOf": [{"anyOf": union} for _ in range(lists)]}


def rules(first: str, each: str, last: str, count: int) -> str:
    """Rules of which each names the next."""
    lines = [first, *(each.format(i, i + 1) for i in range(count)), last.format(count)]
    return "\n".join(lines)


def chained(links: int) -> str:
    return rules("start: r0", "r{0}: r{1}", 'r{0}: "a"', links)


def regex(pattern: str) -> dict[str, Any]:
    return {"type": "regex", "pattern": pattern}


def lark(grammar: str) -> dict[str, Any]:
    return {"type": "lark", "grammar": grammar}


def gbnf(grammar: str) -> dict[str, Any]:
    return {"type": "gbnf", "grammar": grammar}


ATTACKS: dict[str, Any] = {
    "arrays 99 deep": nested(99, "items"),
    "arrays 5,000 deep": nested(5_000, "items"),
    "anyOf 40 deep": nested(40, "anyOf"),
    "enum of 2,000": {"enum": [f"{i * 7919 % 100_003}" for i in range(2_000)]},
    "enum of 50,000": {"enum": [*range(50_000)]},
    "1,000 properties": properties(1_000),
    "60 properties": properties(60),
    "5^9 alternatives": product(9, 5),
    "300^2 alternatives": product(2, 300),
    "multipleOf a large prime": {"type": "integer", "multipleOf": 1_000_003},
    "least common multiple": {"allOf": [{"multipleOf": n} for n in (997, 991, 983, 977)]},
    "2,000 anyOf of objects": {"anyOf": [properties(1) for _ in range(2_000)]},
    "maxLength 10^9": {"type": "string", "minLength": 10**8, "maxLength": 10**9},
    "maxItems 10^9": {"type": "array", "items": nested(3, "items"), "maxItems": 10**9},
    "10^9 patterns": {"type": "string", "pattern": "^a{1,1000000000}$"},
    "references in a circle": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
    "references in a circle with more": {
        "$ref": "#/$defs/a",
        "$defs": {"a": {"$ref": "#/$defs/a", "minLength": 1}},
    },
    "an array that never ends": {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
    "oneOf of 64 unions": {
        "oneOf": [{"oneOf": [{"const": f"{i}/{j}"} for j in range(30)]} for i in range(64)]
    },
    "a{1,10^9}": regex("a{1,1000000000}"),
    "(a{1,300}){1,300}": regex("(a{1,300}){1,300}"),
    "((a{1,99}){1,99}){1,99}": regex("((a{1,99}){1,99}){1,99}b"),
    "nested stars": regex("((((a*)*)*)*)*b"),
    "nested quantifiers": regex("(([ab]?){50}c?){50}"),
    "counting": regex("(?s:.*)a(?s:.{500})"),
    "counting twice": regex("(?s:.*)[ae](?s:.{200})[xyz](?s:.*)"),
    "intersections": lark(
        "start: T\nT: /(?s:.*a.{20}b.*)/ & /(?s:.*c.{21}d.*)/ & ~/(?s:.*e.{9}f)/"
    ),
    "unicode": regex(r"(\p{L}{1,50}\p{N}{1,50}){1,50}"),
    "a long alternation": regex("|".join(f"x{i}" for i in range(200))),
    "left recursion": lark('start: a\na: a "x" | a "y" | "z"'),
    "hidden left recursion": lark('start: a\na: e a "x" | "z"\ne: "" | "q"'),
    "right recursion": lark("start: s\ns: /[a-z ]/ s | /[a-z ]/"),
    "ambiguity": lark("start: s\ns: s s | s s s | /[a-z ]/"),
    "ambiguity of nothing": lark('start: s\ns: s s | ""'),
    "palindromes": lark("start: s\ns: /[a-z ]/ s /[a-z ]/ | /[a-z ]/"),
    "1,000 chained rules": lark(chained(1_000)),
    "3,000 chained rules": lark(chained(3_000)),
    "parentheses 20,000 deep": lark(f"start: {'(' * 20_000}/a/{')' * 20_000}"),
    "a rule of nothing but itself": lark("start: start"),
    "a terminal of itself": lark("start: A\nA: /a/ A"),
    "10^9 times": lark('start: ("a" | "b" "c"){1,1000000000}'),
    "doubling": lark(rules("start: r0", "r{0}: r{1} r{1}", 'r{0}: "a"', 60)),
    "doubling terminals": lark(rules("start: R0", "R{0}: R{1} R{1}", 'R{0}: "a"', 40)),
    "gbnf left recursion": gbnf('root ::= a\na ::= a "x" | "z"'),
    "gbnf ambiguity": gbnf("root ::= s\ns ::= s s | s s s | [a-z ]"),
    "gbnf doubling": gbnf(rules("root ::= r0", "r{0} ::= r{1} r{1}", 'r{0} ::= "a"', 60)),
    "gbnf chained": gbnf(rules("root ::= r0", 'r{0} ::= "a" r{1}', 'r{0} ::= "a"', 1_900)),
    "gbnf backwards": gbnf(rules("root ::= r0", 'r{0} ::= r{1} "a"?', 'r{0} ::= "a"', 1_900)),
    "gbnf many alternatives": gbnf(
        "root ::= (" + "|".join(f'"{i:x}" [a-z]*' for i in range(1_900)) + ")*"
    ),
    "gbnf a star of stars": gbnf('root ::= ((("a"*)*)*)* ("a"? "a"?)*'),
    "gbnf repetitions": gbnf('root ::= (("a" | "b"){1,1000} "c"?){1,1000}'),
    "gbnf classes": gbnf("root ::= " + " ".join("[a-z]*" for _ in range(1_000))),
    "10 MB of lark": lark('start: "' + "a" * 10_000_000 + '"'),
    "10 MB of gbnf": gbnf('root ::= "' + "a" * 10_000_000 + '"'),
    "10 MB of regex": regex("a" * 10_000_000),
    "10 MB of choices": {"type": "choice", "choices": ["a" * 1_000_000] * 10},
    "2,000 choices that begin each other": {
        "type": "choice", "choices": ["ab" * i for i in range(250)]
    },
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_ends_with_a_clear_error_or_a_bounded_success(
    pieces: Tokenizer, name: str
) -> None:
    spec = ATTACKS[name]
    kind = KINDS.get(str(spec.get("type")), KINDS["schema"])
    me = psutil.Process()
    before = me.memory_info().rss
    began_s = processor_s()
    words = ""
    try:
        kind.check(spec)
        constraint = kind.compile(spec, pieces, len(pieces.pieces))
        walk(constraint, pieces, steps=150)
    except (InvalidFormatError, EngineError) as error:
        words = str(error)
    assert not words or re.match("format at #|the answer cannot be held to its format", words)
    assert len(words) < 600
    assert processor_s() - began_s < PREPARING_S
    assert me.memory_info().rss - before < 200 << 20
    assert answers(pieces)


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize(
    "name",
    ["ambiguity", "right recursion", "palindromes", "counting", "counting twice", "intersections",
     "gbnf ambiguity", "gbnf classes", "5^9 alternatives", "2,000 anyOf of objects", "unicode"],
)  # fmt: skip
def test_no_mask_of_an_attack_takes_long_on_a_large_vocabulary(large: Tokenizer, name: str) -> None:
    spec = ATTACKS[name]
    kind = KINDS.get(str(spec.get("type")), KINDS["schema"])
    times: list[float] = []
    try:
        constraint = kind.compile(spec, large, len(large.pieces))
        walk(constraint, large, steps=150, times=times)
    except (InvalidFormatError, EngineError):
        pass
    # Of processor time, and five times what it takes on an idle core.
    assert max(times, default=0) < 0.2


def walk(
    constraint: Constraint, tokenizer: Tokenizer, *, steps: int, times: list[float] | None = None
) -> None:
    """Draw tokens that the mask allows."""
    draw = random.Random(1)
    out = np.zeros((len(tokenizer.pieces) + 31) // 32, np.uint32)
    for _ in range(steps):
        if constraint.finished():
            return
        began = time.thread_time()
        try:
            constraint.mask(out)
        finally:
            if times is not None:
                times.append(time.thread_time() - began)
        allowed = np.unpackbits(out.view(np.uint8), bitorder="little").nonzero()[0]
        if not len(allowed):
            return
        token = int(draw.choice(allowed))
        assert constraint.accept(token)
        if token in tokenizer.end_ids:
            return


def answers(tokenizer: Tokenizer) -> bool:
    """Whether the next request is served."""
    constraint = KINDS["schema"].compile({"const": "well"}, tokenizer, len(tokenizer.pieces))
    return tokenizer.decode(list(constraint.forced())) == b'"well"'


@pytest.mark.parametrize(
    "make",
    [
        lambda text: {"type": "string", "pattern": text},
        lambda text: {"type": "object", "properties": {text: {}}},
        lambda text: {"type": "string", "enum": [text]},
        lambda text: {"type": "string", "format": text},
        lambda text: {"$ref": f"#/{text}"},
        regex,
        lark,
        gbnf,
        lambda text: {"type": "choice", "choices": [text]},
    ],
    ids=["pattern", "key", "enum", "format", "ref", "regex", "lark", "gbnf", "choice"],
)
def test_random_texts_are_taken_or_refused_in_words(
    pieces: Tokenizer, make: Callable[[str], Any]
) -> None:
    draw = random.Random(3)
    signs = "a1 ()[]{}|*+?.^$\\/-\"',:;#%<>=&~@_\n\t\x00\x7fé🦙\u2028"
    for _ in range(60):
        spec = make("".join(draw.choice(signs) for _ in range(draw.randint(0, 12))))
        kind = KINDS.get(str(spec.get("type")), KINDS["schema"])
        words = ""
        try:
            kind.check(spec)
            if draw.random() < 0.3:
                kind.compile(spec, pieces, len(pieces.pieces))
        except InvalidFormatError as error:
            words = str(error)
        assert not words or words.startswith("format at #")
