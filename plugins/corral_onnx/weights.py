"""Quantizes the weights of a graph: ONNX Runtime's `MatMulNBitsQuantizer`, in a task process."""

import logging
import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import external_data_helper
from onnxruntime.quantization.matmul_nbits_quantizer import (
    DefaultWeightOnlyQuantConfig,
    DefaultWeightOnlyQuantizer,
    MatMulNBitsQuantizer,
)

from corral_kernel.contracts import MadeFile, Work
from corral_kernel.errors import InvalidModelError
from corral_onnx.native import reason

_BLOCK: Final = 32
_ACCURACY: Final = 4  # products of 8-bit numbers, where a processor has them
_PRODUCT: Final = "MatMul"
_LOOKUP: Final = "Gather"
_LOOKUP_BITS: Final = 4  # ONNX Runtime looks rows up in blocks of 4 bits alone
_AXES: Final = ((_PRODUCT, 0), (_LOOKUP, 1))
_WEIGHT: Final = {_PRODUCT: 1, _LOOKUP: 0}  # which input it is
_QUANTIZED: Final = "MatMulNBits"
_TRANSPOSE: Final = "Transpose"
_ORDER: Final = "perm"
_INPUTS: Final = {_PRODUCT: 2, _LOOKUP: 2, _TRANSPOSE: 1}
_APART_FROM_BYTES: Final = 1 << 30  # a graph over 2 GiB cannot be one file


def quantize(work: Work, graph: str, bits: int) -> Sequence[MadeFile]:
    """Write a folder anew with its graph quantized; other graphs and files are copied.

    Args:
        work: What to read and where to write.
        graph: Name of the file that holds the graph.
        bits: 4 or 8.

    Raises:
        InvalidModelError: If the graph is damaged, or holds no weights to quantize.
    """
    logging.getLogger("onnxruntime.quantization").setLevel(logging.WARNING)
    try:
        model = onnx.load(work.path(graph), load_external_data=False)
    except Exception as error:
        raise InvalidModelError(f"ONNX cannot read {graph}: {reason(error)}") from error
    _check(model.graph, graph)
    replaced = _take_in(model, work, graph)
    if bits == _LOOKUP_BITS:
        _part_tied_weights(model.graph)
    quantized = _with_small_weights(model, graph, bits, work.report)
    made = set(_save(quantized, work.folder, graph, apart=bool(replaced)))
    for file in work.files:
        if file.name not in replaced | made:
            copy = work.folder / file.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.path, copy)
            made.add(file.name)
    return [MadeFile(name=name, role="file") for name in sorted(made)]


def _check(found: onnx.GraphProto, graph: str) -> None:
    """Make sure that the nodes that are looked at have what they need.

    Raises:
        InvalidModelError: If one has not.
    """
    for node in found.node:
        wanted = _INPUTS.get(node.op_type, 0)
        if wanted and (len(node.input) < wanted or not node.output):
            raise InvalidModelError(
                f"{graph} has a {node.op_type} with {len(node.input)} inputs and "
                f"{len(node.output)} outputs: it is damaged; fetch it again"
            )


def _take_in(model: onnx.ModelProto, work: Work, graph: str) -> set[str]:
    """Read weights that lie in files beside the graph; give the names of these files.

    ONNX's own loading refuses files that have several hard links, as those of a store do.

    Raises:
        InvalidModelError: If one is to be read from elsewhere, or from behind the end of its file.
    """
    folder = graph.rpartition("/")[0]
    names = {file.name for file in work.files}
    used: set[str] = set()
    for tensor in model.graph.initializer:
        if not external_data_helper.uses_external_data(tensor):
            continue
        place = external_data_helper.ExternalDataInfo(tensor)
        name = f"{folder}/{place.location}" if folder else str(place.location)
        if name not in names:
            raise InvalidModelError(
                f"{graph} has its weights in {place.location!r:.200}, which is no file of the model"
            )
        tensor.raw_data = _read(work.path(name), place, tensor.name)
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.DEFAULT
        used.add(name)
    return used


