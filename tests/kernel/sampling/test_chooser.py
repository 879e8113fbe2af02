from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from corral_kernel.contracts import Candidates, Sampler
from corral_kernel.errors import EngineError
from corral_kernel.sampling import Chooser, HistoryView
from corral_kernel.testing.chains import chain_of, samplers_of

Rows = Callable[[int, int], NDArray[np.float32]]
Views = Callable[..., HistoryView]

PLAIN: dict[str, Any] = {"top_k": 0, "top_p": 1.0, "temperature": 1.0}
SETTINGS = [
    pytest.param({}, id="default"),
    pytest.param({"temperature": 0.0}, id="greedy"),
    pytest.param({"temperature": 0.0, "presence_penalty": 1.0}, id="greedy with penalties"),
    pytest.param(PLAIN, id="plain"),
    pytest.param({**PLAIN, "top_p": 0.95, "temperature": 3.0}, id="top_p"),
    pytest.param({**PLAIN, "typical_p": 0.9}, id="typical_p"),
    pytest.param({**PLAIN, "min_p": 0.1}, id="min_p"),
]


def chooser(fields: dict[str, Any], view: HistoryView, width: int, pieces: int = 0) -> Chooser:
    return Chooser(
        samplers_of(fields, view),
        view,
        None,
        greedy=chain_of(fields).greedy,
        vocab_size=width,
        piece_count=pieces or width,
    )


@pytest.mark.parametrize("fields", SETTINGS)
def test_the_same_seed_chooses_the_same_tokens_whenever_asked(
    fields: dict[str, Any], view: Views, real_shaped: Rows
) -> None:
    answers = []
    for _ in range(2):
        history = view([7, 8], seed=5)
        choose = chooser(fields, history, 3000).choose
        for position in range(40):
            history.append([choose(real_shaped(3000, position))])
        answers.append(history.token_ids.tolist())

    alone = view(answers[0][:30], seed=5)
    assert answers[0] == answers[1]
    assert chooser(fields, alone, 3000).choose(real_shaped(3000, 28)) == answers[0][30]


def test_another_seed_chooses_other_tokens(view: Views) -> None:
    answers = set()
    for seed in range(5):
        history = view(seed=seed)
        choose = chooser(PLAIN, history, 64).choose
        for _ in range(20):
            history.append([choose(np.zeros(64, np.float32))])
        answers.add(tuple(history.token_ids.tolist()))

    assert len(answers) == 5


@pytest.mark.parametrize("fields", SETTINGS)
def test_ids_without_a_piece_are_never_chosen(fields: dict[str, Any], view: Views) -> None:
    history = view()
    choose = chooser(fields, history, 100, pieces=90).choose
    for _ in range(50):
        row = np.zeros(100, np.float32)
        row[90:] = 30
        token = choose(row)
        history.append([token])
        assert token < 90


@pytest.mark.parametrize("fields", SETTINGS)
@pytest.mark.parametrize("bad", [np.nan, -np.inf], ids=["nan", "-inf"])
def test_impossible_tokens_do_not_disturb_the_others(
    fields: dict[str, Any], bad: float, view: Views, real_shaped: Rows
) -> None:
    history = view()
    choose = chooser(fields, history, 2000).choose
    for seed in range(40):
        row = real_shaped(2000, seed)
        row[::2] = bad
        token = choose(row)
        history.append([token])
        assert token % 2 == 1


@pytest.mark.parametrize("fields", SETTINGS)
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.nan, "unusable: all are NaN or -inf"),
        (-np.inf, "unusable: all are NaN or -inf"),
        (np.inf, "unusable: one is infinite"),
    ],
)
def test_a_useless_row_is_an_error_in_words(
    fields: dict[str, Any], value: float, words: str, view: Views
) -> None:
    with pytest.raises(EngineError, match=words):
        chooser(fields, view(), 500).choose(np.full(500, value, np.float32))


@pytest.mark.parametrize("fields", SETTINGS)
def test_a_row_of_a_wrong_width_is_an_error(fields: dict[str, Any], view: Views) -> None:
    with pytest.raises(EngineError, match=r"shape \(501,\), not \(500,\)"):
        chooser(fields, view(), 500).choose(np.zeros(501, np.float32))


@pytest.mark.parametrize("fields", SETTINGS)
@pytest.mark.parametrize(
    "row",
    [
        pytest.param(np.full(300, 3e38), id="all huge"),
        pytest.param(np.full(300, -3e38), id="all very low"),
        pytest.param(np.linspace(-3e38, 3e38, 300), id="a wide range"),
        pytest.param(np.where(np.arange(300) == 200, 0, -np.inf), id="one possible"),
        pytest.param(np.full(300, 1e-45), id="denormal"),
    ],
)
def test_extreme_rows_give_a_token(
    fields: dict[str, Any], row: NDArray[np.float64], view: Views
) -> None:
    given = row.astype(np.float32)

    token = chooser(fields, view([1, 299]), 300).choose(given.copy())

    assert given[token] > -np.inf


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 1e-44},
        {"temperature": 3e38},
        {"min_p": 1e-45},
        {"top_p": 1e-45, "top_k": 0},
        {"repeat_penalty": 3e38, "presence_penalty": 3e38, "frequency_penalty": 3e38},
        {"repeat_penalty": 1e-45, "presence_penalty": -3e38, "temperature": 0.0},
        {"top_k": 2**70},
        {"repeat_last_n": 2**70, "repeat_penalty": 1.1},
        {"repeat_last_n": -(2**70), "repeat_penalty": 1.1},
        {"seed": 2**200},
    ],
    ids=str,
)
def test_extreme_options_give_a_token(
    fields: dict[str, Any], view: Views, real_shaped: Rows
) -> None:
    history = view([1, 2, 3] * 100, seed=fields.get("seed", 0))
    choose = chooser(fields, history, 1000).choose

    tokens = [choose(real_shaped(1000, seed)) for seed in range(5)]

    assert all(0 <= token < 1000 for token in tokens)


@pytest.mark.parametrize("piece_count", [8, 6], ids=["whole", "padded"])
def test_the_first_sampler_gets_the_engine_s_own_row(view: Views, piece_count: int) -> None:
    given = []

    class Looks(Sampler):
        """Remembers what it got."""

        def apply(self, candidates: Candidates) -> None:
            given.append(candidates.logits)

    row = np.arange(8, dtype=np.float32)
    Chooser([Looks()], view(), vocab_size=8, piece_count=piece_count).choose(row)

    assert np.shares_memory(given[0], row)
    assert len(given[0]) == piece_count


def test_samplers_that_leave_nothing_are_an_error(view: Views) -> None:
    fields = {"presence_penalty": 3e38, "temperature": 0.0}
    row = np.full(8, -3e38, np.float32)

    with pytest.raises(EngineError, match="leave no token"):
        chooser(fields, view(range(8)), 8).choose(row)


def test_without_a_constraint_nothing_is_forced_or_finished(view: Views) -> None:
    free = chooser({}, view(), 8)

    assert free.forced() == []
    assert free.allows([1, 2, 3]) == 3
    assert not free.finished()
    free.accept(3)
