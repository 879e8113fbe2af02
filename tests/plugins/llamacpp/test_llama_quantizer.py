"""llama.cpp's own quantizer: every type, importance matrices of both forms, and what is damaged."""

import struct
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral_kernel.contracts import Source, SourceFile
from corral_kernel.errors import InvalidModelError
from corral_kernel.gguf import FILE_TYPES, read_header
from corral_kernel.testing import QuantizerSuite, run_suite
from corral_llamacpp.imatrix import read_imatrix
from corral_llamacpp.quantizer import LlamaQuantizer
from corral_llamacpp.types import FILE_TYPES as OFFERED


def matrix_of(model: Path) -> dict[str, np.ndarray]:
    """An importance matrix that says more of some columns than of others."""
    random = np.random.default_rng(1)
    return {
        tensor.name: random.uniform(0.1, 4, tensor.shape[0]).astype(np.float32)
        for tensor in read_header(model).tensors
        if len(tensor.shape) == 2 and tensor.name != "token_embd.weight"
    }


def write_gguf(path: Path, matrix: dict[str, np.ndarray], count: float = 1.0) -> Path:
    writer = gguf.GGUFWriter(path, "unused")
    writer.add_type("imatrix")
    for name, values in matrix.items():
        writer.add_tensor(f"{name}.in_sum2", (values * count).reshape(1, -1))
        writer.add_tensor(f"{name}.counts", np.array([[count]], np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_old(path: Path, matrix: dict[str, np.ndarray], calls: int = 1) -> Path:
    with path.open("wb") as stream:
        stream.write(struct.pack("<i", len(matrix)))
        for name, values in matrix.items():
            stream.write(struct.pack("<i", len(name)) + name.encode())
            stream.write(struct.pack("<ii", calls, len(values)))
            stream.write((values * calls).astype("<f4").tobytes())
    return path


@pytest.fixture(scope="module")
def suite(wide: Path, tmp_path_factory: pytest.TempPathFactory) -> type[QuantizerSuite]:
    matrix = write_gguf(tmp_path_factory.mktemp("imatrix") / "imatrix.gguf", matrix_of(wide))
    members = {"quantizer": LlamaQuantizer(), "source": wide, "imatrix": matrix}
    return type("Suite", (QuantizerSuite,), members)


def test_it_follows_the_contract_of_quantizers(suite: type[QuantizerSuite]) -> None:
    outcomes = list(run_suite(suite))
    assert len(outcomes) > 4
    assert [outcome for outcome in outcomes if outcome.error] == []


def test_every_file_type_of_gguf_that_can_be_made_is_offered() -> None:
    known = {number: name for number, name in FILE_TYPES.items() if name != "NVFP4"}
    assert {kind.number: name for name, kind in OFFERED.items()} == known


@pytest.mark.parametrize("file_type", ["F32", "F16", "BF16"])
def test_models_of_full_and_half_precision_are_taken(file_type: str) -> None:
    assert offer(file_type) is not None


@pytest.mark.parametrize("file_type", ["Q8_0", "Q4_K_M", "", "unknown"])
def test_others_are_not(file_type: str) -> None:
    assert offer(file_type) is None


def offer(file_type: str) -> object:
    files = (SourceFile(name="model.gguf", size_bytes=1000),)
    source = Source(kind="model", format="gguf", files=files, file_type=file_type)
    return LlamaQuantizer().offer(source, "Q4_K_M")


def test_both_forms_of_an_importance_matrix_say_the_same(wide: Path, tmp_path: Path) -> None:
    matrix = matrix_of(wide)
    new = read_imatrix(write_gguf(tmp_path / "new.gguf", matrix, count=7))
    old = read_imatrix(write_old(tmp_path / "old.dat", matrix, calls=7))
    assert set(new) == set(old) == set(matrix)
    for name, values in matrix.items():
        np.testing.assert_allclose(new[name], values, rtol=1e-6)
        np.testing.assert_allclose(old[name], values, rtol=1e-6)


def test_an_expert_that_met_nothing_has_all_columns_alike(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "unused")
    writer.add_type("imatrix")
    writer.add_tensor("x.in_sum2", np.array([[2.0, 4.0], [0.0, 0.0]], np.float32))
    writer.add_tensor("x.counts", np.array([[2.0], [0.0]], np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert read_imatrix(tmp_path / "m.gguf")["x"].tolist() == [1.0, 2.0, 1.0, 1.0]


def damaged_old(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def negative_old(path: Path) -> None:
    path.write_bytes(struct.pack("<i", -1) + path.read_bytes()[4:])


def endless_old(path: Path) -> None:
    path.write_bytes(struct.pack("<ii", 1, 1) + b"x" + struct.pack("<ii", 1, 1 << 25))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def not_a_number(path: Path) -> None:
    write_old(path, {"x": np.array([1.0, np.nan], np.float32)})


def another_gguf(path: Path) -> None:
    path.unlink()
    writer = gguf.GGUFWriter(path, "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(
    "damage",
    [damaged_old, negative_old, endless_old, empty, not_a_number, another_gguf],
    ids=lambda function: function.__name__,
)
def test_a_damaged_importance_matrix_is_refused(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    path = write_old(tmp_path / "imatrix", {"x": np.ones(8, np.float32)})
    damage(path)
    with pytest.raises(InvalidModelError, match="importance matrix"):
        read_imatrix(path)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """A small matrix in both forms."""
    folder = tmp_path_factory.mktemp("sound")
    matrix = {"blk.0.x.weight": np.ones(8, np.float32), "y": np.arange(4, dtype=np.float32)}
    return [
        write_gguf(folder / "m.gguf", matrix).read_bytes(),
        write_old(folder / "m.dat", matrix).read_bytes(),
    ]


@settings(max_examples=150, deadline=None)
@given(
    form=st.integers(0, 1),
    changes=st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=6),
    cut=st.none() | st.integers(0, 2**16),
)
def test_no_importance_matrix_does_anything_but_be_read_or_refused(
    sound: list[bytes],
    tmp_path_factory: pytest.TempPathFactory,
    form: int,
    changes: list[tuple[int, int]],
    cut: int | None,
) -> None:
    raw = bytearray(sound[form])
    for at, value in changes:
        raw[at % len(raw)] = value
    path = tmp_path_factory.getbasetemp() / "mutated-imatrix"
    path.write_bytes(raw if cut is None else raw[: cut % len(raw)])
    try:
        found = read_imatrix(path)
    except InvalidModelError:
        return
    assert all(values.dtype == np.float32 and values.ndim == 1 for values in found.values())