def _read(path: Path, place: external_data_helper.ExternalDataInfo, tensor: str) -> bytes:
    start, size = place.offset or 0, path.stat().st_size
    length = size - start if place.length is None else place.length
    if not 0 <= start <= start + length <= size:
        raise InvalidModelError(
            f"tensor {tensor!r:.200} is said to lie in bytes {start} to {start + length} of "
            f"{path.name}, which has {size}: fetch it again"
        )
    with path.open("rb") as file:
        file.seek(start)
        return file.read(length)


def _part_tied_weights(graph: onnx.GraphProto) -> None:
    """Give lookups weights of their own, where theirs are the output layer's, transposed.

    So they can be made small; as they are, the large ones would have to stay for them.
    """
    weights = {tensor.name: tensor for tensor in graph.initializer}
    looked_up = {node.input[0] for node in graph.node if node.op_type == _LOOKUP}
    for node in [node for node in graph.node if node.op_type == _TRANSPOSE]:
        if node.input[0] in weights and node.output[0] in looked_up:
            numbers = onnx.numpy_helper.to_array(weights[node.input[0]])
            order = next((list(a.ints) for a in node.attribute if a.name == _ORDER), None)
            turned = np.ascontiguousarray(numbers.transpose(order))
            graph.initializer.append(onnx.numpy_helper.from_array(turned, node.output[0]))
            graph.node.remove(node)


class _Counting(DefaultWeightOnlyQuantizer):  # type: ignore[misc] # the library has no types
    """Tells how far it is, by the bytes of what it was given."""

    def __init__(
        self,
        config: DefaultWeightOnlyQuantConfig,
        sizes: dict[str, int],
        report: Callable[..., Any],
    ) -> None:
        super().__init__(config)
        self._sizes, self._report = sizes, report
        self._done = 0

    def quantize(self, node: onnx.NodeProto, graph_stack: list[onnx.GraphProto]) -> Any:
        """See the base class."""
        made = super().quantize(node, graph_stack)
        self._done += self._sizes.get(node.name, 0)
        self._report(self._done, sum(self._sizes.values()))
        return made


def _with_small_weights(
    model: onnx.ModelProto, graph: str, bits: int, report: Callable[[int, int], None]
) -> onnx.ModelProto:
    kinds = (_PRODUCT, _LOOKUP) if bits == _LOOKUP_BITS else (_PRODUCT,)
    weights = {tensor.name: tensor.ByteSize() for tensor in model.graph.initializer}
    sizes = {
        node.name: weights[weight]
        for node in model.graph.node
        if node.op_type in kinds and (weight := node.input[_WEIGHT[node.op_type]]) in weights
    }
    if not sizes:
        is_small = any(node.op_type == _QUANTIZED for node in model.graph.node)
        why = "it is quantized already" if is_small else "it has no products with stored weights"
        raise InvalidModelError(f"{graph} cannot be quantized: {why}")
    work = MatMulNBitsQuantizer(
        model,
        bits=bits,
        block_size=_BLOCK,
        is_symmetric=True,
        accuracy_level=_ACCURACY,
        op_types_to_quantize=kinds,
        quant_axes=_AXES,
    )
    work.node_quantizer = _Counting(work.algo_config, sizes, report)
    try:
        work.process()
    except Exception as error:
        raise InvalidModelError(f"{graph} cannot be quantized: {reason(error)}") from error
    quantized: onnx.ModelProto = work.model.model
    return quantized


def _save(model: onnx.ModelProto, folder: Path, graph: str, *, apart: bool) -> Collection[str]:
    """Write a graph, with its weights in a file of their own if `apart` or if they are large."""
    path = folder / graph
    path.parent.mkdir(parents=True, exist_ok=True)
    if not apart and model.ByteSize() < _APART_FROM_BYTES:
        onnx.save_model(model, path)
        return (graph,)
    data = f"{path.name}.data"
    onnx.save_model(model, path, save_as_external_data=True, location=data, size_threshold=1024)
    return (graph, f"{graph}.data")
