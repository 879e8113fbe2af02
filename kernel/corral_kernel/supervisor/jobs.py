"""One job's events on their way from a worker to whoever reads them."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from corral_kernel.errors import CancelledJobError, CorralError, RemoteJobError
from corral_kernel.frames import Done, Failed, JobEvent, Text, ToolCall


@dataclass(frozen=True, slots=True)
class JobLimits:
    """How far a reader may fall behind.

    Attributes:
        merge_after: Unread pieces of text from which on further ones are merged.
        pause_at: Tokens' worth of unread pieces at which the job is not fed any more.
        stall_s: A paused job is cancelled when nothing was read for so long.
    """

    merge_after: int = 16
    pause_at: int = 1024
    stall_s: float = 60.0


class JobControl(Protocol):
    """What a stream asks of its worker."""

    def cancel(self, job_id: int) -> None:
        """End the job."""

    def pause(self, job_id: int) -> None:
        """Stop feeding it."""

    def resume(self, job_id: int) -> None:
        """Go on feeding it."""


class JobStream:
    """An async iterator of a job's events; exactly one end: `Done` last, or a `CorralError`.

    Args:
        job_id: On its worker.
        control: That worker.
        limits: How far the reader may fall behind.
    """

    def __init__(self, job_id: int, control: JobControl, limits: JobLimits) -> None:
        self.job_id = job_id
        self.ended = False
        self._control = control
        self._limits = limits
        self._events: deque[tuple[JobEvent, int]] = deque()  # each with what it counts as unread
        self._error: CorralError | None = None
        self._unread = 0
        self._paused = False
        self._stall: asyncio.TimerHandle | None = None
        self._reader: asyncio.Future[None] | None = None
        self._on_end: list[Callable[[], None]] = []

    def on_end(self, call: Callable[[], None]) -> None:
        """Have something called when the job is over on the worker, read or not."""
        if self.ended:
            call()
        else:
            self._on_end.append(call)

    # --------------------------------------------------------------------- the worker's side

    def put(self, event: JobEvent) -> None:
        """Take an event."""
        if self.ended:
            return
        if isinstance(event, Failed):
            self.fail(self._error or RemoteJobError(event.code, event.message))
            return
        if isinstance(event, Text | ToolCall):
            self._put_piece(event)
        else:
            self._events.append((event, 0))
        if isinstance(event, Done):
            self._error = None  # a cancel that came too late
            self._end()
        self._wake()

    def fail(self, error: CorralError) -> None:
        """End the job; what came before can still be read."""
        if not self.ended:
            self._error = error
            self._end()
            self._wake()

    # --------------------------------------------------------------------- the reader's side

    def __aiter__(self) -> "JobStream":
        return self

    async def __anext__(self) -> JobEvent:
        while not self._events:
            if self._error is not None and self.ended:
                raise self._error
            if self.ended:
                raise StopAsyncIteration
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        event, cost = self._events.popleft()
        if cost:
            self._read(cost)
        return event

    def cancel(self, error: CorralError | None = None) -> None:
        """Give the job up; its end is still awaited from the worker. A second time: nothing."""
        if not self.ended and self._error is None:
            self._error = error or CancelledJobError("request canceled")
            self._control.cancel(self.job_id)

    # ----------------------------------------------------------------------------- privately

    def _put_piece(self, event: Text | ToolCall) -> None:
        cost = 1 + (len(event.logprobs) if isinstance(event, Text) else 0)
        self._unread += cost
        if len(self._events) >= self._limits.merge_after:
            last, last_cost = self._events[-1]
            if (
                isinstance(last, Text)
                and isinstance(event, Text)
                and not (last.content and event.thinking)
            ):
                self._events.pop()
                event, cost = _merged(last, event), last_cost + cost
        self._events.append((event, cost))
        if self._unread >= self._limits.pause_at and not self._paused:
            self._pause()

    def _read(self, cost: int) -> None:
        self._unread -= cost
        self._stop_watch()
        if self._paused and not self.ended:
            if self._unread <= self._limits.pause_at // 2:
                self._paused = False
                self._control.resume(self.job_id)
            else:
                self._watch()

    def _pause(self) -> None:
        self._paused = True
        self._control.pause(self.job_id)
        self._watch()

    def _watch(self) -> None:
        stall_s = self._limits.stall_s
        if stall_s < float("inf"):
            error = CancelledJobError(f"nothing of the answer was read for {stall_s:g} s")
            loop = asyncio.get_running_loop()
            self._stall = loop.call_later(stall_s, self.cancel, error)

    def _stop_watch(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _end(self) -> None:
        self.ended = True
        self._stop_watch()
        for call in self._on_end:
            call()
        self._on_end.clear()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


def _merged(first: Text, second: Text) -> Text:
    return msgspec.structs.replace(
        second,
        content=first.content + second.content,
        thinking=first.thinking + second.thinking,
        logprobs=first.logprobs + second.logprobs,
    )
