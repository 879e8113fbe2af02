import numpy as np
import pytest
from numpy.typing import NDArray

from corral_kernel.contracts import Candidates
from corral_kernel.sampling.draw import draw, likeliest, random

GOLDEN = [
    ((0, 0, 0), 0.13870941014555427),
    ((0, 0, -1), 0.7148153168337203),
    ((0, 0, -2), 0.40683371471736396),
    ((0, 1, -1), 0.5877628151125525),
    ((1, 0, -1), 0.4831209183972839),
    ((42, 0, 0), 0.3869742762400409),
    ((42, 1000, -1), 0.35856712115786415),
    ((-1, 7, 3), 0.3707731940430754),
    ((18446744073709551615, 7, 3), 0.3707731940430754),
    ((2147483647, 131072, -2), 0.37149712043281435),
    ((123456789, 17, -1), 0.0463543156489008),
]


def reference(seed: int, position: int, place: int) -> float:
    """The documented hash in the words of its definition, on numpy's wrapping integers."""
    state = np.uint64(0)
    with np.errstate(over="ignore"):
        for word in (seed, position, place):
            z = (state ^ np.uint64(word % 2**64)) + np.uint64(0x9E3779B97F4A7C15)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = z ^ (z >> np.uint64(31))
    return int(state >> np.uint64(11)) / 2**53


def critical(freedom: int) -> float:
    """The chi-square that chance passes once in ten thousand (Wilson and Hilferty)."""
    return float(freedom * (1 - 2 / (9 * freedom) + 3.72 * (2 / (9 * freedom)) ** 0.5) ** 3)


def chi_square(counts: NDArray[np.int64], chances: NDArray[np.float64]) -> float:
    wanted = chances * counts.sum()
    return float(((counts - wanted) ** 2 / wanted).sum())


@pytest.mark.parametrize(("key", "number"), GOLDEN)
def test_random_numbers_are_the_same_everywhere_and_for_ever(
    key: tuple[int, int, int], number: float
) -> None:
    assert random(*key) == number


def test_random_numbers_are_the_documented_hash() -> None:
    generator = np.random.default_rng(5)
    for seed, position in generator.integers(-(2**62), 2**62, (500, 2)).tolist():
        for place in (-2, -1, 0, 7):
            assert random(seed, position, place) == reference(seed, position, place)


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["seed", "position", "place"])
def test_random_numbers_are_even_along_each_argument(axis: int) -> None:
    numbers = np.array([random(*np.roll((i, 3, 1), axis).tolist()) for i in range(20_000)])

    counts = np.histogram(numbers, 50, (0, 1))[0]
    pairs = np.histogram2d(numbers[:-1], numbers[1:], 7, ((0, 1), (0, 1)))[0].ravel()
    assert chi_square(counts, np.full(50, 1 / 50)) < critical(49)
    assert chi_square(pairs, np.full(49, 1 / 49)) < critical(48)


def test_a_draw_takes_the_likeliest_first() -> None:
    row = np.log(np.array([0.1, 0.2, 0.4, 0.05, 0.25], np.float32))
    numbers = [0.0, 0.39, 0.41, 0.64, 0.66, 0.84, 0.86, 0.94, 0.96, 1 - 2**-53]

    drawn = [draw(Candidates(row), number) for number in numbers]

    assert drawn == [2, 2, 4, 4, 1, 1, 0, 0, 3, 3]


@pytest.mark.parametrize("width", [3, 300, 6000, 30_000])
def test_a_draw_is_the_same_whatever_form_the_candidates_have(width: int) -> None:
    generator = np.random.default_rng(width)
    row = generator.normal(0, 3, width).astype(np.float32)
    ordered = Candidates(row)
    ordered.sort()
    order = generator.permutation(width).astype(np.int32)
    shuffled = Candidates(row[order], order)

    for number in [0.0, *generator.random(60), 0.999, 0.99999]:
        token = draw(ordered, number)
        assert draw(Candidates(row), number) == token
        assert draw(shuffled, number) == token


def test_each_token_has_the_numbers_from_its_lower_border_on() -> None:
    row = np.zeros(4, np.float32)
    ordered = Candidates(row)
    ordered.sort()

    for candidates in (Candidates(row), ordered):
        borders = [draw(candidates, number) for number in (0.0, 0.25, 0.5, 0.75)]
        below = [draw(candidates, number - 2**-53) for number in (0.25, 0.5, 0.75, 1.0)]
        assert borders == below == [0, 1, 2, 3]


def test_tokens_without_a_chance_are_never_drawn() -> None:
    row = np.full(5000, -np.inf, np.float32)
    row[[4, 4000]] = 1.0
    row[77] = -200.0  # its probability is zero in single precision
    most = 1 - 2**-53

    assert draw(Candidates(row), 0.0) == 4
    assert draw(Candidates(row), most) == 4000
    shortlist = Candidates(row[[4, 4000, 77, 5]], np.array([4, 4000, 77, 5]), ordered=True)
    assert draw(shortlist, most) == 4000


def test_infinite_logits_are_certain() -> None:
    row = np.array([1, np.inf, 3, np.inf], np.float32)

    assert [draw(Candidates(row), number) for number in (0.2, 0.7)] == [1, 3]


@pytest.mark.parametrize(
    "chances",
    [
        pytest.param([0.5, 0.25, 0.125, 0.125], id="halves"),
        pytest.param([0.97, 0.01, 0.01, 0.01], id="nearly certain"),
        pytest.param([1 / 60] * 60, id="even"),
    ],
)
def test_draws_over_positions_have_the_softmax_for_their_distribution(
    chances: list[float],
) -> None:
    row = np.log(np.array(chances, np.float32))
    drawn = [draw(Candidates(row), random(11, position)) for position in range(15_000)]

    counts = np.bincount(drawn, minlength=len(chances))

    assert chi_square(counts, np.array(chances)) < critical(len(chances) - 1)


@pytest.mark.parametrize(
    "candidates",
    [
        pytest.param(Candidates(np.array([1, 5, 5, 0], np.float32)), id="whole row"),
        pytest.param(
            Candidates(np.array([5, 0, 5], np.float32), np.array([2, 0, 1], np.int32)),
            id="shuffled",
        ),
        pytest.param(
            Candidates(
                np.array([5, 5, 0], np.float32), np.array([1, 2, 0], np.int32), ordered=True
            ),
            id="in order",
        ),
    ],
)
def test_the_likeliest_of_equals_has_the_lowest_id(candidates: Candidates) -> None:
    assert likeliest(candidates) == 1
