"""Where two answers part."""

from typing import Any

import pytest

from corral_kernel.errors import InvalidOptionError, InvalidRequestError
from corral_kernel.models import Model, ModelConfig
from corral_kernel.names import ModelName
from corral_kernel.tasks.answers import Answer, Difference, different_vocabularies, result_of
from corral_kernel.tasks.compare import CompareCall, check_options

BYTES = b"every byte"
MODEL = Model(
    name=ModelName.parse("m"),
    digest="0" * 64,
    size_bytes=0,
    modified_ns=0,
    config=ModelConfig(),
    files=(),
)


def spoken(*pieces: str, end: str = "", vocabulary: bytes = BYTES, **fields: Any) -> Answer:
    """An answer of these tokens; `end` is a token that ends it and is not shown."""
    every = (*pieces, end) if end else pieces
    ends = [len("".join(pieces[: i + 1]).encode()) for i in range(len(every))]
    return Answer(
        text="".join(pieces),
        tokens=len(every),
        decode_ns=1,
        token_ids=tuple(hash(piece) & 0xFFFF for piece in every),
        pieces=tuple(piece.encode() for piece in every),
        offsets=tuple(ends),
        vocabulary=vocabulary,
        **fields,
    )


@pytest.mark.parametrize(
    ("a", "b", "token", "character", "texts"),
    [
        (spoken("Par", "is", "."), spoken("Par", "is", "!"), 2, 5, (".", "!")),
        (spoken("Par", "is", end="<end>"), spoken("Par", "is", "."), 2, 5, ("<end>", ".")),
        (spoken("Par", "is"), spoken("Par", "is", "."), 2, 5, ("", ".")),
        (spoken("Paris"), spoken("Par", "is"), 0, 5, ("Paris", "Par")),
    ],
    ids=["another token", "one ends", "one has no more room", "other tokens of one text"],
)
def test_with_one_vocabulary_answers_part_at_a_token(
    a: Answer, b: Answer, token: int, character: int, texts: tuple[str, str]
) -> None:
    found = result_of("?", a, b).first_difference
    assert found == Difference(token=token, character=character, a=texts[0], b=texts[1])


@pytest.mark.parametrize(
    ("a", "b", "token", "character", "texts"),
    [
        (("Par", "is", "."), ("P", "aris", "!"), 2, 5, (".", "!")),
        (("Zür", "ich"), ("Zür", "i"), 1, 4, ("ch", "")),
        (("Zür",), ("Zür", "ich"), 1, 3, ("", "ich")),
        (("x" * 30,), ("y" * 30,), 0, 0, ("x" * 24, "y" * 24)),
    ],
)
def test_with_two_vocabularies_answers_part_in_their_text(
    a: tuple[str, ...],
    b: tuple[str, ...],
    token: int,
    character: int,
    texts: tuple[str, str],
) -> None:
    result = result_of("?", spoken(*a), spoken(*b, vocabulary=b"another"))
    found = Difference(token=token, character=character, a=texts[0], b=texts[1])
    assert result.first_difference == found
    assert (result.kl, result.kl_mean, result.kl_max, result.same_prompt) == ((), None, None, None)


def test_equal_answers_have_no_difference_whatever_their_tokens() -> None:
    assert result_of("?", spoken("a", "b"), spoken("a", "b")).first_difference is None
    other = spoken("ab", vocabulary=b"another")
    assert result_of("?", spoken("a", "b"), other).first_difference is None


def test_an_engine_without_logits_is_compared_by_its_text() -> None:
    remote = Answer(text="Paris!", tokens=0, decode_ns=0)
    result = result_of("?", remote, spoken("Paris", "."))
    assert result.first_difference == Difference(token=None, character=5, a="!", b=".")
    assert different_vocabularies(remote, spoken("x")) == (
        "the first model's engine gives no logits"
    )
    assert different_vocabularies(spoken("x"), remote) == (
        "the second model's engine gives no logits"
    )
    assert different_vocabularies(spoken("x"), spoken("y", vocabulary=b"another")) == (
        "the models have different vocabularies"
    )


def test_divergences_are_summed_up_and_prompts_compared() -> None:
    a = spoken("a", "b", prompt_ids=(1, 2))
    b = spoken("a", "c", prompt_ids=(2,), divergences=(0.5, 0.25))
    result = result_of("?", a, b)
    assert (result.kl, result.kl_mean, result.kl_max) == ((0.5, 0.25), 0.375, 0.5)
    assert (result.a, result.b, result.tokens, result.same_prompt) == ("ab", "ac", 2, False)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompts": ()}, "0 prompts: compare takes from 1 to 256"),
        ({"prompts": ("x",) * 257}, "257 prompts"),
        ({"max_tokens": 0}, "max_tokens is 0; it must be from 1 to 1024"),
        ({"max_tokens": 1025}, "max_tokens is 1025"),
        ({"prompts": ("x",) * 100, "max_tokens": 1000}, "are more than 16384 in all"),
    ],
)
def test_a_comparison_has_bounds(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words):
        CompareCall(models=(MODEL, MODEL), **fields).check()


def test_options_of_sampling_are_refused() -> None:
    given = {"num_ctx": 5, "seed": 1, "backend": "x", "top_k": None}
    check_options(given, ["num_ctx"])
    with pytest.raises(InvalidOptionError, match='"top_k" means nothing here'):
        check_options({**given, "top_k": 5}, ["num_ctx"])
