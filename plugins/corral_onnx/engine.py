"""Several jobs on ONNX Runtime GenAI, a bounded piece of one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corral_kernel.checking import check_ids, prompt_ids
from corral_kernel.contracts import (
    Admission,
    EngineInfo,
    Job,
    Part,
    Prompt,
    Rows,
    TokenEngine,
)
from corral_kernel.errors import (
    EngineError,
    OutOfMemoryError,
)
from corral_onnx.adapters import Adapters
from corral_onnx.batched import MOST_TOKENS, BatchedModel, BatchedStrand
from corral_onnx.native import Native
from corral_onnx.strands import Lane, Lanes, Scope
from corral_onnx.tokenizer import OnnxTokenizer

SLICE_TOKENS = MOST_TOKENS
"""Tokens of one call: the library holds the interpreter lock, and may give other numbers for
other divisions of a prompt, so that it is the same for all."""


@dataclass(slots=True, eq=False)
class _Run:
    """An admitted job.

    Attributes:
        lane: Its sequence, with its ids: prompt and what was chosen.
        writing: Its prompt has been fed once.
        waiting: Its row has been handed out, and nothing came back yet.
        broken: The library failed in it.
    """

    id: int
    lane: Lane
    writing: bool = False
    waiting: bool = False
    broken: bool = False


class OnnxEngine(TokenEngine):
    """See `TokenEngine`. Jobs on generators take turns, a run each; batched ones go on together.

    Args:
        native: Loaded; the engine's from now on.
        tokenizer: Of it.
        lanes: Its sequences.
        adapters: Its adapters.
        info: What the engine is.
    """

    def __init__(
        self,
        native: Native | BatchedModel,
        tokenizer: OnnxTokenizer,
        lanes: Lanes,
        adapters: Adapters,
        info: EngineInfo,
    ) -> None:
        self.info = info
        self.tokenizer: OnnxTokenizer = tokenizer
        self._native = native
        self._lanes = lanes
        self._adapters = adapters
        self._runs: dict[int, _Run] = {}  # whose turn it is comes first

    # ------------------------------------------------------------------ on text threads

    def prepare(self, parts: Sequence[Part]) -> Prompt:
        """See `TokenEngine`."""
        return self.tokenizer.prepare(parts)

    # ------------------------------------------------------------------ on the engine thread

    def admit(self, job: Job) -> Admission | None:
        """See `TokenEngine`."""
        ids = prompt_ids(job.prompt, self.info)
        total = len(ids) + max(0, job.max_tokens)
        if total > self.info.context_tokens:
            raise OutOfMemoryError(
                f"the job needs {total} positions; the context has {self.info.context_tokens}"
            )
        if len(self._runs) >= self.info.slots:
            return None
        adapter = self._adapters.load(job.adapters, self._lanes.forget)
        lane = self._lanes.open(Scope(job.cache_scope, adapter), ids, total)
        if lane is None:
            return None
        self._runs[job.id] = _Run(job.id, lane)
        return Admission(lane.strand.length)

    def forward(self) -> Sequence[Rows]:
        """See `TokenEngine`. All that write go on by a token, then one prompt by a slice."""
        ready = [run for run in self._runs.values() if not run.waiting]
        turns = [run for run in ready if run.writing]
        reading = [run for run in ready if not run.writing][:1]
        # Where a batch has no room for all, prompts must not wait until nobody writes.
        turns = turns + reading if len(turns) < self.info.batch_tokens else ready
        room = self.info.batch_tokens
        out: list[Rows] = []
        together = self._together(turns[:room])
        if together:
            room -= self._go_on(together, out)
            turns = [run for run in turns if run not in together]
        for run in turns:
            if room > 0:
                room -= self._feed(run, room, out)
        return out

    def _together(self, turns: Sequence[_Run]) -> dict[_Run, BatchedStrand]:
        """Those of several jobs whose next tokens can be fed in one run."""
        found = {
            run: run.lane.strand
            for run in turns
            if isinstance(run.lane.strand, BatchedStrand) and run.lane.pending == 1 and run.writing
        }
        return found if len(found) > 1 else {}

    def _go_on(self, together: dict[_Run, BatchedStrand], out: list[Rows]) -> int:
        assert isinstance(self._native, BatchedModel)
        for run in together:
            self._runs[run.id] = self._runs.pop(run.id)
        try:
            token_ids = [run.lane.ids[-1] for run in together]
            rows = self._native.go_on(list(together.values()), token_ids)
        except EngineError as error:
            for run in together:
                run.broken = run.waiting = True
                out.append(Rows(run.id, 0, error=str(error)))
            return len(together)
        for run, row in zip(together, rows, strict=True):
            run.waiting = True
            out.append(Rows(run.id, 1, row))
        return len(together)

    def _feed(self, run: _Run, room: int, out: list[Rows]) -> int:
        """Feed a slice of what a run has to feed; its next turn comes after all others'."""
        self._runs[run.id] = self._runs.pop(run.id)
        lane = run.lane
        start = lane.strand.length
        # Slices end where they would had nothing been cached.
        count = min(lane.pending, room, SLICE_TOKENS - start % SLICE_TOKENS)
        try:
            lane.strand.feed(lane.ids[start : start + count])
            row = None if lane.pending else self._row(run)
        except EngineError as error:
            run.broken = run.waiting = True
            out.append(Rows(run.id, 0, error=str(error)))
            return count
        if row is not None:
            run.writing = run.waiting = True
        out.append(Rows(run.id, count, row))
        return count

    def _row(self, run: _Run) -> NDArray[np.float32]:
        row = run.lane.strand.row()
        if row.shape[1] != self.info.vocab_size:
            raise EngineError(f"a row of {row.shape[1]} logits, not {self.info.vocab_size}")
        return row

    def extend(self, job_id: int, token_ids: Sequence[int], draft_ids: Sequence[int] = ()) -> None:
        """See `TokenEngine`; drafts are no capability of this engine."""
        del draft_ids
        run = self._runs[job_id]
        check_ids(token_ids, self.info.vocab_size)
        if len(run.lane.ids) + len(token_ids) > run.lane.total:
            raise EngineError("a job was given more tokens than it was admitted for")
        run.lane.ids.extend(token_ids)
        run.waiting = False

    def release(self, job_id: int) -> None:
        """See `TokenEngine`."""
        run = self._runs.pop(job_id)
        self._lanes.close(run.lane, keep=not run.broken)

    def close(self) -> None:
        """See `Engine`."""
        self._runs.clear()
        self._lanes.clear()
        self._native.close()
