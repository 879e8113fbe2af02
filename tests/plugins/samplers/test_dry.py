"""DRY: beside llama.cpp's own, and its parts beside what they mean."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral_samplers.breakers import breakers_of
from corral_samplers.repeats import Repeats, common_ends

EXAMPLES = settings(derandomize=True, database=None, deadline=None, max_examples=100)
BREAKERS = st.lists(
    st.sampled_from(["\n", ":", "ab", "abc", "ca", "bbb", "cab\n", "é"]), max_size=4, unique=True
)
# Few different tokens, so that there is much to repeat.
TEXTS = st.lists(st.sampled_from([*b"abc\n:", 0xC3, 0xA9, 258]), max_size=120)


def floats(least: float, most: float) -> st.SearchStrategy[float]:
    return st.floats(least, most, width=32, allow_subnormal=False)


def native_dry(lab: Any, vocabulary: Any, options: dict[str, Any]) -> Any:
    texts = [text.encode() for text in options["dry_sequence_breakers"]]
    return lab.native(
        lab.lib.llama_sampler_init_dry(
            vocabulary.pointer,
            options["dry_multiplier"],
            options["dry_base"],
            options["dry_allowed_length"],
            options["dry_penalty_last_n"],
            (lab.lib.ctypes.c_char_p * len(texts))(*texts),
            len(texts),
        )
    )


@EXAMPLES
@given(
    prompt=TEXTS,
    answer=st.lists(st.sampled_from([*b"abc\n"]), min_size=1, max_size=30),
    multiplier=floats(0.125, 3),
    base=floats(1, 4),
    allowed=st.integers(0, 6),
    last=st.sampled_from([1, 2, 7, 30, 4096]),
    breakers=BREAKERS,
)
def test_every_token_loses_what_it_loses_natively(  # noqa: PLR0913, PLR0917 - what is drawn
    lab: Any,
    tiny_vocabulary: Any,
    prompt: list[int],
    answer: list[int],
    multiplier: float,
    base: float,
    allowed: int,
    last: int,
    breakers: list[str],
) -> None:
    options = {
        "dry_multiplier": multiplier,
        "dry_base": base,
        "dry_allowed_length": allowed,
        "dry_penalty_last_n": last,
        "dry_sequence_breakers": breakers,
    }
    view = lab.view(prompt, tokenizer=tiny_vocabulary.tokenizer)
    ours, row = lab.one(options, view), np.zeros(259, np.float32)
    with native_dry(lab, tiny_vocabulary, options) as native:
        for token_id in prompt:
            native.accept(token_id)
        for token_id in answer:
            theirs = native.apply(row)
            assert np.allclose(lab.apply(ours, row).logits, theirs.logits, rtol=1e-4)
            for joined in (native, ours):
                joined.accept(token_id)
            view.append([token_id])


@pytest.mark.real
@pytest.mark.parametrize(
    "breakers",
    [
        pytest.param(["\n", ":", '"', "*"], id="default"),
        pytest.param(["\n", "lighthouse", ". The", "é", "<|im_end|>", "is"], id="longer"),
        pytest.param([], id="none"),
    ],
)
def test_a_real_vocabulary_breaks_where_the_native_one_does(
    lab: Any, smollm2_vocabulary: Any, breakers: list[str]
) -> None:
    text = (
        'He said: "The keeper of the lighthouse." The keeper of the light\nThe keeper of the light'
        "house is *not* here.\nThe keeper of the lighthouse is café here. The keeper of the"
    )
    tokenizer = smollm2_vocabulary.tokenizer
    ids = tokenizer.encode(text, special=True)
    width = len(tokenizer.pieces)
    options = {
        "dry_multiplier": 0.8,
        "dry_base": 1.75,
        "dry_allowed_length": 1,
        "dry_penalty_last_n": 4096,
        "dry_sequence_breakers": breakers,
    }
    view = lab.view(tokenizer=tokenizer)
    ours, row = lab.one(options, view), np.zeros(width, np.float32)
    lowered = 0
    with native_dry(lab, smollm2_vocabulary, options) as native:
        for token_id in ids:
            native.accept(token_id)
            ours.accept(token_id)
            view.append([token_id])
            theirs, found = native.apply(row), lab.apply(ours, row)
            assert np.allclose(found.logits, theirs.logits, rtol=1e-4)
            lowered += int((found.logits < 0).sum())
    assert lowered > 10


# --------------------------------------------------------------------------------- repetitions


def by_counting(ids: Sequence[int], distance: int) -> int:
    """How many tokens end equally at the end and at a distance before it; media equal nothing."""
    run = 0
    while run + distance < len(ids) and ids[-1 - run] == ids[-1 - run - distance] != -1:
        run += 1
    return run


@EXAMPLES
@given(ids=st.lists(st.sampled_from([1, 2, -1]), max_size=60))
def test_common_ends_are_what_counting_finds(ids: list[int]) -> None:
    found = common_ends(np.array(ids, np.int32)).tolist()
    assert found[1:] == [by_counting(ids, distance) for distance in range(1, len(ids))]


@EXAMPLES
@given(
    last=st.sampled_from([1, 3, 10, 100]),
    pieces=st.lists(
        st.one_of(
            st.lists(st.sampled_from([1, 2, -1]), max_size=20),
            st.tuples(st.integers(0, 30), st.integers(0, 30)),
        ),
        max_size=8,
    ),
)
def test_repetitions_are_followed_through_added_and_forgotten_positions(
    last: int, pieces: list[Any]
) -> None:
    repeats, ids = Repeats(last), list[int]()
    for piece in pieces:
        if isinstance(piece, list):
            ids += piece
        else:
            del ids[piece[0] : piece[0] + piece[1]]
        runs = repeats.follow(np.array(ids, np.int32)).tolist()
        window = min(last, len(ids))
        assert len(runs) == window
        for distance in range(1, window):
            wanted = min(by_counting(ids, distance), window - distance)
            assert min(runs[distance], window - distance) == wanted


def test_media_repeat_nothing_and_cost_nothing(lab: Any) -> None:
    options = {"dry_multiplier": 1.0, "dry_allowed_length": 1}
    row = np.zeros(256, np.float32)
    media = lab.one(options, lab.view([5, -1, -1, 5, -1, -1, 5, -1, -1]))
    assert not lab.apply(media, row).logits.any()
    text = lab.one(options, lab.view([5, 6, -1, 5, 6]))
    assert not lab.apply(text, row).logits.any()  # what came next was a medium


def test_the_prompt_counts_and_a_shortlist_is_enough(lab: Any) -> None:
    view = lab.view([*b"one two three. one two"])
    dry = lab.one({"dry_multiplier": 1.0, "dry_allowed_length": 3}, view)
    row = lab.row(256, 1)
    row[ord(" ")] = row.max() + 9
    whole = lab.apply(dry, row)
    short = lab.apply([lab.one({"top_k": 3}), dry], row)
    lost = row[ord(" ")] - whole.logits[ord(" ")]
    assert lost == pytest.approx(1.75 ** (len("one two") - 3), rel=1e-5)
    assert short.logits[ord(" ")] == whole.logits[ord(" ")]
    assert (np.delete(whole.logits, ord(" ")) == np.delete(row, ord(" "))).all()


def test_a_penalty_that_overflows_makes_nothing_impossible(lab: Any) -> None:
    options = {"dry_multiplier": 3e38, "dry_base": 3e38}
    dry = lab.one(options, lab.view([1, 2, 3, 4] * 50))
    row = np.full(256, -3e38, np.float32)
    row[9] = -np.inf
    logits = lab.apply(dry, row).logits
    assert np.isneginf(logits).nonzero()[0].tolist() == [9]


# ---------------------------------------------------------------- what no sequence goes across


@EXAMPLES
@given(
    text=st.text("abc\n é", max_size=40),
    wanted=st.lists(st.text("abc\n é", min_size=1, max_size=5), min_size=1, max_size=3),
)
def test_tokens_since_a_breaker_are_what_searching_the_bytes_finds(
    lab: Any, text: str, wanted: list[str]
) -> None:
    """Where tokens are bytes: what follows the last occurrence that begins last."""
    breakers = breakers_of(lab.bytes, tuple(wanted))
    data = text.encode()
    found = breakers.tokens_since(np.array([*data], np.int32), len(data))
    begins = max(data.rfind(word.encode()) for word in wanted)
    if begins < 0:
        assert found == len(data)
    else:
        longest = max(
            len(word.encode()) for word in wanted if data[begins:].startswith(word.encode())
        )
        assert found == len(data) - begins - longest


def test_breakers_are_found_once_for_a_tokenizer(lab: Any) -> None:
    assert breakers_of(lab.bytes, ("a", "bc")) is breakers_of(lab.bytes, ("a", "bc"))
