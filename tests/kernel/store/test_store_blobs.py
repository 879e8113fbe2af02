import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from corral_kernel.errors import (
    BlobMismatchError,
    BlobNotFoundError,
    InvalidDigestError,
    StoreError,
)
from corral_kernel.store import Blobs

DigestOf = Callable[[bytes], str]


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


def names(blobs: Blobs) -> list[str]:
    return sorted(entry.name for entry in blobs.entries())


def test_a_blob_lies_under_its_digest_with_a_dash(blobs: Blobs, digest_of: DigestOf) -> None:
    digest = digest_of(b"hello world")
    with blobs.writer() as writer:
        writer.write(b"hello ")
        writer.write(b"world")
        assert digest not in blobs
        assert writer.finish(digest) == digest
    assert digest in blobs
    assert blobs.size(digest) == 11
    assert blobs.path(digest).read_bytes() == b"hello world"
    assert names(blobs) == [digest.replace(":", "-")]
    assert blobs.path(digest).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("spell", [str.upper, lambda digest: digest.replace(":", "-")])
def test_a_digest_in_another_spelling_mismatches_and_the_content_is_kept(
    blobs: Blobs, digest_of: DigestOf, spell: Callable[[str], str]
) -> None:
    digest = digest_of(b"data")
    writer = blobs.writer()
    writer.write(b"data")
    with pytest.raises(BlobMismatchError) as caught:
        writer.finish(spell(digest))
    assert str(caught.value) == (f'digest mismatch, expected "{spell(digest)}", got "{digest}"')
    assert digest in blobs


def test_an_aborted_blob_leaves_nothing(blobs: Blobs) -> None:
    with blobs.writer() as writer:
        writer.write(b"half of")
        assert len(names(blobs)) == 1
    assert names(blobs) == []


def test_an_existing_blob_is_only_marked_as_used(blobs: Blobs) -> None:
    digest, is_new = blobs.add(b"data")
    path = blobs.path(digest)
    os.utime(path, (1, 1))
    inode = path.stat().st_ino
    assert is_new
    assert blobs.add(b"data") == (digest, False)
    assert path.stat().st_ino == inode
    assert time.time() - path.stat().st_mtime < 60


def test_a_blob_that_was_cut_is_replaced_by_the_whole_one(blobs: Blobs) -> None:
    digest, _ = blobs.add(b"data")
    blobs.path(digest).write_bytes(b"da")
    with blobs.writer() as writer:
        writer.write(b"data")
        writer.finish(digest)
    assert blobs.path(digest).read_bytes() == b"data"


def test_a_missing_blob_is_told(blobs: Blobs, digest_of: DigestOf) -> None:
    digest = digest_of(b"nothing")
    assert digest not in blobs
    assert not blobs.touch(digest)
    assert not blobs.remove(digest)
    with pytest.raises(BlobNotFoundError, match=digest):
        blobs.size(digest)


@pytest.mark.parametrize("digest", ["", "sha256:../../etc/passwd", "md5:00"])
def test_no_path_is_built_of_what_is_no_digest(blobs: Blobs, digest: str) -> None:
    with pytest.raises(InvalidDigestError):
        blobs.path(digest)


def test_many_writers_of_one_blob_leave_one_blob(blobs: Blobs, digest_of: DigestOf) -> None:
    data = os.urandom(1 << 20)
    start = threading.Barrier(8)

    def write() -> None:
        start.wait()
        with blobs.writer() as writer:
            for at in range(0, len(data), 1 << 16):
                writer.write(data[at : at + (1 << 16)])
            writer.finish(digest_of(data))

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names(blobs) == [digest_of(data).replace(":", "-")]
    assert blobs.path(digest_of(data)).read_bytes() == data


def test_a_file_is_linked_without_a_copy(blobs: Blobs, tmp_path: Path, digest_of: DigestOf) -> None:
    source = tmp_path / "package.gguf"
    source.write_bytes(b"weights")
    digest = digest_of(b"weights")
    assert blobs.link(source, digest)
    assert not blobs.link(source, digest)
    assert blobs.path(digest).stat().st_ino == source.stat().st_ino


def test_a_file_that_cannot_be_linked_is_copied_and_verified(
    blobs: Blobs, tmp_path: Path, digest_of: DigestOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    source = tmp_path / "package.gguf"
    source.write_bytes(b"weights")
    assert blobs.link(source, digest_of(b"weights"))
    assert blobs.path(digest_of(b"weights")).read_bytes() == b"weights"
    with pytest.raises(BlobMismatchError):
        blobs.link(source, digest_of(b"other"))
    assert digest_of(b"other") not in blobs


def taken(blobs: Blobs, path: Path) -> tuple[list[int], str, bool]:
    """Take a file; gives what is told on the way, the digest and whether it is new."""
    told: list[int] = []
    steps = blobs.take(path, lambda _: None)
    while True:
        try:
            told.append(next(steps))
        except StopIteration as end:
            return (told, *end.value)


@pytest.mark.parametrize("size", [0, 1, 1 << 18, (1 << 20) + 7], ids=str)
def test_a_file_that_was_made_is_moved_under_its_digest(
    blobs: Blobs, digest_of: DigestOf, tmp_path: Path, size: int
) -> None:
    data = os.urandom(size)
    made = tmp_path / "made"
    made.write_bytes(data)
    made.chmod(0o600)
    told, digest, is_new = taken(blobs, made)
    assert (digest, is_new) == (digest_of(data), True)
    assert told == sorted(set(told)), "it only grows"
    assert (told or [0])[-1] == size
    assert not made.exists()
    assert blobs.path(digest).read_bytes() == data
    assert blobs.path(digest).stat().st_mode & 0o777 == 0o644


def test_what_is_there_already_is_left_to_who_made_it(blobs: Blobs, tmp_path: Path) -> None:
    digest, _ = blobs.add(b"data")
    made = tmp_path / "made"
    made.write_bytes(b"data")
    assert taken(blobs, made)[1:] == (digest, False)
    assert made.exists()


def test_a_file_has_its_name_only_once_it_is_on_the_disk(
    blobs: Blobs, digest_of: DigestOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made"
    made.write_bytes(b"data")
    begun, goes_on = threading.Event(), threading.Event()
    fsync = os.fsync

    def slow(descriptor: int) -> None:
        begun.set()
        assert goes_on.wait(60)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    taking = threading.Thread(target=taken, args=(blobs, made))
    taking.start()
    assert begun.wait(60)
    monkeypatch.undo()
    assert digest_of(b"data") not in blobs
    assert made.exists()
    goes_on.set()
    taking.join(60)
    assert digest_of(b"data") in blobs


def test_a_disk_that_fails_keeps_a_file_from_its_place(
    blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made"
    made.write_bytes(b"data")

    def fails(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(StoreError, match="storing made: input/output error"):
        taken(blobs, made)
    assert names(blobs) == []


def test_taking_that_is_given_up_leaves_the_file_where_it_is(blobs: Blobs, tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.write_bytes(bytes(1 << 20))
    steps = blobs.take(made, lambda _: None)
    next(steps)
    steps.close()
    assert made.exists()
    assert names(blobs) == []
