"""What a process does that the server starts: it waits for the message that says what it is for.

A `Load` makes it a worker; a task it does, and ends. Until then it has interpreter, kernel and
plugins up, and no more.
"""

import os
import queue
import sys
from typing import assert_never

import msgspec

from corral_kernel import API_VERSION, frames
from corral_kernel.plugins import Plugins
from corral_kernel.tasks.messages import AnyTask, Convert, Quantize
from corral_kernel.tasks.working import do_task
from corral_kernel.worker.channel import Channel
from corral_kernel.worker.process import Worker
from corral_kernel.worker.setup import Setup
from corral_kernel.worker.startup import begin, finish

# Each native call that returns beside a thread running Python waits one interval: at the default
# 5 ms a decode beside a rendering template takes twice its time, at this 0.2 ms more.
SWITCH_INTERVAL_S = 0.0002

_decode = msgspec.msgpack.Decoder(frames.Ping | frames.ToWorker | AnyTask).decode


class _Process:
    """A process of the server.

    Args:
        setup: What it was told as it started.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._channel = Channel(begin(setup.parent, setup.descriptor, debug=setup.debug))
        self._plugins = Plugins(setup.only, setup.disabled)
        self._purpose: queue.SimpleQueue[frames.Ping | frames.Load | AnyTask]
        self._purpose = queue.SimpleQueue()
        self._worker: Worker | None = None

    def run(self) -> int:
        """Say hello, wait, and do what it is for; gives an exit status."""
        self._channel.send(frames.Hello(api_version=API_VERSION, pid=os.getpid()))
        self._channel.read_forever(_decode, self._take)
        while isinstance(purpose := self._purpose.get(), frames.Ping):
            self._channel.send(frames.Pong())
        match purpose:
            case frames.Load():
                sys.setswitchinterval(SWITCH_INTERVAL_S)
                self._worker = Worker(self._channel, self._plugins, self._setup)
                return self._worker.run(purpose)
            case Convert() | Quantize():
                return do_task(purpose, self._plugins, self._channel)
            case _:
                assert_never(purpose)

    def _take(self, message: frames.Ping | frames.ToWorker | AnyTask) -> None:
        """Take a message, on the reader thread."""
        if isinstance(message, frames.Ping | frames.Load | Convert | Quantize):
            self._purpose.put(message)
        else:
            assert self._worker is not None, "jobs come after `Loaded`"
            self._worker.take(message)


def main(argument: str) -> None:
    """Run a process; `argument` is a `Setup` as JSON."""
    finish(_Process(msgspec.json.decode(argument, type=Setup)).run())
