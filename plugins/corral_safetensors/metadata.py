"""What a GGUF file says of a model beside what it takes to run it."""

from collections.abc import Sequence
from math import prod
from typing import Final

import gguf

from corral_kernel.errors import InvalidModelError, UnsupportedError
from corral_safetensors.settings import Settings
from corral_safetensors.source import ModelFiles
from corral_safetensors.tensors import Outgoing

_MOST_NAME: Final = 200
MODULES: Final = "modules.json"
_POOLINGS: Final = {
    "pooling_mode_mean_tokens": gguf.PoolingType.MEAN,
    "pooling_mode_cls_token": gguf.PoolingType.CLS,
    "pooling_mode_lasttoken": gguf.PoolingType.LAST,
}
_MODES: Final = {
    "mean": gguf.PoolingType.MEAN,
    "cls": gguf.PoolingType.CLS,
    "lasttoken": gguf.PoolingType.LAST,
}


def write_general(source: ModelFiles, tensors: Sequence[Outgoing], writer: gguf.GGUFWriter) -> None:
    """Say a model's name, size and the sampling that its maker advises."""
    advice = Settings(source.mapping("generation_config.json"), "generation_config.json")
    total = sum(prod(tensor.shape) for tensor in tensors)
    metadata = gguf.Metadata(
        name=source.name or _published_name(source),
        size_label=gguf.size_label(total, total, 0, 0) if total else None,
    )
    if advice.has("top_k"):
        metadata.sampling_top_k = advice.count("top_k")
    for name in ("top_p", "min_p"):
        if advice.has(name):
            setattr(metadata, f"sampling_{name}", advice.number(name))
    if advice.has("temperature"):
        metadata.sampling_temp = advice.number("temperature")
    metadata.set_gguf_meta_model(writer)


def _published_name(source: ModelFiles) -> str:
    """The last part of the name that a config was published under, else what it is."""
    config = Settings(source.mapping("config.json"))
    name = config.text("_name_or_path", "").rstrip("/").rpartition("/")[2]
    return (name or config.text("model_type", "model"))[:_MOST_NAME]


def write_pooling(source: ModelFiles, writer: gguf.GGUFWriter, *, pooled: bool) -> None:
    """Say how one vector is made of a text's, as sentence-transformers does it.

    Args:
        source: The model.
        writer: Of the new file.
        pooled: Whether the model makes vectors also if no file says how; then it is their mean.

    Raises:
        UnsupportedError: If llama.cpp does not do it in this way.
    """
    found = _pooling(source)
    if found is not None or pooled:
        writer.add_pooling_type(gguf.PoolingType.MEAN if found is None else found)


def _pooling(source: ModelFiles) -> gguf.PoolingType | None:
    if MODULES not in source:
        return None
    modules = source.json(MODULES)
    if not isinstance(modules, list) or not all(isinstance(one, dict) for one in modules):
        raise InvalidModelError(f"{MODULES} is to be a list of objects")
    found = None
    for module in (Settings(one, MODULES) for one in modules):
        kind = module.text("type").rpartition(".")[2]
        if kind == "Pooling":
            place = f"{module.text('path')}/config.json"
            found = _mode(Settings(source.mapping(place, needed=True), place))
        elif kind not in {"Transformer", "Normalize"}:
            raise UnsupportedError(f"{MODULES} has a module {kind}, which is not converted")
    return found


def _mode(said: Settings) -> gguf.PoolingType:
    for name, pooling in _POOLINGS.items():
        if said.flag(name, default=False):
            return pooling
    mode = said.text("pooling_mode", "")
    if mode in _MODES:
        return _MODES[mode]
    raise UnsupportedError(
        "the pooling of this model is not converted; known are mean, cls and lasttoken"
    )
