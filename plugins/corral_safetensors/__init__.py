"""Hugging Face's safetensors layouts become GGUF files. Light: nothing is read until one is."""

from collections.abc import Sequence

from corral_kernel.contracts import Converter
from corral_kernel.plugins import hookimpl
from corral_safetensors.converter import SafetensorsConverter

CORRAL_API_VERSION = 1


@hookimpl
def corral_converters() -> Sequence[Converter]:
    return [SafetensorsConverter()]
