"""A process of our own program at the end of a channel, as the server sees it."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from typing import BinaryIO, cast

import msgspec

from corral_kernel import framing
from corral_kernel.errors import CorralError, FrameError, WorkerError
from corral_kernel.supervisor.output_tail import OutputTail
from corral_kernel.supervisor.watchdog import Watchdog
from corral_kernel.supervisor.writer import Writer

BUFFER_BYTES = 1 << 20
REAP_INTERVAL_S = 0.005
LAST_WORDS_S = 0.2
"""How long the output of a process that is over may take to arrive."""


class ChildProcess(asyncio.Protocol):
    """Starts with `await start()`; over when `gone` is done.

    Args:
        module: What it runs.

    Attributes:
        lost: Done as soon as it takes no more work: it was killed, or its channel is closed.
        gone: Done when the process is over and its memory free.
    """

    def __init__(self, module: str) -> None:
        self._module = module
        loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = loop.create_future()
        self.gone: asyncio.Future[None] = loop.create_future()
        self._assembler = framing.Assembler()
        self._writer = Writer()
        self._watchdog = Watchdog(self._silent)
        self._cause: CorralError | None = None
        self._process: subprocess.Popen[bytes]
        self._tail: OutputTail
        self._ending: asyncio.Task[None] | None = None

    # ---------------------------------------------------------------- what kinds of them differ in

    def _argument(self, descriptor: int) -> str:
        """Give what it is told on its command line; its end of the channel is `descriptor`."""
        raise NotImplementedError

    def _receive(self, message: bytes) -> None:
        """Take one message of its channel.

        Raises:
            msgspec.MsgspecError: If it is none.
        """
        raise NotImplementedError

    def _silent(self, timeout_s: float) -> None:
        """Something was owed, and did not come."""
        raise NotImplementedError

    def _said_nonsense(self, error: Exception) -> WorkerError:
        """Give the error for a channel that holds what is no frame."""
        raise NotImplementedError

    def _closing(self) -> None:
        """Its channel is closed."""

    def _death(self) -> CorralError:
        """Why it is over."""
        raise NotImplementedError

    def _ended(self, error: CorralError, *, known: bool) -> None:
        """Tell whoever waits for it; `known`: it was given up before."""
        raise NotImplementedError

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
                [sys.executable, "-P", "-m", self._module, self._argument(theirs.fileno())],
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
    def is_over(self) -> bool:
        """Whether it ended, noticed or not. It is not reaped by this: its id stays its own."""
        if self.lost.done() or not hasattr(os, "waitid"):
            return self.lost.done()
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    @property
    def last_words(self) -> str:
        """The last line that it printed."""
        return self._tail.last_line()

    def kill(self, cause: CorralError | None = None) -> None:
        """End it now; what is open fails with `cause`, or as with any death."""
        self._cause = self._cause or cause
        self._lose()
        if self._ending is None:
            self._kill_all()

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

    # ------------------------------------------------------------------------------ the channel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The channel is open."""
        # No isinstance: uvloop's transports are no subclasses of asyncio's.
        self._writer.open(cast("asyncio.Transport", transport))

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self._writer.pause()

    def resume_writing(self) -> None:
        """It has room again."""
        self._writer.resume()

    def data_received(self, data: bytes) -> None:
        """Bytes of frames; those of a process that was given up are not looked at."""
        if self.lost.done():
            return
        self._watchdog.heard()
        try:
            for message in self._assembler.feed(data):
                self._receive(message)
        except (FrameError, msgspec.MsgspecError) as error:
            self.kill(self._said_nonsense(error))

    # --------------------------------------------------------------------------------- the end

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is closed: the process is over, or as good as."""
        del exc
        self._writer.close()
        self._watchdog.stop()
        self._closing()
        self._kill_all()  # it may hang on its way out
        self._ending = asyncio.get_running_loop().create_task(self._end(known=self.lost.done()))
        self._lose()

    async def _end(self, *, known: bool) -> None:
        # The pool's threads, one of which could wait for it, may all be busy for long.
        while self._process.poll() is None:  # noqa: ASYNC110 - a process sets no event
            await asyncio.sleep(REAP_INTERVAL_S)
        with contextlib.suppress(TimeoutError):  # what it printed last tells why
            await asyncio.wait_for(asyncio.shield(self._tail.closed), LAST_WORDS_S)
        self._tail.close()
        self._ended(self._death(), known=known)
