import numpy as np
import pytest

from corral_kernel.contracts import Candidates


def row() -> Candidates:
    return Candidates(np.array([3, 9, 4, 9, 1], np.float32))


def shortlist() -> Candidates:
    return Candidates(np.array([9, 4, 9], np.float32), np.array([8, 2, 5], np.int32))


def state(candidates: Candidates) -> tuple[list[int] | None, list[float], bool]:
    ids = None if candidates.ids is None else candidates.ids.tolist()
    return ids, candidates.logits.tolist(), candidates.ordered


def test_a_whole_row_gets_ids_when_some_are_kept() -> None:
    candidates = row()

    candidates.keep(np.array([1, 0]), ordered=True)

    assert state(candidates) == ([1, 0], [9, 3], True)
    assert candidates.ids is not None
    assert candidates.ids.dtype == np.int32
    assert len(candidates) == 2


def test_a_mask_keeps_the_order_and_positions_do_not() -> None:
    masked, picked = row(), row()
    for candidates in (masked, picked):
        candidates.sort()

    masked.keep(np.array([True, False, True, False, True]))
    picked.keep(np.array([4, 0]))

    assert state(masked) == ([1, 2, 4], [9, 4, 1], True)
    assert state(picked) == ([4, 1], [1, 9], False)


@pytest.mark.parametrize(
    ("candidates", "ids", "logits"),
    [
        pytest.param(row(), [1, 3, 2, 0, 4], [9, 9, 4, 3, 1], id="whole row"),
        pytest.param(shortlist(), [5, 8, 2], [9, 9, 4], id="shortlist in no order"),
    ],
)
def test_sorting_puts_the_likeliest_first_and_equals_by_id(
    candidates: Candidates, ids: list[int], logits: list[float]
) -> None:
    candidates.sort()
    candidates.sort()

    assert state(candidates) == (ids, logits, True)


def test_the_head_of_a_sorted_list_is_its_likeliest() -> None:
    candidates = shortlist()
    candidates.sort()

    candidates.head(2)

    assert state(candidates) == ([5, 8], [9, 9], True)


def test_what_was_kept_is_a_copy_of_the_row() -> None:
    logits = np.array([3, 9, 4], np.float32)
    candidates = Candidates(logits)

    candidates.keep(np.array([True, True, True]))
    candidates.logits += 1

    assert logits.tolist() == [3, 9, 4]
