"""The loop for engines with a loop of their own: many requests at once, in one asyncio loop.

Runs on the engine thread, which also writes every frame; other threads reach it by `post`. As in
`loop.py` a job is open from the moment its request was read until its `Done` or `Failed` is
written: exactly one, whatever its engine does. An engine that is silent for long is waited for:
heartbeats go on, and one request's silence is no other's. One that blocks this loop is hung.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence

from corral_kernel.contracts import Ending, Piece, TextEngine
from corral_kernel.errors import CancelledJobError, EngineError
from corral_kernel.frames import Done, Encode, JobEvent, Step
from corral_kernel.worker.answering import TextAnswer
from corral_kernel.worker.channel import Channel
from corral_kernel.worker.encoding import vector_events
from corral_kernel.worker.failing import failed, failure
from corral_kernel.worker.loop import HEARTBEAT_SHARE

logger = logging.getLogger(__name__)

Work = Callable[["_Open"], Coroutine[None, None, None]]


class _Open:
    """An open job.

    Attributes:
        flows: Whether its client reads; else its engine is not asked for more.
        task: What runs it; None: it is prepared, or waits for room.
    """

    def __init__(self, job_id: int) -> None:
        self.id = job_id
        self.flows = asyncio.Event()
        self.flows.set()
        self.task: asyncio.Task[None] | None = None


class TextLoop:
    """Runs jobs until the process ends.

    Args:
        engine: That answers them, `info.slots` at once.
        channel: Where events go.
        step_timeout_s: While anything is open a frame is owed this often.
    """

    def __init__(self, engine: TextEngine, channel: Channel, step_timeout_s: float) -> None:
        self._engine = engine
        self._channel = channel
        self._heartbeat_s = step_timeout_s / HEARTBEAT_SHARE
        self._loop = asyncio.new_event_loop()
        self._open: dict[int, _Open] = {}
        self._waiting: deque[tuple[_Open, Work]] = deque()
        self._running: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()  # ended jobs' too, until they are over
        self._events: list[JobEvent] = []
        self._written_at = time.monotonic()
        self._beating = False
        self._fault: BaseException | None = None

    # ------------------------------------------------------------------- from other threads

    def post(self, action: Callable[[], None]) -> None:
        """Have the engine thread call one of the methods below, soon."""
        self._loop.call_soon_threadsafe(action)

    # -------------------------------------------------------------- posted to engine thread

    def opened(self, job_id: int) -> None:
        """A request was read; its end is owed from now on."""
        self._open[job_id] = _Open(job_id)
        if not self._beating:
            self._beating = True
            self._written_at = time.monotonic()
            self._loop.call_later(self._heartbeat_s, self._beat)

    def take(self, answer: TextAnswer) -> None:
        """A completion is prepared."""
        job = self._open.get(answer.id)
        if job is not None:
            self._say(answer.accepted)
            self._queue(job, lambda job: self._answer(job, answer))

    def take_texts(self, spec: Encode) -> None:
        """Texts are to become vectors."""
        job = self._open.get(spec.job_id)
        if job is not None:
            self._queue(job, lambda job: self._embed(job, spec))

    def close_with(self, events: Sequence[JobEvent]) -> None:
        """End a job that needs no engine: all its events, the end last."""
        if events[0].job_id in self._open:
            self._say(*events[:-1])
            self._close(events[-1].job_id, events[-1])

    def blame(self, job_id: int, error: BaseException) -> None:
        """End a job by what was raised on its behalf."""
        if job_id in self._open:
            self._close(job_id, failure(job_id, error))
        else:
            logger.warning("job %d raised after its end", job_id, exc_info=error)

    def cancel(self, job_id: int) -> None:
        """End a job because nobody wants it, wherever it is; its engine is told at once."""
        self._close(job_id, failed(job_id, CancelledJobError.code, "cancelled"))

    def pause(self, job_id: int) -> None:
        """Ask a job's engine for no more."""
        if job_id in self._open:
            self._open[job_id].flows.clear()

    def resume(self, job_id: int) -> None:
        """Go on asking."""
        if job_id in self._open:
            self._open[job_id].flows.set()

    # ------------------------------------------------------------------------------ the loop

    def run(self) -> None:
        """Run for ever. Raises only what makes this loop untrustworthy."""
        self._loop.run_forever()
        raise self._fault or EngineError("the event loop was stopped by the engine")

    def _queue(self, job: _Open, work: Work) -> None:
        self._waiting.append((job, work))
        self._start()

    def _start(self) -> None:
        """First come, first served, as many at once as the engine takes."""
        while self._waiting and len(self._running) < max(1, self._engine.info.slots):
            job, work = self._waiting.popleft()
            self._running.add(job.id)
            job.task = self._loop.create_task(self._run(job, work))
            self._tasks.add(job.task)
            job.task.add_done_callback(self._tasks.discard)

    async def _run(self, job: _Open, work: Work) -> None:
        try:
            await work(job)
        except asyncio.CancelledError:
            if job.id in self._open:
                self.blame(job.id, EngineError("the engine cancelled its own request"))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it raises is this job's
            self.blame(job.id, error)

    async def _answer(self, job: _Open, answer: TextAnswer) -> None:
        """Pass on what the engine gives; the end when it has let go of the request."""
        answer.begin()
        pieces = aiter(self._engine.generate(answer.request))
        done: Done | None = None
        try:
            while done is None and job.id in self._open:
                await job.flows.wait()
                item = await anext(pieces, None)
                if item is None:
                    raise EngineError("the engine ended an answer without telling why it ends")
                done = self._pass_on(job, answer.take(item))
                # An engine that never waits would keep everybody else from running.
                await asyncio.sleep(0)
        finally:
            await _shut(pieces)
        if done is not None:
            self._close(job.id, done)

    def _pass_on(self, job: _Open, events: Iterable[JobEvent]) -> Done | None:
        """Have events written, unless the job is over; give the end, which is yet to be."""
        for event in events:
            if isinstance(event, Done):
                return event
            if job.id in self._open:
                self._say(event)
        return None

    async def _embed(self, job: _Open, spec: Encode) -> None:
        vectors = await self._engine.embed(
            spec.target, spec.texts, spec.dimensions, truncate=spec.truncate
        )
        if job.id in self._open:
            self.close_with(vector_events(spec, vectors.rows, vectors.prompt_tokens))

    # ------------------------------------------------------------------------------- the ends

    def _close(self, job_id: int, end: JobEvent) -> None:
        """End a job. Its place is free at once, however long its engine takes to clean up."""
        job = self._open.pop(job_id, None)
        if job is None:
            return
        self._running.discard(job_id)
        self._waiting = deque(entry for entry in self._waiting if entry[0] is not job)
        if job.task is not None and job.task is not asyncio.current_task(self._loop):
            job.task.cancel()
        self._say(end)
        self._start()

    def _say(self, *events: JobEvent) -> None:
        """Have events written, with all others of this turn of the loop."""
        if events and not self._events:
            self._loop.call_soon(self._write)
        self._events += events

    def _beat(self) -> None:
        self._beating = bool(self._open)
        if self._beating:
            if time.monotonic() - self._written_at >= self._heartbeat_s / 2:
                self._write()
            self._loop.call_later(self._heartbeat_s, self._beat)

    def _write(self) -> None:
        events, self._events = self._events, []
        try:
            self._channel.send(Step(events=tuple(events)))
        except BaseException as error:  # noqa: BLE001 - ends are lost: this worker has to go
            self._fault = error
            self._loop.stop()
        self._written_at = time.monotonic()


async def _shut(pieces: AsyncIterator[Piece | Ending]) -> None:
    """Close an iterator, if it is one that can be closed; what that raises spoils no answer."""
    aclose = getattr(pieces, "aclose", None)
    if aclose is not None:
        try:
            await aclose()
        except Exception:
            logger.exception("the engine failed to close an answer")
