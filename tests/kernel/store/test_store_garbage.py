import fcntl
import os
import time
from pathlib import Path
from typing import Any

import pytest

from corral_kernel.errors import InvalidModelError
from corral_kernel.names import ModelName
from corral_kernel.store import Store, Wish
from corral_kernel.store.workshops import scratch_name

OLD = time.time() - 2 * 3600
TELL = Wish(dry_run=True)
ALL = Wish(everything=True)


def age(path: Path) -> Path:
    os.utime(path, (OLD, OLD))
    return path


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def make_garbage(store: Store, root: Path) -> dict[str, Path]:
    """One old file of each kind, which the model `tiny` does not need."""
    blobs = root / "blobs"
    stem = f"sha256-{'ab' * 32}"
    found = {
        "blob": store.blobs.path(store.blobs.add(b"0123456789")[0]),
        "partial": blobs / f"{stem}.partial",
        "parts": blobs / f"{stem}.parts",
        "foreign": blobs / f"{stem}-partial-3",
        "other": blobs / "notes.txt",
    }
    for kind in ("partial", "parts", "foreign", "other"):
        found[kind].write_bytes(b"x" * 100)
    for path in found.values():
        age(path)
    return found


def test_all_that_nobody_needs_is_found_counted_and_deleted(
    store: Store, root: Path, tiny: ModelName, tmp_path: Path
) -> None:
    kept = files(root)
    garbage = make_garbage(store, root)
    (tmp_path / "cache" / "gguf" / ("00" * 32)).write_bytes(b"of a model that is gone")
    before = files(tmp_path)

    told = store.collect_garbage(TELL)
    assert files(tmp_path) == before
    done = store.collect_garbage(Wish())

    assert files(root) == kept
    assert store.open(tiny).missing == ()
    for report in (told, done):
        assert (report.blobs.count, report.blobs.size_bytes) == (1, 10)
        assert (report.partials.count, report.partials.size_bytes) == (3, 300)
        assert (report.others.count, report.cached.count) == (1, 1)
        assert report.size_bytes == 10 + 300 + 100 + 23
        assert sorted(report.files) == sorted(path.name for path in garbage.values())
        assert (report.young.count, report.used.count) == (0, 0)
    again = store.collect_garbage(Wish())
    assert (again.size_bytes, again.files) == (0, [])


def test_what_is_younger_than_an_hour_stays_unless_it_is_asked_for(
    store: Store, root: Path, tiny: ModelName
) -> None:
    kept = files(root)
    store.blobs.add(b"just sent")
    report = store.collect_garbage(Wish())
    assert (report.blobs.count, report.young.count, report.young.size_bytes) == (0, 1, 9)
    assert store.collect_garbage(ALL).blobs.count == 1
    assert files(root) == kept


def test_what_somebody_uses_stays(store: Store, root: Path, tiny: ModelName) -> None:
    garbage = make_garbage(store, root)
    with garbage["partial"].open("rb") as stream, store.pinning() as pin:
        fcntl.flock(stream, fcntl.LOCK_EX)
        pin([garbage["blob"].name])
        report = store.collect_garbage(ALL)
        assert (report.used.count, report.used.size_bytes) == (3, 210)
        assert {path for path in garbage.values() if path.exists()} == {
            garbage[kind] for kind in ("blob", "partial", "parts")
        }
    assert store.collect_garbage(ALL).used.count == 0


def test_nothing_goes_while_a_manifest_is_damaged_and_it_is_named(
    store: Store, root: Path, tiny: ModelName
) -> None:
    garbage = make_garbage(store, root)
    (root / "manifests/h/n/m").mkdir(parents=True)
    (root / "manifests/h/n/m/t").write_bytes(b"{")
    with pytest.raises(InvalidModelError, match=r"nothing was deleted.*h/n/m:t.*is damaged"):
        store.collect_garbage(ALL)
    assert all(path.exists() for path in garbage.values())
    store.delete(ModelName.parse("h/n/m:t"))
    assert store.collect_garbage(Wish()).blobs.count == 1


