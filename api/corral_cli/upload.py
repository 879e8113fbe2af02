"""Sending files to the server's store: hashed, then streamed, never held in memory.

A few at a time; what the server holds already is not sent.
"""

import hashlib
import stat
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from corral_cli.client import Client
from corral_cli.errors import CommandError
from corral_cli.pool import in_threads
from corral_cli.progress import Bar, Progress

_PIECE_BYTES: Final = 1024 * 1024
_SHOWN: Final = len("sha256:") + 12


def send_files(client: Client, paths: Collection[Path], progress: Progress) -> dict[Path, str]:
    """Give the server files, each once, unless it holds the same bytes already.

    Returns:
        Their digests, `sha256:` and 64 hex digits.

    Raises:
        CommandError: If a file cannot be read, or changes meanwhile.
        ServerError: If the server does not take one.
    """
    if not paths:
        return {}
    sizes = {path: _size(path) for path in paths}
    what = f"{len(sizes)} files" if len(sizes) > 1 else f"file {next(iter(sizes)).name}"
    bar = progress.bar(f"reading {what}", sum(sizes.values()))
    sending = _Sending(client, sizes, progress, bar)
    return in_threads(sending.send, sizes, sending.stopped)


def _size(path: Path) -> int:
    try:
        status = path.stat()
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or error}") from None
    if not stat.S_ISREG(status.st_mode):  # what never ends could never be sent
        raise CommandError(f"{path} is no file")
    return status.st_size


class _Sending:
    """The files of one command on their way; its methods run in several threads."""

    def __init__(
        self, client: Client, sizes: dict[Path, int], progress: Progress, reading: Bar
    ) -> None:
        self.stopped = threading.Event()
        self._client = client
        self._sizes = sizes
        self._progress = progress
        self._reading = reading
        self._lock = threading.Lock()
        self._taken: set[str] = set()  # digests that a thread sees to

    def send(self, path: Path) -> str:
        """Hash a file, and send it if need be; give its digest."""
        try:
            return self._send(path)
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror or error}") from None

    def _send(self, path: Path) -> str:
        hasher = hashlib.sha256()
        for piece in self._pieces(path, self._reading):
            hasher.update(piece)
        digest = f"sha256:{hasher.hexdigest()}"
        with self._lock:
            is_first = digest not in self._taken
            self._taken.add(digest)
        if is_first and not self.stopped.is_set() and not self._client.has_blob(digest):
            bar = self._progress.bar(f"copying file {digest[:_SHOWN]}", self._sizes[path])
            self._client.upload(digest, self._sizes[path], self._pieces(path, bar))
        return digest

    def _pieces(self, path: Path, bar: Bar) -> Iterator[bytes]:
        """Read a file, as long as it was at first; a bar tells how much of it is done."""
        left = self._sizes[path]
        with path.open("rb") as file:
            while left:
                piece = file.read(min(left, _PIECE_BYTES))
                if not piece:
                    raise CommandError(f"{path} became shorter while it was read: try again")
                if self.stopped.is_set():
                    raise CommandError(f"{path} was not read to its end")
                yield piece
                left -= len(piece)
                bar.add(len(piece))
