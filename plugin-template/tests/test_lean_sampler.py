"""The sampler by itself, and as Corral runs it."""

import numpy as np
from corral_kernel.contracts import Candidates
from corral_kernel.sampling import HistoryView
from corral_kernel.testing import PieceTokenizer, SamplerSuite, chain_of, samplers_of

from corral_lean import LeanType

TOKENIZER = PieceTokenizer()
(THE,) = TOKENIZER.encode(" the", special=False)


class TestLean(SamplerSuite):
    """What Corral asks of every sampler."""

    kind = LeanType()
    cases = ({"lean": -5}, {"lean": 0.5})


def applied(amount: float, candidates: Candidates) -> Candidates:
    options = {"samplers": [{"name": "lean", "lean": amount}]}
    view = HistoryView(TOKENIZER, [], 100, seed=1)
    (sampler,) = samplers_of(options, view, [LeanType()])
    sampler.apply(candidates)
    return candidates


def test_tokens_that_begin_a_word_are_raised_and_no_others() -> None:
    row = applied(2.0, Candidates(np.zeros(len(TOKENIZER.pieces), np.float32))).logits
    assert row[THE] == 2.0
    assert row[ord("a")] == 0.0


def test_candidates_that_were_dropped_do_not_matter() -> None:
    few = Candidates(np.zeros(2, np.float32), np.array([ord("a"), THE], np.int32))
    assert applied(-3.0, few).logits.tolist() == [0.0, -3.0]


def test_a_request_switches_it_on_by_its_field() -> None:
    plain = chain_of({}, [LeanType()])
    switched = chain_of({"lean": 1}, [LeanType()])
    assert "lean" not in [spec.name for spec in plain.samplers]
    assert "lean" in [spec.name for spec in switched.samplers]
