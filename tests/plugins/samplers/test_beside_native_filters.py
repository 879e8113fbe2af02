"""Samplers that look at one position alone, beside llama.cpp's own on the same logits."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

# The same examples on each run, and nothing written: what fails, fails for everybody.
EXAMPLES = settings(derandomize=True, database=None, deadline=None, max_examples=60)
SEEDS = st.integers(0, 10_000)
WIDTHS = st.sampled_from([2, 64, 3000])


def floats(least: float, most: float) -> st.SearchStrategy[float]:
    """Numbers that both sides, and JSON, take the same; none so small that a CPU may round it."""
    return st.floats(least, most, width=32, allow_subnormal=False)


def agree(ours: Any, theirs: Any, border: Iterable[int] = ()) -> None:
    """Whether the same tokens are left with the same chances, but for those at a border."""
    apart = ours.survivors ^ theirs.survivors
    assert apart <= set(border)
    if not apart:
        assert np.allclose(ours.chances, theirs.chances, rtol=2e-3, atol=1e-7)


@EXAMPLES
@given(seed=SEEDS, width=WIDTHS, n=floats(0.125, 6))
def test_top_n_sigma_leaves_what_the_native_one_leaves(
    lab: Any, seed: int, width: int, n: float
) -> None:
    row = lab.row(width, seed)
    with lab.native(lab.lib.llama_sampler_init_top_n_sigma(n)) as native:
        theirs = native.apply(row)
    ours = lab.apply(lab.one({"top_n_sigma": n}), row)
    bound = row.max() - n * row.std(dtype=np.float64)
    agree(ours, theirs, (np.abs(row - bound) < 1e-3).nonzero()[0].tolist())


def test_impossible_tokens_do_not_count_for_the_deviation(lab: Any) -> None:
    row = lab.row(500, 3)
    row[::3] = -np.inf
    with lab.native(lab.lib.llama_sampler_init_top_n_sigma(1.0)) as native:
        agree(lab.apply(lab.one({"top_n_sigma": 1.0}), row), native.apply(row))


@EXAMPLES
@given(
    seed=SEEDS,
    width=WIDTHS,
    temperature=floats(0.015625, 3),
    spread=floats(0.015625, 3),
    exponent=floats(0, 3),
)
def test_dynatemp_gives_the_native_chances(  # noqa: PLR0913, PLR0917 - what is drawn
    lab: Any, seed: int, width: int, temperature: float, spread: float, exponent: float
) -> None:
    row = lab.row(width, seed)
    with lab.native(lab.lib.llama_sampler_init_temp_ext(temperature, spread, exponent)) as native:
        theirs = native.apply(row)
    options = {
        "temperature": temperature,
        "dynatemp_range": spread,
        "dynatemp_exponent": exponent,
    }
    ours = lab.apply(lab.one(options), row)
    assert np.allclose(ours.chances, theirs.chances, rtol=1e-2, atol=1e-5)


@EXAMPLES
@given(
    seed=SEEDS,
    width=WIDTHS,
    biases=st.dictionaries(
        st.integers(0, 2999),
        st.one_of(floats(-200, 200), st.just(value=False)),
        min_size=1,
        max_size=20,
    ),
)
def test_logit_bias_gives_the_native_logits(
    lab: Any, seed: int, width: int, biases: dict[int, float | bool]
) -> None:
    biases = {token_id % min(width, 256): bias for token_id, bias in biases.items()}
    row = lab.row(width, seed)
    items = (lab.lib.llama_logit_bias * len(biases))()
    for item, (token_id, bias) in zip(items, biases.items(), strict=True):
        item.token, item.bias = token_id, -np.inf if bias is False else bias
    with lab.native(lab.lib.llama_sampler_init_logit_bias(width, len(items), items)) as native:
        theirs = native.apply(row)
    ours = lab.apply(lab.one({"logit_bias": {str(k): v for k, v in biases.items()}}), row)
    assert np.allclose(ours.logits, theirs.logits, rtol=1e-6)


@EXAMPLES
@given(
    seed=SEEDS,
    width=WIDTHS,
    threshold=floats(0, 0.5),
    min_keep=st.integers(0, 5),
    heat=floats(0.5, 8),
    top_k=st.sampled_from([0, 2, 3, 40]),
)
def test_xtc_leaves_what_the_native_one_leaves(  # noqa: PLR0913, PLR0917 - what is drawn
    lab: Any, seed: int, width: int, threshold: float, min_keep: int, heat: float, top_k: int
) -> None:
    row = (lab.row(width, seed) / np.float32(heat)).astype(np.float32)
    before = row
    if top_k:
        before = np.where(row >= np.sort(row)[-min(top_k, width)], row, -np.inf).astype(np.float32)
    chain = [lab.lib.llama_sampler_init_top_k(top_k)] if top_k else []
    with lab.native(*chain, lab.lib.llama_sampler_init_xtc(1, threshold, min_keep, 1)) as native:
        theirs = native.apply(row)
    options = {"xtc_probability": 1, "xtc_threshold": threshold, "min_keep": min_keep}
    samplers = [lab.one(options)]
    if top_k:
        samplers.insert(0, lab.one({"top_k": top_k}))
    ours = lab.apply(samplers, row)

    chances = np.exp(before - before.max(), dtype=np.float64)
    near = (np.abs(chances / chances.sum() - threshold) < 1e-6).nonzero()[0].tolist()
    if not near:
        agree(ours, theirs)


def test_whatever_the_chain_is_what_llama_cpp_leaves_in_its_own_order(
    lab: Any, tiny_vocabulary: Any
) -> None:
    """The default places, with every sampler on that looks at one position."""
    lib, width = lab.lib, 259
    options: dict[str, Any] = {
        "logit_bias": {"7": -2.5, "65": 3, "9": False},
        "repeat_penalty": 1.3,
        "dry_multiplier": 0.8,
        "top_n_sigma": 2.5,
        "top_k": 60,
        "typical_p": 0.98,
        "top_p": 0.97,
        "min_p": 0.001,
        "xtc_probability": 1,
        "xtc_threshold": 0.15,
        "temperature": 0.9,
        "dynatemp_range": 0.4,
    }
    prompt = [*b"the cat and the dog and the cat and"]
    compared = 0
    for seed in range(40):
        row = (lab.row(width, seed) / np.float32(2)).astype(np.float32)
        items = (lib.llama_logit_bias * 3)((7, -2.5), (65, 3), (9, -np.inf))
        breakers = (lib.ctypes.c_char_p * 4)(b"\n", b":", b'"', b"*")
        with lab.native(
            lib.llama_sampler_init_logit_bias(width, 3, items),
            lib.llama_sampler_init_penalties(width, 64, 1.3, 0, 0),
            lib.llama_sampler_init_dry(tiny_vocabulary.pointer, 0.8, 1.75, 2, 4096, breakers, 4),
            lib.llama_sampler_init_top_n_sigma(2.5),
            lib.llama_sampler_init_top_k(60),
            lib.llama_sampler_init_typical(0.98, 0),
            lib.llama_sampler_init_top_p(0.97, 0),
            lib.llama_sampler_init_min_p(0.001, 0),
            lib.llama_sampler_init_xtc(1, 0.15, 0, 1),
            lib.llama_sampler_init_temp_ext(0.9, 0.4, 1),
        ) as native:
            for token_id in prompt:
                native.accept(token_id)
            theirs = native.apply(row)
        view = lab.view(prompt, tokenizer=tiny_vocabulary.tokenizer)
        ours = lab.apply(lab.chain(options, view), row)
        # A mass is reached one token sooner or later where sums of floats are rounded otherwise,
        # and after XTC that shows in every chance; seldom.
        if ours.survivors == theirs.survivors:
            compared += 1
            assert np.allclose(ours.chances, theirs.chances, rtol=1e-2, atol=1e-6)
    assert compared >= 36


# ------------------------------------------------------------------------------- the dice of XTC


def test_xtc_acts_as_often_as_it_is_told_as_the_native_one_does(lab: Any) -> None:
    """Two frequencies of one probability: both within four standard deviations of it."""
    trials, probability = 4000, 0.3
    row = np.array([2, 2, 1.9, -5], np.float32)
    with lab.native(lab.lib.llama_sampler_init_xtc(probability, 0.1, 0, 7)) as native:
        theirs = sum(native.apply(row).count < 4 for _ in range(trials))
    view = lab.view(seed=7)
    sampler = lab.one({"xtc_probability": probability}, view)
    ours = 0
    for _ in range(trials):
        ours += len(lab.apply(sampler, row).survivors) < 4
        view.append([1])
    allowed = 4 * (trials * probability * (1 - probability)) ** 0.5
    assert abs(ours - trials * probability) < allowed
    assert abs(theirs - trials * probability) < allowed


def test_xtc_decides_the_same_however_often_it_is_asked_and_anew_at_each_position(lab: Any) -> None:
    row = np.zeros(8, np.float32)
    view = lab.view()
    sampler = lab.one({"xtc_probability": 0.5}, view)
    decisions = []
    for _ in range(40):
        asked = [len(lab.apply(sampler, row).survivors) for _ in range(3)]
        assert len(set(asked)) == 1
        decisions.append(asked[0])
        view.append([1])
    assert set(decisions) == {1, 8}


def test_of_equally_likely_tokens_xtc_leaves_the_one_of_the_highest_id(lab: Any) -> None:
    sampler = lab.one({"xtc_probability": 1})
    assert lab.apply(sampler, np.zeros(8, np.float32)).survivors == {7}
    assert lab.apply([lab.one({"top_k": 5}), sampler], np.zeros(8, np.float32)).survivors == {4}


@pytest.mark.parametrize("threshold", [0.1, 0.0])
def test_xtc_never_leaves_but_the_impossible(lab: Any, threshold: float) -> None:
    row = np.array([1, -np.inf, 0.9, -np.inf], np.float32)
    sampler = lab.one({"xtc_probability": 1, "xtc_threshold": threshold})
    assert lab.apply(sampler, row).survivors == {2}
