"""llama.cpp's own samplers leave what the kernel's leave, and draws over both are one draw."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from corral_kernel.contracts import (
    Candidates,
    Constraint,
    Job,
    Prompt,
    Sampler,
    SamplerSpec,
    TokenEngine,
    TokenSegment,
)
from corral_kernel.sampling import Chooser, HistoryView
from corral_kernel.sampling.draw import draw, draw_of, random
from corral_kernel.testing.chains import chain_of, samplers_of
from corral_llamacpp.shortlist import MOST_CANDIDATES, native_part

Opener = Callable[..., Any]
Row = NDArray[np.float32]

NATIVE = {"top_k", "top_p", "min_p", "temperature"}


@pytest.fixture(autouse=True)
def as_in_a_worker() -> Iterator[None]:
    """The loop has numpy ignore what overflows, once for its thread."""
    with np.errstate(all="ignore"):
        yield


@pytest.fixture
def engine(open_engine: Opener, tiny_chat: Path) -> TokenEngine:
    opened: TokenEngine = open_engine(tiny_chat, slots=3, draft_num_predict=4)
    return opened


class Decoded:
    """A job that was decoded once, whose rows a test may write."""

    def __init__(self, engine: TokenEngine, options: dict[str, Any], job_id: int = 1) -> None:
        self.engine = engine
        self.options = options
        self.id = job_id
        prompt = Prompt((TokenSegment([1, 2, 3]),))
        job = Job(id=job_id, prompt=prompt, max_tokens=20, chain=chain_of(options).samplers)
        admission = engine.admit(job)
        assert admission is not None
        self.native = admission.native_samplers
        self.view = HistoryView(engine.tokenizer, [1, 2, 3], 512, seed=5)

    def left(self, row: int = 0) -> tuple[list[int], Row]:
        """Ids and logits of the engine's shortlist."""
        found = self.engine.shortlist(self.id, row)
        return [i for i, _ in found], np.array([x for _, x in found], np.float32)

    def wanted(self, row: Row, **changed: float) -> tuple[list[int], Row]:
        """Ids and logits of the kernel's chain, on a copy of a row."""
        candidates = Candidates(row.copy())
        for sampler in samplers_of({**self.options, **changed}, self.view)[: self.native]:
            sampler.apply(candidates)
        candidates.sort()
        assert candidates.ids is not None
        return candidates.ids.tolist(), candidates.logits

    def nearly_wanted(self, row: Row) -> list[list[int]]:
        """Ids of the kernel's chain where sums are rounded a little otherwise."""
        found = []
        for top_p, min_p in product((0, -1e-5, 1e-5), repeat=2):
            changed = {
                "top_p": self.options.get("top_p", 0.9) + top_p,
                "min_p": max(0.0, self.options.get("min_p", 0.0) * (1 + min_p)),
            }
            found.append(self.wanted(row, **changed)[0])
        return found


def forward(engine: TokenEngine) -> dict[int, Row]:
    """Rows of a step by job."""
    rows = {rows.job_id: rows.logits for rows in engine.forward()}
    return {job_id: logits for job_id, logits in rows.items() if logits is not None}


def chances(logits: Row) -> Row:
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return weights / weights.sum()


