"""Files that are damaged, or lie on purpose, are refused in words, and cost nothing but that."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from corral_kernel.errors import CorralError, InvalidModelError
from corral_safetensors.reader import stored_tensors

HERE = Path(__file__).parent
MUTATIONS = 60
ONE_S = 60
ALL_S = 110


def file_of(header: bytes | dict[str, Any], data: bytes = b"\0" * 16) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def tensor(dtype: str = "F32", shape: Any = (2, 2), offsets: Any = (0, 16), **more: Any) -> Any:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


GOOD = {"a": tensor(shape=[2], offsets=[0, 8]), "b": tensor(shape=[2], offsets=[8, 16])}


def read(tmp_path: Path, data: bytes) -> list[Any]:
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    return stored_tensors(path, "model.safetensors")


def test_a_good_file_is_read(tmp_path: Path) -> None:
    found = read(tmp_path, file_of({"__metadata__": {"format": "pt"}, **GOOD}))

    assert [one.name for one in found] == ["a", "b"]
    (block,) = found[1].blocks(0, 2, 100)
    np.testing.assert_array_equal(block, np.zeros(2, np.float32))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no safetensors file, or was cut off"),
        (b"\x10\0\0\0", "no safetensors file, or was cut off"),
        (b"\xff" * 8 + b"{}", "its header would take 18446744073709551615"),
        (file_of({"a": tensor()}, b"\0" * 15), "15 bytes|cut off"),
        (file_of({"a": tensor()}, b"\0" * 17), "cut off or added to"),
        (file_of(b"[]"), "cannot be read"),
        (file_of(b'{"a": NaN}'), "cannot be read"),
        (file_of(b"[" * 100_000), "cannot be read"),
        (file_of(b'{"a":' * 50_000), "cannot be read"),
        (file_of(b'{"\xff": 1}'), "cannot be read"),
        (file_of({"a": 1}), "cannot be read"),
        (file_of({"a": {"dtype": "F32", "shape": [4]}}), "cannot be read"),
        (file_of({"a": tensor(more=1)}), "cannot be read"),
        (file_of({"a": tensor(shape=[-4])}), "cannot be read"),
        (file_of({"a": tensor(shape=[1.5])}), "cannot be read"),
        (file_of({"a": tensor(shape=["4"])}), "cannot be read"),
        (file_of({"a": tensor(offsets=[0])}), "cannot be read"),
        (file_of({"a": tensor(offsets=[-16, 0])}), "cannot be read"),
        (file_of({"a": tensor(dtype="F4")}), "unknown type 'F4'"),
        (file_of({"a": tensor(shape=[2**40, 2**40])}), "does not take the 16 bytes"),
        (file_of({"a": tensor(shape=[2**64, 0])}), "does not take|cannot be read"),
        (file_of({"a": tensor(offsets=[16, 0])}), "does not take"),
        (file_of({"a": tensor(shape=[1] * 9 + [4])}), "10 dimensions"),
        (file_of({"a": tensor(offsets=[16, 32])}), "begins at byte"),
        (file_of({"a": tensor(), "b": tensor()}), "without gap or overlap"),
        (file_of({"a" * 2000: tensor()}), "name is 2000 long"),
        (file_of({"": tensor()}), "name is 0 long"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    with pytest.raises(InvalidModelError, match=said):
        read(tmp_path, data)


def test_integers_are_no_weights(tmp_path: Path) -> None:
    (found,) = read(tmp_path, file_of({"a": tensor("I32")}))

    with pytest.raises(CorralError, match="stored as I32"):
        next(found.blocks(0, 2, 2))


def test_a_file_that_becomes_shorter_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    (found,) = read(tmp_path, file_of({"a": tensor()}))
    os.truncate(tmp_path / "model.safetensors", 20)

    with pytest.raises(InvalidModelError, match="ends in the middle of tensor a"):
        list(found.blocks(0, 2, 2))


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")

    with pytest.raises(InvalidModelError, match="no regular file"):
        stored_tensors(tmp_path / "model.safetensors", "model.safetensors")


@pytest.fixture
def sharded(making: ModuleType, tmp_path: Path) -> Path:
    config = making.MODELS["llama"]
    weights = making.random_weights(making.shapes_of(config), config)
    made: Path = making.write_model(tmp_path / "model", config, weights, shards=2)
    return made


INDEX = "model.safetensors.index.json"


def lose_a_file(folder: Path) -> None:
    (folder / "model-00002-of-00002.safetensors").unlink()


def name_what_is_in_no_file(folder: Path) -> None:
    said = json.loads((folder / INDEX).read_text())
    said["weight_map"]["model.layers.0.extra.weight"] = "model-00001-of-00002.safetensors"
    (folder / INDEX).write_text(json.dumps(said))


def name_no_files(folder: Path) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": ["a"]}))


def name_another_place(folder: Path) -> None:
    said = json.loads((folder / INDEX).read_text())
    said["weight_map"]["model.norm.weight"] = "../../secret.safetensors"
    (folder / INDEX).write_text(json.dumps(said))


def have_tensors_twice(folder: Path) -> None:
    (folder / INDEX).unlink()
    first = folder / "model-00001-of-00002.safetensors"
    (folder / "model-00003-of-00002.safetensors").write_bytes(first.read_bytes())


def lose_all_files(folder: Path) -> None:
    for path in folder.glob("*safetensors*"):
        path.unlink()


def lose_the_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def break_the_config(folder: Path) -> None:
    (folder / "config.json").write_text("{" * 100_000)


def cut_a_file(folder: Path) -> None:
    path = folder / "model-00002-of-00002.safetensors"
    os.truncate(path, path.stat().st_size - 1)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lose_a_file, "are missing: model-00002-of-00002.safetensors"),
        (name_what_is_in_no_file, "in no file: model.layers.0.extra.weight"),
        (name_no_files, "has no weight_map"),
        (name_another_place, "are missing: ../../secret.safetensors"),
        (have_tensors_twice, "in another file too"),
        (lose_all_files, "has no .safetensors file"),
        (lose_the_config, "no file config.json"),
        (break_the_config, "config.json cannot be read"),
        (cut_a_file, "cut off or added to"),
    ],
)
def test_files_that_do_not_go_together_are_refused(
    sharded: Path, converted: Callable[..., Path], damage: Callable[[Path], None], said: str
) -> None:
    damage(sharded)

    with pytest.raises(InvalidModelError, match=said):
        converted(sharded)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("kind", ["bytes", "sentencepiece", "unigram", "words"])
def test_what_is_changed_at_random_is_refused_in_words_or_converted(
    making: ModuleType, tokenizing: ModuleType, tmp_path: Path, kind: str, seed: int
) -> None:
    name = {"bytes": "gemma3", "sentencepiece": "llama 3's frequencies"}.get(kind, "bert")
    config = {**making.MODELS, **making.BERTS}[name]
    config = {**config, "vocab_size": 800, "hidden_size": 32, "head_dim": 8}
    config |= {"num_hidden_layers": 1, "query_pre_attn_scalar": 8, "layer_types": None}
    shapes = making.bert_shapes if name == "bert" else making.shapes_of
    weights = making.random_weights(shapes(config), config)
    folder = making.write_model(tmp_path / "model", config, weights)
    if kind == "sentencepiece":
        model = tokenizing.sentencepiece_model(tokenizing.pieces())
        (folder / "tokenizer.model").write_bytes(model)
    elif kind != "bytes":
        made = tokenizing.unigram() if kind == "unigram" else tokenizing.word_piece(lowercase=True)
        tokenizing.write_tokenizer(folder, made, cls_token="<s>")
    check_changes(folder, tmp_path, seed)


@pytest.mark.parametrize("seed", [1, 2])
def test_an_adapter_changed_at_random_is_refused_in_words_or_converted(
    making: ModuleType, tmp_path: Path, seed: int
) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    tensors = {}
    for layer, part in enumerate(("self_attn.q_proj", "self_attn.o_proj")):
        name = f"base_model.model.model.layers.{layer}.{part}"
        tensors[f"{name}.lora_A.weight"] = np.ones((2, 64), np.float32)
        tensors[f"{name}.lora_B.weight"] = np.ones((64, 2), np.float32)
    making.write_safetensors(folder / "adapter_model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps(making.MODELS["llama"]))
    said = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "use_rslora": True, "rank_pattern": {}}
    (folder / "adapter_config.json").write_text(json.dumps({**said, "alpha_pattern": {}}))

    check_changes(folder, tmp_path, seed)


def check_changes(folder: Path, tmp_path: Path, seed: int) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    child = subprocess.run(
        [
            sys.executable,
            HERE / "mutations.py",
            folder,
            scratch,
            *map(str, (MUTATIONS, seed, ONE_S)),
        ],
        capture_output=True,
        text=True,
        timeout=ALL_S,
        check=False,
    )
    assert child.returncode == 0, child.stderr[-2000:]
    found = json.loads(child.stdout)
    assert not found["otherwise"], "\n".join(found["otherwise"])
    assert found["refused"] + found["went_through"] == MUTATIONS
    assert found["refused"] > MUTATIONS // 4
