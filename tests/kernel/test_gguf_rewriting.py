"""GGUF files with another head: byte for byte what they were, whatever the alignment."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral_kernel.errors import InvalidModelError
from corral_kernel.gguf import read_header, read_records
from corral_kernel.gguf.rewriting import merge, with_text


def written(chunks: Any, path: Path) -> Path:
    path.write_bytes(b"".join(chunks))
    return path


def tensors(path: Path) -> dict[str, list[float]]:
    return {tensor.name: tensor.data.tolist() for tensor in gguf.GGUFReader(path).tensors}


@pytest.mark.parametrize("alignment", [32, 64, 8])
def test_a_text_is_set_and_all_else_stays(tmp_path: Path, alignment: int) -> None:
    source = tmp_path / "a.gguf"
    writer = gguf.GGUFWriter(source, "clip")
    writer.add_custom_alignment(alignment)
    writer.add_string("clip.projector_type", "old")
    writer.add_array("some.words", ["a", "bc", ""])
    for name, size in (("x", 3), ("y", 17), ("z", 1)):
        writer.add_tensor(name, np.arange(size, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    plan = with_text(source, "clip.projector_type", "a longer one")
    made = written(plan.chunks(), tmp_path / "b.gguf")
    assert made.stat().st_size == plan.size_bytes
    assert read_header(made).text("clip.projector_type") == "a longer one"
    assert tensors(made) == tensors(source)
    before, after = read_records(source)[1], read_records(made)[1]
    assert list(before) == list(after)
    assert {key for key in before if before[key] != after[key]} == {"clip.projector_type"}


def test_a_file_that_was_never_split_stays_the_same_by_merging(wide: Path, tmp_path: Path) -> None:
    made = written(merge([wide]).chunks(), tmp_path / "m.gguf")
    assert tensors(made) == tensors(wide)


@pytest.fixture(scope="module")
def parts(make_wide: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("parts")
    make_wide(folder / "wide.gguf", split_max_tensors=6)
    return sorted(folder.glob("wide-*.gguf"))


@settings(max_examples=40, deadline=None)
@given(
    part=st.integers(0, 1),
    changes=st.lists(st.tuples(st.integers(0, 4096), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_damaged_parts_are_merged_or_refused_and_the_sum_is_as_announced(
    parts: list[Path],
    tmp_path_factory: pytest.TempPathFactory,
    part: int,
    changes: list[tuple[int, int]],
) -> None:
    raw = bytearray(parts[part].read_bytes())
    for at, value in changes:
        raw[at] = value
    mutated = tmp_path_factory.getbasetemp() / "mutated-part.gguf"
    mutated.write_bytes(raw)
    chosen = [mutated if path == parts[part] else path for path in parts]
    try:
        plan = merge(chosen)
    except InvalidModelError:
        return
    assert sum(map(len, plan.chunks())) == plan.size_bytes
