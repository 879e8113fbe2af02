"""The loop: one for every engine. Runs on the engine thread, which also writes every frame.

Other threads reach it by `post`. A job is open from the moment its request was read until its
`Done` or `Failed` is written: exactly one, whatever happens.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from corral_kernel.contracts import Encoder, Engine, Rows, TokenEngine
from corral_kernel.errors import CancelledJobError, CorralError, EngineError
from corral_kernel.frames import JobEvent
from corral_kernel.worker.ahead import Ahead
from corral_kernel.worker.channel import Channel
from corral_kernel.worker.encoding import Encoding
from corral_kernel.worker.failing import failed, failure
from corral_kernel.worker.guard import Guard
from corral_kernel.worker.outbox import INTERVAL_S, Outbox
from corral_kernel.worker.pairing import Pairing, admit_all, no_room
from corral_kernel.worker.running import Running

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HEARTBEAT_SHARE = 8
"""A worker with open jobs writes at least this many frames in a step timeout."""
SAMPLER_TIMEOUT_S = 1.0


class Loop:
    """Runs jobs until the process ends.

    Args:
        engine: A `TokenEngine`, an `Encoder`, or both.
        channel: Where events go.
        step_timeout_s: While anything is open a frame is owed this often.
        sampler_timeout_s: What a job's samplers and constraint may take in one step, where they
            are not the kernel's own.
        interval_s: See `Outbox`.
    """

    def __init__(
        self,
        engine: Engine,
        channel: Channel,
        step_timeout_s: float,
        sampler_timeout_s: float = SAMPLER_TIMEOUT_S,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._engine = engine if isinstance(engine, TokenEngine) else None
        self._encoder = engine if isinstance(engine, Encoder) else None
        self._heartbeat_s = step_timeout_s / HEARTBEAT_SHARE
        self._outbox = Outbox(channel, self._heartbeat_s, interval_s)
        self._step_s = 0.0  # of the last one
        self._can_draft = "drafts" in engine.info.capabilities
        self._inbox: deque[Callable[[], None]] = deque()
        self._wake = threading.Condition()
        self._open: set[int] = set()
        self._paused: set[int] = set()
        self._waiting: deque[Running] = deque()
        self._room_sought = False  # `admit` said no, and nobody was released since
        self._live: dict[int, Running] = {}
        self._pairing = Pairing()
        self._guard = Guard(sampler_timeout_s)
        self._ahead = Ahead(sampler_timeout_s)
        self._encodings: deque[Encoding] = deque()

    # ------------------------------------------------------------------- from other threads

    def post(self, action: Callable[[], None]) -> None:
        """Have the engine thread call one of the methods below, before its next step."""
        with self._wake:
            self._inbox.append(action)
            self._wake.notify()

    # -------------------------------------------------------------- posted to engine thread

    def opened(self, job_id: int) -> None:
        """A request was read; its end is owed from now on."""
        self._open.add(job_id)

    def take(self, job: Running) -> None:
        """A completion is prepared."""
        if job.id in self._open:
            self._outbox.add((job.accepted,))
            self._waiting.append(job)

    def take_encoding(self, encoding: Encoding) -> None:
        """Texts are tokenized."""
        if encoding.id in self._open:
            self._encodings.append(encoding)

    def close_with(self, events: Sequence[JobEvent]) -> None:
        """End a job that needs no engine: all its events, the end last."""
        if events[0].job_id in self._open:
            self._outbox.add(events[:-1])
            self._close(events[-1].job_id, events[-1])

    def blame(self, job_id: int, error: Exception) -> None:
        """End a job by what was raised on its behalf."""
        self._close(job_id, failure(job_id, error))

    def cancel(self, job_id: int) -> None:
        """End a job because nobody wants it, wherever it is; what still prepares it is ignored."""
        self._fail(job_id, CancelledJobError.code, "cancelled")

    def pause(self, job_id: int) -> None:
        """Stop feeding a job."""
        if job_id in self._open:
            self._paused.add(job_id)

    def resume(self, job_id: int) -> None:
        """Go on feeding it."""
        self._paused.discard(job_id)
        job = self._live.get(job_id)
        if job is not None and job.held is not None:
            held, job.held = job.held, None
            self._feed(job, held)

    # ------------------------------------------------------------------------------ the loop

    def run(self) -> None:
        """Run for ever. Raises only what makes the engine untrustworthy."""
        import numpy as np

        np.seterr(all="ignore")  # of this thread: once here, since it costs 15 us for each token
        try:
            while True:
                self._receive()
                self._admit()
                self._encode()
                self._write()  # the end of a cancelled job does not wait for a step of the others
                if self._engine is not None and self._feeding():
                    self._step(self._engine)
                    self._write()
        finally:
            self._outbox.write(open_jobs=False, next_s=None)

    def _step(self, engine: TokenEngine) -> None:
        began = time.monotonic()
        for rows in engine.forward():
            self._advance(rows)
        self._pairing.keep()
        self._step_s = time.monotonic() - began

    def _feeding(self) -> bool:
        return any(job.held is None for job in self._live.values())

    def _busy(self) -> bool:
        may_admit = bool(self._waiting) and not self._room_sought
        return may_admit or bool(self._encodings) or self._feeding()

    def _receive(self) -> None:
        """Take what other threads posted; wait for it where there is nothing else to do."""
        if not self._inbox and not self._busy():
            with self._wake:
                # A beat is owed only while anything is open.
                timeout = self._heartbeat_s if self._open else None
                self._wake.wait_for(lambda: bool(self._inbox), timeout)
        while self._inbox:
            self._inbox.popleft()()

    def _admit(self) -> None:
        """First come, first admitted."""
        while self._engine is not None and self._waiting and not self._room_sought:
            job = self._waiting[0]
            try:
                admission = admit_all(self._engine, job)
            except Exception as error:  # noqa: BLE001 - whatever `admit` raises is this job's
                self.blame(job.id, error)
                continue
            if admission is not None:
                self._waiting.popleft()
                self._live[job.id] = job
                self._pairing.add(job)
                job.admitted(admission, partial(self._engine.shortlist, job.id))
            elif self._live:
                self._room_sought = True
            else:
                self.blame(job.id, no_room(job))

    def _encode(self) -> None:
        """One batch between two steps, so that nobody's tokens wait for a long list of texts."""
        if self._encoder is None or not self._encodings:
            return
        encoding = self._encodings[0]
        try:
            encoding.step(self._encoder)
            if encoding.finished:
                self.close_with(encoding.events())
            else:
                self._encodings.rotate(-1)
        except CorralError as error:
            self.blame(encoding.id, error)

    def _advance(self, rows: Rows) -> None:
        paired = self._pairing.job_of(rows.job_id)
        job = paired or self._live.get(rows.job_id)
        if job is None:  # it ended in this very step, by another of its sequences
            return
        if rows.error is not None:
            self._fail(job.id, EngineError.code, rows.error)
        elif paired is not None:
            if complete := self._pairing.take(rows):
                self._choose(job, complete[0][None], complete[1:])
        elif rows.logits is not None:
            self._choose(job, rows.logits)

    def _choose(
        self,
        job: Running,
        rows: "NDArray[np.float32]",
        companions: "Sequence[NDArray[np.float32]]" = (),
    ) -> None:
        try:
            if job.guarded:
                chosen = self._guard.call(job.choose, rows, companions)
            else:
                chosen = job.choose(rows, companions)
        except Exception as error:  # noqa: BLE001 - samplers and constraints are anybody's
            self.blame(job.id, error)
            return
        if not job.reason and job.is_full and not self._make_room(job, chosen):
            return
        self._outbox.add(job.events())
        if job.reason:
            self._close(job.id, job.done())
        elif job.id in self._paused:
            job.held = chosen
        else:
            self._feed(job, chosen)

    def _feed(self, job: Running, chosen: list[int]) -> None:
        assert self._engine is not None
        drafts: Sequence[int] = ()
        if self._can_draft:
            try:
                drafts = self._guard.call(job.drafts) if job.guarded else job.drafts()
            except Exception as error:  # noqa: BLE001 - constraints are anybody's
                self.blame(job.id, error)
                return
        self._engine.extend(job.id, chosen, drafts)
        for track in job.companions:
            self._engine.extend(track.id, chosen)
        if job.guarded:
            job.make_mask_ahead(self._ahead)

    def _make_room(self, job: Running, chosen: list[int]) -> bool:
        """The window is full: end the job, or forget half of what is not to be kept.

        Returns:
            False if the job is over, or waits to be admitted again, with its text written.
        """
        spans = {t: t.to_forget(len(chosen)) for t in job.tracks if t.is_full}
        if not job.spec.shift or None in spans.values():
            try:
                job.finish("length")
            except CorralError as error:  # of its parser
                self.blame(job.id, error)
                return False
            return True
        assert self._engine is not None
        moved = True
        for track, span in spans.items():
            assert span is not None
            moved = moved and self._engine.cut(track.id, *span)
            track.forget(*span)
        if moved:
            return True
        self._release(job.id)
        for track in job.tracks:
            track.renew()
        self._waiting.appendleft(job)
        self._outbox.add(job.events())
        return False

    # ------------------------------------------------------------------------------- the ends

    def _fail(self, job_id: int, code: str, message: str) -> None:
        self._close(job_id, failed(job_id, code, message))

    def _close(self, job_id: int, end: JobEvent) -> None:
        if job_id not in self._open:
            return
        if job_id in self._live:
            self._release(job_id)
        self._waiting = deque(job for job in self._waiting if job.id != job_id)
        self._encodings = deque(task for task in self._encodings if task.id != job_id)
        self._open.discard(job_id)
        self._paused.discard(job_id)
        self._outbox.add((end,))

    def _release(self, job_id: int) -> None:
        assert self._engine is not None
        job = self._live.pop(job_id)
        self._pairing.remove(job)
        for track in job.tracks:
            self._engine.release(track.id)
        self._room_sought = False

    def _write(self) -> None:
        next_s = self._step_s if self._feeding() else None
        self._outbox.write(open_jobs=bool(self._open), next_s=next_s)
