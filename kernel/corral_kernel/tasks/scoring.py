"""A completion that is measured, greedy or along a given text. In a worker.

It is a job like any other in the loop; the engine is asked for nothing but the logits of each step,
so that any `TokenEngine` can be measured.
"""

import hashlib
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corral_kernel.contracts import Tokenizer
from corral_kernel.frames import Generate, Scores
from corral_kernel.tasks.distributions import (
    Kept,
    divergence,
    keep,
    log_probabilities,
    pack,
    unpack,
)
from corral_kernel.worker.running import Running


class Scored(Running):
    """A prepared job with `spec.score`.

    Args:
        spec: The request.
        tokenizer: The model's.
        parts: As of any job; samplers, constraints and drafts do nothing here.
    """

    def __init__(self, spec: Generate, *, tokenizer: Tokenizer, **parts: Any) -> None:
        super().__init__(spec, tokenizer=tokenizer, **parts)
        assert spec.score is not None, "only such jobs are measured"
        self._score = spec.score
        self._reference = unpack(spec.score.rows)
        self._vocabulary = vocabulary_digest(tokenizer.pieces)
        self._chosen: list[int] = []
        self._best: list[int] = []
        self._rows: list[Kept] = []
        self._divergences: list[float] = []

    def choose(
        self, rows: NDArray[np.float32], companions: Sequence[NDArray[np.float32]] = ()
    ) -> list[int]:
        """Take the likeliest token, or the next of the text to follow; keep what the row says."""
        del companions  # no sampler of it asks for any
        if not self._first_ns:
            self._first_ns = time.perf_counter_ns()
        self._steps += 1
        token_id = self._measure(rows[0][: len(self._tokenizer.pieces)])
        self._chosen.append(token_id)
        self._view.append((token_id,))
        self._count += 1
        if self._is_last(token_id):
            self.finish("stop")
        elif self._count >= self._limit:
            self.finish("length")
        return [token_id]

    def drafts(self) -> Sequence[int]:
        """None: each row is to be the model's own."""
        return ()

    def events(self) -> Sequence[Scores]:
        """At the end, all that was measured."""
        if not self.reason:
            return ()
        text, offsets = _shown(self._chosen, self._tokenizer)
        scores = Scores(
            job_id=self.id,
            token_ids=tuple(self._chosen),
            best_ids=tuple(self._best),
            pieces=tuple(self._tokenizer.pieces[i] for i in self._chosen),
            text=text,
            offsets=offsets,
            vocabulary=self._vocabulary,
            rows=pack(self._rows),
            divergences=tuple(self._divergences),
        )
        return (scores,)

    def _measure(self, row: NDArray[np.float32]) -> int:
        place, follow = len(self._chosen), self._score.follow
        best = int(row.argmax())
        self._best.append(best)
        if self._score.keep_rows or place < len(self._reference):
            logprobs = log_probabilities(row)
            if self._score.keep_rows:
                self._rows.append(keep(logprobs))
            if place < len(self._reference):
                self._divergences.append(divergence(self._reference[place], logprobs))
        return follow[place] if follow else best

    def _is_last(self, token_id: int) -> bool:
        if self._score.follow:
            return len(self._chosen) == len(self._score.follow)
        return token_id in self._tokenizer.end_ids


def vocabulary_digest(pieces: Iterable[bytes]) -> bytes:
    """Equal for vocabularies whose ids stand for the same bytes."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(len(piece).to_bytes(4, "little") + piece)
    return digest.digest()


def _shown(token_ids: Sequence[int], tokenizer: Tokenizer) -> tuple[str, tuple[int, ...]]:
    """The text of an answer, and how many of its bytes there are after each token."""
    data, offsets = b"", []
    for token_id in token_ids:
        if token_id not in tokenizer.control_ids and token_id not in tokenizer.end_ids:
            data += tokenizer.pieces[token_id]
        offsets.append(len(data))
    return data.decode("utf-8", "replace"), tuple(offsets)
