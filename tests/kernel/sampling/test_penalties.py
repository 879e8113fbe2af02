from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from corral_kernel.contracts import Candidates
from corral_kernel.sampling import HistoryView
from corral_kernel.sampling.penalties import Penalties

Rows = Callable[[int, int], NDArray[np.float32]]
Views = Callable[..., HistoryView]

Amounts = tuple[float, float, float]  # repeat, presence, frequency

HISTORY = [5, 5, 2, -1, 9, -1, 2, 5, 40]


def reference(
    row: NDArray[np.float32], window: Sequence[int], amounts: Amounts
) -> NDArray[np.float64]:
    """One token at a time."""
    repeat, presence, frequency = amounts
    result = row.astype(np.float64)
    for token, count in Counter(window).items():
        if 0 <= token < len(row):
            logit = result[token]
            logit = logit / repeat if logit > 0 else logit * repeat
            result[token] = logit - presence - count * frequency
    return result


@pytest.mark.parametrize("shortened", [False, True], ids=["whole row", "shortlist"])
@pytest.mark.parametrize("last", [1, 3, 8, 9, 4096])
@pytest.mark.parametrize(
    "amounts",
    [(1.3, 0, 0), (1, 0.7, 0), (1, 0, 0.4), (0.5, -0.6, 0.3), (1.1, 0.1, -0.2)],
)
def test_seen_tokens_are_lowered_as_defined(
    *, shortened: bool, last: int, amounts: Amounts, view: Views, real_shaped: Rows
) -> None:
    repeat, presence, frequency = amounts
    row = real_shaped(38, 3)  # 40 stands for an id beyond the row
    row[2] = -np.inf
    wanted = reference(row, HISTORY[-last:], amounts)
    candidates = Candidates(row.copy())
    if shortened:
        candidates.keep(np.array([9, 30, 5, 2, 1]), ordered=True)
        wanted = wanted[[9, 30, 5, 2, 1]]

    Penalties(
        view(HISTORY), last=last, repeat=repeat, presence=presence, frequency=frequency
    ).apply(candidates)

    assert np.allclose(candidates.logits, wanted, rtol=1e-6)


def test_tokens_that_join_count_from_then_on(view: Views) -> None:
    history = view([1])
    penalties = Penalties(history, last=2, repeat=1, presence=0, frequency=1)
    seen = []
    for token in (2, 2, 3):
        history.append([token])
        candidates = Candidates(np.zeros(4, np.float32))
        penalties.apply(candidates)
        seen.append(candidates.logits.tolist())

    assert seen == [[0, -1, -1, 0], [0, 0, -2, 0], [0, 0, -1, -1]]


def test_an_order_that_may_have_changed_is_given_up(view: Views) -> None:
    candidates = Candidates(np.array([5, 4], np.float32), np.array([7, 3], np.int32), ordered=True)

    Penalties(view([7]), last=9, repeat=1, presence=3, frequency=0).apply(candidates)

    assert not Penalties.keeps_order  # so that the chooser takes them as unordered
    assert candidates.logits.tolist() == [2, 4]


@pytest.mark.parametrize("prompt", [[], [-1, -1]], ids=["empty", "media"])
def test_without_seen_tokens_nothing_changes(prompt: list[int], view: Views) -> None:
    for candidates in (
        Candidates(np.ones(3, np.float32)),
        Candidates(np.ones(3, np.float32), np.arange(3, dtype=np.int32)),
    ):
        Penalties(view(prompt), last=64, repeat=2, presence=1, frequency=1).apply(candidates)
        assert candidates.logits.tolist() == [1, 1, 1]


def test_extreme_penalties_make_no_nan_and_no_certainty(view: Views) -> None:
    candidates = Candidates(np.array([3e38, -3e38, -np.inf, 1], np.float32))
    penalties = Penalties(
        view([0, 1, 2, 3] * 50), last=200, repeat=1e-38, presence=-3e38, frequency=-3e38
    )

    with np.errstate(over="ignore"):
        penalties.apply(candidates)

    most = float(np.finfo(np.float32).max)
    assert candidates.logits.tolist() == [most, most, -np.inf, most]
