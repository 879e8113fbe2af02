"""Pooling, batches and limits of encoders, with random weights; real ones: test_llama_real.py."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corral_kernel.contracts import Encodable, EncodeItem
from corral_kernel.errors import InvalidRequestError, PromptTooLongError

Opener = Callable[..., Any]
WIDTH = 32
TEXT = "some text to pool"


@pytest.fixture
def encoder_of(open_engine: Opener, tiny_encoders: dict[str, Path]) -> Callable[[str], Any]:
    return lambda pooling: open_engine(tiny_encoders[pooling], embeds=True, num_ctx=128)


def encode(encoder: Any, *texts: str) -> Any:
    return encoder.encode([encoder.tokenize(EncodeItem(text=text)) for text in texts])


def test_the_mean_is_that_of_the_rows(encoder_of: Callable[[str], Any]) -> None:
    mean, last = encoder_of("MEAN"), encoder_of("LAST")
    # Causal: the row of a token is the last one of the text up to it.
    rows = encode(last, *[TEXT[: i + 1] for i in range(len(TEXT))])
    np.testing.assert_allclose(encode(mean, TEXT)[0], rows.mean(axis=0), atol=1e-2)


def test_the_first_row_is_taken_where_the_model_says_so(encoder_of: Callable[[str], Any]) -> None:
    first, last = encoder_of("CLS"), encoder_of("LAST")
    np.testing.assert_allclose(encode(first, TEXT)[0], encode(last, TEXT[0])[0], atol=1e-2)


def test_rows_that_the_model_leaves_alone_are_averaged(encoder_of: Callable[[str], Any]) -> None:
    found, mean = encode(encoder_of("NONE"), TEXT, "b"), encode(encoder_of("MEAN"), TEXT, "b")
    np.testing.assert_allclose(found, mean, atol=1e-5)


def test_a_model_that_ranks_gives_one_score_a_pair(encoder_of: Callable[[str], Any]) -> None:
    encoder = encoder_of("RANK")
    items = [EncodeItem(text="query", pair=passage) for passage in ("one", "another", "one")]
    scores = encoder.encode([encoder.tokenize(item) for item in items])
    assert scores.shape == (3, 1)
    assert scores[0] == pytest.approx(scores[2], abs=1e-2)
    assert abs(scores[0] - scores[1]) > 1e-2


def test_batches_of_many_lengths_are_as_each_alone(encoder_of: Callable[[str], Any]) -> None:
    encoder = encoder_of("LAST")
    texts = ["x" * length for length in (1, 90, 3, 128, 2, 60, 61, 1)]  # over one batch in all
    together = encode(encoder, *texts)
    assert together.shape == (8, WIDTH)
    alone = np.concatenate([encode(encoder, text) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-2)


@pytest.mark.parametrize(
    ("ids", "error"),
    [
        ([], InvalidRequestError),
        ([-1], InvalidRequestError),
        ([259], InvalidRequestError),
        ([5] * 129, PromptTooLongError),
    ],
    ids=["none", "negative", "too large", "too many"],
)
def test_bad_inputs_are_refused(
    encoder_of: Callable[[str], Any], ids: list[int], error: type[Exception]
) -> None:
    encoder = encoder_of("MEAN")
    with pytest.raises(error):
        encoder.encode([Encodable(ids, len(ids))])
    assert np.isfinite(encode(encoder, TEXT)).all()


@pytest.mark.parametrize("limit", [1, 4, 1000])
def test_a_text_is_cut_to_its_limit(encoder_of: Callable[[str], Any], limit: int) -> None:
    item = encoder_of("MEAN").tokenize(EncodeItem(text=TEXT, limit=limit))
    assert item.length == min(limit, len(TEXT))
    assert item.full_length == len(TEXT)
