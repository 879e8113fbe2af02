"""What a task process does from its start to its end: one task."""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from corral_kernel import API_VERSION
from corral_kernel.contracts import MadeFile, Work
from corral_kernel.errors import CorralError, OutOfMemoryError, PluginError, TaskError
from corral_kernel.frames import Hello
from corral_kernel.given import ANYTHING
from corral_kernel.plugins import Plugin, Plugins
from corral_kernel.tasks.messages import (
    AnyTask,
    Convert,
    Made,
    TaskFailed,
    TaskSetup,
    Working,
    decode_to_task,
)
from corral_kernel.worker.channel import Channel
from corral_kernel.worker.startup import begin, finish

T = TypeVar("T")
logger = logging.getLogger(__name__)

NICENESS = 10
"""Models that answer meanwhile go first."""
REPORT_INTERVAL_S = 0.1
EXIT_FAILED = 65


def main(argument: str) -> None:
    """Run a task process; `argument` is a `TaskSetup` as JSON."""
    setup = msgspec.json.decode(argument, type=TaskSetup)
    channel = Channel(begin(setup.parent, setup.descriptor, debug=setup.debug))
    os.nice(NICENESS)
    tasks: queue.SimpleQueue[AnyTask] = queue.SimpleQueue()
    channel.send(Hello(api_version=API_VERSION, pid=os.getpid()))
    channel.read_forever(decode_to_task, tasks.put)
    task = tasks.get()
    finish(_run(task, Plugins(only=(task.plugin,)), channel))


def _run(task: AnyTask, plugins: Plugins, channel: Channel) -> int:
    """Do a task; gives an exit status."""
    reporter = _Reporter(channel)
    try:
        made = tuple(_checked(_work(task, plugins, reporter.report)))
    except ANYTHING as error:
        logger.warning("the task failed", exc_info=error)
        reporter.close()
        channel.send(_failed(error))
        return EXIT_FAILED
    reporter.close()
    channel.send(Made(files=made))
    return 0


def _work(
    task: AnyTask, plugins: Plugins, report: Callable[[int, int], None]
) -> Sequence[MadeFile]:
    work = Work(
        source=task.source,
        private=task.private,
        files=task.files,
        folder=Path(task.folder),
        report=report,
    )
    if isinstance(task, Convert):
        return _named(plugins.converters, task.maker).convert(work)
    imatrix = Path(task.imatrix) if task.imatrix else None
    return _named(plugins.quantizers, task.maker).quantize(work, task.type_name, imatrix)


def _named(makers: dict[str, tuple[Plugin, T]], name: str) -> T:
    found = makers.get(name)
    if found is None:
        raise PluginError(f"{name!r} is not installed here any more")
    return found[1]


def _checked(made: Any) -> Sequence[MadeFile]:
    """Whatever a plugin gave, as what it was to give.

    Raises:
        PluginError: If it is not.
    """
    if not isinstance(made, (list, tuple)) or not made:
        raise PluginError(f"it gave {type(made).__name__}, not the files that it made")
    try:
        return msgspec.convert(msgspec.to_builtins(made), tuple[MadeFile, ...])
    except (msgspec.ValidationError, TypeError) as error:
        raise PluginError(f"it gave no MadeFile: {error}") from error


def _failed(error: BaseException) -> TaskFailed:
    message = str(error) or type(error).__name__
    if isinstance(error, CorralError):
        return TaskFailed(code=error.code, message=message)
    if isinstance(error, MemoryError):
        return TaskFailed(code=OutOfMemoryError.code, message="the memory does not suffice")
    return TaskFailed(code=TaskError.code, message=f"{type(error).__name__}: {message}")


class _Reporter:
    """A plugin may report as often as it likes, from any thread; a few a second are sent.

    What says nothing new is not sent: so the server knows what is stuck.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._told = self._last = (-1, 0)
        self._time = 0.0
        self._over = False

    def report(self, completed: int, total: int) -> None:
        """Take what is done by now."""
        with self._lock:
            if completed > self._last[0] and not self._over:
                self._last = (int(completed), int(total))
                if time.monotonic() - self._time >= REPORT_INTERVAL_S:
                    self._send()

    def close(self) -> None:
        """Send what was not sent yet; what comes later never is."""
        with self._lock:
            self._over = True
            self._send()

    def _send(self) -> None:
        if self._last != self._told:
            self._time = time.monotonic()
            self._told = self._last
            self._channel.send(Working(completed=self._last[0], total=self._last[1]))
