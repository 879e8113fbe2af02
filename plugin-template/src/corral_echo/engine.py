"""The engine: token ids in, logits out. Runs in a worker."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from corral_echo.faults import StepFaults, load_faults
from corral_echo.options import DEFAULT_BATCH_TOKENS, DEFAULT_CONTEXT_TOKENS, EchoOptions
from corral_echo.tokenizer import BOS_ID, END_ID, ByteTokenizer
from corral_kernel.contracts import (
    Admission,
    EngineInfo,
    Job,
    LoadRequest,
    Part,
    Prompt,
    Rows,
    TextPart,
    TokenEngine,
    TokenSegment,
)
from corral_kernel.errors import OutOfMemoryError, UnsupportedError

# So far apart that no temperature or penalty in use lets another token win.
_LIKELY, _UNLIKELY = 60.0, -60.0


def load(request: LoadRequest) -> EchoEngine:
    """Make an engine; `request.options` has the effective sizes.

    Raises:
        LoadError: If the options say so, or loading was given up.
        TypeError: If the options are another backend's.
    """
    options = request.options
    if not isinstance(options, EchoOptions):
        raise TypeError(f"echo was given {type(options).__name__}, not the EchoOptions it named")
    load_faults(options, request.report)
    return EchoEngine(options, request.slots)


class _Running:
    """A job in its slot."""

    def __init__(self, job: Job, slot: int) -> None:
        history = job.prompt.history()
        self.job_id = job.id
        self.slot = slot
        self.echo = [i for i in history if i != BOS_ID] + [END_ID]
        self.prompt_tokens = len(history)
        self.pending = history
        self.fed_tokens = 0
        self.text = bytes(i for i in history if i < BOS_ID).decode(errors="replace")

    @property
    def decoding(self) -> bool:
        return self.fed_tokens >= self.prompt_tokens

    def feed(self, limit: int) -> int:
        """Take at most `limit` of what is pending, and say how many."""
        count = min(limit, len(self.pending))
        del self.pending[:count]
        self.fed_tokens += count
        return count

    def next_id(self) -> int:
        answered = self.fed_tokens - self.prompt_tokens
        return self.echo[min(answered, len(self.echo) - 1)]


class EchoEngine(TokenEngine):
    """Repeats each prompt, byte by byte, and ends; several jobs at once."""

    tokenizer = ByteTokenizer()

    def __init__(self, options: EchoOptions, slots: int) -> None:
        vocab_size = len(self.tokenizer.pieces)
        self.info = EngineInfo(
            capabilities=("completion",),
            vocab_size=vocab_size,
            context_tokens=options.num_ctx or DEFAULT_CONTEXT_TOKENS,
            slots=slots,
            batch_tokens=options.num_batch or DEFAULT_BATCH_TOKENS,
            memory_bytes=options.echo_memory_bytes,
        )
        self._faults = StepFaults(options)
        self._running: dict[int, _Running] = {}  # in order of admission
        self._logits: NDArray[np.float32] = np.empty((slots, vocab_size), np.float32)

    def prepare(self, parts: Sequence[Part]) -> Prompt:
        """Tokenize a prompt; a text that brings its own `<s>` gets no second one.

        Raises:
            UnsupportedError: If a part is no text.
        """
        ids: list[int] = []
        for part in parts:
            if not isinstance(part, TextPart):
                raise UnsupportedError(f"echo takes text alone, not {part.kind}")
            ids.extend(self.tokenizer.encode(part.text, special=part.special))
        if ids[:1] != [BOS_ID]:
            ids.insert(0, BOS_ID)
        return Prompt((TokenSegment(ids),))

    def admit(self, job: Job) -> Admission | None:
        """Give a job a slot; None while all are taken.

        Raises:
            OutOfMemoryError: If prompt and answer are longer than the context.
        """
        wanted, room = job.prompt.length + job.max_tokens, self.info.context_tokens
        if wanted > room:
            raise OutOfMemoryError(f"a job of {wanted} tokens does not fit a context of {room}")
        free = set(range(self.info.slots)) - {job.slot for job in self._running.values()}
        if not free:
            return None
        self._running[job.id] = _Running(job, min(free))
        return Admission()

    def forward(self) -> Sequence[Rows]:
        """Feed every job that is answering, then prompts in order, up to `info.batch_tokens`."""
        batch = self._batch()
        self._faults.step([job.text for job, _ in batch])
        return [self._rows(job, limit) for job, limit in batch]

    def _batch(self) -> list[tuple[_Running, int]]:
        """Jobs to feed, each with how many tokens at most."""
        hungry = [job for job in self._running.values() if job.pending]
        hungry.sort(key=lambda job: not job.decoding)  # stable: prompts stay in order
        left = self.info.batch_tokens
        batch = []
        for job in hungry:
            limit = min(left, len(job.pending))
            if limit:
                batch.append((job, limit))
            left -= limit
        return batch

    def _rows(self, job: _Running, limit: int) -> Rows:
        fed = job.feed(limit)
        if error := self._faults.error(job.text):
            return Rows(job.job_id, fed, error=error)
        if job.pending:
            return Rows(job.job_id, fed)
        logits = self._logits[job.slot : job.slot + 1]
        logits.fill(_UNLIKELY)
        logits[0, job.next_id()] = _LIKELY
        return Rows(job.job_id, fed, logits)

    def extend(self, job_id: int, token_ids: Sequence[int], draft_ids: Sequence[int] = ()) -> None:
        """Append what was chosen; no drafts come, since `info.capabilities` has none."""
        del draft_ids
        self._running[job_id].pending.extend(token_ids)

    def release(self, job_id: int) -> None:
        """Free the job's slot."""
        del self._running[job_id]
