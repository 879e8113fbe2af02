"""Folders for workers: laid out whole or not at all, shared, and gone when nobody needs them."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from corral_kernel.errors import InvalidModelError, StoreError
from corral_kernel.folderlocks import hold_folder, remove_folder
from corral_kernel.models import FILE_TYPE, LentModel, Model
from corral_kernel.names import ModelName
from corral_kernel.store import CreateRequest, Store, create_model
from corral_kernel.store.folders import Folders

MODELS = Path(__file__).parents[2] / "models"
ONNX, INT4 = MODELS / "tiny-chat-onnx", MODELS / "tiny-chat-onnx-int4"
NAME = ModelName.parse("folder")
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
LIMIT_S = 60.0
PREAMBLE = """
import os, sys
from pathlib import Path
from corral_kernel.names import ModelName
from corral_kernel.store import CreateRequest, Store, create_model
root = Path(sys.argv[1])
store = Store(root, root.parent / "cache")
model = lambda: store.open(ModelName.parse("folder"))
def reached(what):
    print(what, flush=True)
    sys.stdin.readline()
"""


class Process:
    """A program that uses the store, up to its `reached`."""

    def __init__(self, body: str, root: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PREAMBLE + body, str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.end()

    def end(self) -> None:
        self.process.communicate()


@pytest.fixture
def make(store: Store, upload: Any, create: Any) -> Callable[..., Model]:
    """Make a model of a folder, with more files if need be."""

    def make(name: str = "folder", path: Path = ONNX, **more: bytes) -> Model:
        files = {f.name: upload(f.read_bytes()) for f in path.iterdir()}
        create(name, files=files | {key: upload(data) for key, data in more.items()})
        return store.open(ModelName.parse(name))

    return make


@pytest.fixture
def model(make: Callable[..., Model]) -> Model:
    return make()


@pytest.fixture
def other_file_system() -> Any:
    """A folder that no hard link from the store reaches."""
    place = Path("/dev/shm")
    if not place.is_dir() or place.stat().st_dev == Path(MODELS).stat().st_dev:
        pytest.skip("needs a second file system at /dev/shm")
    folder = place / f"corral-test-{os.getpid()}-{time.monotonic_ns()}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if not path.is_dir())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def place_of(root: Path) -> list[str]:
    folder = root / "folders"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def wait_until(true: Callable[[], bool]) -> None:
    """For what another thread does by itself."""
    deadline = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


def test_files_are_laid_out_under_their_names_as_hard_links(
    store: Store, root: Path, make: Callable[..., Model], upload: Any, create: Any
) -> None:
    files = {f.name: upload(f.read_bytes()) for f in ONNX.iterdir()}
    create("folder", files=files | {"deep/er/x.bin": upload(b"x")})
    model = store.open(NAME)
    assert place_of(root) == []
    hold = store.lay_out(model)
    assert hold.path == model.folder == root / "folders" / model.folder_key
    expected = {f.name: f.read_bytes() for f in ONNX.iterdir()} | {"deep/er/x.bin": b"x"}
    assert contents(hold.path) == expected
    for name, digest in files.items():
        assert (hold.path / name).samefile(store.blobs.path(digest))
        assert not (hold.path / name).is_symlink()
    hold.release()
    hold.release()


def test_what_lies_there_is_used_again_by_all_names_of_its_files(
    store: Store, root: Path, model: Model
) -> None:
    store.copy(NAME, ModelName.parse("copied"))
    first = store.lay_out(model)
    before = first.path.stat()
    second = store.lay_out(store.open(ModelName.parse("copied")))
    assert second.path == first.path
    assert first.path.stat().st_ino == before.st_ino
    assert place_of(root) == [model.folder_key]


def test_another_set_of_files_lies_elsewhere(
    store: Store, root: Path, model: Model, make: Callable[..., Model]
) -> None:
    holds = [store.lay_out(model), store.lay_out(make("int4", INT4))]
    assert place_of(root) == sorted(hold.path.name for hold in holds)
    assert len(place_of(root)) == 2


@pytest.mark.parametrize("damage", ["missing", "short", "link", "folder"])
def test_a_damaged_folder_is_laid_out_anew(
    store: Store, root: Path, model: Model, damage: str
) -> None:
    hold = store.lay_out(model)
    hold.release()
    file = hold.path / "model.onnx"
    file.unlink()
    if damage == "short":
        file.write_bytes(b"short")
    elif damage == "link":
        file.symlink_to(ONNX / "model.onnx")
    elif damage == "folder":
        file.mkdir()
    hold = store.lay_out(model)
    assert contents(hold.path) == {f.name: f.read_bytes() for f in ONNX.iterdir()}
    assert not (hold.path / "model.onnx").is_symlink()
    assert place_of(root) == [model.folder_key]


def test_a_blob_that_is_gone_or_damaged_is_told_by_name(
    store: Store, root: Path, model: Model
) -> None:
    blob = next(file.path for file in model.folder_files if file.name == "model.onnx")
    with blob.open("r+b") as stream:
        stream.truncate(5)
    with pytest.raises(InvalidModelError, match=r"model\.onnx is damaged: .* has 5 bytes, not"):
        store.lay_out(model)
    blob.unlink()
    with pytest.raises(StoreError, match=r"open .*sha256-.*: no such file or directory"):
        store.lay_out(model)
    assert place_of(root) == []


def test_where_no_hard_link_reaches_files_are_copied_and_verified(
    store: Store, upload: Any, create: Any, model: Model, other_file_system: Path
) -> None:
    for file in model.folder_files:  # blobs that are links to another disk
        moved = other_file_system / file.path.name
        shutil.move(file.path, moved)
        file.path.symlink_to(moved)
    hold = store.lay_out(store.open(NAME))
    assert contents(hold.path) == {f.name: f.read_bytes() for f in ONNX.iterdir()}
    assert {path.stat().st_nlink for path in hold.path.iterdir()} == {1}
    hold.release()
    shutil.rmtree(hold.path)
    blob = other_file_system / model.folder_files[2].path.name
    data = bytearray(blob.read_bytes())
    data[100] ^= 1
    blob.write_bytes(data)
    with pytest.raises(InvalidModelError, match="has another digest"):
        store.lay_out(store.open(NAME))
    assert list(hold.path.parent.iterdir()) == []


def test_a_store_that_cannot_be_written_to_has_its_folders_in_the_cache(
    tmp_path: Path, root: Path, model: Model
) -> None:
    if (
        not shutil.which("unshare")
        or subprocess.run(["unshare", "-rm", "true"], check=False).returncode
    ):
        pytest.skip("needs a mount namespace of its own")
    body = "hold = store.lay_out(model()); print(hold.path, len(list(hold.path.iterdir())))"
    mount = f'mount --bind "{root}" "{root}" && mount -o remount,ro,bind "{root}" && exec "$@"'
    command = ["unshare", "-rm", "sh", "-c", mount, "sh", sys.executable, "-c", PREAMBLE + body]
    done = subprocess.run(
        [*command, str(root)], capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    path, count = done.stdout.split()
    assert (Path(path), count) == (tmp_path / "cache" / "folders" / model.folder_key, "6")


def test_lent_folders_are_laid_out_too_and_stay_over_a_start(root: Path, tmp_path: Path) -> None:
    donor = Store(tmp_path / "donor", tmp_path / "cache")
    files = {f.name: donor.blobs.add(f.read_bytes())[0] for f in ONNX.iterdir()}
    list(create_model(donor, CreateRequest(model="folder", files=files)))
    stored, _ = donor.find(NAME)
    config = stored.manifest.config.digest
    lent = LentModel(
        name="lent-folder",
        manifest=stored.raw,
        blobs={digest: ONNX / name for name, digest in files.items()},
        contents={config: donor.blobs.path(config).read_bytes()},
        owner="a package",
    )
    store = Store(root, tmp_path / "cache2", lent=lambda: [lent])
    model = store.open(ModelName.parse("lent-folder"))
    assert (model.problem, model.format) == ("", "onnx")
    hold = store.lay_out(model)
    assert contents(hold.path) == {f.name: f.read_bytes() for f in ONNX.iterdir()}
    hold.release()
    store.start_up()
    assert place_of(root) == [model.folder_key]
    Store(root, tmp_path / "cache3").start_up()
    assert place_of(root) == []


# ------------------------------------------------------------------------------ when folders go


def test_a_folder_goes_with_the_last_model_of_its_files(
    store: Store, root: Path, model: Model
) -> None:
    store.copy(NAME, ModelName.parse("copied"))
    store.lay_out(model).release()
    store.delete(NAME)
    assert place_of(root) == [model.folder_key]
    store.delete(ModelName.parse("copied"))
    assert place_of(root) == []
    assert list(store.blobs.folder.iterdir()) == []


@pytest.mark.parametrize("prune", [True, False])
def test_a_replaced_model_s_folder_goes(
    store: Store,
    root: Path,
    make: Callable[..., Model],
    prune: bool,  # noqa: FBT001 - both ways
) -> None:
    store.prunes = prune
    store.lay_out(make()).release()
    make("folder", INT4)
    assert place_of(root) == []


def test_a_folder_that_is_in_use_goes_when_it_is_not_any_more(
    store: Store, root: Path, model: Model
) -> None:
    worker = Process("store.lay_out(model()); hold = store.lay_out(model()); reached('held')", root)
    assert worker.said == "held"
    store.delete(NAME)
    assert contents(root / "folders" / model.folder_key) == {
        f.name: f.read_bytes() for f in ONNX.iterdir()
    }
    worker.kill()
    wait_until(lambda: place_of(root) == [])


def test_a_model_that_is_made_again_meanwhile_keeps_its_folder(
    store: Store, root: Path, model: Model, make: Callable[..., Model]
) -> None:
    hold = store.lay_out(model)
    store.delete(NAME)
    (waiting,) = [t for t in threading.enumerate() if t.name == f"remove-{model.folder_key[:8]}"]
    make()
    hold.release()
    waiting.join(LIMIT_S)
    assert not waiting.is_alive()
    assert place_of(root) == [model.folder_key]


def test_however_often_a_folder_in_use_may_go_one_thread_waits_for_it(tmp_path: Path) -> None:
    folders, key = Folders(tmp_path), "a" * 64
    folders.path(key).mkdir()
    asked: list[str] = []

    def may_go() -> bool:
        asked.append(key)
        return len(asked) > 1

    def waiting() -> list[threading.Thread]:
        return [t for t in threading.enumerate() if t.name == f"remove-{key[:8]}"]

    for gone in (False, True):
        hold = hold_folder(folders.path(key))
        assert hold is not None
        for _ in range(50):
            folders.remove_when_unused(key, may_go)
        (thread,) = waiting()
        hold.release()
        thread.join(LIMIT_S)
        assert waiting() == []
        assert folders.path(key).exists() is not gone
    assert len(asked) == 2


def test_a_folder_that_took_the_place_of_one_that_is_waited_for_goes_too(tmp_path: Path) -> None:
    folders, key = Folders(tmp_path), "b" * 64
    path = folders.path(key)
    path.mkdir()
    old = hold_folder(path)
    assert old is not None
    folders.remove_when_unused(key, lambda: True)
    path.rename(tmp_path / "elsewhere")
    path.mkdir()
    new = hold_folder(path)
    assert new is not None
    folders.remove_when_unused(key, lambda: True)
    old.release()
    new.release()
    wait_until(lambda: not path.exists())
    assert (tmp_path / "elsewhere").is_dir()


def test_the_start_sweeps_what_no_model_needs_and_nobody_uses(
    store: Store, root: Path, tmp_path: Path, model: Model, make: Callable[..., Model]
) -> None:
    store.lay_out(model).release()
    used = make("used", INT4)
    hold = store.lay_out(used)
    for name in ("used", "folder"):  # as if by another program
        shutil.rmtree(root / "manifests/registry.ollama.ai/library" / name)
    Store(root, tmp_path / "cache").start_up()
    assert place_of(root) == [used.folder_key]
    hold.release()
    Store(root, tmp_path / "cache").start_up()
    assert place_of(root) == []


def test_nothing_is_swept_while_a_manifest_cannot_be_read(
    store: Store, root: Path, model: Model, create: Any
) -> None:
    store.lay_out(model).release()
    manifest = root / "manifests/registry.ollama.ai/library/folder/latest"
    manifest.write_text("{")
    store.start_up()
    assert place_of(root) == [model.folder_key]


def test_pruning_takes_no_blob_that_a_folder_is_made_of(
    store: Store, root: Path, tmp_path: Path, model: Model
) -> None:
    store.lay_out(model).release()
    long_ago = time.time() - 10**6
    for path in store.blobs.folder.iterdir():
        os.utime(path, (long_ago, long_ago))
    Store(root, tmp_path / "cache").start_up()
    assert store.open(NAME).problem == ""
    assert place_of(root) == [model.folder_key]


def test_a_link_in_a_folder_s_place_is_neither_followed_nor_emptied(
    store: Store, root: Path, tmp_path: Path, model: Model
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "model.onnx").write_text("mine")
    (root / "folders").mkdir()
    (root / "folders" / model.folder_key).symlink_to(victim)
    with pytest.raises(StoreError, match="laying out the files of folder:latest: not a directory"):
        store.lay_out(model)
    store.start_up()
    store.delete(NAME)
    assert contents(victim) == {"model.onnx": b"mine"}


# ------------------------------------------------------------------------- crashes and two servers

HALF = """
import corral_kernel.store.folders as folders
put, count = folders.put_file, 0
def stop(file, target):
    global count
    put(file, target)
    count += 1
    if count == 3:
        reached("half")
