"""The engine: token ids in, logits out. Runs in a worker."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
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
from corral_kernel.errors import InvalidRequestError, OutOfMemoryError, UnsupportedError
from numpy.typing import NDArray

from corral_repeat.options import (
    DEFAULT_BATCH_TOKENS,
    DEFAULT_CONTEXT_TOKENS,
    RepeatOptions,
)
from corral_repeat.tokenizer import BOS_ID, END_ID, ByteTokenizer

# So far apart that no temperature or penalty in use lets another token win.
_LIKELY, _UNLIKELY = 60.0, -60.0


def load(request: LoadRequest) -> RepeatEngine:
    """Make an engine; `request.options` has the effective sizes.

    A real one opens `request.path("weights")` here, and calls `request.report` as it goes on.

    Raises:
        TypeError: If the options are another backend's.
    """
    options = request.options
    if not isinstance(options, RepeatOptions):
        raise TypeError(f"the options are {type(options).__name__}, not RepeatOptions")
    return RepeatEngine(options, request.slots)


def _unfollowed(options: RepeatOptions) -> dict[str, str]:
    """Options of every backend that change nothing in this one: who sets one is told."""
    asked = {
        "num_gpu": options.num_gpu > 0,
        "main_gpu": options.main_gpu is not None,
        "use_mmap": options.use_mmap is not None,
        "num_thread": options.num_thread > 0,
    }
    return {name: "is ignored: this backend computes nothing" for name in asked if asked[name]}


class Running:
    """A job in its slot."""

    def __init__(self, job: Job, slot: int, times: int) -> None:
        history = job.prompt.history()
        self.job_id = job.id
        self.slot = slot
        self.answer = [i for i in history if i != BOS_ID] * times + [END_ID]
        self.prompt_tokens = len(history)
        self.pending = history
        self.fed_tokens = 0

    @property
    def decoding(self) -> bool:
        """Whether its prompt was fed."""
        return self.fed_tokens >= self.prompt_tokens

    def feed(self, limit: int) -> int:
        """Take at most `limit` of what is pending, and say how many."""
        count = min(limit, len(self.pending))
        del self.pending[:count]
        self.fed_tokens += count
        return count

    def next_id(self) -> int:
        """What it should say next."""
        answered = self.fed_tokens - self.prompt_tokens
        return self.answer[min(answered, len(self.answer) - 1)]


class RepeatEngine(TokenEngine):
    """Repeats each prompt, byte by byte, and ends; several jobs at once."""

    tokenizer = ByteTokenizer()

    def __init__(self, options: RepeatOptions, slots: int) -> None:
        vocab_size = len(self.tokenizer.pieces)
        self.info = EngineInfo(
            capabilities=("completion",),
            vocab_size=vocab_size,
            context_tokens=options.num_ctx or DEFAULT_CONTEXT_TOKENS,
            slots=slots,
            batch_tokens=options.num_batch or DEFAULT_BATCH_TOKENS,
            warnings=_unfollowed(options),
        )
        self._times = options.repeat_times
        self._running: dict[int, Running] = {}  # in order of admission
        self._logits: NDArray[np.float32] = np.empty((slots, vocab_size), np.float32)

    def prepare(self, parts: Sequence[Part]) -> Prompt:
        """Tokenize a prompt; a text that brings its own `<s>` gets no second one.

        Raises:
            UnsupportedError: If a part is no text.
        """
        ids: list[int] = []
        for part in parts:
            if not isinstance(part, TextPart):
                raise UnsupportedError(f"this backend takes text alone, not {part.kind}")
            ids.extend(self.tokenizer.encode(part.text, special=part.special))
        if ids[:1] != [BOS_ID]:
            ids.insert(0, BOS_ID)
        return Prompt((TokenSegment(ids),))

    def admit(self, job: Job) -> Admission | None:
        """Give a job a slot; None while all are taken.

        Raises:
            InvalidRequestError: If an id of the prompt is no token: native code would not forgive.
            OutOfMemoryError: If prompt and answer are longer than the context.
        """
        if not all(0 <= i < self.info.vocab_size for i in job.prompt.history()):
            raise InvalidRequestError("the prompt holds ids that are no tokens")
        wanted, room = job.prompt.length + job.max_tokens, self.info.context_tokens
        if wanted > room:
            raise OutOfMemoryError(f"a job of {wanted} tokens does not fit a context of {room}")
        free = set(range(self.info.slots)) - {job.slot for job in self._running.values()}
        if not free:
            return None
        self._running[job.id] = Running(job, min(free), self._times)
        return Admission()

    def forward(self) -> Sequence[Rows]:
        """Feed every job that is answering, then prompts in order, up to `info.batch_tokens`."""
        return [self.feed(job, limit) for job, limit in self.batch()]

    def batch(self) -> list[tuple[Running, int]]:
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

    def feed(self, job: Running, limit: int) -> Rows:
        """Feed one job: here a real engine runs its model, for the whole batch at once."""
        fed = job.feed(limit)
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