OPTIONS = st.fixed_dictionaries(
    {
        "top_k": st.integers(1, MOST_CANDIDATES),
        "top_p": st.floats(0, 1.25, width=32),
        "min_p": st.floats(0, 1, width=32),
        "temperature": st.floats(0.0625, 3, width=32),
        "min_keep": st.integers(0, 5),
    }
)


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(options=OPTIONS, seed=st.integers(0, 2**32 - 1), spread=st.floats(0.1, 20))
def test_the_engine_leaves_what_the_kernel_s_samplers_leave(
    engine: TokenEngine, options: dict[str, Any], seed: int, spread: float
) -> None:
    job = Decoded(engine, options)
    try:
        row = forward(engine)[job.id][0]
        row[:] = np.random.default_rng(seed).normal(-2, spread, len(row)).astype(np.float32)
        before = row.copy()
        ids, logits = job.left()
        wanted_ids, wanted_logits = job.wanted(row)
        job_nearly = [] if ids == wanted_ids else job.nearly_wanted(row)
    finally:
        engine.release(job.id)

    assert job.native >= 1
    assert np.array_equal(row, before), "the row is changed"
    shared = min(len(ids), len(wanted_ids))
    assert ids == wanted_ids or ids in job_nearly
    assert np.allclose(chances(logits[:shared]), chances(wanted_logits[:shared]), rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "native"),
    [
        ({}, [0, 1, 2]),
        ({"min_p": 0.1}, [0, 1, 2, 3]),
        ({"top_k": MOST_CANDIDATES + 1}, []),
        ({"top_k": 0}, []),
        ({"repeat_penalty": 1.1}, [1, 2, 3]),
        ({"typical_p": 0.5}, [0]),
        ({"samplers": ["top_k", "penalties", "temperature"], "repeat_penalty": 2}, [0]),
        ({"samplers": ["top_p", "penalties", "top_k"], "repeat_penalty": 2}, [2]),
        ({"samplers": []}, []),
    ],
    ids=str,
)
def test_it_takes_over_a_chain_from_top_k_on_as_far_as_the_library_has_it(
    options: dict[str, Any], native: list[int]
) -> None:
    assert list(native_part(chain_of(options).samplers)) == native


def test_every_sampler_that_it_takes_over_is_one_of_the_kernel_s() -> None:
    spec = SamplerSpec(name="top_k", options={"top_k": 40})
    for name in NATIVE:
        assert list(native_part([spec, SamplerSpec(name=name, options={"top_k": 1})])) == [0, 1]


def test_equal_logits_come_by_id(engine: TokenEngine) -> None:
    job = Decoded(engine, {"top_k": 20, "top_p": 1, "temperature": 1})
    row = forward(engine)[job.id][0]
    row[:] = -10
    row[[200, 7, 50, 9]] = 3
    row[100] = 4

    ids, _ = job.left()

    assert ids[:5] == [100, 7, 9, 50, 200]


def test_a_row_of_nothing_usable_is_left_to_the_kernel(engine: TokenEngine) -> None:
    job = Decoded(engine, {})
    row = forward(engine)[job.id][0]
    for value in (np.nan, -np.inf, np.inf):
        row[:] = value
        assert list(engine.shortlist(job.id, 0)) == []


def test_each_job_and_each_draft_has_its_own_row(engine: TokenEngine) -> None:
    jobs = [Decoded(engine, {"top_k": 1 + n, "top_p": 1}, job_id=n) for n in (1, 2, 3)]
    forward(engine)
    for job in jobs:
        engine.extend(job.id, [4], [5] * job.id)
    rows = forward(engine)
    assert [len(rows[job.id]) for job in jobs] == [2, 3, 4]
    generator = np.random.default_rng(3)
    for logits in rows.values():
        logits[:] = generator.normal(0, 3, logits.shape)

    for job in jobs:
        for place, row in enumerate(rows[job.id]):
            ids, logits = job.left(place)
            wanted_ids, wanted = job.wanted(row)
            assert ids == wanted_ids
            assert len(ids) == 1 + job.id
            assert np.allclose(logits - logits[0], wanted - wanted[0], rtol=1e-4)


def test_a_draw_falls_on_the_same_token_either_way(engine: TokenEngine) -> None:
    job = Decoded(engine, {})
    row = forward(engine)[job.id][0]
    chooser = Chooser(
        samplers_of({}, job.view), job.view, vocab_size=len(row), piece_count=len(row)
    )
    generator = np.random.default_rng(4)
    for position in range(300):
        row[:] = generator.normal(0, 4, len(row))
        chooser.leave_to_engine(0)
        alone = chooser.choose(row.copy())
        chooser.leave_to_engine(job.native)
        assert chooser.choose(row, shortlist=lambda: engine.shortlist(job.id, 0)) == alone
        job.view.append([position % 250])


def test_samplers_that_the_library_lacks_come_after_its_own(engine: TokenEngine) -> None:
    options = {
        "samplers": ["top_k", "top_p", "penalties", "temperature"],
        "repeat_penalty": 1.9,
        "temperature": 0.7,
    }
    job = Decoded(engine, options)
    row = forward(engine)[job.id][0]
    chooser = Chooser(
        samplers_of(options, job.view), job.view, vocab_size=len(row), piece_count=len(row)
    )
    generator = np.random.default_rng(5)
    assert job.native == 2
    for _ in range(100):
        row[:] = generator.normal(0, 4, len(row))
        chooser.leave_to_engine(0)
        alone = chooser.choose(row.copy())
        chooser.leave_to_engine(2)
        assert chooser.choose(row, shortlist=lambda: engine.shortlist(job.id, 0)) == alone
        job.view.append([alone])