folders.put_file = stop
store.lay_out(model())
"""
BEFORE_RENAME = """
rename = Path.rename
def stop(self, target):
    if "folders" in str(target):
        reached("built")
    return rename(self, target)
Path.rename = stop
store.lay_out(model())
"""


@pytest.mark.parametrize(("body", "said"), [(HALF, "half"), (BEFORE_RENAME, "built")])
def test_laying_out_that_is_killed_leaves_only_what_a_later_start_removes(
    store: Store, root: Path, model: Model, body: str, said: str
) -> None:
    process = Process(body, root)
    assert process.said == said
    (left,) = place_of(root)
    assert left.endswith(".building")
    a_while_ago = time.time() - 600
    os.utime(root / "folders" / left, (a_while_ago, a_while_ago))
    store.start_up()  # another server starts: what is under way is left alone
    assert place_of(root) == [left]
    process.kill()
    os.utime(root / "folders" / left, (a_while_ago, a_while_ago))
    hold = store.lay_out(model)
    assert contents(hold.path) == {f.name: f.read_bytes() for f in ONNX.iterdir()}
    store.start_up()
    assert place_of(root) == [model.folder_key]


def test_removing_that_is_killed_is_finished_by_a_later_start(
    store: Store, root: Path, model: Model
) -> None:
    store.lay_out(model).release()
    process = Process(
        "import shutil; shutil.rmtree = lambda *a, **k: reached('renamed')\n"
        "store.delete(ModelName.parse('folder'))",
        root,
    )
    assert process.said == "renamed"
    process.kill()
    (left,) = place_of(root)
    assert left.endswith(".removing")
    store.start_up()
    assert place_of(root) == []
    assert store.list_models() == []


def test_of_two_servers_that_lay_out_one_folder_one_is_quicker_and_both_have_it(
    store: Store, root: Path, model: Model
) -> None:
    process = Process(BEFORE_RENAME + "reached('done')", root)
    assert process.said == "built"
    hold = store.lay_out(model)
    before = hold.path.stat().st_ino
    assert process.process.stdin is not None
    assert process.process.stdout is not None
    process.process.stdin.write("\n")
    process.process.stdin.flush()
    assert process.process.stdout.readline().strip() == "done"
    process.end()
    assert place_of(root) == [model.folder_key]
    assert hold.path.stat().st_ino == before


def test_threads_that_want_one_folder_build_it_once(
    store: Store, root: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []
    mkdir = Path.mkdir

    def counted(self: Path, *args: Any, **more: Any) -> None:
        if self.name.endswith(".building") and not more:  # not as the parent of a file
            built.append(self)
        mkdir(self, *args, **more)

    monkeypatch.setattr(Path, "mkdir", counted)
    holds: list[Any] = []
    threads = [
        threading.Thread(target=lambda: holds.append(store.lay_out(model))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(holds), len(built)) == (8, 1)
    assert place_of(root) == [model.folder_key]


def test_laying_out_and_removing_at_once_never_gives_a_folder_that_lacks_files(
    store: Store, root: Path, model: Model
) -> None:
    stop = threading.Event()

    def remove() -> None:
        while not stop.is_set():
            remove_folder(root / "folders" / model.folder_key, lambda: True)

    thread = threading.Thread(target=remove)
    thread.start()
    try:
        for _ in range(100):
            hold = store.lay_out(model)
            assert len(list(hold.path.iterdir())) == len(model.folder_files)
            hold.release()
    finally:
        stop.set()
        thread.join()


def test_a_hold_that_nobody_refers_to_lets_go(store: Store, model: Model) -> None:
    hold = store.lay_out(model)
    path = hold.path
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        del hold
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)
    assert hold_folder(path.with_name("nothing")) is None


def test_the_key_of_a_folder_is_of_names_and_digests_in_any_order(model: Model) -> None:
    turned = msgspec.structs.replace(model, files=tuple(reversed(model.files)))
    assert turned.folder_key == model.folder_key
    assert len(model.folder_key) == 64
    assert len(model.of_type(FILE_TYPE)) == 6
    renamed = [msgspec.structs.replace(file, name=f"x{file.name}") for file in model.files]
    assert msgspec.structs.replace(model, files=tuple(renamed)).folder_key != model.folder_key


@pytest.mark.parametrize("steps", [0, 1, 4, 8, 9])
def test_a_create_that_is_killed_leaves_the_old_folder_or_the_new_one(
    store: Store, root: Path, model: Model, make: Callable[..., Model], steps: int
) -> None:
    new = make("new", INT4)
    store.lay_out(model).release()
    body = f"""
new = store.open(ModelName.parse("new"))
files = {{file.name: file.digest for file in new.folder_files}}
work = create_model(store, CreateRequest(model="folder", files=files))
last = "begun"
for _ in range({steps}):
    last = next(work).status
reached(last)
"""
    process = Process(body, root)
    process.kill()
    store.start_up()
    assert all((m.problem, m.missing) == ("", ()) for m in store.list_models())
    done = process.said == "success"
    assert done is (steps == 9)
    assert store.open(NAME).folder_key == (new if done else model).folder_key
    assert place_of(root) == ([] if done else [model.folder_key])


def test_what_lies_in_a_place_that_is_not_used_any_more_is_swept(
    store: Store, tmp_path: Path, model: Model
) -> None:
    left = tmp_path / "cache" / "folders" / model.folder_key
    left.mkdir(parents=True)
    store.lay_out(model).release()
    store.start_up()
    assert not left.exists()
    assert model.folder is not None
    assert model.folder.exists()
