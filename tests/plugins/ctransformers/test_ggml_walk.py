"""Our own walk over legacy GGML files: what it takes, and what it refuses in which words."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral_ctransformers.layouts import GGJT, GGMF, LAYOUTS, find_layout
from corral_ctransformers.tensors import TYPES
from corral_ctransformers.walk import layouts_that_fit, walk
from corral_kernel.errors import LoadError

OLD = [name for name, layout in LAYOUTS.items() if name not in ("llama", "falcon")]
SAME = [{"gpt2", "gpt_bigcode"}, {"gpt_neox", "dolly-v2"}]
"""Architectures whose files are laid out alike: nothing in a file tells one from the other."""
QUANTIZED = {"q4_0": (2, 2), "q5_1": (9, 9), "q8_0": (7, 7), "q6_k": (14, 18)}
"""File types, of `ggml` files and of llama's."""


@pytest.mark.parametrize("architecture", LAYOUTS)
def test_a_file_of_each_architecture_is_walked_to_its_end(
    architecture: str, make: Callable[..., Any], written: Callable[..., Path]
) -> None:
    made = make(architecture)
    file = walk(written(architecture, made.data), LAYOUTS[architecture])
    assert file.fields["n_layer"] == 2
    assert len(file.pieces) == file.fields["n_vocab"]
    assert file.weights_bytes == len(made.data) - made.places["tensors"]
    assert file.type_name == "F16"


@pytest.mark.parametrize("architecture", LAYOUTS)
def test_the_library_computes_what_the_walk_let_through(
    architecture: str, written: Callable[..., Path], load_apart: Callable[..., Any]
) -> None:
    assert load_apart(written(architecture), architecture).outcome == "text"
    assert load_apart(written(architecture, n_layer=1), architecture).outcome == "text"


@pytest.mark.parametrize("quantized", QUANTIZED)
@pytest.mark.parametrize("architecture", LAYOUTS)
def test_quantized_files_are_read(
    architecture: str,
    quantized: str,
    written: Callable[..., Path],
    load_apart: Callable[..., Any],
) -> None:
    file_type = QUANTIZED[quantized][0]
    given = file_type if architecture in ("llama", "falcon") else 2000 + file_type
    path = written(architecture, ftype=given, n_embd=256, n_mult=256, n_layer=1)
    assert walk(path, LAYOUTS[architecture]).type_name == quantized.upper()
    assert load_apart(path, architecture).outcome == "text"


@pytest.mark.parametrize(("magic", "version"), [(GGMF, 1), (GGJT, 1), (GGJT, 2), (GGJT, 3)])
def test_a_llama_of_each_version_is_read(
    magic: bytes, version: int, written: Callable[..., Path], load_apart: Callable[..., Any]
) -> None:
    path = written("llama", magic=magic, version=version)
    assert load_apart(path, "").outcome == "text"


def test_a_llama_of_70b_is_told_by_its_shapes(
    written: Callable[..., Path], load_apart: Callable[..., Any]
) -> None:
    sizes = {"n_layer": 80, "n_head": 16, "n_embd": 64, "n_mult": 8}
    large = written("llama", **sizes)
    larger = written("llama", **sizes, shared_heads=8)
    assert walk(large, LAYOUTS["llama"]).fields["shared_heads"] == 1
    assert walk(larger, LAYOUTS["llama"]).fields["shared_heads"] == 8
    assert load_apart(large, "llama").outcome == "text"
    assert load_apart(larger, "llama").outcome == "text"


def test_a_folders_name_makes_no_llama_one_of_70b(
    tmp_path: Path, written: Callable[..., Path], load_apart: Callable[..., Any]
) -> None:
    folder = tmp_path / "llama-70b"
    folder.mkdir()
    path = written("llama").rename(folder / "model.bin")
    assert load_apart(path, "llama", walk=False).outcome != "text"
    assert load_apart(path, "llama").outcome == "text"


