from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from corral_kernel.contracts import Candidates, Constraint
from corral_kernel.errors import EngineError
from corral_kernel.sampling import Chooser, HistoryView
from corral_kernel.sampling.draw import MASKED_DRAW, draw
from corral_kernel.testing.chains import chain_of, samplers_of

Rows = Callable[[int, int], NDArray[np.float32]]
Views = Callable[..., HistoryView]

PLAIN: dict[str, Any] = {"top_k": 0, "top_p": 1.0, "temperature": 1.0}


class Steps(Constraint):
    """One set of allowed tokens for each step, the last for ever; None allows everything."""

    def __init__(self, *steps: set[int] | None) -> None:
        self.steps = list(steps)
        self.taken: list[int] = []
        self.masks = 0

    def _now(self, ahead: int = 0) -> set[int] | None:
        return self.steps[min(len(self.taken) + ahead, len(self.steps) - 1)]

    def mask(self, out: NDArray[np.uint32]) -> bool:
        self.masks += 1
        allowed = self._now()
        if allowed is None:
            return False
        out[:] = 0
        for token in allowed:
            out[token // 32] |= np.uint32(1 << token % 32)
        return True

    def accept(self, token_id: int) -> bool:
        allowed = self._now()
        if allowed is not None and token_id not in allowed:
            return False
        self.taken.append(token_id)
        return True

    def forced(self) -> Sequence[int]:
        allowed = self._now()
        return list(allowed) if allowed is not None and len(allowed) == 1 else []

    def allows(self, token_ids: Sequence[int]) -> int:
        for i, token in enumerate(token_ids):
            allowed = self._now(i)
            if allowed is not None and token not in allowed:
                return i
        return len(token_ids)

    def finished(self) -> bool:
        return len(self.taken) >= len(self.steps)


def chooser(  # noqa: PLR0913 - what the tests vary
    fields: dict[str, Any],
    view: HistoryView,
    constraint: Constraint,
    *,
    width: int,
    pieces: int = 0,
    end_ids: Sequence[int] = (),
) -> Chooser:
    return Chooser(
        samplers_of(fields, view),
        view,
        constraint,
        greedy=chain_of(fields).greedy,
        vocab_size=width,
        piece_count=pieces or width,
        end_ids=end_ids,
    )


def share_of(tokens: list[int], width: int) -> NDArray[np.float64]:
    return np.bincount(tokens, minlength=width) / len(tokens)


@pytest.mark.parametrize("first_refused", [False, True], ids=["drawn first", "masked first"])
@pytest.mark.parametrize(
    "allowed", [{0, 3, 5}, {7, 1}, set(range(1, 8))], ids=["three", "two", "most"]
)
def test_a_second_draw_gives_exactly_the_masked_distribution(
    *, allowed: set[int], first_refused: bool, view: Views
) -> None:
    logits = np.array([2.0, 1.5, 1.0, 0.5, 0.0, 1.0, 0.2, -1.0], np.float32)
    wanted = np.where(np.isin(np.arange(8), list(allowed)), np.exp(logits.astype(float)), 0)
    wanted /= wanted.sum()
    tokens = []
    for seed in range(4000):
        history = view(seed=seed)
        steps = [{7}] * 3 if first_refused else []
        constraint = Steps(*steps, allowed)
        under = chooser(PLAIN, history, constraint, width=8)
        for _ in steps:  # 7 is never the likeliest: three refusals, and masks come first
            history.append([under.choose(np.array([99.0] + [0.0] * 7, np.float32))])
        masks = constraint.masks
        tokens.append(under.choose(logits.copy()))
        if first_refused:
            assert constraint.masks == masks + 1

    assert share_of(tokens, 8) == pytest.approx(wanted, abs=0.03)
    spread = ((share_of(tokens, 8) - wanted) ** 2 / np.maximum(wanted, 1e-9)).sum() * 4000
    assert spread < 3.5 * len(allowed) + 12


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="default"),
        pytest.param({"temperature": 0.0}, id="greedy"),
        pytest.param(PLAIN, id="plain"),
        pytest.param({**PLAIN, "typical_p": 0.8, "min_p": 0.01}, id="typical and min_p"),
        pytest.param({"repeat_penalty": 1.5, "frequency_penalty": 0.5}, id="penalties"),
    ],
)
@pytest.mark.parametrize(
    ("width", "count"), [(40, 1), (40, 20), (3000, 1), (3000, 5), (3000, 600), (3000, 2900)]
)
def test_only_allowed_tokens_are_chosen(
    fields: dict[str, Any], width: int, count: int, view: Views, real_shaped: Rows
) -> None:
    generator = np.random.default_rng(count)
    steps = [set(generator.choice(width - 10, count, replace=False).tolist()) for _ in range(30)]
    history = view([1, 2, 3])
    constraint = Steps(*steps)
    under = chooser(fields, history, constraint, width=width, pieces=width - 10)

    for step, allowed in enumerate(steps):
        token = under.choose(real_shaped(width, step))
        history.append([token])
        assert token in allowed
    assert constraint.taken == history.token_ids[3:].tolist()


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 3.0, "top_p": 1.0},
        {"temperature": 3.0, "top_k": 10},
        {**PLAIN, "temperature": 3.0},
        {**PLAIN, "repeat_penalty": 1.5, "presence_penalty": 2.0},
    ],
    ids=str,
)
def test_a_refused_draw_leaves_the_row_as_it_was_for_the_second(
    fields: dict[str, Any], view: Views
) -> None:
    for seed in range(300):
        row = np.random.default_rng(seed).normal(0, 2, 30).astype(np.float32)
        history = view([3, 9, 10, 11], seed=seed)
        masked = Candidates(row.copy())
        masked.logits[4] = -np.inf
        for sampler in samplers_of(fields, history):
            sampler.apply(masked)
        row[4] = 300  # drawn first, and refused

        token = chooser(fields, history, Steps(set(range(30)) - {4}), width=30).choose(row)

        assert token == draw(masked, history.random_at(MASKED_DRAW))


