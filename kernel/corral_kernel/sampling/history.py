"""What samplers see of a job, kept by the worker's loop."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from corral_kernel.contracts import JobView, Tokenizer
from corral_kernel.sampling.draw import random


class HistoryView(JobView):
    """A job's tokens so far, and its random numbers.

    Args:
        tokenizer: The model's.
        prompt: One id for each position of the prompt, -1 for media.
        context_tokens: The job's context length.
        seed: Of all its draws, any integer; who is asked for a random one makes one up.
    """

    def __init__(
        self, tokenizer: Tokenizer, prompt: Sequence[int], context_tokens: int, seed: int
    ) -> None:
        self.tokenizer = tokenizer
        self.prompt_tokens = len(prompt)
        self.context_tokens = context_tokens
        self._seed = seed
        self._buffer = np.array(prompt, np.int32)
        self._length = self._position = len(prompt)

    @property
    def length(self) -> int:
        """How many positions there are so far."""
        return self._length

    @property
    def token_ids(self) -> NDArray[np.int32]:
        """All positions so far `(n,)`, read-only; media are -1."""
        view = self._buffer[: self._length]
        view.flags.writeable = False
        return view

    def random(self, index: int = 0) -> float:
        """A number in [0, 1) for the next position, of the first sampler of a chain."""
        return self.random_at(index)

    def random_at(self, place: int) -> float:
        """A number in [0, 1) for the next position; places below 0 are the kernel's own."""
        return random(self._seed, self._position, place)

    def append(self, token_ids: Sequence[int]) -> None:
        """Add positions at the end."""
        end = self._length + len(token_ids)
        if end > len(self._buffer):
            room = np.empty(max(2 * end, 64), np.int32)
            room[: self._length] = self._buffer[: self._length]
            self._buffer = room
        self._buffer[self._length : end] = token_ids
        self._length = end
        self._position += len(token_ids)

    def cut(self, start: int, stop: int) -> None:
        """Forget positions `start` to `stop`, as the engine did; no random number comes again."""
        kept = self._buffer[stop : self._length].copy()
        self._buffer[start : start + len(kept)] = kept
        self._length = start + len(kept)
        self.prompt_tokens -= max(0, min(stop, self.prompt_tokens) - start)
