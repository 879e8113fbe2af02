"""What each contract asks of a plugin, as tests that any plugin runs against itself.

    from corral_kernel.testing import SamplerSuite
    from corral_mine import MineType

    class TestMine(SamplerSuite):
        kind = MineType()

A suite is a class of plain test methods, which pytest finds by a subclass named `Test…`. Nothing
here imports pytest: `corral plugins doctor` runs the same methods by itself.
"""

from corral_kernel.testing.chains import chain_of, samplers_of
from corral_kernel.testing.constraints import ConstraintSuite
from corral_kernel.testing.engines import TokenEngineSuite
from corral_kernel.testing.samplers import SamplerSuite
from corral_kernel.testing.suites import ContractBrokenError, Outcome, run_suite
from corral_kernel.testing.tokenizers import PieceTokenizer

__all__ = [
    "ConstraintSuite",
    "ContractBrokenError",
    "Outcome",
    "PieceTokenizer",
    "SamplerSuite",
    "TokenEngineSuite",
    "chain_of",
    "run_suite",
    "samplers_of",
]
