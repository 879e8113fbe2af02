"""One completion in the loop: its tokens, its text, its limits and its clock."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from corral_kernel.contracts import Job, Prompt, Tokenizer, TokenSegment
from corral_kernel.frames import Accepted, Done, Generate, Text, TokenLogprob
from corral_kernel.sampling import Chooser, HistoryView, RawProbs, forced_logprob
from corral_kernel.worker.drafting import PromptLookup
from corral_kernel.worker.output import Output, RepeatGuard
from corral_kernel.worker.prompting import kept_tokens

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WINDOWS = 10
"""An answer without a limit of its own ends after this many context lengths."""

LEAST_MOVING = 4
"""Positions at the end of the window that `num_keep` cannot claim."""


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
        self.held: list[int] | None = None  # chosen while paused, still to be fed
        self.reason = ""
        self._prompt = prompt
        self._prompt_tokens = prompt.length
        self._chooser = chooser
        self._view = view
        self._tokenizer = tokenizer
        self._context_tokens = context_tokens
        self._prompt_ids = prompt.history() if spec.want_ids else []
        self._answer_ids: list[int] = []
        self._moved = False  # whether positions were cut: the view is what the engine holds
        self._output = Output(spec.options.stop)
        self._guard = RepeatGuard(spec.repeat_limit)
        self._limit = _limit(spec.options.num_predict, context_tokens)
        self._answer: list[str] = []
        self._unsent = 0  # the first piece of the answer that is still to be sent
        self._logprobs: list[TokenLogprob] = []
        self._lookup = PromptLookup(drafts) if drafts else None
        self._drafts: Sequence[int] = ()
        self._count = self._forced = self._cached = self._steps = 0
        self._admitted_ns = self._first_ns = 0
        if self._limit:
            # What has to come first joins the prompt: it needs no step of its own.
            begun = TokenSegment(self._take_forced())
            self._prompt = Prompt((*prompt.segments, begun))

    # ------------------------------------------------------------------------ on its way in

    def job(self) -> Job:
        """What the engine admits: the prompt, or after a cut what is left of everything."""
        prompt = self._prompt
        if self._moved:
            prompt = Prompt((TokenSegment(self._view.token_ids.tolist()),))
        room = self._context_tokens - prompt.length
        return Job(
            id=self.id,
            prompt=prompt,
            max_tokens=max(0, min(room, self._limit - self._count)),
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
        self._steps += 1
        if self._limit == 0:
            self.finish("length")
        if self.reason:  # else what was forced before the first row has ended it
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
        content = "".join(self._answer[self._unsent :])
        self._unsent = len(self._answer)
        logprobs = tuple(self._logprobs)
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
            steps=self._steps,
            token_ids=self._all_ids() if self.spec.want_ids else (),
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

    def to_forget(self, chosen: int) -> tuple[int, int] | None:
        """The positions to cut so that what was chosen fits: half of what is not to be kept.

        Args:
            chosen: Tokens that the engine was not fed yet, the last of the sequence.

        Returns:
            Start and stop; None if too much is to be kept.
        """
        fed = self.positions - chosen
        wanted = self.spec.options.num_keep
        whole = self._view.prompt_tokens
        keep = kept_tokens(self._tokenizer, wanted, whole if wanted < 0 else fed, fed)
        keep = max(0, min(keep, self._context_tokens - LEAST_MOVING))
        stop = keep + max(chosen, (fed - keep) // 2)
        return (keep, stop) if stop <= fed else None

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
        self._answer_ids.append(token_id)
        shown = token_id not in self._tokenizer.control_ids
        piece = self._tokenizer.pieces[token_id] if shown else b""
        text = self._output.feed(piece, self._logprob(token_id, probs))
        if (text or not self._output.holds) and self._guard.tripped(text):
            self.finish("repeat")
            return
        self._emit(text)
        if self._output.stopped:
            self.reason = "stop"
        elif self._chooser.finished():
            self.finish("stop")
        elif self._count >= self._limit:
            self.finish("length")

    def _logprob(self, token_id: int, probs: RawProbs | None) -> TokenLogprob | None:
        if self.spec.logprobs is None:
            return None
        if probs is None:
            return forced_logprob(token_id, self._tokenizer)
        return probs.of(token_id, self.spec.logprobs, self._tokenizer)

    def _take_forced(self) -> list[int]:
        """Let tokens join that have no alternative, as far as the window goes."""
        forced: list[int] = []
        for token_id in self._chooser.forced():
            if self.reason or self.positions >= self._context_tokens:
                break
            self._chooser.accept(token_id)
            forced.append(token_id)
            self._commit(token_id, None, forced=True)
        return forced

    def _all_ids(self) -> tuple[int, ...]:
        """Prompt and answer; after a stop string the answer's text anew, which ends before it."""
        answer = self._answer_ids
        if self._output.stopped:
            answer = self._tokenizer.encode("".join(self._answer), special=False)
        return (*self._prompt_ids, *answer)

    def finish(self, reason: str) -> None:
        """End it; text that was held back is given."""
        self.reason = reason
        self._emit(self._output.end())

    def _emit(self, text: str) -> None:
        if text:
            self._answer.append(text)
        self._logprobs.extend(self._output.logprobs())


def _limit(num_predict: int, context_tokens: int) -> int:
    most = WINDOWS * context_tokens
    return most if num_predict < 0 or num_predict > most else num_predict
