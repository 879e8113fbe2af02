import ctypes
from collections.abc import Callable
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
import pytest

from corral_kernel.errors import InvalidModelError
from corral_kernel.gguf import GgufHeader, TensorInfo, read_header, read_value
from corral_quant.rewriting import rewrite
from corral_quant.rules import FILE_TYPES, FileType, find_type

TINY = Path(__file__).parents[2] / "models" / "tiny-chat-f32.gguf"
Q8_0 = "Q8_0"


def kind(name: str) -> FileType:
    found = find_type(name)
    assert found is not None
    return found


def quiet(_done: int, _total: int) -> None:
    pass


def natively(source: Path, out: Path, wanted: FileType) -> Path:
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = wanted.number, 1
    status = llama_cpp.llama_model_quantize(
        str(source).encode(), str(out).encode(), ctypes.byref(params)
    )
    assert status == 0
    return out


def blocks(path: Path, header: GgufHeader, tensor: TensorInfo) -> bytes:
    with path.open("rb") as file:
        file.seek(header.data_offset + tensor.offset)
        return file.read(tensor.size_bytes)


def wide_model(path: Path, write: Callable[[gguf.GGUFWriter], None] | None = None) -> Path:
    """A file that llama.cpp quantizes, with rows that hold the largest blocks, of hard numbers."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(512)
    writer.add_feed_forward_length(512)
    writer.add_head_count(8)
    writer.add_layer_norm_rms_eps(1e-5)
    random = np.random.default_rng(7)
    names = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    for name in names:
        numbers = random.standard_normal((64, 512)).astype(np.float32)
        numbers[0] = 0.0
        numbers[1] = 1e-30
        numbers[2, ::7] = 1e4
        numbers[3] = np.round(numbers[3]).clip(-1, 1)
        writer.add_tensor(f"blk.0.{name}.weight", numbers)
    writer.add_tensor("token_embd.weight", random.standard_normal((64, 512)).astype(np.float32))
    writer.add_tensor("output.weight", random.standard_normal((64, 512)).astype(np.float32))
    writer.add_tensor("output_norm.weight", np.ones(512, np.float32))
    if write is not None:
        write(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("wanted", FILE_TYPES, ids=lambda wanted: wanted.name)
@pytest.mark.parametrize("source", ["tiny", "wide"])
def test_blocks_are_those_that_llama_cpp_writes(
    source: str, wanted: FileType, tmp_path: Path
) -> None:
    path = TINY if source == "tiny" else wide_model(tmp_path / "wide.gguf")
    ours, theirs = tmp_path / "ours.gguf", tmp_path / "theirs.gguf"
    rewrite(path, ours, wanted, quiet)
    our_head, their_head = read_header(ours), read_header(natively(path, theirs, wanted))
    assert our_head.file_type == their_head.file_type == wanted.number
    expected = {tensor.name: tensor for tensor in their_head.tensors}
    assert {tensor.name for tensor in our_head.tensors} == set(expected)
    others = set()
    for tensor in our_head.tensors:
        other = expected[tensor.name]
        if tensor.type != other.type:
            others.add((tensor.name, tensor.type_name))
        else:
            assert blocks(ours, our_head, tensor) == blocks(theirs, their_head, other), tensor.name
    # Of the layers that llama.cpp keeps in K-quants, whose blocks hold 256 numbers, it is Q8_0.
    assert others <= {("output.weight", Q8_0), ("token_embd.weight", Q8_0)}
    if source == "tiny":
        assert not others


def test_what_a_file_says_of_itself_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    rewrite(TINY, out, kind("Q8_0"), quiet)
    before, after = read_header(TINY), read_header(out)
    changed = {"general.file_type", "general.quantization_version"}
    for key in before.metadata.keys() - changed:
        assert after.metadata[key].type is before.metadata[key].type, key
        old = read_value(TINY, before.metadata[key])
        assert read_value(out, after.metadata[key]) == old, key
    assert after.metadata.keys() - before.metadata.keys() <= changed
    assert after.integer("general.quantization_version") == gguf.GGML_QUANT_VERSION


def test_half_precision_is_read_as_well(tmp_path: Path) -> None:
    for name in ("F16", "BF16"):
        half, twice, once = (tmp_path / f"{name}-{n}.gguf" for n in range(3))
        rewrite(TINY, half, kind(name), quiet)
        rewrite(half, twice, kind("Q4_0"), quiet)
        natively(half, once, kind("Q4_0"))
        ours, theirs = read_header(twice), read_header(once)
        expected = {tensor.name: tensor for tensor in theirs.tensors}
        for tensor in ours.tensors:
            theirs_of_it = blocks(once, theirs, expected[tensor.name])
            assert blocks(twice, ours, tensor) == theirs_of_it, tensor.name


def test_an_alignment_of_its_own_is_kept(tmp_path: Path) -> None:
    source = wide_model(tmp_path / "wide.gguf", lambda writer: writer.add_custom_alignment(256))
    out = tmp_path / "out.gguf"
    rewrite(source, out, kind("Q5_1"), quiet)
    header = read_header(out)
    assert header.integer("general.alignment") == 256
    assert all(tensor.offset % 256 == 0 for tensor in header.tensors)
    assert header.data_offset % 256 == 0


def test_progress_grows_to_all_of_the_source(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    rewrite(TINY, tmp_path / "out.gguf", kind("Q4_1"), lambda *pair: told.append(pair))
    total = read_header(TINY).tensor_bytes
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (total, total)


def test_what_is_no_number_is_refused(tmp_path: Path) -> None:
    def spoil(writer: gguf.GGUFWriter) -> None:
        numbers = np.ones((32, 512), np.float32)
        numbers[5, 5] = np.nan
        writer.add_tensor("blk.0.extra.weight", numbers)

    source = wide_model(tmp_path / "spoilt.gguf", spoil)
    with pytest.raises(InvalidModelError, match=r"'blk\.0\.extra\.weight' holds what is no finite"):
        rewrite(source, tmp_path / "out.gguf", kind("Q8_0"), quiet)


def test_a_file_that_ends_early_is_refused(tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(TINY.read_bytes()[:-5000])
    with pytest.raises(InvalidModelError):
        rewrite(cut, tmp_path / "out.gguf", kind("Q8_0"), quiet)
