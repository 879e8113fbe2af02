import math

import numpy as np
import pytest
from numpy.typing import NDArray

from corral_kernel.sampling.shortlist import largest, leading


def by_sorting(values: NDArray[np.float32], count: int) -> list[int]:
    """What `largest` means: all of Python's own sorting, and nothing else."""
    order = sorted(range(len(values)), key=lambda i: (-float(values[i]), i))
    return [i for i in order if values[i] > -np.inf][:count] or [0]


def by_adding(keys: list[float], weights: list[float], mass: float, *, beyond: bool) -> list[int]:
    """What `leading` means, one by one."""
    taken: list[int] = []
    total = 0.0
    for i in sorted(range(len(keys)), key=lambda i: (-keys[i], i)):
        taken.append(i)
        total += weights[i]
        if total > mass if beyond else total >= mass:
            break
    return taken


@pytest.mark.parametrize("count", [1, 2, 40, 300, 4000, 10_000])
@pytest.mark.parametrize("width", [1, 2, 63, 64, 65, 1000, 5000, 20_011])
def test_the_largest_are_those_that_sorting_finds(width: int, count: int) -> None:
    generator = np.random.default_rng(width * 31 + count)
    values = generator.normal(0, 4, width).astype(np.float32)

    assert largest(values, count).tolist() == by_sorting(values, count)


@pytest.mark.parametrize("seed", range(30))
def test_equal_values_go_by_position(seed: int) -> None:
    generator = np.random.default_rng(seed)
    width = int(generator.integers(1, 6000))
    values = generator.integers(0, generator.integers(1, 6), width).astype(np.float32)
    count = int(generator.integers(1, width + 1))

    assert largest(values, count).tolist() == by_sorting(values, count)


@pytest.mark.parametrize("possible", [0, 1, 3, 39, 40, 41, 2000])
def test_impossible_ones_are_left_out_but_never_all(possible: int) -> None:
    values = np.full(9000, -np.inf, np.float32)
    generator = np.random.default_rng(possible)
    values[generator.choice(9000, possible, replace=False)] = generator.normal(size=possible)

    assert largest(values, 40).tolist() == by_sorting(values, 40)
    assert largest(values, 9000).tolist() == by_sorting(values, 9000)


def test_zeros_of_either_sign_are_equal() -> None:
    values = np.tile(np.array([-0.0, 0.0], np.float32), 2000)

    assert largest(values, 4000).tolist() == list(range(4000))
    assert largest(values, 5).tolist() == [0, 1, 2, 3, 4]


def test_infinite_and_huge_values_keep_their_order() -> None:
    values = np.zeros(4096, np.float32)
    most = np.finfo(np.float32).max
    values[[7, 4000, 100, 3]] = np.array([np.inf, most, -most, 1e-45])

    assert largest(values, 3).tolist() == [7, 4000, 3]
    assert largest(values, 4096)[-1] == 100


def test_what_is_looked_at_stays_as_it_was() -> None:
    values = np.random.default_rng(1).normal(size=5000).astype(np.float32)
    before = values.copy()

    largest(values, 40)
    largest(values, 5000)

    assert np.array_equal(values, before)


@pytest.mark.parametrize("beyond", [False, True], ids=["reached", "passed"])
@pytest.mark.parametrize("width", [1, 5, 256, 257, 3000, 20_000])
@pytest.mark.parametrize("share", [-1.0, 0.0, 0.01, 0.5, 0.999])
def test_the_leading_ones_are_those_that_adding_up_finds(
    *, width: int, share: float, beyond: bool
) -> None:
    generator = np.random.default_rng(width)
    keys = generator.normal(0, 3, width).astype(np.float32)
    weights = generator.integers(1, 100, width).astype(np.float32)  # sums of integers are exact
    mass = share * float(weights.sum())

    found = leading(keys, weights, mass, beyond=beyond).tolist()

    assert found == by_adding(keys.tolist(), weights.tolist(), mass, beyond=beyond)


def test_a_mass_that_is_never_reached_takes_all_that_weigh_something() -> None:
    keys = np.arange(10, 0, -1).astype(np.float32)
    weights = np.array([1, 1, 0, 1, 0, 0, 0, 0, 0, 0], np.float32)

    assert leading(keys, weights, math.inf).tolist() == [0, 1, 2, 3]
