"""How every process begins that the server starts: it ends with the server, whatever happens."""

import ctypes
import logging
import os
import signal
import socket
import sys

PR_SET_PDEATHSIG = 1


def begin(parent: int, descriptor: int, *, debug: bool) -> socket.socket:
    """Tie this process to the server's, and give its end of the channel.

    Args:
        parent: Process id of the server.
        descriptor: Of the channel's socket.
        debug: Log more.
    """
    _die_with(parent)
    # A terminal's Ctrl-C and a service manager's SIGTERM are the server's to handle: it ends us.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
    )
    return socket.socket(fileno=descriptor)


def finish(status: int) -> None:
    """End this process at once: its reader thread is deep in a read, and would be waited for."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _die_with(parent: int) -> None:
    """Have the kernel end this process with the server's; the channel's end is the second way."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)  # it was gone before the line above
