"""The model that an adapter is for, from what its GGUF file says or from its config.json."""

from pathlib import Path
from typing import Final

import gguf

from corral_kernel.errors import InvalidModelError
from corral_kernel.gguf import GgufHeader, read_header
from corral_safetensors.architectures import FAMILIES, family_of
from corral_safetensors.families import Described
from corral_safetensors.gemma import WIDE_LAYERS
from corral_safetensors.names import CONFIG
from corral_safetensors.settings import Settings
from corral_safetensors.source import ModelFiles

# What a config calls what GGUF keys say, after the architecture's name.
_FIELDS: Final = {
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "max_position_embeddings": "context_length",
    "vocab_size": "vocab_size",
}


def base_of(source: ModelFiles, base: Path | None) -> Described:
    """What an adapter's base model is made of.

    Args:
        source: The adapter; a config.json of the base may lie beside it.
        base: The base's GGUF file, if there is one.

    Raises:
        InvalidModelError: If there is neither, or it is a model of no known kind.
    """
    scratch = gguf.GGUFWriter(None, "none")
    if base is None:
        if CONFIG not in source:
            raise InvalidModelError(
                "no base model was found: an adapter is converted for a model, "
                f"or with its {CONFIG} beside it"
            )
        family, config = family_of(Settings(source.mapping(CONFIG)))
        return family.describe(config, scratch, _unheard)
    header = read_header(base)
    for family in FAMILIES.values():
        if gguf.MODEL_ARCH_NAMES[family.arch] == header.architecture:
            config = _config(header).over(Settings(family.defaults))
            return family.describe(config, scratch, _unheard)
    raise InvalidModelError(f"unsupported architecture {header.architecture} of the base model")


def _unheard(text: str) -> None:
    """The base model is no matter of the adapter's conversion."""


def _config(header: GgufHeader) -> Settings:
    said = {name: header.arch(key) for name, key in _FIELDS.items()}
    said["vocab_size"] = said["vocab_size"] or header.vocabulary_size
    config = Settings(said, "the base model's file")
    heads = config.count("num_attention_heads")
    head = config.count("head_dim", max(1, config.count("hidden_size") // heads))
    if said["num_hidden_layers"] in WIDE_LAYERS:
        head = config.count("hidden_size") // heads
    return Settings({**said, "query_pre_attn_scalar": head}, "the base model's file")
