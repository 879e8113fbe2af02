"""Samplers beyond the standard chain, in numpy: the same on every engine."""

from collections.abc import Sequence

from corral_kernel.contracts import SamplerType
from corral_kernel.plugins import hookimpl
from corral_samplers.biasing import LogitBiasType
from corral_samplers.kinds import DryType, DynatempType, TopNSigmaType, XtcType
from corral_samplers.steering import AdaptivePType, MirostatType

CORRAL_API_VERSION = 1


@hookimpl
def corral_samplers() -> Sequence[SamplerType]:
    return [
        LogitBiasType(),
        DryType(),
        TopNSigmaType(),
        XtcType(),
        DynatempType(),
        MirostatType(),
        AdaptivePType(),
    ]
