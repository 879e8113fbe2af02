"""The architectures that are converted, by the name that config.json gives."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import gguf

from corral_safetensors.layout import Layout
from corral_safetensors.notes import Note
from corral_safetensors.settings import Settings
from corral_safetensors.tensors import Made


@dataclass(frozen=True, slots=True)
class Described:
    """A model as its config.json describes it.

    Args:
        layout: Its tensors.
        vocabulary_size: Rows of its embeddings.
        made: Tensors that are computed from the config.
        pooled: Whether it makes one vector of a text.
    """

    layout: Layout
    vocabulary_size: int
    made: Sequence[Made] = field(default=())
    pooled: bool = False


# Writes what a config says into a GGUF file, and gives the rest back.
Describe = Callable[[Settings, gguf.GGUFWriter, Note], Described]


@dataclass(frozen=True, slots=True)
class Family:
    """A group of architectures that llama.cpp runs as one.

    Args:
        arch: llama.cpp's name.
        describe: Reads config.json.
        defaults: What its configs leave out, because the library that reads them knows it.
    """

    arch: gguf.MODEL_ARCH
    describe: Describe
    defaults: Mapping[str, object] = field(default_factory=dict)
