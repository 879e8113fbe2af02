"""Distributions that are kept small, and how far others are from them."""

import numpy as np
import pytest

from corral_kernel.errors import EngineError
from corral_kernel.tasks.distributions import (
    MOST_TOKENS,
    divergence,
    keep,
    log_probabilities,
    pack,
    unpack,
)

SIZES = [(5, 1.0), (300, 3.0), (50_000, 1.0), (50_000, 6.0)]


def rows(size: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Two rows of logits that are near each other."""
    random = np.random.default_rng(size)
    first = random.normal(0, spread, size).astype(np.float32)
    return first, first + random.normal(0, 0.1, size).astype(np.float32)


def exact(first: np.ndarray, second: np.ndarray) -> float:
    """The divergence by its definition."""
    p, q = (row.astype(np.float64) for row in (first, second))
    p -= np.log(np.exp(p).sum())
    q -= np.log(np.exp(q).sum())
    return float((np.exp(p) * (p - q)).sum())


@pytest.mark.parametrize(("size", "spread"), SIZES)
def test_equal_rows_are_not_apart_at_all(size: int, spread: float) -> None:
    first, _ = rows(size, spread)
    (kept,) = unpack(pack([keep(log_probabilities(first))]))
    assert divergence(kept, log_probabilities(first.copy())) == 0.0
    assert divergence(kept, log_probabilities(first + 7)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("size", "spread"), SIZES)
def test_what_is_kept_tells_the_divergence_and_never_too_much(size: int, spread: float) -> None:
    first, second = rows(size, spread)
    found = divergence(keep(log_probabilities(first)), log_probabilities(second))
    true = exact(first, second)
    assert found <= true + 1e-6
    if spread > 1 or size < MOST_TOKENS:  # a row as flat as noise is no language model's
        assert found == pytest.approx(true, rel=1e-3, abs=1e-6)


def test_a_kept_distribution_is_small_and_survives_being_written_down() -> None:
    kept = [keep(log_probabilities(row)) for row in rows(200_000, 0.1)]
    data = pack(kept)
    assert len(data) <= 2 * (8 * MOST_TOKENS + 12)
    for before, after in zip(kept, unpack(data), strict=True):
        assert np.array_equal(before.token_ids, after.token_ids)
        assert np.array_equal(before.logprobs, after.logprobs)
        assert before.rest == after.rest
    assert unpack(b"") == []
    certain = np.zeros(1000, np.float32)
    certain[7] = 50
    assert keep(log_probabilities(certain)).token_ids.tolist() == [7]


def test_tokens_that_cannot_be_are_far_and_not_infinitely() -> None:
    first, second = np.zeros(4, np.float32), np.array([0, 0, 0, -np.inf], np.float32)
    found = divergence(keep(log_probabilities(first)), log_probabilities(second))
    assert 10 < found < 30
    assert divergence(keep(log_probabilities(second)), log_probabilities(first)) == pytest.approx(
        np.log(4 / 3), abs=1e-5
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_distribution_fail_their_job(bad: float) -> None:
    with pytest.raises(EngineError, match="no distribution"):
        log_probabilities(np.full(3, bad, np.float32))
