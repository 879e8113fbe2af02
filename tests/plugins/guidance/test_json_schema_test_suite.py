"""The JSON-Schema-Test-Suite (its licence is beside it): what it calls invalid is never allowed."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from corral_guidance.kinds import SchemaType
from corral_kernel.contracts import Tokenizer
from corral_kernel.errors import InvalidFormatError

SUITE = Path(__file__).parent / "suite"
FILES = sorted(str(path.relative_to(SUITE)) for path in SUITE.rglob("*.json"))
KIND = SchemaType()
NOT_PYTHONS = (
    "ECMA 262 regex escapes control codes with \\c and upper letter",
    "ECMA 262 regex escapes control codes with \\c and lower letter",
    "patternProperties with non-ASCII digits",
)
"""Groups with patterns that Python's `re`, by which answers are checked, cannot read."""


def groups(file: str) -> Iterator[dict[str, Any]]:
    yield from json.loads((SUITE / file).read_text())


@pytest.mark.parametrize("file", FILES)
def test_nothing_invalid_is_allowed(
    pieces: Tokenizer, accepts: Callable[..., bool], file: str
) -> None:
    refusals: list[str] = []
    for group in groups(file):
        schema = group["schema"]
        try:
            KIND.check(schema)
            KIND.compile(schema, pieces, len(pieces.pieces))
        except InvalidFormatError as error:
            refusals.append(str(error))
            continue
        for test in group["tests"]:
            if not test["valid"]:
                constraint = KIND.compile(schema, pieces, len(pieces.pieces))
                text = json.dumps(test["data"], ensure_ascii=False)
                allowed = accepts(constraint, pieces, text)
                assert not allowed, f"{group['description']}: {test['description']}: {schema}"
    assert all(words.startswith("format at #") for words in refusals), refusals
    whole = [words for words in refusals if words.startswith("format at #: ")]
    assert all(re.search("Unsatisfiable|a JSON Schema is an object", words) for words in whole)


def test_most_of_what_is_valid_is_allowed(pieces: Tokenizer, accepts: Callable[..., bool]) -> None:
    """The rest has other orders of keys or other writings, or formats that we narrow."""
    told = []
    for file in FILES:
        for group in groups(file):
            try:
                KIND.compile(group["schema"], pieces, len(pieces.pieces))
            except InvalidFormatError:
                continue
            for test in group["tests"]:
                if test["valid"]:
                    constraint = KIND.compile(group["schema"], pieces, len(pieces.pieces))
                    text = json.dumps(test["data"], ensure_ascii=False)
                    told.append(accepts(constraint, pieces, text))
    assert len(told) > 600
    assert sum(told) > 0.85 * len(told)


@pytest.mark.slow
def test_drawn_answers_satisfy_their_schema(
    pieces: Tokenizer, drawn_and_checked: Callable[..., bool]
) -> None:
    """From random logits; of the groups, those that are taken and that Python's `re` can read."""
    taken = finished = 0
    for group in (group for file in FILES for group in groups(file)):
        if group["description"] in NOT_PYTHONS:
            continue
        for seed in range(2):
            try:
                constraint = KIND.compile(group["schema"], pieces, len(pieces.pieces) + 37)
            except InvalidFormatError:
                break
            taken += 1
            finished += drawn_and_checked(group["schema"], constraint, pieces, seed)
    assert taken >= 2 * 230
    assert finished > 0.95 * taken


def test_of_the_groups_of_what_is_enforced_most_are_taken(pieces: Tokenizer) -> None:
    names = ("additionalProperties anyOf allOf boolean_schema const default enum exclusiveMaximum"
             " exclusiveMinimum items maxItems maxLength maximum minItems minLength minimum"
             " multipleOf pattern prefixItems properties propertyNames required type"
             " dependentRequired")  # fmt: skip
    taken = refused = 0
    for name in names.split():
        for group in groups(f"{name}.json"):
            try:
                KIND.compile(group["schema"], pieces, len(pieces.pieces))
                taken += 1
            except InvalidFormatError:
                refused += 1
    assert refused < (taken + refused) / 8
