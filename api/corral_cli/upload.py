"""Sending a file to the server's store: hashed, then streamed, never held in memory."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from corral_cli.client import Client
from corral_cli.errors import CommandError
from corral_cli.progress import Progress, Spinner

_PIECE_BYTES: Final = 1024 * 1024


def send_file(client: Client, path: Path, progress: Progress) -> str:
    """Give the server a file, unless it holds the same bytes already.

    Returns:
        The file's digest, `sha256:` and 64 hex digits.

    Raises:
        CommandError: If the file cannot be read.
    """
    try:
        size_bytes = path.stat().st_size
        hasher = hashlib.sha256()
        for piece in _pieces(path, size_bytes, progress.step(f"reading file {path.name}")):
            hasher.update(piece)
        digest = f"sha256:{hasher.hexdigest()}"
        if not client.has_blob(digest):
            spinner = progress.step(f"copying file {digest}")
            client.upload(digest, size_bytes, _pieces(path, size_bytes, spinner))
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or error}") from None
    return digest


def _pieces(path: Path, size_bytes: int, spinner: Spinner) -> Iterator[bytes]:
    """Read a file; the spinner's text tells how much of it is done."""
    text = spinner.text
    done = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece
            done += len(piece)
            spinner.text = f"{text} {min(100, done * 100 // max(1, size_bytes))}%"
