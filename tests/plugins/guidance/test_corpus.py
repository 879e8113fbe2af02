"""Answers drawn from random logits, the hardest case, satisfy what they were held to."""

import runpy
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from corral_guidance.kinds import SchemaType
from corral_kernel.contracts import Constraint, Tokenizer
from corral_kernel.errors import InvalidFormatError

CORPUS = Path(__file__).parent / "corpus"
SEEDS = 3
STYLES = ("pydantic", "function", "workflow", "resource", "body", "store", "labels")
KIND = SchemaType()
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def compile_schema(pieces: Tokenizer) -> Callable[[Any], Constraint]:
    return lambda schema: KIND.compile(schema, pieces, len(pieces.pieces) + 37)


@cache
def module_of_the_generator() -> dict[str, Any]:
    return runpy.run_path(str(CORPUS / "generate.py"))


def test_the_generated_schemas_are_what_the_generator_gives() -> None:
    assert module_of_the_generator()["written"]() == (CORPUS / "generated.json").read_text()


def test_nine_in_ten_are_taken_and_each_refusal_has_a_place_and_a_reason(
    corpus: dict[str, Any], compile_schema: Callable[[Any], Constraint]
) -> None:
    refused = {}
    for name, schema in corpus.items():
        try:
            KIND.check(schema)
            compile_schema(schema)
        except InvalidFormatError as error:
            refused[name] = str(error)
    assert len(corpus) >= 300
    assert len(refused) <= len(corpus) / 10, refused
    assert all(words.startswith("format at #") for words in refused.values()), refused
    assert {name for name in refused if name.startswith("refused")} == {
        name for name in corpus if name.startswith("refused")
    }


@pytest.mark.parametrize("style", ["written", *STYLES])
def test_finished_answers_satisfy_their_schema(
    corpus: dict[str, Any],
    compile_schema: Callable[[Any], Constraint],
    pieces: Tokenizer,
    drawn_and_checked: Callable[..., bool],
    style: str,
) -> None:
    finished = taken = 0
    for schema in of_style(corpus, style):
        for seed in range(SEEDS):
            try:
                constraint = compile_schema(schema)
            except InvalidFormatError:
                break
            taken += 1
            finished += drawn_and_checked(schema, constraint, pieces, seed)
    assert finished >= taken / 2


def of_style(corpus: dict[str, Any], style: str) -> Iterator[Any]:
    for name, schema in corpus.items():
        if style == (name.split()[0] if name.split()[0] in STYLES else "written"):
            yield schema


@pytest.mark.real
def test_answers_of_a_large_vocabulary_satisfy_their_schema(
    corpus: dict[str, Any],
    large: Tokenizer,
    drawn_and_checked: Callable[..., bool],
) -> None:
    finished = 0
    for index, schema in enumerate([*corpus.values()][::5]):
        try:
            constraint = KIND.compile(schema, large, len(large.pieces) + 37)
        except InvalidFormatError:
            continue
        finished += drawn_and_checked(schema, constraint, large, index)
    assert finished > 30
