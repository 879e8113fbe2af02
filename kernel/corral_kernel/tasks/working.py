"""What a process does of a task: all of it, once."""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from corral_kernel.contracts import MadeFile, Work
from corral_kernel.errors import CorralError, OutOfMemoryError, PluginError, TaskError
from corral_kernel.given import ANYTHING
from corral_kernel.plugins import Plugin, Plugins
from corral_kernel.tasks.messages import (
    AnyTask,
    Convert,
    Made,
    TaskFailed,
    Working,
)
from corral_kernel.worker.channel import Channel

T = TypeVar("T")
logger = logging.getLogger(__name__)

NICENESS = 10
"""Models that answer meanwhile go first."""
REPORT_INTERVAL_S = 0.1
EXIT_FAILED = 65


def do_task(task: AnyTask, plugins: Plugins, channel: Channel) -> int:
    """Do a task, and send how it ends; gives an exit status.

    Args:
        task: To be done.
        plugins: Of this process.
        channel: To the server.
    """
    os.nice(NICENESS)
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
        return _maker(plugins.converters, task).convert(work)
    imatrix = Path(task.imatrix) if task.imatrix else None
    return _maker(plugins.quantizers, task).quantize(work, task.type_name, imatrix)


def _maker(makers: dict[str, tuple[Plugin, T]], task: AnyTask) -> T:
    plugin, maker = makers.get(task.maker, (None, None))
    if plugin is None or maker is None or plugin.name != task.plugin:
        raise PluginError(f"{task.maker!r} is not installed here any more")
    return maker


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
