"""GGUF files made smaller without native code. Light: `gguf` is imported in a task process."""

from collections.abc import Sequence

from corral_kernel.contracts import Quantizer
from corral_kernel.plugins import hookimpl
from corral_quant.quantizer import NumpyQuantizer

CORRAL_API_VERSION = 1


@hookimpl
def corral_quantizers() -> Sequence[Quantizer]:
    return [NumpyQuantizer()]
