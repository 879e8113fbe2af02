import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from corral_kernel.errors import (
    InvalidModelError,
    ModelNotFoundError,
    ReadOnlyModelError,
    UnsupportedError,
)
from corral_kernel.models import PROJECTOR_TYPE, WEIGHTS_TYPE
from corral_kernel.names import ModelName
from corral_kernel.store import CreateRequest, create_model

LIMIT_S = 60.0


def digest_of(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def wait_for(what: Callable[[], Any]) -> Any:
    """Ask until there is an answer; only a failing test waits for long."""
    end = time.monotonic() + LIMIT_S
    while not (found := what()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def write_gguf(path: Path, architecture: str, **values: Any) -> Path:
    """A GGUF file of one tensor."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in values.items():
        name = key.replace("__", ".")
        if isinstance(value, str):
            writer.add_string(name, value)
        elif isinstance(value, bool):
            writer.add_bool(name, value)
        else:
            writer.add_uint32(name, value)
    writer.add_tensor("t", np.zeros((4, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


# --------------------------------------------------------------------------------------- GGUF


def test_files_of_all_layouts_are_listed_where_they_lie(put: Any, shelf: Any) -> None:
    put("Tiny-Chat-F32.gguf")
    put("pub/Tiny-GGUF/tiny-chat.F32.gguf")
    put("pub/Tiny-GGUF/README.md", b"no model")
    put(".hidden/x.gguf")
    assert shelf.names() == ["Tiny-Chat:F32", "pub/Tiny-GGUF:F32"]
    model = shelf.store.open(ModelName.parse("tiny-chat:f32"))
    assert model.weights.path == shelf.places.folders[0] / "Tiny-Chat-F32.gguf"
    assert (model.family, model.format, model.problem) == ("llama", "gguf", "")
    assert not shelf.places.models_dir.exists()


def test_two_files_of_a_name_both_have_one(put: Any, shelf: Any) -> None:
    put("pub/R/one-F32.gguf")
    put("pub/R/two-F32.gguf")
    assert shelf.names() == ["pub/R:F32", "pub/R:two-F32"]


def test_a_single_file_can_be_listed(put: Any, make_shelf: Any) -> None:
    path = put("deep/down/m-F32.gguf")
    assert make_shelf(path).names() == ["m:F32"]


def test_what_is_added_changed_or_removed_is_noticed(put: Any, shelf: Any, tiny: Path) -> None:
    assert shelf.names() == []
    path = put("a.gguf")
    wait_for(lambda: shelf.registry._states.unknown == 0 and shelf.names() == ["a:latest"])
    first = wait_for(lambda: not shelf.lent()[A].settle and shelf.lent()[A])
    assert shelf.lent()[A] is first
    os.utime(path, ns=(1, 1))
    assert shelf.lent()[A] is not first
    path.unlink()
    assert shelf.names() == []
    with pytest.raises(ModelNotFoundError):
        shelf.store.open(ModelName.parse("a"))


A = "registry.ollama.ai/library/a:latest"


def test_the_digest_is_found_out_behind_and_kept(
    put: Any, shelf: Any, make_shelf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put("a.gguf")
    wait_for(lambda: digest_of(path) in shelf.lent()[A].blobs)
    monkeypatch.setattr("corral_folders.states.States.hash_behind", lambda _self: None)
    again = make_shelf(*shelf.places.folders)
    assert digest_of(path) in {part for model in again.lent().values() for part in model.blobs}


def test_before_the_digest_is_known_a_model_is_run_and_copied(
    put: Any, shelf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corral_folders.states.States.hash_behind", lambda _self: None)
    path = put("a.gguf")
    before = shelf.store.open(ModelName.parse("a"))
    shelf.store.verify(before)
    assert before.weights.digest != digest_of(path)
    assert "digests of 1 files" in shelf.notes()

    shelf.store.copy(ModelName.parse("a"), ModelName.parse("mine"))
    copied = shelf.store.open(ModelName.parse("mine"))
    assert copied.weights.digest == digest_of(path)
    assert copied.weights.path.samefile(path)
    assert copied.owner == ""
    list(create_model(shelf.store, CreateRequest(model="built", base="a", system="hi")))
    assert shelf.store.open(ModelName.parse("built")).weights.digest == digest_of(path)


def test_the_store_s_own_model_goes_before(put: Any, shelf: Any) -> None:
    put("a.gguf")
    list(create_model(shelf.store, CreateRequest(model="mine", base="a", system="mine")))
    shelf.store.copy(ModelName.parse("mine"), ModelName.parse("other/a"))
    put("other/a.gguf")
    assert shelf.names() == ["a:latest", "mine:latest", "other/a:latest"]
    assert shelf.store.open(ModelName.parse("other/a")).system == "mine"
    shelf.store.delete(ModelName.parse("other/a"))
    assert shelf.store.open(ModelName.parse("other/a")).owner


def test_a_lent_model_is_not_deleted_and_it_is_said_where_it_is(put: Any, shelf: Any) -> None:
    path = put("a.gguf")
    with pytest.raises(ReadOnlyModelError) as caught:
        shelf.store.delete(ModelName.parse("a"))
    assert str(path) in str(caught.value)
    assert path.exists()


def test_a_file_that_shrinks_after_it_was_listed_is_told(put: Any, shelf: Any) -> None:
    path = put("a.gguf")
    model = shelf.store.open(ModelName.parse("a"))
    os.truncate(path, 1000)
    with pytest.raises(InvalidModelError, match=r"a\.gguf of the folder .* was changed"):
        shelf.store.verify(model)


def test_split_files_are_one_model(put: Any, shelf: Any, tmp_path: Path, listed: Path) -> None:
    for number in (1, 2):
        write_gguf(
            listed / f"m-F32-0000{number}-of-00002.gguf",
            "llama",
            split__count=2,
            split__no=number - 1,
        )
    assert shelf.names() == ["m:F32"]
    model = shelf.store.open(ModelName.parse("m:f32"))
    files = model.of_type(WEIGHTS_TYPE)
    assert [file.name[-19:] for file in files] == ["00001-of-00002.gguf", "00002-of-00002.gguf"]
    assert model.parameter_size == "256"
    with pytest.raises(UnsupportedError, match=f"write 'FROM {listed}' into a Modelfile"):
        shelf.store.copy(model.name, ModelName.parse("mine"))
    with pytest.raises(UnsupportedError, match="split into several files"):
        list(create_model(shelf.store, CreateRequest(model="built", base="m:f32")))
    (listed / "m-F32-00002-of-00002.gguf").unlink()
    assert shelf.names() == []
    assert "part 2 of 2 is missing" in shelf.notes()


def test_a_projector_joins_the_model_that_it_fits(listed: Path, shelf: Any) -> None:
    folder = listed / "pub" / "R"
    folder.mkdir(parents=True)
    write_gguf(folder / "m-F32.gguf", "llama", llama__embedding_length=64)
    write_gguf(folder / "other-F16.gguf", "llama", llama__embedding_length=32)
    for kind, width in (("F32", 64), ("F16", 64), ("wide", 128)):
        write_gguf(
            folder / f"mmproj-{kind}.gguf",
            "clip",
            general__type="mmproj",
            clip__vision__projection_dim=width,
        )
    assert shelf.names() == ["pub/R:F16", "pub/R:F32"]
    fitting = shelf.store.open(ModelName.parse("pub/R:F32"))
    assert [file.path.name for file in fitting.of_type(PROJECTOR_TYPE)] == ["mmproj-F16.gguf"]
    assert shelf.store.open(ModelName.parse("pub/R:F16")).projectors == ()


def test_what_is_no_model_is_left_out_and_told(put: Any, shelf: Any, listed: Path) -> None:
    put("broken.gguf", b"GGUF\x03\0\0\0" + b"\xff" * 100)
    put("text.gguf", b"hello")
    put("empty.gguf", b"")
    write_gguf(listed / "lora.gguf", "llama", general__type="adapter")
    write_gguf(listed / "mmproj.gguf", "clip", general__type="mmproj")
    assert shelf.names() == []
    told = shelf.notes()
    for name in ("broken", "text", "empty", "lora", "mmproj"):
        assert f"{name}.gguf" in told


# ------------------------------------------------------------------------- Hugging Face's cache


def test_the_hub_s_cache_is_served_by_the_names_of_its_repositories(
    hub_cache: Any, make_shelf: Any, tiny: Path
) -> None:
    old = hub_cache.add("user/Tiny-GGUF", "aaa", "old-F32.gguf", tiny)
    link = hub_cache.add("user/Tiny-GGUF", "bbb", "sub/tiny-F32.gguf", tiny, ref="main")
    os.utime(old.parent)
    shelf = make_shelf(hub_cache.root)
    assert shelf.names() == ["hf.co/user/Tiny-GGUF:F32"]
    model = shelf.store.open(ModelName.parse("hf.co/user/tiny-gguf:F32"))
    assert model.weights.path == link
    assert model.weights.digest == digest_of(tiny)  # by the name of the blob: nothing was read
    shelf.store.copy(model.name, ModelName.parse("mine"))
    copied = shelf.store.open(ModelName.parse("mine")).weights
    assert copied.path.samefile(link)
    assert not copied.path.is_symlink()


def test_without_a_main_the_latest_revision_counts(
    hub_cache: Any, make_shelf: Any, tiny: Path
) -> None:
    old = hub_cache.add("u/r", "aaa", "old-Q4_0.gguf", tiny)
    os.utime(old.parent, (1, 1))
    hub_cache.add("u/r", "bbb", "new-Q8_0.gguf", tiny)
    assert make_shelf(hub_cache.root).names() == ["hf.co/u/r:Q8_0"]


@pytest.mark.parametrize("main", ["../../../x", "", "\0", "zzz", "x" * 5000])
def test_a_ref_that_is_none_leads_nowhere(
    hub_cache: Any, make_shelf: Any, tiny: Path, main: str
) -> None:
    hub_cache.add("u/r", "bbb", "new-Q8_0.gguf", tiny, ref="main")
    (hub_cache.root / "models--u--r" / "refs" / "main").write_text(main)
    assert make_shelf(hub_cache.root).names() == ["hf.co/u/r:Q8_0"]


def test_a_link_out_of_its_repository_is_not_followed(
    hub_cache: Any, make_shelf: Any, tiny: Path, tmp_path: Path
) -> None:
    link = hub_cache.add("u/r", "bbb", "a-Q8_0.gguf", tiny)
    outside = tmp_path / "outside.gguf"
    shutil.copy(tiny, outside)
    (link.parent / "b-Q4_0.gguf").symlink_to(outside)
    other = hub_cache.add("u/other", "bbb", "c-Q8_0.gguf", tiny)
    (link.parent / "d-Q5_0.gguf").symlink_to(other)
    shelf = make_shelf(hub_cache.root)
    assert shelf.names() == ["hf.co/u/other:Q8_0", "hf.co/u/r:Q8_0"]
    assert shelf.notes().count("leads out") == 2


def test_safetensors_are_listed_with_what_to_do(
    hub_cache: Any, make_shelf: Any, tmp_path: Path, listed: Path
) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"model_type": "qwen2"}))
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    for file in (config, weights):
        hub_cache.add("u/r", "bbb", file.name, file)
        shutil.copy(file, listed)
    shelf = make_shelf(hub_cache.root, listed)
    assert shelf.names() == ["hf.co/u/r:latest", "listed:latest"]
    cached = shelf.store.open(ModelName.parse("hf.co/u/r"))
    assert "corral pull hf://u/r" in cached.problem
    assert (cached.format, cached.family) == ("safetensors", "qwen2")
    plain = shelf.store.open(ModelName.parse("listed"))
    assert f"FROM {listed}" in plain.problem
    with pytest.raises(UnsupportedError, match="corral pull hf://u/r"):
        list(create_model(shelf.store, CreateRequest(model="built", base="hf.co/u/r")))
    assert "digests" not in shelf.notes()  # nobody runs them, so nobody reads them


# ---------------------------------------------------------------------------------- ONNX folders


@pytest.mark.parametrize("inside", ["", "a", "pub/R"])
def test_an_onnx_folder_is_one_model_in_place(
    listed: Path, shelf: Any, onnx: Path, inside: str
) -> None:
    folder = listed / inside
    shutil.copytree(onnx, folder, dirs_exist_ok=True)
    name = {"": "listed:latest", "a": "a:latest", "pub/R": "pub/R:latest"}[inside]
    assert shelf.names() == [name]
    model = shelf.store.open(ModelName.parse(name))
    assert (model.format, model.family, model.folder) == ("onnx", "llama", folder)
    hold = shelf.store.lay_out(model)
    assert hold.path == folder
    hold.release()
    assert not (shelf.places.models_dir / "folders").exists()


def test_an_onnx_folder_can_be_copied_into_the_store(listed: Path, shelf: Any, onnx: Path) -> None:
    shutil.copytree(onnx, listed / "a")
    shelf.store.copy(ModelName.parse("a"), ModelName.parse("mine"))
    shutil.rmtree(listed / "a")
    model = shelf.store.open(ModelName.parse("mine"))
    assert model.problem == ""
    hold = shelf.store.lay_out(model)
    assert (hold.path / "model.onnx").read_bytes() == (onnx / "model.onnx").read_bytes()
    hold.release()


def test_an_onnx_folder_whose_file_goes_is_told(listed: Path, shelf: Any, onnx: Path) -> None:
    shutil.copytree(onnx, listed / "a")
    model = shelf.store.open(ModelName.parse("a"))
    (listed / "a" / "model.onnx.data").write_bytes(b"")
    with pytest.raises(InvalidModelError, match="was changed"):
        shelf.store.lay_out(model)