class Writer(Sampler):
    """Writes to the row as a test tells it to."""

    def __init__(self, write: Callable[[Candidates], None]) -> None:
        self.apply = write  # type: ignore[method-assign] # one for each test


def _ban_the_best(candidates: Candidates) -> None:
    candidates.logits[candidates.logits.argmax()] = -np.inf


def _replace(candidates: Candidates) -> None:
    candidates.logits = candidates.logits[::-1].copy()


def _keep_some(candidates: Candidates) -> None:
    candidates.keep(np.arange(0, len(candidates), 3))


def _force_one(candidates: Candidates) -> None:
    candidates.logits[77] = np.inf


@pytest.mark.parametrize(
    ("write", "asks"),
    [(_ban_the_best, True), (_replace, False), (_keep_some, False), (_force_one, False)],
)
def test_the_engine_finds_the_row_as_the_samplers_before_left_it(
    engine: TokenEngine, write: Callable[[Candidates], None], *, asks: bool
) -> None:
    options = {"temperature": 0.9}
    job = Decoded(engine, options)
    row = forward(engine)[job.id][0]
    samplers = [Writer(write), *samplers_of(options, job.view)]
    chooser = Chooser(samplers, job.view, vocab_size=len(row), piece_count=len(row))
    generator = np.random.default_rng(6)
    asked = 0

    def shortlist() -> Sequence[tuple[int, float]]:
        nonlocal asked
        asked += 1
        return engine.shortlist(job.id, 0)

    for position in range(100):
        row[:] = generator.normal(0, 4, len(row))
        chooser.leave_to_engine(0)
        alone = chooser.choose(row.copy())
        chooser.leave_to_engine(job.native, 1)
        assert chooser.choose(row, shortlist=shortlist) == alone
        job.view.append([position % 250])
    assert asked == (100 if asks else 0)


class OneOfTwo(Constraint):
    """Allows tokens 7 and 9."""

    def mask(self, out: NDArray[np.uint32]) -> bool:
        out[:] = 0
        out[0] = 1 << 7 | 1 << 9
        return True

    def accept(self, token_id: int) -> bool:
        return token_id in {7, 9}


def test_what_a_sampler_writes_is_not_in_the_row_that_a_mask_is_laid_on(
    engine: TokenEngine,
) -> None:
    job = Decoded(engine, {})
    row = forward(engine)[job.id][0]
    samplers = [Writer(_ban_the_best), *samplers_of({}, job.view)]
    chooser = Chooser(
        samplers, job.view, OneOfTwo(), vocab_size=len(row), piece_count=len(row), end_ids=[2]
    )
    chooser.leave_to_engine(job.native, 1)
    row[:] = np.linspace(0, 1, len(row))
    row[7] = 20  # the best of all, and so of the two: banned in the free draw, and in the second

    assert chooser.choose(row, shortlist=lambda: pytest.fail("the row is written to")) == 9


@pytest.mark.parametrize("count", [1, 2, 40, 64, 65, 200])
def test_draws_follow_the_chances(count: int) -> None:
    generator = np.random.default_rng(count)
    logits = np.sort(generator.normal(0, 1, count).astype(np.float32))[::-1].copy()
    ids = generator.permutation(1000)[:count].astype(np.int32)
    left = list(zip(ids.tolist(), logits.tolist(), strict=True))
    numbers = [random(9, position) for position in range(20_000)]

    drawn = [draw_of(left, number) for number in numbers]

    assert drawn == [draw(Candidates(logits, ids, ordered=True), number) for number in numbers]
    wanted = chances(logits) * len(numbers)
    found = np.array([drawn.count(int(token_id)) for token_id in ids])
    statistic = float(((found - wanted) ** 2 / wanted).sum())
    assert statistic < count - 1 + 6 * np.sqrt(2 * max(1, count - 1))
