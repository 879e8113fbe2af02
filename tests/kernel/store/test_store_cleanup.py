import fcntl
import os
import time
from pathlib import Path
from typing import Any

import pytest

from corral_kernel.names import ModelName
from corral_kernel.store import Store

OLD = time.time() - 2 * 3600


def age(path: Path) -> Path:
    os.utime(path, (OLD, OLD))
    return path


def put(path: Path, data: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_old_blobs_that_nobody_needs_are_deleted(
    store: Store, root: Path, tiny: ModelName, upload: Any
) -> None:
    needed = [age(path) for path in (root / "blobs").iterdir()]
    unneeded = age(store.blobs.path(upload(b"old")))
    fresh = store.blobs.path(upload(b"new"))
    partial = age(put(root / "blobs" / f"sha256-{'ab' * 32}-partial-3"))
    stray = age(put(root / "blobs/notes.txt"))
    folder = root / "manifests/h/n/m"
    folder.mkdir(parents=True)
    store.start_up()
    assert all(path.exists() for path in needed)
    assert fresh.exists()
    assert not any(path.exists() for path in (unneeded, partial, stray, folder))
    assert store.open(tiny).missing == ()


def test_nothing_is_pruned_while_a_manifest_is_damaged(
    store: Store, root: Path, upload: Any
) -> None:
    unneeded = age(store.blobs.path(upload(b"old")))
    put(root / "manifests/h/n/m/t", b"{")
    store.start_up()
    assert unneeded.exists()


def test_nothing_is_pruned_where_that_is_switched_off(
    root: Path, tmp_path: Path, store: Store, upload: Any
) -> None:
    unneeded = age(store.blobs.path(upload(b"old")))
    Store(root, tmp_path / "cache", prune=False).start_up()
    assert unneeded.exists()


def test_blobs_with_a_colon_in_their_name_are_renamed(store: Store, root: Path) -> None:
    digest = f"sha256:{'cd' * 32}"
    put(root / "blobs" / digest, b"legacy")
    store.start_up()
    assert store.blobs.path(digest).read_bytes() == b"legacy"
    assert not (root / "blobs" / digest).exists()


@pytest.mark.parametrize("prune", [True, False])
def test_files_of_dead_writers_are_deleted_and_those_of_live_ones_kept(
    root: Path, tmp_path: Path, *, prune: bool
) -> None:
    a_while_ago = time.time() - 600
    dead = [put(root / "blobs/sha256-00.writing"), put(root / "manifests/.00.writing")]
    alive = put(root / "blobs/sha256-01.writing")
    fresh = put(root / "blobs/sha256-02.writing")
    for path in (*dead, alive):
        os.utime(path, (a_while_ago, a_while_ago))
    with alive.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        Store(root, tmp_path / "cache", prune=prune).start_up()
        assert alive.exists()
    assert fresh.exists()
    assert not any(path.exists() for path in dead)


def test_heads_are_cached_by_digest_beside_the_blobs(
    store: Store, root: Path, tmp_path: Path, tiny: ModelName
) -> None:
    model = store.open(tiny)
    assert model.weights is not None
    entry = tmp_path / "cache/gguf" / model.weights.digest.removeprefix("sha256:")
    assert entry.is_file()
    # What is damaged in the middle of the file is not noticed by who reads the head from the cache.
    with model.weights.path.open("r+b") as stream:
        stream.seek(16)
        stream.write(b"\xff" * 8)
    assert Store(root, tmp_path / "cache").open(tiny).gguf == model.gguf
    assert Store(root, tmp_path / "elsewhere").open(tiny).gguf is None


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "other", "folder"])
def test_a_damaged_cache_entry_is_written_anew(
    store: Store, root: Path, tmp_path: Path, tiny: ModelName, damage: str
) -> None:
    model = store.open(tiny)
    assert model.weights is not None
    entry = tmp_path / "cache/gguf" / model.weights.digest.removeprefix("sha256:")
    raw = entry.read_bytes()
    entry.unlink()
    flipped = raw[:100] + bytes([raw[100] ^ 1]) + raw[101:]
    if damage == "folder":
        entry.mkdir()
    else:
        contents = {"empty": b"", "cut": raw[:-1], "flipped": flipped, "other": b"x" * 500}
        entry.write_bytes(contents[damage])
    assert Store(root, tmp_path / "cache").open(tiny).gguf == model.gguf
    assert damage == "folder" or entry.read_bytes() == raw


def test_the_head_of_a_deleted_blob_is_forgotten(
    store: Store, tmp_path: Path, tiny: ModelName
) -> None:
    assert len(list((tmp_path / "cache/gguf").iterdir())) == 1
    store.delete(tiny)
    assert list((tmp_path / "cache/gguf").iterdir()) == []


def test_the_cache_is_bounded(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "cache/gguf"
    for number in range(1100):
        os.utime(put(folder / f"{number:04d}"), (number, number))
    store.start_up()
    left = sorted(path.name for path in folder.iterdir())
    assert len(left) == 1024
    assert left[0] == "0076"
