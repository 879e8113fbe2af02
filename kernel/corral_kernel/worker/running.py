"""One completion in the loop: its tokens, its text, its limits and its clock."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from corral_kernel.contracts import Job, Prompt, Tokenizer, TokenSegment
from corral_kernel.frames import Accepted, Done, Generate, Text, TokenLogprob
from corral_kernel.sampling import Chooser, HistoryView, RawProbs, forced_logprob
from corral_kernel.worker.drafting import PromptLookup
from corral_kernel.worker.output import Output, RepeatGuard

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WINDOWS = 10
"""An answer without a limit of its own ends after this many context lengths."""


class Running:
    """A prepared job. The loop calls it, on the engine thread alone.

    Args:
        spec: The request.
        prompt: What to continue.
        accepted: To be reported when the loop takes it.
        chooser: Chooses its tokens; its view is `view`.
        view: The history; begins as the prompt's.
        tokenizer: The model's.
        context_tokens: Positions that it may occupy.
        drafts: Draft tokens a step; 0: none.
    """

    def __init__(  # noqa: PLR0913 - what a job is made of
        self,
        spec: Generate,
        *,
        prompt: Prompt,
        accepted: Accepted,
        chooser: Chooser,
        view: HistoryView,
        tokenizer: Tokenizer,
        context_tokens: int,
        drafts: int = 0,
    ) -> None:
        self.id = spec.job_id
        self.spec = spec
        self.accepted = accepted
        self.paused = False
        self.held: list[int] | None = None  # chosen while paused, still to be fed
        self.reason = ""
        self._prompt = prompt
        self._prompt_tokens = prompt.length
        self._chooser = chooser
        self._view = view
        self._tokenizer = tokenizer
        self._context_tokens = context_tokens
        self._ids = list(prompt.history()) if spec.want_ids else []
        self._moved = False  # whether positions were cut: the view is what the engine holds
        self._output = Output(spec.options.stop)
        self._guard = RepeatGuard(spec.repeat_limit)
        self._limit = _limit(spec.options.num_predict, context_tokens)
        self._text: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._lookup = PromptLookup(drafts) if drafts else None
        self._drafts: Sequence[int] = ()
        self._count = self._forced = self._cached = 0
        self._admitted_ns = self._first_ns = 0

    # ------------------------------------------------------------------------ on its way in

    def job(self) -> Job:
        """What the engine admits: the prompt, or after a cut what is left of everything."""
        prompt = self._prompt
        if self._moved:
            prompt = Prompt((TokenSegment(self._view.token_ids.tolist()),))
        room = max(1, self._context_tokens - prompt.length)
        left = self._limit - self._count
        return Job(
            id=self.id,
            prompt=prompt,
            max_tokens=max(0, min(room, left)),
            adapters=self.spec.adapters,
            cache_scope=self.spec.cache_scope,
        )

    def admitted(self, cached_tokens: int) -> None:
        """It has room."""
        if not self._admitted_ns:
            self._admitted_ns = time.perf_counter_ns()
            self._cached = cached_tokens

    # ------------------------------------------------------------------------------- a step

    def choose(self, rows: "NDArray[np.float32]") -> list[int]:
        """Choose a token for each row that counts; give those to feed next. May end the job.

        Args:
            rows: `(1 + drafts, vocab_size)`, the engine's own; may be written to.
        """
        if not self._first_ns:
            self._first_ns = time.perf_counter_ns()
            if self._limit == 0:
                self.reason = "length"
                return []
        chosen: list[int] = []
        for place, row in enumerate(rows):
            probs = (
                None if self.spec.logprobs is None else RawProbs(row, len(self._tokenizer.pieces))
            )
            token_id = self._chooser.choose(row)
            chosen.append(token_id)
            self._commit(token_id, probs)
            drafted = place < len(self._drafts) and self._drafts[place] == token_id
            if self.reason or not drafted:
                break
        if not self.reason:
            chosen += self._take_forced()
        return chosen

    def drafts(self) -> Sequence[int]:
        """Guesses at what follows, to be fed with what was chosen."""
        self._drafts = ()
        if self._lookup is not None and not self.reason:
            room = min(self._limit - self._count, self._context_tokens - self.positions)
            guesses = self._lookup.propose(self._view.token_ids, max(0, room - 1))
            self._drafts = guesses[: self._chooser.allows(guesses)]
        return self._drafts

    def text(self) -> Text | None:
        """The piece of the answer that this step decided, if any."""
        content = "".join(self._text)
        logprobs = tuple(self._logprobs)
        self._text.clear()
        self._logprobs.clear()
        if not content and not logprobs:
            return None
        return Text(job_id=self.id, content=content, logprobs=logprobs)

    def done(self) -> Done:
        """The end."""
        now = time.perf_counter_ns()
        return Done(
            job_id=self.id,
            reason=self.reason,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached,
            prompt_ns=self._first_ns - self._admitted_ns,
            output_tokens=self._count,
            forced_tokens=self._forced,
            output_ns=now - self._first_ns,
            token_ids=tuple(self._ids),
        )

    # --------------------------------------------------------------------------- the window

    @property
    def positions(self) -> int:
        """Positions that the whole sequence would occupy now."""
        return len(self._view.token_ids)

    @property
    def is_full(self) -> bool:
        """Whether what was chosen does not fit into the window any more."""
        return self.positions > self._context_tokens

    def forget(self, start: int, stop: int) -> None:
        """These positions were cut."""
        self._view.cut(start, stop)
        self._moved = True

    # ----------------------------------------------------------------------------- privately

    def _commit(self, token_id: int, probs: RawProbs | None, *, forced: bool = False) -> None:
        """Let a token join the answer: text, stop strings, limits."""
        self._view.append((token_id,))
        self._count += 1
        self._forced += forced
        if token_id in self._tokenizer.end_ids:
            self.finish("stop")
            return
        if self.spec.want_ids:
            self._ids.append(token_id)
        logprob = None
        if self.spec.logprobs is not None:
            logprob = (
                probs.of(token_id, self.spec.logprobs, self._tokenizer)
                if probs
                else forced_logprob(token_id, self._tokenizer)
            )
        shown = token_id not in self._tokenizer.control_ids
        text = self._output.feed(self._tokenizer.pieces[token_id] if shown else b"", logprob)
        self._emit(text)
        if self._output.stopped:
            self.reason = "stop"
        elif self._guard.tripped(text):
            self.finish("repeat")
        elif self._count >= self._limit:
            self.finish("length")

    def _take_forced(self) -> list[int]:
        forced: list[int] = []
        for token_id in self._chooser.forced():
            self._chooser.accept(token_id)
            forced.append(token_id)
            self._commit(token_id, None, forced=True)
            if self.reason:
                break
        return forced

    def finish(self, reason: str) -> None:
        """End it; text that was held back is given."""
        self.reason = reason
        self._emit(self._output.end())

    def _emit(self, text: str) -> None:
        if text:
            self._text.append(text)
        self._logprobs.extend(self._output.logprobs())


def _limit(num_predict: int, context_tokens: int) -> int:
    most = WINDOWS * context_tokens
    return most if num_predict < 0 or num_predict > most else num_predict
