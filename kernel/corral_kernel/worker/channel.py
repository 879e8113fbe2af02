"""The other end of the channel: that of a process which the server started."""

import logging
import os
import socket
import threading
from collections.abc import Callable
from typing import TypeVar

from corral_kernel import frames, framing

T = TypeVar("T")
logger = logging.getLogger(__name__)

RECEIVE_BYTES = 1 << 18
BUFFER_BYTES = 1 << 20
EXIT_CHANNEL_BROKEN = 71


class Channel:
    """Frames over a connected socket; ends the process when the server's end is gone.

    `send` is for one thread alone, a worker's engine thread. It may block where the server is slow
    to read: the server always reads, and waits for no worker to do so.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sock.set_inheritable(False)  # a child of ours must not keep it open after us
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        self._stream = 0

    def send(self, message: frames.Frame) -> None:
        """Write one message; a server that is gone ends this process."""
        self._stream += 1
        try:
            for frame in framing.to_frames(frames.encode(message), self._stream):
                self._sock.sendall(frame)
        except OSError:
            os._exit(EXIT_CHANNEL_BROKEN)

    def read_forever(self, decode: Callable[[bytes], T], take: Callable[[T], None]) -> None:
        """Give every message to `take`, on a thread of its own.

        Args:
            decode: Reads one.
            take: Does something with it.
        """
        arguments = (decode, take)
        threading.Thread(target=self._read, args=arguments, name="reader", daemon=True).start()

    def _read(self, decode: Callable[[bytes], T], take: Callable[[T], None]) -> None:
        assembler = framing.Assembler()
        status = EXIT_CHANNEL_BROKEN
        try:
            while data := self._sock.recv(RECEIVE_BYTES):
                for message in assembler.feed(data):
                    take(decode(message))
            status = 0
        except OSError:
            pass
        except Exception:
            logger.exception("the channel cannot be read on")
        finally:
            # The engine thread may be deep in native code: nothing but this ends it now.
            os._exit(status)
