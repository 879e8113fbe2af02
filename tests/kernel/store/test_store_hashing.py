"""Digests of files, of which the next piece is read while one is hashed."""

import hashlib
import os
import threading
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from corral_kernel.store.hashing import digest_of_file, hashed

MEGABYTE = 1 << 20


@pytest.mark.parametrize(
    "size", [0, 1, MEGABYTE - 1, MEGABYTE, MEGABYTE + 1, 3 * MEGABYTE, 5 * MEGABYTE + 3], ids=str
)
def test_a_digest_is_that_of_the_whole_file(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    path = tmp_path / "file"
    path.write_bytes(data)
    wanted = f"sha256:{hashlib.sha256(data).hexdigest()}"
    with path.open("rb") as stream:
        assert digest_of_file(stream) == wanted
    with path.open("rb", buffering=0) as file:
        told = list(hashed(file))
    assert told == sorted(set(told))
    assert (told or [0])[-1] == size


def test_who_gives_up_leaves_no_thread_behind(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(4 * MEGABYTE))
    before = threading.active_count()
    with path.open("rb", buffering=0) as file:
        steps = hashed(file)
        assert next(steps) == MEGABYTE
        steps.close()
    assert threading.active_count() == before


class Failing(FileIO):
    """A file whose third piece cannot be read."""

    pieces = 0

    def readinto(self, buffer: Any) -> int:
        self.pieces += 1
        if self.pieces == 3:
            raise OSError(5, "Input/output error")
        return super().readinto(buffer)


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(4 * MEGABYTE))
    with Failing(path) as file, pytest.raises(OSError, match="Input/output error"):
        digest_of_file(file)
