from collections.abc import Callable

import numpy as np
import pytest

from corral_kernel.sampling import HistoryView, random

Views = Callable[..., HistoryView]


def test_a_view_shows_prompt_and_answer(view: Views) -> None:
    history = view([3, -1, 4])
    for i in range(1000):
        history.append([i, i + 1])

    assert history.prompt_tokens == 3
    assert history.context_tokens == 4096
    ids = history.token_ids
    assert ids.dtype == np.int32
    assert ids.tolist() == [3, -1, 4] + [t for i in range(1000) for t in (i, i + 1)]


def test_a_view_cannot_be_written_to(view: Views) -> None:
    with pytest.raises(ValueError, match="read-only"):
        view([1, 2]).token_ids[0] = 7


def test_what_was_shown_stays_as_it_was(view: Views) -> None:
    history = view([1, 2])
    before = history.token_ids

    history.append(list(range(500)))

    assert before.tolist() == [1, 2]


def test_random_numbers_go_by_position(view: Views) -> None:
    history = view([1, 2, 3], seed=9)
    assert history.random() == random(9, 3, 0)
    assert history.random_at(4) == random(9, 3, 4)

    history.append([1])
    assert history.random() == random(9, 4, 0)


@pytest.mark.parametrize(
    ("start", "stop", "left", "prompt"),
    [
        (1, 3, [0, 3, 4, 5, 6], 2),
        (2, 5, [0, 1, 5, 6], 2),
        (4, 6, [0, 1, 2, 3, 6], 4),
        (5, 7, [0, 1, 2, 3, 4], 4),
        (0, 7, [], 0),
        (2, 2, [0, 1, 2, 3, 4, 5, 6], 4),
    ],
    ids=["in the prompt", "over its end", "at its end", "the end", "all", "nothing"],
)
def test_a_cut_takes_positions_out(
    start: int, stop: int, left: list[int], prompt: int, view: Views
) -> None:
    history = view([0, 1, 2, 3])
    history.append([4, 5, 6])

    history.cut(start, stop)

    assert history.token_ids.tolist() == left
    assert history.prompt_tokens == prompt
    history.append([8])
    assert history.random() == random(1, 8, 0), "a number must not come twice"
    assert history.token_ids.tolist() == [*left, 8]
