import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from corral_kernel.contracts import Tokenizer
from corral_kernel.sampling import RawProbs, forced_logprob

Rows = Callable[[int, int], NDArray[np.float32]]


@pytest.mark.parametrize("top", [0, 1, 5, 20])
def test_log_probabilities_are_those_of_the_whole_row(
    top: int, tokenizer: Tokenizer, real_shaped: Rows
) -> None:
    row = real_shaped(256, 8)
    chances = [math.exp(x) for x in row.tolist()]
    wanted = [math.log(chance / sum(chances)) for chance in chances]
    order = sorted(range(256), key=lambda i: -wanted[i])

    entry = RawProbs(row, 256).of(97, top, tokenizer)

    assert (entry.token, entry.bytes) == ("a", b"a")
    assert entry.logprob == pytest.approx(wanted[97], abs=1e-5)
    assert [other.bytes for other in entry.top] == [bytes([i]) for i in order[:top]]
    assert [other.logprob for other in entry.top] == pytest.approx(
        [wanted[i] for i in order[:top]], abs=1e-5
    )
    assert all(other.top == () for other in entry.top)


def test_what_happens_to_the_row_afterwards_does_not_matter(tokenizer: Tokenizer) -> None:
    row = np.zeros(256, np.float32)
    taken = RawProbs(row, 256)
    row[:] = np.arange(256)

    assert taken.of(3, 0, tokenizer).logprob == pytest.approx(-math.log(256))


def test_padding_takes_no_part(tokenizer: Tokenizer) -> None:
    row = np.zeros(300, np.float32)
    row[290] = 50

    entry = RawProbs(row, 256).of(3, 300, tokenizer)

    assert entry.logprob == pytest.approx(-math.log(256))
    assert len(entry.top) == 256


def test_impossible_tokens_are_not_among_the_top_and_have_a_finite_number(
    tokenizer: Tokenizer,
) -> None:
    row = np.full(256, -np.inf, np.float32)
    row[[65, 66]] = [1, 1]
    row[67] = np.nan

    entry = RawProbs(row, 256).of(200, 5, tokenizer)

    assert entry.logprob == -9999.0
    assert [other.token for other in entry.top] == ["A", "B"]
    assert [other.logprob for other in entry.top] == pytest.approx([-math.log(2)] * 2)


def test_bytes_that_are_no_text_are_replaced_in_the_text_alone(tokenizer: Tokenizer) -> None:
    entry = RawProbs(np.zeros(256, np.float32), 256).of(0xC3, 0, tokenizer)

    assert (entry.token, entry.bytes) == ("�", b"\xc3")


def test_a_forced_token_is_certain(tokenizer: Tokenizer) -> None:
    entry = forced_logprob(98, tokenizer)

    assert (entry.token, entry.bytes, entry.logprob, entry.top) == ("b", b"b", 0.0, ())
