"""A process of our own program at the end of a channel, as the server sees it.

It starts without knowing what for: interpreter, kernel and plugins are up by the time that it is
given a role, which its first message tells it.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from typing import BinaryIO, cast

import msgspec

from corral_kernel import API_VERSION, framing
from corral_kernel.errors import CorralError, FrameError, WorkerDiedError, WorkerError
from corral_kernel.frames import Ping, decode_hello, decode_pong
from corral_kernel.supervisor.output_tail import OutputTail
from corral_kernel.supervisor.setup import WorkerSetup
from corral_kernel.supervisor.watchdog import Watchdog
from corral_kernel.supervisor.writer import Writer

logger = logging.getLogger(__name__)

BUFFER_BYTES = 1 << 20
MODULE = "corral_kernel.worker"
REAP_INTERVALS_S = (0.0005, 0.005)
"""Between looks whether a process is over: the first, and the longest."""
LAST_WORDS_S = 0.2
"""How long the output of a process that is over may take to arrive."""


class Role:
    """What a process does for the server."""

    def receive(self, message: bytes) -> None:
        """Take one message of its channel.

        Raises:
            FrameError: If it is not one to come now.
            msgspec.MsgspecError: If it is none.
        """
        raise NotImplementedError

    def silent(self, timeout_s: float) -> None:
        """Something was owed, and did not come."""
        raise NotImplementedError

    def nonsense(self, error: Exception) -> WorkerError:
        """Give the error for a channel that holds what is no frame."""
        raise NotImplementedError

    def closing(self) -> None:
        """Its channel is closed."""

    def death(self) -> CorralError:
        """Why it is over, where nobody ended it."""
        raise NotImplementedError

    def ended(self, error: CorralError, *, known: bool) -> None:
        """Tell whoever waits for it; `known`: it was given up before."""
        raise NotImplementedError


class _Waiting(Role):
    """A process that has no role yet."""

    def __init__(self, process: "ChildProcess") -> None:
        self._process = process
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def receive(self, message: bytes) -> None:
        """Take the answer to a `Ping`; nothing else is to come."""
        decode_pong(message)
        if not self.answered.done():
            self.answered.set_result(None)

    def nonsense(self, error: Exception) -> WorkerError:
        """Give the error for a channel that holds what is no frame."""
        return WorkerError(f"a spare process sent what is no frame: {error}")

    def death(self) -> CorralError:
        """Why it is over."""
        return WorkerDiedError("a spare", self._process.exit_status, self._process.last_words)

    def ended(self, error: CorralError, *, known: bool) -> None:
        """Log an end that nobody ordered."""
        if not known or self._process.cause is not None:
            logger.warning("%s (pid %d)", error, self._process.pid)


class ChildProcess(asyncio.Protocol):
    """Starts with `await start()`; over when `gone` is done.

    Args:
        setup: What all processes of a server share.

    Attributes:
        setup: Likewise.
        role: What it does; who gives it one hears of all that comes from then on.
        writer: Sends it messages.
        watchdog: Tells the role when nothing comes.
        cause: Why it was ended, where that was told.
        lost: Done as soon as it takes no more work: it was killed, or its channel is closed.
        gone: Done when the process is over and its memory free.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        self.setup = setup
        loop = asyncio.get_running_loop()
        self.role: Role = _Waiting(self)
        self.writer = Writer()
        self.watchdog = Watchdog(self._silent)
        self.cause: CorralError | None = None
        self.lost: asyncio.Future[None] = loop.create_future()
        self.gone: asyncio.Future[None] = loop.create_future()
        self._assembler = framing.Assembler()
        self._is_greeted = False
        self._process: subprocess.Popen[bytes]
        self._tail: OutputTail
        self._ending: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------------- life and death

    async def start(self) -> None:
        """Fork and exec; the process imports on while this returns.

        Raises:
            OSError: If there is no room for one more process.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                output = self._spawn(theirs)
            except BaseException:
                ours.close()
                raise
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        try:
            loop = asyncio.get_running_loop()
            self._tail = OutputTail(self.pid)
            await loop.connect_read_pipe(lambda: self._tail, output)
            await loop.create_connection(lambda: self, sock=ours)
        except BaseException:
            self._kill_all()
            self._process.wait()
            ours.close()
            output.close()
            raise

    def _spawn(self, theirs: socket.socket) -> BinaryIO:
        read_end, write_end = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                # Without -P a file of the working directory could stand in for any module.
                [sys.executable, "-P", "-m", MODULE, self.setup.argument(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                start_new_session=True,  # a terminal's Ctrl-C is for the server
            )
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        return open(read_end, "rb", buffering=0)  # noqa: PTH123 - a pipe; its transport closes it

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """How it ended; None: it runs, or that is not known yet."""
        return self._process.returncode

    async def listens(self, timeout_s: float) -> bool:
        """Whether it lives, for one without a role: it may be ending, and nobody sees that yet."""
        assert isinstance(self.role, _Waiting), "it has no role yet"
        answered = self.role.answered
        self.writer.send(Ping())
        await asyncio.wait(
            (answered, self.lost), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
        return answered.done() and not self.lost.done()

    @property
    def last_words(self) -> str:
        """The last line that it printed."""
        return self._tail.last_line()

    def kill(self, cause: CorralError | None = None) -> None:
        """End it now; what is open fails with `cause`, or as with any death."""
        self.cause = self.cause or cause
        self._lose()
        if self._ending is None:
            self._kill_all()

    def end(self) -> CorralError:
        """Give what to tell those who wait for one that is over."""
        return self.cause or self.role.death()

    async def stop(self, cause: CorralError | None = None) -> None:
        """Kill it and wait until it is gone and its memory free."""
        self.kill(cause)
        await asyncio.shield(self.gone)

    def _kill_all(self) -> None:
        """End the process and what it started. It is not reaped yet: its id is nobody else's."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _lose(self) -> None:
        if not self.lost.done():
            self.lost.set_result(None)

    def _silent(self, timeout_s: float) -> None:
        self.role.silent(timeout_s)  # of whoever has it by then

    # ------------------------------------------------------------------------------ the channel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The channel is open."""
        # No isinstance: uvloop's transports are no subclasses of asyncio's.
        self.writer.open(cast("asyncio.Transport", transport))

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self.writer.pause()

    def resume_writing(self) -> None:
        """It has room again."""
        self.writer.resume()

    def data_received(self, data: bytes) -> None:
        """Bytes of frames; those of a process that was given up are not looked at."""
        if self.lost.done():
            return
        self.watchdog.heard()
        try:
            for message in self._assembler.feed(data):
                if self._is_greeted:
                    self.role.receive(message)
                else:
                    self._greet(message)
        except (FrameError, msgspec.MsgspecError) as error:
            self.kill(self.role.nonsense(error))

    def _greet(self, message: bytes) -> None:
        self._is_greeted = True
        version = decode_hello(message).api_version
        if version != API_VERSION:
            self.kill(WorkerError(f"a process of API {version}, this is {API_VERSION}"))

    # --------------------------------------------------------------------------------- the end

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is closed: the process is over, or as good as."""
        del exc
        self.writer.close()
        self.watchdog.stop()
        self.role.closing()
        self._kill_all()  # it may hang on its way out
        self._ending = asyncio.get_running_loop().create_task(self._end(known=self.lost.done()))
        self._lose()

    async def _end(self, *, known: bool) -> None:
        # The pool's threads, one of which could wait for it, may all be busy for long.
        interval_s, longest_s = REAP_INTERVALS_S
        while self._process.poll() is None:
            await asyncio.sleep(interval_s)
            interval_s = min(interval_s * 1.25, longest_s)
        with contextlib.suppress(TimeoutError):  # what it printed last tells why
            await asyncio.wait_for(asyncio.shield(self._tail.closed), LAST_WORDS_S)
        self._tail.close()
        self.gone.set_result(None)
        self.role.ended(self.end(), known=known)