def test_a_folder_that_was_laid_out_for_a_model_that_is_gone_goes(
    store: Store, root: Path, tmp_path: Path, tiny: ModelName
) -> None:
    place = root / "folders" / ("cd" * 32)
    place.mkdir(parents=True)
    (place / "copy").write_bytes(b"12345")
    os.link(root / "blobs" / next((root / "blobs").iterdir()).name, place / "link")
    told, done = store.collect_garbage(TELL), store.collect_garbage(Wish())
    assert (told.folders.count, told.folders.size_bytes) == (1, 5)
    assert (done.folders.count, done.folders.size_bytes) == (1, 5)
    assert not place.exists()
    assert store.open(tiny).missing == ()


def test_what_a_killed_server_was_making_goes_and_what_is_being_made_stays(
    store: Store, root: Path, tiny: ModelName
) -> None:
    left = root / "making" / "left"
    left.mkdir(parents=True)
    (left / "half.gguf").write_bytes(b"1234567")
    with store.workshops.open():
        assert store.collect_garbage(TELL).folders.size_bytes == 7
        assert left.exists()
        done = store.collect_garbage(Wish())
        assert (done.folders.count, done.folders.size_bytes) == (1, 7)
        assert len(list((root / "making").iterdir())) == 1


def test_facts_about_lent_files_stay(tmp_path: Path, upload: Any) -> None:
    from corral_kernel.models import LentModel
    from corral_kernel.store.blobs import digest_of

    data = Path(__file__).parents[2].joinpath("models/tiny-chat-f32.gguf").read_bytes()
    path = tmp_path / "lent.gguf"
    path.write_bytes(data)
    raw = (
        '{"config":{},"layers":[{"mediaType":"application/vnd.ollama.image.model",'
        f'"digest":"{digest_of(data)}","size":{len(data)}}}]}}'
    )
    lent = LentModel(
        name="lent",
        manifest=raw.encode(),
        blobs={digest_of(data): path},
        contents={},
        modified_ns=0,
        owner="a test",
    )
    store = Store(tmp_path / "models", tmp_path / "cache", lent=lambda: [lent])
    model = store.open(ModelName.parse("lent"))
    assert model.gguf is not None
    store.verify(model)
    assert store.collect_garbage(ALL).cached.count == 0
    path.unlink()
    assert store.collect_garbage(ALL).cached.count == 2


def test_a_model_that_was_there_for_the_work_of_a_killed_server_goes_and_no_other(
    store: Store, root: Path, tiny: ModelName, create: Any
) -> None:
    def left_by_a_crash(name: ModelName) -> Path:
        folder = root / "making" / name.tag
        folder.mkdir(parents=True)
        (folder / "model").write_text(name.full)
        return folder

    def names() -> set[ModelName]:
        return {model.name for model in store.list_models()}

    left, used, never_made = (scratch_name(tiny) for _ in range(3))
    of_user = ModelName.parse("tiny:locked-0123456789abcdef")
    for name in (left, used, of_user):
        create(name.full, base="tiny", system=f"of {name.tag}")
    folders = [left_by_a_crash(name) for name in (left, never_made, tiny)]
    with store.workshops.open(used):
        told = store.collect_garbage(Wish(dry_run=True, everything=True))
        assert names() == {tiny, left, used, of_user}
        done = store.collect_garbage(ALL)
        assert names() == {tiny, used, of_user}
        store.start_up()
        assert names() == {tiny, used, of_user}
    assert told.blobs.count == done.blobs.count == 1, "its system prompt"
    assert not any(folder.exists() for folder in folders)


def test_a_start_removes_such_a_model_too(store: Store, root: Path, tiny: ModelName) -> None:
    left = scratch_name(tiny)
    store.copy(tiny, left)
    (root / "making" / "0123").mkdir(parents=True)
    (root / "making" / "0123" / "model").write_text(left.full)
    store.start_up()
    assert [model.name for model in store.list_models()] == [tiny]
