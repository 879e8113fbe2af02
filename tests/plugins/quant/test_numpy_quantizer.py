from pathlib import Path

from corral_kernel.testing.quantizers import QuantizerSuite
from corral_quant.quantizer import NumpyQuantizer

TINY = Path(__file__).parents[2] / "models" / "tiny-chat-f32.gguf"


class TestNumpyQuantizer(QuantizerSuite):
    quantizer = NumpyQuantizer()
    source = TINY
