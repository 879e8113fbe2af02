"""Masks of slow constraints are made while the engine computes; quick ones are not."""

import json
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from corral_kernel.contracts import Constrained, Constraint, Plan
from corral_kernel.errors import RemoteJobError
from corral_kernel.sampling import held
from corral_kernel.worker.preparing import Preparer


class Watched(Constraint):
    """Hands on to a constraint; notes threads, and that no two calls overlap."""

    def __init__(self, inner: Constraint) -> None:
        self._inner = inner
        self._busy = threading.Lock()
        self.threads: list[str] = []

    def _alone(self, call: Callable[[], Any]) -> Any:
        assert self._busy.acquire(blocking=False), "two calls at once"
        try:
            return call()
        finally:
            self._busy.release()

    def mask(self, out: NDArray[np.uint32]) -> bool:
        self.threads.append(threading.current_thread().name)
        return bool(self._alone(lambda: self._inner.mask(out)))

    def accept(self, token_id: int) -> bool:
        return bool(self._alone(lambda: self._inner.accept(token_id)))

    def forced(self) -> Sequence[int]:
        return list(self._alone(self._inner.forced))

    def allows(self, token_ids: Sequence[int]) -> int:
        return int(self._alone(lambda: self._inner.allows(token_ids)))

    def finished(self) -> bool:
        return bool(self._alone(self._inner.finished))


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[Watched]:
    """The constraints that are compiled, watched."""
    made: list[Watched] = []
    compile_step = Preparer._compile

    def watching(self: Preparer, step: Constrained) -> Constraint:
        made.append(Watched(compile_step(self, step)))
        return made[-1]

    monkeypatch.setattr(Preparer, "_compile", watching)
    return made


def letters(count: int, **spec: Any) -> Plan:
    given = json.dumps({"type": "letters", "count": count, "letters": "xyz", **spec})
    return Plan(steps=(Constrained(kind="letters", format=given.encode()),))


@pytest.mark.parametrize("drafts", [0, 3], ids=["plain", "drafts"])
def test_slow_masks_move_to_a_thread_of_their_own_and_change_nothing(
    local: Callable[..., Any],
    models: Path,
    watched: list[Watched],
    monkeypatch: pytest.MonkeyPatch,
    drafts: int,
) -> None:
    engine = local(models / "tiny-chat-f32.gguf", drafts=drafts)
    monkeypatch.setattr(held, "WORTH_A_THREAD_NS", 40_000_000)
    slow, quick = letters(40, mask_s=0.05), letters(40)
    answers = [
        engine.answer("xyz xyz xyz", steps, temperature=1.2, seed=2, num_predict=80)
        for steps in (slow, quick)
    ]
    assert answers[0].text == answers[1].text
    assert len(answers[0].text) == 40
    ahead = [name.startswith("masks") for name in watched[0].threads]
    assert ahead.count(True) > 5
    # Refusals come first, whose masks are made where they are needed.
    assert not any(ahead[:3])
    moved = [name.startswith("masks") for name in watched[1].threads]
    assert moved.count(True) < len(moved) / 4  # a busy machine may make a mask slow


def test_jobs_with_slow_masks_wait_for_their_own_alone(
    local: Callable[..., Any], models: Path, watched: list[Watched]
) -> None:
    engine = local(models / "tiny-chat-f32.gguf")
    steps = letters(20, mask_s=0.001)
    options = {"temperature": 1.2}
    alone = [engine.answer("xyz", steps, seed=n, **options).text for n in range(4)]
    jobs = [engine.job("xyz", steps, seed=n, **options) for n in range(4)]
    assert [answer.text for answer in engine.run(*jobs)] == alone
    assert any(name.startswith("masks") for name in watched[-1].threads)


@pytest.mark.real
def test_a_grammar_of_single_characters_has_its_masks_made_ahead(
    local: Callable[..., Any],
    smollm2: Path,
    watched: list[Watched],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ambiguous as it is, it cannot be read by lexemes: a mask takes 1 ms by 49,152 tokens."""
    grammar = 'root ::= word (" " word)*\nword ::= [a-z]+ | [a-z] word'
    given = json.dumps({"type": "gbnf", "grammar": grammar})
    steps = Plan(steps=(Constrained(kind="gbnf", format=given.encode()),))
    # So hot that most draws are refused, after which each token has its mask first.
    options = {"temperature": 50.0, "top_k": 0, "top_p": 1.0, "seed": 2, "num_predict": 50}
    texts, ahead = [], []
    for tokens, worth_ns in ((256, held.WORTH_A_THREAD_NS), (512, 1 << 62)):
        monkeypatch.setattr(held, "WORTH_A_THREAD_NS", worth_ns)
        # With one that has cached nothing: a hot draw shows the last digit of a logit.
        engine = local(smollm2, context_tokens=tokens)
        texts.append(engine.answer("ONE, TWO, THREE: 1, 2, 3.", steps, **options).text)
        ahead.append(sum(name.startswith("masks") for name in watched[-1].threads))
    assert texts[0] == texts[1]
    assert re.fullmatch("[a-z ]{50,}", texts[0])
    assert ahead[0] > 10
    assert ahead[1] == 0


def test_what_a_mask_raises_on_its_thread_ends_the_request(
    local: Callable[..., Any], models: Path, watched: list[Watched]
) -> None:
    engine = local(models / "tiny-chat-f32.gguf")
    steps = letters(20, mask_s=0.001, trouble="raises", at=9, **{"in": "mask"})
    for _ in range(10):  # on a busy machine a mask may be needed before its thread has begun it
        with pytest.raises(RemoteJobError, match="format 'letters' failed: ValueError: no luck"):
            engine.answer("abc", steps)
        if watched[-1].threads[-1].startswith("masks"):
            break
    assert watched[-1].threads[-1].startswith("masks")
    assert engine.answer("abc", letters(4)).done.reason == "stop"
