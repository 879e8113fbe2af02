"""Random walks through what a constraint allows."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from corral_kernel.contracts import Constraint, ConstraintType, Tokenizer
from corral_kernel.testing.suites import attempt, demand

PADDING = 5
"""Rows of logits may be wider than the vocabulary."""
_WALKS = 3
_STEPS = 12

State = tuple[bytes | None, bool, tuple[int, ...]]


class Walker(Protocol):
    """What a walk needs of a suite."""

    @property
    def kind(self) -> ConstraintType:
        """What is walked through."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Whose tokens the steps are."""


class Walk:
    """One answer under a constraint.

    Args:
        suite: Whose type and tokenizer.
        spec: The format.
        taken: Tokens that it begins with.

    Attributes:
        constraint: After those tokens.
        ended: Whether an end id was accepted.
    """

    def __init__(self, suite: Walker, spec: Any, taken: Sequence[int] = ()) -> None:
        self._suite = suite
        self._spec = spec
        self._width = len(suite.tokenizer.pieces)
        self._end_ids = sorted(suite.tokenizer.end_ids)
        self.constraint: Constraint = attempt(
            f"compile({spec!r})", suite.kind.compile, spec, suite.tokenizer, self._width + PADDING
        )
        demand(
            isinstance(self.constraint, Constraint),
            f"compile({spec!r}) gave {type(self.constraint).__name__}, not a Constraint",
        )
        self.taken: list[int] = []
        self.ended = False
        for token_id in taken:
            demand(self.take(token_id), f"{self}: refuses {token_id}, which it took before")

    def __str__(self) -> str:
        return f"the format {self._spec!r} after {self.text()!r}"

    def text(self) -> bytes:
        """What was written so far, without its end."""
        written = [token_id for token_id in self.taken if token_id not in self._end_ids]
        return self._suite.tokenizer.decode(written)

    def again(self) -> "Walk":
        """Go the same way with a constraint of its own."""
        return Walk(self._suite, self._spec, self.taken)

    def take(self, token_id: int) -> bool:
        """Accept a token, or be refused."""
        taken: object = attempt(f"{self}: accept({token_id})", self.constraint.accept, token_id)
        demand(isinstance(taken, bool), f"{self}: accept gave {taken!r}, wanted a bool")
        if taken:
            self.taken.append(token_id)
            self.ended = self.ended or token_id in self._end_ids
        return bool(taken)

    def take_all(self, token_ids: Sequence[int]) -> int:
        """Accept tokens until one is refused; give how many were taken."""
        for count, token_id in enumerate(token_ids):
            if not self.take(token_id):
                return count
        return len(token_ids)

    def allowed(self) -> NDArray[np.bool_]:
        """Which tokens may come next, by the mask, `(tokens,)`."""
        words = np.zeros(-(-(self._width + PADDING) // 32), np.uint32)
        if not attempt(f"{self}: mask", self.constraint.mask, words):
            return np.ones(self._width, bool)
        return self.bits(words).astype(bool)

    def pieces(self) -> set[bytes]:
        """Which texts may come next."""
        return {self._suite.tokenizer.pieces[int(i)] for i in self.allowed().nonzero()[0]}

    def bits(self, words: NDArray[np.uint32]) -> NDArray[np.uint8]:
        """Unpack a mask; padding is cut off, since the worker never chooses it."""
        return np.unpackbits(words.view(np.uint8), bitorder="little")[: self._width]

    def asked(self, which: NDArray[np.bool_]) -> list[int]:
        """Ids of those that a worker asks about: of all that end an answer, the first."""
        return [int(i) for i in which.nonzero()[0] if i not in self._end_ids[1:]]

    def some(self, which: NDArray[np.bool_], count: int) -> list[int]:
        """Some of those that a worker asks about, the first end id always among them."""
        found = self.asked(which)
        chosen = np.random.default_rng(len(found)).permutation(len(found))[:count]
        ends = [token_id for token_id in found if token_id in self._end_ids]
        return [*ends, *(found[i] for i in chosen)]

    def state(self) -> State:
        """All that can be asked without a token: mask, whether finished, what is forced."""
        words = np.zeros(-(-(self._width + PADDING) // 32), np.uint32)
        masked = self.constraint.mask(words)
        finished: object = self.constraint.finished()
        demand(isinstance(finished, bool), f"{self}: finished gave {finished!r}, wanted a bool")
        forced = tuple(int(token_id) for token_id in self.constraint.forced())
        return self.bits(words).tobytes() if masked else None, bool(finished), forced

    def drafts(self) -> Iterator[list[int]]:
        """Sequences of tokens that may or may not be allowed, the empty one among them."""
        yield []
        generator = np.random.default_rng(len(self.taken))
        for length in (1, 2, 4):
            yield [int(i) for i in generator.integers(0, 256, length)]
        ahead = self.again()
        ahead.stroll(steps=4, seed=len(self.taken))
        likely = ahead.taken[len(self.taken) :]
        yield likely
        yield [*likely[:2], 0]
        if self._end_ids:
            yield self._end_ids[:1]

    def stroll(self, steps: int, seed: int) -> None:
        """Go on at random, or to the end."""
        generator = np.random.default_rng(seed)
        for _ in range(steps):
            found = [] if self.ended else self.asked(self.allowed())
            if not found:
                return
            others = [i for i in found if i not in self._end_ids]
            # The end now and then alone: an answer is worth more steps than one.
            chosen = others if others and generator.random() < 0.9 else found  # noqa: PLR2004
            self.take(int(generator.choice(chosen)))


def walks(suite: Walker, spec: Any) -> Iterator[Walk]:
    """Give every station of some walks from the beginning; what is done there changes no other."""
    for seed in range(_WALKS):
        guide = Walk(suite, spec)
        for _ in range(_STEPS):
            yield guide.again()
            before = len(guide.taken)
            guide.stroll(steps=1, seed=1000 * seed + before)
            if len(guide.taken) == before:
                break
        else:
            yield guide.again()