@pytest.mark.parametrize("right", LAYOUTS)
def test_a_wrong_model_type_is_refused_before_the_library_sees_the_file(
    right: str, written: Callable[..., Path]
) -> None:
    path = written(right)
    alike = next((names for names in SAME if right in names), {right})
    assert set(layouts_that_fit(path)) == alike
    for wrong in LAYOUTS.keys() - alike:
        with pytest.raises(LoadError, match=f"no readable {wrong} file: "):
            walk(path, LAYOUTS[wrong])


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("gpt2", "gpt2"),
        ("GPT-2", "gpt2"),
        ("starcoder", "gpt_bigcode"),
        ("gpt-bigcode", "gpt_bigcode"),
        ("GPTNeoX", "gpt_neox"),
        ("dolly_v2", "dolly-v2"),
        ("gguf", None),
        ("", None),
    ],
)
def test_architectures_are_known_by_several_spellings(given: str, name: str | None) -> None:
    assert getattr(find_layout(given), "name", None) == name


def test_block_sizes_are_those_of_the_library(open_engine: Callable[..., Any], gpt2: Path) -> None:
    library = open_engine(gpt2, model_type="gpt2")._native._llm._lib
    for number, kind in TYPES.items():
        assert library.ggml_type_size(number) == kind.block_bytes, kind.name
        assert library.ggml_blck_size(number) == kind.block, kind.name


def changed(made: Any, name: str, value: float, kind: str = "i") -> bytes:
    data = bytearray(made.data)
    struct.pack_into(f"<{kind}", data, made.places[name], value)
    return bytes(data)


@pytest.mark.parametrize(
    ("architecture", "name", "value", "words"),
    [
        ("gpt2", "n_vocab", -1, "n_vocab is -1 at byte 4; it must be from 1"),
        ("gpt2", "n_vocab", 256, "n_vocab is 256, the vocabulary at byte 28 counts 268 tokens"),
        ("gpt2", "n_ctx", 128, "'model/wpe' at byte .* has the shape 32 x 96; .* 32 x 128"),
        ("gpt2", "n_ctx", 1 << 30, "n_ctx is 1073741824"),
        ("gpt2", "n_embd", 64, "the shape 32"),
        ("gpt2", "n_head", 0, "n_head is 0"),
        ("gpt2", "n_head", 1, "n_head is 1"),
        ("gpt2", "n_head", 5, "n_embd is 32, which 5 heads cannot share"),
        ("gpt2", "n_layer", 3, "'model/h2/ln_1/g' and 11 more is not in the file"),
        ("gpt2", "n_layer", 1, "'model/h1/ln_1/g' at byte .* is none of this architecture's"),
        ("gpt2", "n_layer", 1 << 20, "n_layer is 1048576"),
        ("gpt2", "ftype", 4, "ftype is 4"),
        ("gpt2", "ftype", -1, "ftype is -1"),
        ("gpt2", "ftype", 0, "is of type F16; it must be F32"),
        ("gpt2", "ftype", 2, "its Q4_0 blocks are of version 0"),
        ("gpt2", "ftype", 1003, "its Q4_1 blocks are of version 1"),
        ("gptj", "n_rot", 3, "n_rot is 3; it must be even, and 8 at most"),
        ("gptj", "n_rot", 10, "n_rot is 10"),
        ("gpt_neox", "par_res", 7, "par_res is 7"),
        ("replit", "n_ctx", -5, "n_ctx is -5"),
        ("llama", "n_rot", 4, "n_rot is 4; a head is 8 wide"),
        ("llama", "n_layer", 33, "n_layer is 33, as of no llama of 2023"),
        ("llama", "ftype", 99, "ftype is 99"),
        ("llama", "n_mult", 64, "feed_forward.w1.weight' at byte .* has the shape 32 x 96"),
        ("falcon", "falcon_type", 1, "falcon_type is 1"),
        ("falcon", "falcon_type", 40, "input_layernorm.weight' at byte .* is none of"),
        ("falcon", "n_head_kv", 3, "n_head is no multiple of n_head_kv"),
        ("falcon", "n_merges", 12, "the head tells 12 merges"),
    ],
)
def test_a_wrong_number_of_the_head_is_named(  # noqa: PLR0913, PLR0917 (fixtures and parameters)
    architecture: str,
    name: str,
    value: int,
    words: str,
    make: Callable[..., Any],
    written: Callable[..., Path],
) -> None:
    path = written(architecture, changed(make(architecture), name, value))
    with pytest.raises(LoadError, match=words):
        walk(path, LAYOUTS[architecture])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_a_number_that_is_none_is_refused(
    value: float, make: Callable[..., Any], written: Callable[..., Path]
) -> None:
    path = written("mpt", changed(make("mpt"), "alibi_bias_max", value, "f"))
    with pytest.raises(LoadError, match="alibi_bias_max is"):
        walk(path, LAYOUTS["mpt"])


