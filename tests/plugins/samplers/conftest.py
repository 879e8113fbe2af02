"""Rows shaped like real ones, views of jobs, vocabularies, and llama.cpp's own samplers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import llama_cpp.llama_cpp as lib
import numpy as np
import pytest
from numpy.typing import NDArray

from corral_kernel.contracts import Candidates, Sampler, Tokenizer
from corral_kernel.sampling import HistoryView
from corral_kernel.testing.chains import samplers_of
from corral_llamacpp.native import load_model
from corral_llamacpp.options import LlamaOptions
from corral_llamacpp.tokenizer import LlamaTokenizer
from corral_samplers import corral_samplers

TINY = Path(__file__).parents[2] / "models" / "tiny-chat-f32.gguf"
TOKEN = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
TYPES = tuple(corral_samplers())


class ByteTokenizer(Tokenizer):
    """Every byte is a token."""

    pieces = tuple(bytes([i]) for i in range(256))
    control_ids = frozenset({0})
    end_ids = frozenset({0})

    def encode(self, text: str, *, special: bool) -> list[int]:
        assert not special
        return list(text.encode())


def make_view(
    prompt: Sequence[int] = (), *, seed: int = 1, tokenizer: Tokenizer | None = None
) -> HistoryView:
    return HistoryView(tokenizer or ByteTokenizer(), prompt, 4096, seed)


def one(options: dict[str, Any], view: HistoryView | None = None) -> Sampler:
    """Make the only sampler of a chain that is otherwise off."""
    off = {"top_k": 0, "top_p": 1.0, "temperature": 1.0}
    (sampler,) = samplers_of({**off, **options}, view or make_view(), TYPES)
    return sampler


def chain(options: dict[str, Any], view: HistoryView) -> list[Sampler]:
    """Make the samplers of a request."""
    return samplers_of(options, view, TYPES)


def real_shaped(width: int, seed: int) -> NDArray[np.float32]:
    """Make a row: a bell far below zero, and a few peaks, as models give."""
    generator = np.random.default_rng(seed)
    row = generator.normal(-3, 3, width)
    peaks = generator.integers(0, width, 1 + width // 500)
    row[peaks] += generator.gamma(2, 4, len(peaks))
    return row.astype(np.float32)


def chances_of(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    parts: NDArray[np.float64] = np.exp(logits.astype(float) - float(logits.max()))
    parts /= parts.sum()
    return parts


@dataclass
class Left:
    """What a sampler left of a row.

    Attributes:
        logits: Of each token of the row, `-inf` for those that are gone.
        count: Candidates that are left.
        selected: What llama.cpp drew, if it is a sampler that draws.
    """

    logits: NDArray[np.float32]
    count: int
    selected: int | None = None

    @property
    def chances(self) -> NDArray[np.float64]:
        return chances_of(self.logits)

    @property
    def survivors(self) -> set[int]:
        return {int(i) for i in (self.logits > -np.inf).nonzero()[0]}


def apply(sampler: Sampler | Sequence[Sampler], row: NDArray[np.float32]) -> Left:
    """Have samplers of ours look at a row."""
    candidates = Candidates(row.copy())
    steps = [sampler] if isinstance(sampler, Sampler) else sampler
    with np.errstate(all="ignore"):
        for step in steps:
            step.apply(candidates)
            if not step.keeps_order:
                candidates.ordered = False
    logits = np.full(len(row), -np.inf, np.float32)
    logits[slice(None) if candidates.ids is None else candidates.ids] = candidates.logits
    return Left(logits, len(candidates))


class Native:
    """One of llama.cpp's samplers, or a chain of them."""

    def __init__(self, *samplers: Any) -> None:
        self._chain = samplers[0]
        if len(samplers) > 1:
            self._chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
            for sampler in samplers:
                lib.llama_sampler_chain_add(self._chain, sampler)

    def apply(self, row: NDArray[np.float32]) -> Left:
        tokens = np.zeros(len(row), TOKEN)
        tokens["id"] = np.arange(len(row))
        tokens["logit"] = row
        start = tokens.ctypes.data
        data = lib.llama_token_data_p.from_buffer(lib.ctypes.c_void_p(start))
        array = lib.llama_token_data_array(data=data, size=len(row), selected=-1, sorted=False)
        lib.llama_sampler_apply(self._chain, lib.ctypes.byref(array))
        moved = lib.ctypes.cast(array.data, lib.ctypes.c_void_p).value or 0
        first = (moved - start) // TOKEN.itemsize
        left = tokens[first : first + array.size]
        logits = np.full(len(row), -np.inf, np.float32)
        logits[left["id"]] = left["logit"]
        selected = int(left["id"][array.selected]) if array.selected >= 0 else None
        return Left(logits, int(np.count_nonzero(left["logit"] > -np.inf)), selected)

    def accept(self, token_id: int) -> None:
        lib.llama_sampler_accept(self._chain, token_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        lib.llama_sampler_free(self._chain)


@dataclass
class Vocabulary:
    """A model's, for both sides."""

    tokenizer: Tokenizer
    pointer: Any


@contextmanager
def vocabulary(path: Path) -> Iterator[Vocabulary]:
    model = load_model(path, LlamaOptions(), lambda _share: True)
    try:
        yield Vocabulary(LlamaTokenizer(model), model.vocab)
    finally:
        model.free()


@pytest.fixture(scope="session")
def tiny_vocabulary() -> Iterator[Vocabulary]:
    """Bytes, and three control tokens."""
    with vocabulary(TINY) as found:
        yield found


@pytest.fixture(scope="session")
def smollm2_vocabulary(smollm2: Path) -> Iterator[Vocabulary]:
    """49,152 tokens of a real model."""
    with vocabulary(smollm2) as found:
        yield found


class Lab:
    """What the tests do with samplers of both sides."""

    lib = lib
    types = TYPES
    native = Native
    view = staticmethod(make_view)
    one = staticmethod(one)
    chain = staticmethod(chain)
    row = staticmethod(real_shaped)
    apply = staticmethod(apply)
    bytes = ByteTokenizer()


@pytest.fixture(scope="session")
def lab() -> Lab:
    return Lab()
