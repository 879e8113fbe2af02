"""Which process is the server that was started in the background: a file that it holds locked.

The lock goes with the process that holds the file open, so a file that nobody has locked is of a
server that is gone, and a process id that another program got since is never mistaken for it.
"""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from corral_kernel.addresses import HostAddress

_POLL_S: Final = 0.05


class PidFile:
    """The file of the background server at one port of this machine.

    Args:
        home: The folder of our own files.
        host: Where the server listens.
    """

    def __init__(self, home: Path, host: HostAddress) -> None:
        self.path = home / "logs" / f"server-{host.port}.pid"

    def holder(self) -> int | None:
        """Give the process id of the server that holds the file; `None` where there is none.

        Raises:
            OSError: If the file is there and cannot be read.
        """
        try:
            file = self.path.open("r+")
        except FileNotFoundError:
            return None
        with file:
            if _lock(file):
                return None
            text = file.read(20).strip()
        return int(text) if text.isdecimal() else None

    def wait_free(self, timeout_s: float) -> bool:
        """Wait until no process holds the file; tells whether that came in time."""
        deadline = time.monotonic() + timeout_s
        while self.holder() is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)  # a lock that is let go sets no event
        return True

    @contextmanager
    def locked(self) -> Iterator[IO[str]]:
        """Open the file locked, for a process that inherits it, whose id is then `write`n.

        Raises:
            BlockingIOError: If a process holds it.
            OSError: If it cannot be made.
        """
        with self.path.open("a+") as file:
            if not _lock(file):
                raise BlockingIOError
            file.truncate(0)
            yield file


def write(file: IO[str], pid: int) -> None:
    """Say which process inherited the file."""
    file.write(f"{pid}\n")
    file.flush()


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
