"""Events on their way to the server: few frames where steps are quick."""

import time
from collections.abc import Iterable
from typing import Protocol

from corral_kernel.frames import Accepted, Done, Failed, JobEvent, Step, Text, ToolCall

INTERVAL_S = 0.03


class Sender(Protocol):
    """What frames go through."""

    def send(self, message: Step) -> None:
        """Write one."""


class Outbox:
    """Collects the events of steps and decides when a frame is due.

    A frame wakes the server, and the server a client, on the very cores that the next step needs:
    at 7 ms a step that takes a twentieth of the pace. So pieces of answers wait for those of the
    next step while nobody could tell: until the last frame is `interval_s` old. The first piece of
    an answer, its end, and whatever else is not text are written at once.

    Args:
        sender: To the server.
        heartbeat_s: A frame is owed this often while jobs are open.
        interval_s: Between two frames of text alone; 0: each step has its own.
    """

    def __init__(self, sender: Sender, heartbeat_s: float, interval_s: float = INTERVAL_S) -> None:
        self._sender = sender
        self._heartbeat_s = heartbeat_s
        self._interval_s = min(interval_s, heartbeat_s / 2)
        self._events: list[JobEvent] = []
        self._urgent = False
        self._unbegun: set[int] = set()  # jobs that were accepted, and no piece of them written
        self._written_at = time.monotonic()

    def add(self, events: Iterable[JobEvent]) -> None:
        """Take events, to be written in their order."""
        for event in events:
            self._events.append(event)
            if isinstance(event, Accepted):
                self._unbegun.add(event.job_id)
            if not isinstance(event, Text | ToolCall) or event.job_id in self._unbegun:
                self._urgent = True
            if isinstance(event, Text | ToolCall | Done | Failed):
                self._unbegun.discard(event.job_id)

    def write(self, *, open_jobs: bool, next_s: float | None) -> None:
        """Write what there is, if it is due.

        Args:
            open_jobs: A heartbeat is owed.
            next_s: What the step that follows at once will take; None: none does.
        """
        now = time.monotonic()
        age_s = now - self._written_at
        if self._events:
            can_wait = next_s is not None and age_s + next_s < self._interval_s
            if can_wait and not self._urgent:
                return
        elif not open_jobs or age_s < self._heartbeat_s / 2:
            return
        events, self._events = tuple(self._events), []
        self._urgent = False
        self._written_at = now
        self._sender.send(Step(events=events))
