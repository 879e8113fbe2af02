"""One completion in the loop: its tokens, its text, its limits and its clock."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from corral_kernel.contracts import Admission, EndReason, Tokenizer
from corral_kernel.frames import Accepted, Done, Generate, JobEvent, TokenLogprob
from corral_kernel.sampling import Chooser, RawProbs, forced_logprob
from corral_kernel.worker.ahead import Ahead
from corral_kernel.worker.course import Course
from corral_kernel.worker.drafting import PromptLookup
from corral_kernel.worker.output import Output, RepeatGuard
from corral_kernel.worker.reading import Reader
from corral_kernel.worker.track import Track

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WINDOWS = 10
"""An answer without a limit of its own ends after this many context lengths."""


class Running:
    """A prepared job. The loop calls it, on the engine thread alone.

    Args:
        spec: The request.
        track: The sequence of its own.
        companions: Further sequences that are fed what is chosen.
        accepted: To be reported when the loop takes it.
        chooser: Chooses its tokens; its view is the track's.
        course: The plan that its answer follows, if there is one.
        reader: What makes events of its text; None: all text is content.
        kept_ids: Control tokens that the reader has to see.
        tokenizer: The model's.
        drafts: Draft tokens a step; 0: none.
        guarded: Whether strangers' code runs in it.

    Attributes:
        tracks: All its sequences, its own first.
        held: Chosen while it was paused, still to be fed.
        reason: Why it ended; empty: it did not.
    """

    def __init__(  # noqa: PLR0913 - what a job is made of
        self,
        spec: Generate,
        *,
        track: Track,
        companions: Sequence[Track] = (),
        accepted: Accepted,
        chooser: Chooser,
        course: Course | None = None,
        reader: Reader | None = None,
        kept_ids: frozenset[int] = frozenset(),
        tokenizer: Tokenizer,
        drafts: int = 0,
        guarded: bool = False,
    ) -> None:
        self.id = spec.job_id
        self.spec = spec
        self.accepted = accepted
        self.guarded = guarded
        self.tracks = (track, *companions)
        self.companions = companions
        self.held: list[int] | None = None
        self.reason = ""
        self._prompt_tokens = track.view.length
        self._chooser = chooser
        self._course = course
        self._view = track.view
        self._tokenizer = tokenizer
        self._reader = Reader(spec.job_id) if reader is None else reader
        self._hidden_ids = tokenizer.control_ids - kept_ids
        self._prompt_ids = track.view.token_ids.tolist() if spec.want_ids else []
        self._answer_ids: list[int] = []
        self._shortlist: Callable[[int], Sequence[tuple[int, float]]] | None = None
        self._output = Output(spec.options.stop)
        self._guard = RepeatGuard(spec.repeat_limit)
        self._limit = _limit(spec.options.num_predict, track.view.context_tokens)
        self._answer: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._lookup = PromptLookup(drafts) if drafts and not companions else None
        self._drafts: Sequence[int] = ()
        self._count = self._forced = self._cached = self._steps = 0
        self._admitted_ns = self._first_ns = 0
        if self._limit:
            begun: list[int] = []
            self._take_forced(begun)
            self._feed_companions(begun)
            for each in self.tracks:
                each.begin_with(begun)

    # ------------------------------------------------------------------------ on its way in

    @property
    def left(self) -> int:
        """Tokens that may still join the answer."""
        return self._limit - self._count

    def admitted(
        self, admission: Admission, shortlist: Callable[[int], Sequence[tuple[int, float]]]
    ) -> None:
        """It has room.

        Args:
            admission: What the engine said of its own sequence.
            shortlist: Gives the engine's own choice for one of the last rows.
        """
        natively = 0 if self.companions else admission.native_samplers
        self._shortlist = shortlist if natively else None
        self._chooser.leave_to_engine(natively, admission.native_from)
        if not self._admitted_ns:
            self._admitted_ns = time.perf_counter_ns()
            self._cached = admission.cached_tokens

    # ------------------------------------------------------------------------------- a step

    def choose(
        self, rows: "NDArray[np.float32]", companions: "Sequence[NDArray[np.float32]]" = ()
    ) -> list[int]:
        """Choose a token for each row that counts; give those to feed next. May end the job.

        Args:
            rows: `(1 + drafts, vocab_size)`, the engine's own; may be written to.
            companions: One row of each companion.
        """
        if not self._first_ns:
            self._first_ns = time.perf_counter_ns()
        self._steps += 1
        if self._limit == 0:
            self.finish("length")
        if self.reason:  # else what was forced before the first row has ended it
            return []
        if self._course is not None:
            chosen = self._choose_by(self._course, rows, companions)
            self._feed_companions(chosen)
            return chosen
        chosen = []
        for place, row in enumerate(rows):
            probs = None if self.spec.logprobs is None else self._probs(row)
            natively = self._shortlist and partial(self._shortlist, place)
            token_id = self._chooser.choose(row, companions, natively)
            chosen.append(token_id)
            self._commit(token_id, probs)
            drafted = place < len(self._drafts) and self._drafts[place] == token_id
            if self.reason or not drafted:
                break
        self._feed_companions(chosen)
        return chosen

    def _choose_by(
        self,
        course: Course,
        rows: "NDArray[np.float32]",
        companions: "Sequence[NDArray[np.float32]]",
    ) -> list[int]:
        """Choose as a plan says. What it forces may agree with the drafts as well."""
        chosen: list[int] = []
        while (place := len(chosen)) < len(rows):
            probs = None if self.spec.logprobs is None else self._probs(rows[place])
            natively = self._shortlist and partial(self._shortlist, place)
            for token_id in course.pick(rows[place], companions, natively):
                chosen.append(token_id)
                self._commit(token_id, probs)
                probs = None  # of a token that was cut, the rest has no rows
                if self.reason:
                    return chosen
            self._take_forced(chosen, place)
            assert len(chosen) > place, "where nothing is drawn something is forced"
            if self.reason or list(self._drafts[place : len(chosen)]) != chosen[place:]:
                break
        return chosen

    def drafts(self) -> Sequence[int]:
        """Guesses at what follows, to be fed with what was chosen."""
        self._drafts = ()
        if self._lookup is not None and not self.reason:
            room = min(self.left, self._view.context_tokens - self._view.length)
            guesses = self._lookup.propose(self._view.token_ids, max(0, room - 1))
            self._drafts = guesses[: self._chooser.allows(guesses)]
        return self._drafts

    def make_mask_ahead(self, ahead: Ahead) -> None:
        """Have a slow constraint's next mask made while the engine computes."""
        held = self._chooser.held
        if held is not None and held.is_slow:
            held.make_ahead(ahead.submit)

    def events(self) -> Sequence[JobEvent]:
        """What this step decided of the answer, if anything."""
        logprobs = tuple(self._logprobs)
        self._logprobs.clear()
        return self._reader.take(logprobs)

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
    def is_full(self) -> bool:
        """Whether what was chosen does not fit into the window any more."""
        if self.companions:
            return any(track.is_full for track in self.tracks)
        return self.tracks[0].is_full

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
        shown = token_id not in self._hidden_ids
        piece = self._tokenizer.pieces[token_id] if shown else b""
        text = self._output.feed(piece, self._logprob(token_id, probs))
        if (text or not self._output.holds) and self._guard.tripped(text):
            self.finish("repeat")
            return
        self._emit(text)
        if (
            self._output.stopped
            or self._reader.ended
            or (self._course is not None and self._followed(self._course, token_id))
        ):
            self.finish("stop")
        elif self._count >= self._limit:
            self.finish("length")

    def _logprob(self, token_id: int, probs: RawProbs | None) -> TokenLogprob | None:
        if self.spec.logprobs is None:
            return None
        if probs is None:
            return forced_logprob(token_id, self._tokenizer)
        return probs.of(token_id, self.spec.logprobs, self._tokenizer)

    def _probs(self, row: "NDArray[np.float32]") -> RawProbs:
        return RawProbs(row, len(self._tokenizer.pieces))

    @staticmethod
    def _followed(course: Course, token_id: int) -> bool:
        """Go on in the plan by a token; whether that was its end."""
        course.joined(token_id)
        return course.ended

    def _take_forced(self, chosen: list[int], start: int = 0) -> None:
        """Let tokens join that have no alternative, as far as the window goes.

        Args:
            chosen: To be fed next; they are appended to it.
            start: Where the tokens that this row brought begin. One of a row always joins: the
                window is looked after before it is fed.
        """
        course, changes = self._course, -1
        while course is not None and not self.reason and course.changes != changes:
            changes = course.changes
            for token_id in course.forced():
                full = self._view.length >= self._view.context_tokens
                if self.reason or (full and (len(chosen) > start or not self._steps)):
                    return
                course.take(token_id)
                chosen.append(token_id)
                self._commit(token_id, None, forced=True)

    def _feed_companions(self, token_ids: Sequence[int]) -> None:
        for track in self.companions:
            track.view.append(token_ids)

    def _all_ids(self) -> tuple[int, ...]:
        """Prompt and answer; after a stop string the answer's text anew, which ends before it."""
        answer = self._answer_ids
        if self._output.stopped:
            answer = self._tokenizer.encode("".join(self._answer), special=False)
        return (*self._prompt_ids, *answer)

    def finish(self, reason: EndReason) -> None:
        """End it; text that was held back is given."""
        self.reason = reason
        self._emit(self._output.end())
        self._reader.finish(reason)

    def _emit(self, text: str) -> None:
        if text:
            self._answer.append(text)
            self._reader.feed(text)
        self._logprobs.extend(self._output.logprobs())


def _limit(num_predict: int, context_tokens: int) -> int:
    most = WINDOWS * context_tokens
    return most if num_predict < 0 or num_predict > most else num_predict
