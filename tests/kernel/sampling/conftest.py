"""What the tests of sampling share: a tokenizer of single bytes, rows shaped like real ones."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from corral_kernel.contracts import Tokenizer
from corral_kernel.sampling import HistoryView

Rows = Callable[[int, int], NDArray[np.float32]]
Views = Callable[..., HistoryView]


class ByteTokenizer(Tokenizer):
    """Every byte is a token."""

    pieces = tuple(bytes([i]) for i in range(256))
    end_ids = frozenset({0})


@pytest.fixture(autouse=True)
def as_in_a_worker() -> Iterator[None]:
    """The loop has numpy ignore what overflows, once for its thread."""
    with np.errstate(all="ignore"):
        yield


@pytest.fixture
def tokenizer() -> Tokenizer:
    return ByteTokenizer()


@pytest.fixture
def view(tokenizer: Tokenizer) -> Views:
    """Make a view of a prompt; seed 1 and a context of 4096 unless told."""

    def make(prompt: Sequence[int] = (), *, seed: int = 1, context: int = 4096) -> HistoryView:
        return HistoryView(tokenizer, prompt, context, seed)

    return make


@pytest.fixture
def real_shaped() -> Rows:
    """Make a row of a width, by a seed: a bell far below zero, and a few peaks, as models give."""

    def make(width: int, seed: int) -> NDArray[np.float32]:
        generator = np.random.default_rng(seed)
        row = generator.normal(-3, 3, width)
        peaks = generator.integers(0, width, 1 + width // 500)
        row[peaks] += generator.gamma(2, 4, len(peaks))
        return row.astype(np.float32)

    return make
