"""One sequence at a time over one model, with the beginning of the last one kept."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corral_ctransformers.native import NativeModel
from corral_ctransformers.tokenizers import GgmlTokenizer
from corral_kernel.checking import check_ids, joined_texts, prompt_ids
from corral_kernel.contracts import (
    Admission,
    EngineInfo,
    Job,
    Part,
    Prompt,
    Rows,
    TokenEngine,
    TokenSegment,
)
from corral_kernel.errors import (
    OutOfMemoryError,
    UnsupportedError,
)


@dataclass(slots=True)
class _Run:
    """The job in the only slot.

    Attributes:
        ids: Prompt and what was chosen.
    """

    id: int
    ids: list[int]


class GgmlEngine(TokenEngine):
    """See `TokenEngine`.

    Args:
        native: Loaded; the engine's from now on.
        tokenizer: Of its vocabulary.
        info: What the engine is.
    """

    def __init__(self, native: NativeModel, tokenizer: GgmlTokenizer, info: EngineInfo) -> None:
        self.info = info
        self.tokenizer: GgmlTokenizer = tokenizer
        self._native = native
        self._run: _Run | None = None
        self._fed: list[int] = []  # what the model's memory holds, by position
        self._scope = ""  # whose it is
        self._logits: NDArray[np.float32] = np.empty((1, info.vocab_size), np.float32)

    # ------------------------------------------------------------------ on text threads

    def prepare(self, parts: Sequence[Part]) -> Prompt:
        """See `TokenEngine`. Neighbouring parts of one kind are tokenized as one text."""
        tokenizer = self.tokenizer
        ids: list[int] = []
        for text, special in joined_texts(parts):
            encode = tokenizer.encode if ids else tokenizer.encode_beginning
            ids += encode(text, special=special)
        bos_id = tokenizer.bos_id
        if bos_id is not None and ids[:1] != [bos_id] and (tokenizer.adds_bos or not ids):
            ids.insert(0, bos_id)
        return Prompt((TokenSegment(ids),))

    # ------------------------------------------------------------------ on the engine thread

    def admit(self, job: Job) -> Admission | None:
        """See `TokenEngine`."""
        if job.adapters:
            raise UnsupportedError("this backend takes no adapters")
        ids = prompt_ids(job.prompt, self.info)
        total, room = len(ids) + max(0, job.max_tokens), self.info.context_tokens
        if total > room:
            raise OutOfMemoryError(f"the job needs {total} positions; the context has {room}")
        if self._run is not None:
            return None
        self._run = _Run(job.id, ids)
        self._keep(ids, job.cache_scope)
        return Admission(cached_tokens=len(self._fed))

    def _keep(self, ids: Sequence[int], scope: str) -> None:
        """Forget what was fed, but for the beginning that a prompt shares with it."""
        # One token is always fed, else there would be no logits.
        kept = _common_length(self._fed, ids[:-1]) if scope == self._scope else 0
        if kept < len(self._fed) and not self._native.rewinds:
            kept = 0
        del self._fed[kept:]
        self._scope = scope

    def forward(self) -> Sequence[Rows]:
        """See `TokenEngine`."""
        run = self._run
        if run is None or len(self._fed) == len(run.ids):
            return ()
        start = len(self._fed)
        ids = run.ids[start : start + self.info.batch_tokens]
        self._native.feed(ids, start)
        self._fed += ids
        if len(self._fed) < len(run.ids):
            return [Rows(run.id, len(ids))]
        self._native.read_logits(self._logits[0])
        return [Rows(run.id, len(ids), self._logits)]

    def extend(self, job_id: int, token_ids: Sequence[int], draft_ids: Sequence[int] = ()) -> None:
        """See `TokenEngine`; no drafts come, since `info.capabilities` has none."""
        del draft_ids
        run = self._run
        assert run is not None
        assert run.id == job_id
        check_ids(token_ids, self.info.vocab_size)
        if len(run.ids) + len(token_ids) > self.info.context_tokens:
            raise ValueError(f"job {job_id} outgrows the context")
        run.ids.extend(token_ids)

    def release(self, job_id: int) -> None:
        """See `TokenEngine`."""
        assert self._run is not None
        assert self._run.id == job_id
        self._run = None

    def close(self) -> None:
        """See `Engine`."""
        self._native.free()


def _common_length(left: Sequence[int], right: Sequence[int]) -> int:
    pairs = zip(left, right, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))
