"""What is wrong with a token engine is found by its suite, and said."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from corral_repeat.engine import RepeatEngine, Running
from corral_repeat.options import RepeatOptions

from corral_kernel.contracts import (
    Admission,
    Job,
    Part,
    Prompt,
    Rows,
    TokenEngine,
    TokenSegment,
)
from corral_kernel.testing import (
    TokenEngineSuite,
    run_suite,
)


def breaches(suite: type[Any]) -> dict[str, str]:
    """What is wrong, by test."""
    return {outcome.test: outcome.error for outcome in run_suite(suite) if outcome.error}


class Sound(RepeatEngine):
    def __init__(self, slots: int) -> None:
        super().__init__(RepeatOptions(num_ctx=128, num_batch=16), slots)


class ReadOnlyRows(Sound):
    def feed(self, job: Running, limit: int) -> Rows:
        rows = super().feed(job, limit)
        if rows.logits is not None:
            rows.logits = rows.logits.copy()
            rows.logits.flags.writeable = False
        return rows


class DoubleRows(Sound):
    def feed(self, job: Running, limit: int) -> Rows:
        rows = super().feed(job, limit)
        if rows.logits is not None:
            rows.logits = rows.logits.astype(np.float64)  # type: ignore[assignment]  # the breach
        return rows


class EmptyRows(Sound):
    def feed(self, job: Running, limit: int) -> Rows:
        rows = super().feed(job, limit)
        if rows.logits is not None:
            rows.logits[0, 0] = np.nan
        return rows


class OneRowForAll(Sound):
    def feed(self, job: Running, limit: int) -> Rows:
        job.slot = 0
        return super().feed(job, limit)


class OverBatch(Sound):
    def batch(self) -> list[tuple[Running, int]]:
        return [(job, len(job.pending)) for job in self._running.values() if job.pending]


class NeverRoom(Sound):
    def admit(self, job: Job) -> Admission | None:
        return super().admit(job) if job.id < 0 else None


class EndlessRoom(Sound):
    def admit(self, job: Job) -> Admission | None:
        self._running.clear()
        return super().admit(job)


class KeptRoom(Sound):
    def release(self, job_id: int) -> None:
        self._running[-job_id] = self._running.pop(job_id)


class Boastful(Sound):
    def admit(self, job: Job) -> Admission | None:
        return super().admit(job) and Admission(cached_tokens=job.prompt.length)


class Miscounting(Sound):
    def admit(self, job: Job) -> Admission | None:
        return super().admit(job) and Admission(cached_tokens=job.prompt.length - 1)


class TwiceBegun(Sound):
    def prepare(self, parts: Sequence[Part]) -> Prompt:
        return Prompt((TokenSegment([256, *super().prepare(parts).history()]),))


class Careless(Sound):
    def admit(self, job: Job) -> Admission | None:
        ids = [max(0, min(i, 257)) for i in job.prompt.history()]
        clean = Prompt((TokenSegment(ids),))
        return super().admit(Job(id=job.id, prompt=clean, max_tokens=job.max_tokens))


class Forgetful(Sound):
    said = 0

    def feed(self, job: Running, limit: int) -> Rows:
        self.said += 1
        rows = super().feed(job, limit)
        if rows.logits is not None:
            rows.logits[0, self.said % 50] = 90.0  # as a state that outlives its job
        return rows


def suite_of(kind: type[Sound]) -> type[TokenEngineSuite]:
    class Suite(TokenEngineSuite):
        def engine(self, slots: int) -> TokenEngine:
            return kind(slots)

    return Suite


@pytest.mark.parametrize(
    ("kind", "test", "words"),
    [
        (ReadOnlyRows, "jobs run side by side as each does alone", "cannot be written to"),
        (DoubleRows, "jobs run side by side as each does alone", "not float32"),
        (EmptyRows, "jobs run side by side as each does alone", "no numbers"),
        (OneRowForAll, "jobs run side by side as each does alone", "among others"),
        (OverBatch, "what is fed and what is cached is the whole", "batch_tokens is 16"),
        (NeverRoom, "jobs run side by side as each does alone", "where no other runs"),
        (EndlessRoom, "a full engine has no room until a job is released", "two jobs in one slot"),
        (KeptRoom, "a full engine has no room until a job is released", "no room"),
        (Boastful, "what is fed and what is cached is the whole", "cached tokens of a prompt"),
        (Miscounting, "what is fed and what is cached is the whole", "cached and fed are"),
        (TwiceBegun, "a prompt has one bos at most", "two BOS tokens"),
        (Careless, "ids that are no tokens are refused", "it takes a prompt with the id 258"),
        (Forgetful, "a kept prefix changes no answer", "in a fresh one"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_token_engine_that_breaks_its_contract_is_told(
    kind: type[Sound], test: str, words: str
) -> None:
    assert words in breaches(suite_of(kind))[test]


def test_a_sound_token_engine_has_no_breach() -> None:
    outcomes = list(run_suite(suite_of(Sound)))
    assert len(outcomes) > 12
    assert [outcome for outcome in outcomes if outcome.error] == []
