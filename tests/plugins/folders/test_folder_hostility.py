import os
import threading
from pathlib import Path
from typing import Any

import pytest

from corral_folders import registry as registries
from corral_folders import walk
from corral_kernel.names import ModelName


def test_special_files_and_links_are_left_alone(
    listed: Path, put: Any, shelf: Any, tmp_path: Path
) -> None:
    put("a.gguf")
    os.mkfifo(listed / "pipe.gguf")
    (listed / "zero.gguf").symlink_to("/dev/zero")
    (listed / "loop.gguf").symlink_to(listed / "loop.gguf")
    (listed / "gone.gguf").symlink_to(listed / "nowhere")
    (listed / "inside.gguf").symlink_to(listed / "a.gguf")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "b.gguf").write_bytes((listed / "a.gguf").read_bytes())
    (listed / "out.gguf").symlink_to(outside / "b.gguf")
    (listed / "folder").symlink_to(outside)
    assert shelf.names() == ["a:latest", "inside:latest"]
    assert "out.gguf is a link that leads out" in shelf.notes()


def test_what_cannot_be_read_is_told(listed: Path, put: Any, shelf: Any) -> None:
    put("open/a.gguf")
    put("shut/b.gguf")
    (listed / "shut").chmod(0)
    try:
        readable = os.access(listed / "shut", os.R_OK)  # root may read everything
        assert shelf.names() == ["open/a:latest", *(["shut/b:latest"] if readable else [])]
        assert readable or "shut cannot be read: Permission denied" in shelf.notes()
    finally:
        (listed / "shut").chmod(0o755)


def test_what_is_listed_and_not_there_is_told(make_shelf: Any, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("x")
    shelf = make_shelf(tmp_path / "nowhere", tmp_path / "text")
    assert shelf.names() == []
    assert "nowhere is listed and cannot be read: it is not there" in shelf.notes()
    assert "text is neither a folder nor a GGUF file" in shelf.notes()


def test_depth_and_number_are_bounded(
    put: Any, shelf: Any, listed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("a.gguf")
    put("/".join("x" * (walk.MAX_DEPTH + 1)) + "/deep.gguf")
    assert shelf.names() == ["a:latest"]
    assert "folders deep" in shelf.notes()
    for number in range(20):
        (listed / f"zz{number}").touch()
    monkeypatch.setattr(walk, "MAX_ENTRIES", 5)
    assert len(shelf.names()) <= 1
    assert "holds over 5 files" in shelf.notes()


def test_odd_names_never_lead_elsewhere(put: Any, shelf: Any) -> None:
    put("..gguf", b"")
    put("a b/\N{SNOWMAN}x-F32.gguf")
    put("-/\n.gguf")
    for model in shelf.lent().values():
        assert ModelName.parse(model.name)
    assert "a-b/x:F32" in shelf.names()


def test_a_name_that_is_too_long_is_cut(put: Any, shelf: Any) -> None:
    put("x" * 200 + ".gguf")
    assert shelf.names() == ["x" * 80 + ":latest"]


def test_a_look_that_hangs_holds_up_nobody(
    put: Any, shelf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("a.gguf")
    assert shelf.names() == ["a:latest"]
    gate = threading.Event()
    monkeypatch.setattr(registries, "PATIENCE_S", 0.01)
    looks = []

    def hang(self: Any) -> Any:
        looks.append(1)
        gate.wait(60)
        return registries.Seen()

    monkeypatch.setattr(registries.Scanner, "look", hang)
    try:
        assert shelf.names() == ["a:latest"]
        assert shelf.names() == ["a:latest"]
        assert len(looks) == 1
    finally:
        gate.set()


def test_a_look_that_fails_is_reported_and_the_next_one_counts(
    put: Any, shelf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("a.gguf")
    with monkeypatch.context() as patch:
        patch.setattr(registries.Scanner, "look", lambda _self: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            shelf.registry.lent()
    assert shelf.names() == ["a:latest"]


def test_between_two_looks_is_a_rest(put: Any, shelf: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    put("a.gguf")
    looks: list[int] = []
    look = registries.Scanner.look
    monkeypatch.setattr(registries.Scanner, "look", lambda self: (looks.append(1), look(self))[1])
    monkeypatch.setattr("corral_folders.states.States.hash_behind", lambda _self: None)
    registry = registries.FolderRegistry(rest_s=3600.0)
    registry.begin(shelf.places)
    for _ in range(3):
        assert [model.name.rpartition("/")[2] for model in registry.lent()] == ["a:latest"]
    assert len(looks) == 1


def test_a_place_of_ollama_s_that_is_not_for_us_is_told(make_shelf: Any, tmp_path: Path) -> None:
    usual = tmp_path / "ollama"
    usual.mkdir()
    (usual / "manifests").symlink_to(usual / "manifests")  # cannot be looked at, for root either
    shelf = make_shelf(usual / "manifests", usual=(tmp_path / "nowhere", usual))
    assert shelf.lent() == {}
    assert "where Ollama keeps its models, cannot be read: too many levels" in shelf.notes()
    assert "manifests is listed and cannot be read: too many levels" in shelf.notes()
    assert "nowhere" not in shelf.notes()


def test_a_pipe_in_a_file_s_place_holds_up_no_copy(put: Any, shelf: Any) -> None:
    path = put("a.gguf")
    (model,) = shelf.lent().values()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match="no regular file"):
        shelf.registry._states.digest(path)
    assert model.name
    assert shelf.names() == []
