"""What each contract asks of a plugin, as tests that any plugin runs against itself.

    from corral_kernel.testing import SamplerSuite
    from corral_mine import MineType

    class TestMine(SamplerSuite):
        kind = MineType()

A suite is a class of plain test methods, which pytest finds by a subclass named `Test…`. Nothing
here imports pytest: `corral plugins doctor` runs the same methods by itself.

Engines have suites that call them as a worker does: `TokenEngineSuite`, `TextEngineSuite` and
`EncoderSuite`. Those of `corral_kernel.testing.backends` ask a whole backend, through a kernel.
"""

from corral_kernel.testing.chains import chain_of, samplers_of
from corral_kernel.testing.constraints import ConstraintSuite
from corral_kernel.testing.converters import ConverterSuite, Sample
from corral_kernel.testing.encoders import EncoderSuite
from corral_kernel.testing.engines import TokenEngineSuite
from corral_kernel.testing.quantizers import QuantizerSuite
from corral_kernel.testing.registries import RegistrySuite
from corral_kernel.testing.requests import load_request
from corral_kernel.testing.samplers import SamplerSuite
from corral_kernel.testing.suites import ContractBrokenError, Outcome, run_suite
from corral_kernel.testing.text_engines import TextEngineSuite
from corral_kernel.testing.tokenizers import PieceTokenizer

__all__ = [
    "ConstraintSuite",
    "ContractBrokenError",
    "ConverterSuite",
    "EncoderSuite",
    "Outcome",
    "PieceTokenizer",
    "QuantizerSuite",
    "RegistrySuite",
    "Sample",
    "SamplerSuite",
    "TextEngineSuite",
    "TokenEngineSuite",
    "chain_of",
    "load_request",
    "run_suite",
    "samplers_of",
]