def test_no_mask_is_asked_for_while_draws_are_accepted(view: Views) -> None:
    constraint = Steps(None)
    under = chooser(PLAIN, view(), constraint, width=64)

    for _ in range(20):
        under.choose(np.zeros(64, np.float32))

    assert (constraint.masks, len(constraint.taken)) == (0, 20)


def test_a_constraint_that_keeps_refusing_is_masked_first(view: Views, real_shaped: Rows) -> None:
    asked: list[int] = []

    class Counting(Steps):
        def accept(self, token_id: int) -> bool:
            asked.append(token_id)
            return super().accept(token_id)

    under = chooser({"temperature": 0.0}, view(), Counting({5}), width=64)
    for seed in range(10):
        row = real_shaped(64, seed)
        row[5] = -20
        under.choose(row)

    assert len(asked) == 13  # three were asked twice
    assert asked[-7:] == [5] * 7


@pytest.mark.parametrize("width", [64, 3000], ids=["dense", "sparse"])
def test_the_answer_for_the_first_end_id_holds_for_all(width: int, view: Views) -> None:
    ends = [10, 33, 50]
    tokens = set()
    for seed in range(60):
        constraint = Steps({10, 3})
        under = chooser(PLAIN, view(seed=seed), constraint, width=width, end_ids=ends)
        row = np.full(width, -np.inf, np.float32)
        row[[33, 50, 2]] = [0, 0, 1]
        tokens.add(under.choose(row))
        assert constraint.taken == [10]
        assert under.allows([33, 3, 2]) == 2

    assert tokens == {33, 50}


@pytest.mark.parametrize("width", [64, 3000], ids=["dense", "sparse"])
def test_end_ids_are_refused_together(width: int, view: Views) -> None:
    row = np.zeros(width, np.float32)
    row[[10, 33]] = 50
    under = chooser(PLAIN, view(), Steps({33, 3, 4}), width=width, end_ids=[10, 33, 5000])

    assert under.choose(row) in {3, 4}


@pytest.mark.parametrize(
    ("width", "allowed", "words"),
    [
        pytest.param(64, set(), "allows no token", id="nothing"),
        pytest.param(3000, set(), "allows no token", id="nothing of many"),
        pytest.param(3000, {2999}, "allows no token", id="padding alone"),
        pytest.param(64, {63}, "leave no token", id="padding alone, of few"),
        pytest.param(64, {7}, "leave no token", id="only what the model rules out"),
        pytest.param(3000, {7}, "leave no token", id="only what the model rules out, of many"),
    ],
)
@pytest.mark.parametrize("fields", [{}, PLAIN, {"temperature": 0.0}], ids=str)
def test_a_constraint_that_allows_nothing_possible_is_an_error(
    fields: dict[str, Any], width: int, allowed: set[int], words: str, view: Views
) -> None:
    row = np.zeros(width, np.float32)
    row[7] = -np.inf

    with pytest.raises(EngineError, match=words):
        chooser(fields, view(), Steps(allowed), width=width, pieces=width - 1).choose(row)


def test_a_constraint_that_refuses_what_its_mask_allows_is_an_error(view: Views) -> None:
    class Contradicting(Steps):
        def accept(self, token_id: int) -> bool:
            return token_id < 0

    with pytest.raises(EngineError, match="refuses token 5, which its mask allows"):
        chooser(PLAIN, view(), Contradicting({5}), width=64).choose(np.zeros(64, np.float32))


def test_forced_tokens_are_given_and_taken(view: Views) -> None:
    constraint = Steps({4}, {9}, {1, 2})
    under = chooser({}, view(), constraint, width=64)

    assert under.forced() == [4]
    under.accept(4)
    assert under.forced() == [9]
    assert not under.finished()
    under.accept(9)
    assert under.forced() == []
    with pytest.raises(EngineError, match="refuses token 4, which was forced"):
        under.accept(4)
    under.accept(1)
    assert under.finished()
    assert constraint.taken == [4, 9, 1]