@pytest.mark.parametrize(
    ("ftype", "version", "words"),
    [
        (2, 2, "ftype 2 of version 2: its blocks changed later"),
        (8, 1, "ftype 8 of version 1: its blocks changed later"),
        (7, 1, "ftype 7 of version 1"),
    ],
)
def test_old_blocks_of_llama_are_refused(
    ftype: int, version: int, words: str, written: Callable[..., Path]
) -> None:
    with pytest.raises(LoadError, match=words):
        walk(written("llama", ftype=ftype, version=version), LAYOUTS["llama"])


def test_old_blocks_behind_a_new_file_type_are_refused_too(
    make: Callable[..., Any], written: Callable[..., Path]
) -> None:
    path = written("llama", changed(make("llama", ftype=2, version=2), "ftype", 1))
    with pytest.raises(LoadError, match=r"is of type 2 \(Q4_0\), which is not read in this"):
        walk(path, LAYOUTS["llama"])


@pytest.mark.parametrize("architecture", OLD)
def test_a_file_cut_anywhere_is_refused(
    architecture: str, make: Callable[..., Any], written: Callable[..., Path]
) -> None:
    data = make(architecture).data
    for end in {0, 3, 4, 20, 40, len(data) // 2, len(data) - 4096, len(data) - 1}:
        with pytest.raises(LoadError, match=r"are left|is not in the file"):
            walk(written(architecture, data[:end]), LAYOUTS[architecture])


def test_what_follows_the_last_tensor_is_refused(
    make: Callable[..., Any], written: Callable[..., Path]
) -> None:
    for more in (b"\0", bytes(12), bytes(64)):
        with pytest.raises(LoadError, match=r"damaged: .*at byte"):
            walk(written("gpt2", make("gpt2").data + more), LAYOUTS["gpt2"])


def test_a_tensor_that_comes_twice_or_never_is_refused(
    make: Callable[..., Any], written: Callable[..., Path]
) -> None:
    made = make("gpt2")
    start, _ = made.heads[-1]
    with pytest.raises(LoadError, match=r"'model/h1/mlp/c_fc/b' at byte \d+ comes a second time"):
        walk(written("gpt2", made.data + made.data[start:]), LAYOUTS["gpt2"])
    with pytest.raises(LoadError, match=r"'model/h1/mlp/c_fc/b' is not in the file"):
        walk(written("gpt2", made.data[:start]), LAYOUTS["gpt2"])


def test_a_token_of_mpt_that_is_no_text_is_refused(
    make: Callable[..., Any], written: Callable[..., Path], load_apart: Callable[..., Any]
) -> None:
    made = make("mpt")
    data = bytearray(made.data)
    data[made.places["vocabulary"] + 4] = 0xFF
    path = written("mpt", bytes(data))
    assert load_apart(path, "mpt", walk=False).outcome == "died"
    with pytest.raises(LoadError, match="token 0 is no UTF-8 text"):
        walk(path, LAYOUTS["mpt"])


@pytest.mark.parametrize("data", [b"GGUF" + bytes(64), b"", b"PK\3\4", b"tjgg" + bytes(4)])
def test_other_files_are_refused(data: bytes, written: Callable[..., Path]) -> None:
    for layout in LAYOUTS.values():
        with pytest.raises(LoadError, match="no readable"):
            walk(written("gpt2", data), layout)
