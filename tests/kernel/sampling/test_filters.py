import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from corral_kernel.contracts import Candidates, Sampler
from corral_kernel.sampling.filters import MinP, Temperature, TopK, TopP, TypicalP

Rows = Callable[[int, int], NDArray[np.float32]]
Pairs = list[tuple[int, float]]  # token id, logit: likeliest first, equal ones by id


def probabilities(pairs: Pairs) -> list[float]:
    top = pairs[0][1]
    weights = [math.exp(logit - top) for _, logit in pairs]
    return [weight / sum(weights) for weight in weights]


def top_k(pairs: Pairs, k: float) -> set[int]:
    return {token for token, _ in pairs[: int(k)]}


def top_p(pairs: Pairs, p: float) -> set[int]:
    kept: set[int] = set()
    total = 0.0
    for (token, _), chance in zip(pairs, probabilities(pairs), strict=True):
        kept.add(token)
        total += chance
        if total >= p:
            break
    return kept


def min_p(pairs: Pairs, p: float) -> set[int]:
    chances = probabilities(pairs)
    return {token for (token, _), c in zip(pairs, chances, strict=True) if c >= p * chances[0]}


def typical_p(pairs: Pairs, p: float) -> set[int]:
    chances = probabilities(pairs)
    entropy = -sum(c * math.log(c) for c in chances if c)
    distances = [abs(-math.log(c) - entropy) if c else math.inf for c in chances]
    kept: set[int] = set()
    total = 0.0
    for i in sorted(range(len(pairs)), key=lambda i: distances[i]):
        kept.add(pairs[i][0])
        total += chances[i]
        if total > p:
            break
    return kept


class Case(NamedTuple):
    kind: Callable[..., Sampler]
    reference: Callable[[Pairs, float], set[int]]
    value: float


CASES = [
    pytest.param(Case(kind, reference, value), id=f"{reference.__name__}={value}")
    for kind, reference, values in (
        (TopK, top_k, (1, 2, 7, 40, 250, 100_000)),
        (TopP, top_p, (-1.0, 0.0, 0.1, 0.5, 0.9, 0.99)),
        (MinP, min_p, (1e-6, 0.01, 0.05, 0.3, 0.9)),
        (TypicalP, typical_p, (-1.0, 0.0, 0.2, 0.5, 0.9, 0.99)),
    )
    for value in values
]

whole = Candidates


def rising(row: NDArray[np.float32]) -> Candidates:
    """The row as a mask may leave it."""
    return Candidates(row, np.arange(len(row), dtype=np.int32))


def shuffled(row: NDArray[np.float32]) -> Candidates:
    """The row as a sampler may leave it: ids in no order."""
    order = np.random.default_rng(0).permutation(len(row)).astype(np.int32)
    return Candidates(row[order], order)


def in_order(row: NDArray[np.float32]) -> Candidates:
    candidates = Candidates(row)
    candidates.sort()
    return candidates


FORMS = [
    pytest.param(whole, id="whole row"),
    pytest.param(shuffled, id="shuffled"),
    pytest.param(in_order, id="in order"),
]


def kept(candidates: Candidates) -> set[int]:
    ids = range(len(candidates)) if candidates.ids is None else candidates.ids.tolist()
    return set(ids)


def pairs_of(row: NDArray[np.float32]) -> Pairs:
    return sorted(enumerate(row.tolist()), key=lambda pair: (-pair[1], pair[0]))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("width", [1, 2, 50, 700, 5000])
def test_a_filter_keeps_what_its_definition_keeps(
    case: Case,
    form: Callable[[NDArray[np.float32]], Candidates],
    width: int,
    real_shaped: Rows,
) -> None:
    row = real_shaped(width, width)
    candidates = form(row.copy())

    case.kind(case.value).apply(candidates)

    assert kept(candidates) == case.reference(pairs_of(row), case.value)
    if candidates.ids is not None:
        assert np.array_equal(candidates.logits, row[candidates.ids])
    if candidates.ordered:
        assert (np.diff(candidates.logits) <= 0).all()


@pytest.mark.parametrize("form", [whole, rising, in_order])
@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        pytest.param(TopK(2), {1, 3}, id="top_k takes the lower ids"),
        pytest.param(TopP(0.5), {1, 3}, id="top_p takes the lower ids"),
        pytest.param(TopP(0.51), {1, 3, 4}, id="top_p rounds up to a token"),
        pytest.param(TypicalP(0.5), {1, 3, 4}, id="typical_p goes beyond its mass"),
        pytest.param(MinP(1.0), {1, 3, 4, 5}, id="min_p of 1 keeps the equals of the likeliest"),
        pytest.param(MinP(2.0), {1, 3, 4, 5}, id="min_p over 1 too"),
    ],
)
def test_equally_likely_tokens_go_by_id(
    sampler: Sampler,
    expected: set[int],
    form: Callable[[NDArray[np.float32]], Candidates],
) -> None:
    row = np.array([-90, 4, -90, 4, 4, 4, -np.inf], np.float32)
    candidates = form(row)

    sampler.apply(candidates)

    assert kept(candidates) == expected


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES)
def test_a_filter_bears_impossible_tokens(
    case: Case,
    form: Callable[[NDArray[np.float32]], Candidates],
    real_shaped: Rows,
) -> None:
    row = real_shaped(900, 4)
    row[::2] = -np.inf
    possible = [pair for pair in pairs_of(row) if pair[1] > -math.inf]
    candidates = form(row.copy())

    case.kind(case.value).apply(candidates)

    remaining = {i for i in kept(candidates) if row[i] > -np.inf}
    assert remaining == case.reference(possible, case.value)


@pytest.mark.parametrize("temperature", [0.1, 0.8, 3.0, 1e30])
@pytest.mark.parametrize("form", FORMS)
def test_temperature_divides_the_distances_between_logits(
    temperature: float, form: Callable[[NDArray[np.float32]], Candidates], real_shaped: Rows
) -> None:
    row = real_shaped(500, 1)
    candidates = form(row.copy())
    before = candidates.logits.astype(float)

    Temperature(temperature).apply(candidates)

    wanted = (before - before.max()) / temperature
    assert np.allclose(candidates.logits, wanted, rtol=1e-5, atol=1e-6)


def test_a_tiny_temperature_leaves_the_likeliest_alone_at_the_top() -> None:
    candidates = Candidates(np.array([10, 9.5, -np.inf, 10], np.float32))

    with np.errstate(over="ignore"):
        Temperature(1e-42).apply(candidates)

    assert candidates.logits[[0, 3]].tolist() == [0, 0]
    assert (candidates.logits[[1, 2]] < -1e30).all()
