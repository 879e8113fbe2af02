"""Real processes that are killed, and real disks that are full."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral_kernel.names import ModelName
from corral_kernel.store import Store

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
PREAMBLE = """
import sys
from pathlib import Path
from corral_kernel.errors import StoreError
from corral_kernel.store import CreateRequest, Store, create_model
root = Path(sys.argv[1])
store = Store(root, root.parent / "cache")
def reached(what):
    print(what, flush=True)
    sys.stdin.readline()  # nobody writes: here the process is killed
"""


def program(body: str, root: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-c", PREAMBLE + textwrap.dedent(body), str(root), *arguments]


def run_until_killed(body: str, root: Path, *arguments: str) -> str:
    """Run a program up to its `reached`, and kill it there.

    Returns:
        What it said that it had reached.
    """
    process = subprocess.Popen(
        program(body, root, *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    with process.stdout, process.stdin:
        line = process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
    return line.strip()


def assert_sound(store: Store, expected: set[str]) -> None:
    """Nothing is referred to that is not there."""
    store.start_up()
    models = store.list_models()
    assert {model.name.short for model in models} == expected
    for model in models:
        assert (model.missing, model.problem) == ((), "")


def test_a_blob_write_that_is_killed_leaves_only_what_the_next_start_removes(
    store: Store, root: Path, tiny: ModelName, digest_of: Callable[[bytes], str]
) -> None:
    body = """
        writer = store.blobs.writer()
        for _ in range(64):
            writer.write(bytes(1 << 16))
        reached("half")
    """
    before = {path.name for path in (root / "blobs").iterdir()}
    assert run_until_killed(body, root) == "half"
    (left,) = {path.name for path in (root / "blobs").iterdir()} - before
    assert left.endswith(".writing")
    assert digest_of(bytes(1 << 22)) not in store.blobs
    a_while_ago = time.time() - 600
    os.utime(root / "blobs" / left, (a_while_ago, a_while_ago))
    assert_sound(store, {"tiny:latest"})
    assert {path.name for path in (root / "blobs").iterdir()} == before


@pytest.mark.parametrize("steps", range(5))
def test_a_create_that_is_killed_leaves_the_old_model_or_the_new_one(
    store: Store, root: Path, tiny: ModelName, create: Any, steps: int
) -> None:
    body = """
        work = create_model(store, CreateRequest(model="m", base="tiny", system="new"))
        for _ in range(int(sys.argv[2])):
            last = next(work).status
        reached(last if int(sys.argv[2]) else "begun")
    """
    create("m", base="tiny", system="old")
    last = run_until_killed(body, root, str(steps))
    assert_sound(store, {"tiny:latest", "m:latest"})
    expected = "new" if last == "success" else "old"
    assert store.open(ModelName.parse("m")).system == expected
    assert (last == "success") is (steps == 4)


def test_a_manifest_write_that_is_killed_before_the_rename_changes_nothing(
    store: Store, root: Path, tiny: ModelName, create: Any
) -> None:
    body = """
        work = create_model(store, CreateRequest(model="m", base="tiny", system="new"))
        def stop(self, target):
            reached("rename") if "manifests" in str(target) else rename(self, target)
        rename, Path.replace = Path.replace, stop
        list(work)
    """
    create("m", base="tiny", system="old")
    assert run_until_killed(body, root) == "rename"
    assert_sound(store, {"tiny:latest", "m:latest"})
    assert store.open(ModelName.parse("m")).system == "old"


WRITE_TOO_MUCH = """
    writer = store.blobs.writer()
    try:
        for _ in range(64):
            writer.write(bytes(1 << 16))
    except StoreError as error:
        print(error)
    print([path.name for path in (root / "blobs").iterdir()])
    try:
        store.blobs.add(b"small")
        print("small blobs still fit")
    except StoreError as error:
        print(error)
"""


def test_a_full_disk_is_told_and_leaves_no_part(tmp_path: Path) -> None:
    if (
        not shutil.which("unshare")
        or subprocess.run(["unshare", "-rm", "true"], check=False).returncode
    ):
        pytest.skip("needs a mount namespace of its own")
    disk = tmp_path / "disk"
    disk.mkdir()
    command = program(WRITE_TOO_MUCH, disk / "models")
    mount = f'mount -t tmpfs -o size=1m none "{disk}" && exec "$@"'
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, "sh", *command],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=True,
    )
    told, left, *rest = result.stdout.splitlines()
    assert told.startswith("writing a blob at byte ")
    assert told.endswith(": the disk is full; free some space and try again")
    assert (left, rest) == ("[]", ["small blobs still fit"])


def test_a_file_size_limit_is_told_and_leaves_no_part(tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
    result = subprocess.run(
        program(limit + textwrap.dedent(WRITE_TOO_MUCH), tmp_path / "models"),
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=True,
    )
    assert result.stdout == (
        "writing a blob at byte 1048576: the file is larger than is allowed here; "
        "free some space and try again\n"
        "[]\n"
        "small blobs still fit\n"
    )


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    blocked = tmp_path / "models"
    blocked.write_text("a file where the folder should be")
    result = subprocess.run(
        program("try: store.blobs.writer()\nexcept StoreError as error: print(error)", blocked),
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=True,
    )
    assert result.stdout == "starting a blob: not a directory\n"
