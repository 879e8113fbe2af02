"""LoRA adapters as PEFT writes them become GGUF adapters."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import gguf

from corral_kernel.errors import InvalidModelError, UnsupportedError
from corral_safetensors.base import base_of
from corral_safetensors.converting import written
from corral_safetensors.layout import Layout
from corral_safetensors.names import ADAPTER_CONFIG
from corral_safetensors.reader import Stored
from corral_safetensors.settings import Settings
from corral_safetensors.source import ModelFiles
from corral_safetensors.tensors import NO_CHANGE, Change, Moved, OutType
from corral_safetensors.writing import Report

_NAME: Final = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.default)?\.weight")
_MATRIX: Final = 2
_MOST_RANK: Final = 65_536
_SAME: Final = {"F32": OutType.F32, "F16": OutType.F16, "BF16": OutType.BF16}


def convert_adapter(
    source: ModelFiles,
    out: Path,
    report: Report,
    out_type: OutType | None = None,
    base: Path | None = None,
) -> None:
    """Convert an adapter.

    Args:
        source: Its files.
        out: Where the GGUF file goes; if the conversion fails, nothing is left there.
        report: Told of progress.
        out_type: What matrices are written as; `None` for what they are stored as.
        base: The base model's GGUF file; `None`, if its config.json lies beside.

    Raises:
        CorralError: If the adapter is damaged, of another kind, or for another model.
    """
    config = Settings(source.mapping(ADAPTER_CONFIG, needed=True), ADAPTER_CONFIG)
    alpha = _alpha(config)
    layout = base_of(source, base).layout
    pairs = _pairs(source.tensors(), layout)
    writer = gguf.GGUFWriter(None, gguf.MODEL_ARCH_NAMES[layout.arch])
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    if source.name:
        writer.add_name(source.name)
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    tensors = [tensor for pair in pairs for tensor in pair.moved(layout, out_type)]
    written(writer, tensors, out, report)


def _alpha(config: Settings) -> float:
    """What the product of two matrices is scaled by, times their rank.

    Raises:
        UnsupportedError: If the adapter is of another kind than llama.cpp's.
    """
    kind = config.text("peft_type", "LORA")
    if kind != "LORA":
        raise UnsupportedError(f"adapters of type {kind} are not converted; LORA is")
    for name in ("use_dora", "fan_in_fan_out"):
        if config.flag(name, default=False):
            raise UnsupportedError(f"{name} of {ADAPTER_CONFIG} is not converted")
    if config.has("alpha_pattern") and config.part("alpha_pattern").names():
        raise UnsupportedError(f"alpha_pattern of {ADAPTER_CONFIG} is not converted")
    alpha = config.number("lora_alpha")
    if config.flag("use_rslora", default=False):
        if config.part("rank_pattern").names():
            raise UnsupportedError(f"rank_pattern with use_rslora of {ADAPTER_CONFIG}")
        return alpha * math.sqrt(config.count("r", most=_MOST_RANK))
    return alpha


@dataclass(slots=True)
class _Pair:
    """The two matrices whose product is added to one of the model's."""

    name: str
    down: Stored | None = None
    up: Stored | None = None

    def moved(self, layout: Layout, out_type: OutType | None) -> list[Moved]:
        """Both, under their new names.

        Raises:
            InvalidModelError: If one is missing, or of a shape that does not fit.
        """
        down, up = self.down, self.up
        if down is None or up is None:
            raise InvalidModelError(f"the adapter has only one of two matrices for {self.name}")
        expected = layout.expected[self.name]
        rows, columns = expected.shape
        if (
            len(down.shape) != _MATRIX
            or len(up.shape) != _MATRIX
            or (up.shape[0], down.shape[1]) != (rows, columns)
            or down.shape[0] != up.shape[1]
        ):
            raise InvalidModelError(
                f"matrices of the shapes {list(up.shape)} and {list(down.shape)} for {self.name}, "
                f"which has {[rows, columns]}: the adapter is for another model"
            )
        return [
            _matrix(f"{self.name}.lora_a", down, out_type, NO_CHANGE),
            _matrix(f"{self.name}.lora_b", up, out_type, expected.change),
        ]


def _matrix(name: str, stored: Stored, out_type: OutType | None, change: Change) -> Moved:
    return Moved(name, stored, out_type or _SAME.get(stored.dtype, OutType.F32), change)


def _pairs(tensors: list[Stored], layout: Layout) -> list[_Pair]:
    found: dict[str, _Pair] = {}
    for tensor in tensors:
        matched = _NAME.fullmatch(tensor.name)
        name = layout.new_name(f"{matched[1]}.weight") if matched else None
        if matched is None or name is None or len(layout.expected[name].shape) != _MATRIX:
            raise InvalidModelError(
                f"tensor {tensor.name} of the adapter belongs to no matrix that can be adapted"
            )
        if name == "token_embd.weight":
            raise UnsupportedError("adapters of the embeddings are not converted")
        pair = found.setdefault(name, _Pair(name))
        if matched[2] == "A":
            pair.down = tensor
        else:
            pair.up = tensor
    if not found:
        raise InvalidModelError("the adapter has no tensors")
    return list(found.values())
