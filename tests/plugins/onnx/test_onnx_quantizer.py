import os
import shutil
from pathlib import Path

import onnx
import pytest

from corral_kernel.contracts import FileRef, Source, SourceFile, Work
from corral_kernel.errors import InvalidModelError, UnsupportedError
from corral_kernel.testing.quantizers import QuantizerSuite
from corral_onnx.quantizer import OnnxQuantizer
from corral_onnx.weights import quantize

MODELS = Path(__file__).parents[2] / "models"
TINY, TINY_INT4 = MODELS / "tiny-chat-onnx", MODELS / "tiny-chat-onnx-int4"


class TestOnnxQuantizer(QuantizerSuite):
    quantizer = OnnxQuantizer()
    source = TINY


def work(source: Path, out: Path) -> Work:
    out.mkdir()
    files = sorted(path for path in source.rglob("*") if path.is_file())
    return Work(
        source=Source(
            kind="model",
            format="onnx",
            files=tuple(SourceFile(name=f.name, size_bytes=f.stat().st_size) for f in files),
        ),
        private={},
        files=tuple(
            FileRef(role="file", digest="", size_bytes=0, name=f.name, path=os.fspath(f))
            for f in files
        ),
        folder=out,
        report=lambda _done, _total: None,
    )


def weights(folder: Path) -> dict[str, int]:
    """Numbers in each stored tensor of a graph, by the operator that uses it."""
    graph = onnx.load(folder / "model.onnx").graph
    sizes = {tensor.name: tensor.ByteSize() for tensor in graph.initializer}
    found: dict[str, int] = {}
    for node in graph.node:
        found[node.op_type] = found.get(node.op_type, 0) + sum(sizes.get(i, 0) for i in node.input)
    return found


@pytest.mark.parametrize(("bits", "share"), [(8, 0.55), (4, 0.30)])
def test_weights_of_products_are_stored_in_fewer_bits(
    bits: int, share: float, tmp_path: Path
) -> None:
    made = quantize(work(TINY, tmp_path / "out"), "model.onnx", bits)
    assert {file.name for file in made} == {path.name for path in TINY.iterdir()}
    before, after = weights(TINY), weights(tmp_path / "out")
    assert "MatMul" not in after
    assert after["MatMulNBits"] <= share * before["MatMul"]
    # A lookup shares the output layer's weights in the source; only 4 bits can be looked up.
    assert ("GatherBlockQuantized" in after) == (bits == 4)


def test_what_is_quantized_already_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidModelError, match=r"model\.onnx cannot be quantized: it is quantized"
    ):
        quantize(work(TINY_INT4, tmp_path / "out"), "model.onnx", 8)


def test_weights_outside_of_the_folder_are_not_read(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(TINY, source)
    (tmp_path / "secret.data").write_bytes((TINY / "model.onnx.data").read_bytes())
    model = onnx.load(source / "model.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../secret.data"
    onnx.save_model(model, source / "model.onnx")
    with pytest.raises(
        InvalidModelError, match=r"'\.\./secret\.data', which is no file of the model"
    ):
        quantize(work(source, tmp_path / "out"), "model.onnx", 8)


def test_weights_behind_the_end_of_their_file_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(TINY, source)
    data = (source / "model.onnx.data").read_bytes()
    (source / "model.onnx.data").write_bytes(data[:-1000])
    with pytest.raises(InvalidModelError, match=r"of model\.onnx\.data, which has"):
        quantize(work(source, tmp_path / "out"), "model.onnx", 8)


@pytest.mark.parametrize("kind", ["MatMul", "Gather", "Transpose"])
def test_a_graph_whose_nodes_lack_inputs_is_refused(kind: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(TINY, source)
    model = onnx.load(source / "model.onnx", load_external_data=False)
    model.graph.node.append(onnx.helper.make_node(kind, [], ["x"]))
    onnx.save_model(model, source / "model.onnx")
    with pytest.raises(InvalidModelError, match=f"has a {kind} with 0 inputs and 1 outputs"):
        quantize(work(source, tmp_path / "out"), "model.onnx", 4)


def test_files_with_other_names_in_a_store_are_read(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(TINY, source)
    os.link(source / "model.onnx.data", tmp_path / "blob")
    made = quantize(work(source, tmp_path / "out"), "model.onnx", 8)
    assert {file.name for file in made} == {path.name for path in TINY.iterdir()}


def test_a_folder_that_names_no_graph_is_refused() -> None:
    files = tuple(SourceFile(name=name, size_bytes=1) for name in ("a.onnx", "b.onnx"))
    with pytest.raises(UnsupportedError, match="does not tell which graph"):
        OnnxQuantizer().offer(Source(kind="model", format="onnx", files=files), "INT8")


def test_an_encoder_s_graph_is_found() -> None:
    names = ("onnx/model.onnx", "tokenizer.json", "config.json")
    files = tuple(SourceFile(name=name, size_bytes=1) for name in names)
    offer = OnnxQuantizer().offer(Source(kind="model", format="onnx", files=files), "INT4")
    assert offer is not None
    assert offer.private == {"graph": "onnx/model.onnx"}
