"""Digests of files from end to end: the next piece is read while one is hashed."""

import hashlib
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from io import BufferedReader, FileIO
from typing import Final

_PIECE_BYTES: Final = 1 << 20  # two of them stay in a core's own cache


def hashed(file: FileIO | BufferedReader) -> Generator[int, None, str]:
    """Give the digest of what is left of a file; on the way the bytes that are hashed so far.

    Raises:
        OSError: If it cannot be read.
    """
    hasher, done = hashlib.sha256(), 0
    piece, following = (memoryview(bytearray(_PIECE_BYTES)) for _ in range(2))
    count = file.readinto(piece)
    with ThreadPoolExecutor(1, "reading") as reading:
        while count:
            ahead = reading.submit(file.readinto, following)
            hasher.update(piece[:count])
            done += count
            yield done
            count = ahead.result()
            piece, following = following, piece
    return f"sha256:{hasher.hexdigest()}"


def digest_of_file(file: FileIO | BufferedReader) -> str:
    """Give the digest of what is left of a file.

    Raises:
        OSError: If it cannot be read.
    """
    steps = hashed(file)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return str(end.value)
