"""What one server on a store keeps another one from deleting, and for how long."""

import contextlib
import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corral_kernel.names import ModelName
from corral_kernel.store import Store
from corral_kernel.store.locks import LOCK_FILE, StoreLocks

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
PREAMBLE = """
import contextlib, sys
from pathlib import Path
from corral_kernel.names import ModelName
from corral_kernel.store import Store
store = Store(Path(sys.argv[1]), Path(sys.argv[1]).parent / "other-cache")
with contextlib.ExitStack() as stack:
    {body}
    print("there", flush=True)
    sys.stdin.readline()
"""
LIMIT_S = 30.0
OLD = time.time() - 2 * 3600


@contextlib.contextmanager
def elsewhere(root: Path, body: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that does something to the store and stays there until it is let go."""
    process = subprocess.Popen(
        [sys.executable, "-c", PREAMBLE.replace("{body}", body), str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        try:
            assert process.stdout.readline() == "there\n"
            yield process
        finally:
            process.kill()
            process.wait()


def weights(store: Store, name: ModelName) -> Path:
    found = store.open(name).weights
    assert found is not None
    return found.path


def test_the_files_of_a_model_that_is_in_use_go_with_its_last_user(
    store: Store, tiny: ModelName
) -> None:
    model = store.open(tiny)
    first, second = store.use(model), store.use(model)
    path = weights(store, tiny)
    store.delete(tiny)
    assert store.list_models() == []
    first()
    assert path.exists()
    second()
    assert not path.exists()


def test_the_files_of_a_model_that_stays_stay(store: Store, tiny: ModelName) -> None:
    let_go = store.use(store.open(tiny))
    store.delete(tiny)
    path = store.blobs.path(store.blobs.add(b"also needed")[0])
    let_go()
    assert path.exists()


@pytest.mark.parametrize(
    "body",
    [
        "stack.enter_context(store.pinning())(store.find(ModelName.parse('tiny'))[0].manifest.digests)",
        "store.use(store.open(ModelName.parse('tiny')))",
    ],
    ids=["pinned", "in use"],
)
def test_what_another_process_needs_is_left_until_it_ends_however_it_ends(
    store: Store, root: Path, tiny: ModelName, body: str
) -> None:
    path = weights(store, tiny)
    digest = f"sha256:{path.name.partition('-')[2]}"
    with elsewhere(root, body):
        store.delete(tiny)
        assert path.exists()
        os.utime(path, (OLD, OLD))
        store.start_up()
        store.discard([digest])
        assert path.exists()
    store.start_up()
    assert not path.exists()


def test_a_blob_can_be_pinned_before_it_is_there(store: Store, root: Path, digest_of: Any) -> None:
    digest = digest_of(b"to come")
    with elsewhere(root, f"stack.enter_context(store.pinning())(['{digest}'])"):
        store.blobs.add(b"to come")
        store.discard([digest])
        assert digest in store.blobs
    store.discard([digest])
    assert digest not in store.blobs


def test_who_runs_a_model_that_another_process_deletes_cleans_up_after_itself(
    store: Store, root: Path, tiny: ModelName
) -> None:
    path = weights(store, tiny)
    let_go = store.use(store.open(tiny))
    with elsewhere(root, "store.delete(ModelName.parse('tiny'))"):
        assert path.exists()
        assert store.list_models() == []
        let_go()
        assert not path.exists()


def test_manifests_are_changed_by_one_process_at_a_time(
    store: Store, root: Path, tiny: ModelName
) -> None:
    done = threading.Event()

    def delete() -> None:
        store.delete(tiny)
        done.set()

    with elsewhere(root, "stack.enter_context(store._locks.changing())") as other:
        thread = threading.Thread(target=delete)
        thread.start()
        assert not done.wait(0.3)
        assert [model.name for model in store.list_models()] == [tiny]
        assert other.stdin is not None
        other.stdin.write("\n")
        other.stdin.flush()
        assert done.wait(LIMIT_S)
    thread.join()


def test_a_process_that_hangs_with_the_manifests_is_told_of(
    root: Path, store: Store, tiny: ModelName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corral_kernel.store.locks._PATIENCE_S", 0.1)
    with (
        elsewhere(root, "stack.enter_context(store._locks.changing())"),
        pytest.raises(Exception, match="does a server hang that uses it too"),
    ):
        store.delete(tiny)
    store.delete(tiny)


def test_a_place_is_held_as_long_as_anybody_in_the_process_needs_it(
    root: Path, digest_of: Any
) -> None:
    locks = StoreLocks(root / LOCK_FILE)
    digest = digest_of(b"x")
    locks.pin([digest, digest])
    assert locks.unpin([digest]) == []
    with locks.taking(digest) as free:
        assert not free
    assert locks.unpin([digest]) == [digest]
    with locks.taking(digest) as free:
        assert free


def test_old_files_that_somebody_writes_to_are_no_strays(store: Store, root: Path) -> None:
    blobs = root / "blobs"
    blobs.mkdir(parents=True)
    stem = f"sha256-{'ab' * 32}"
    names = [f"{stem}.partial", f"{stem}.parts", "sha256-00.writing"]
    for name in names:
        (blobs / name).write_bytes(b"x")
        os.utime(blobs / name, (OLD, OLD))
    with (blobs / names[0]).open("rb") as partial, (blobs / names[2]).open("rb") as writing:
        for stream in (partial, writing):
            fcntl.flock(stream, fcntl.LOCK_EX)
        store.start_up()
        assert sorted(path.name for path in blobs.iterdir()) == sorted(names)
    store.start_up()
    assert list(blobs.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS], ids=["not ours", "read-only"])
def test_a_store_that_cannot_be_written_to_is_served(
    root: Path, tiny: ModelName, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(StoreLocks, "_make", refuse)
    other = Store(root, root.parent / "cache")
    other.start_up()
    other.use(other.open(tiny))()
    assert other.list_models() != []


def test_a_store_without_a_lock_file_gets_none_by_being_read(store: Store, root: Path) -> None:
    store.start_up()
    assert store.list_models() == []
    assert not root.exists()
