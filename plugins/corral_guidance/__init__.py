"""Answers as JSON, and as a JSON Schema has it, enforced by llguidance."""

import importlib.util
from collections.abc import Sequence

from corral_guidance.kinds import JsonType, SchemaType
from corral_kernel.contracts import ConstraintType
from corral_kernel.plugins import hookimpl

CORRAL_API_VERSION = 1


@hookimpl
def corral_constraints() -> Sequence[ConstraintType]:
    if importlib.util.find_spec("llguidance") is None:
        return []  # what `pip install corral[llamacpp]` brings
    return [JsonType(), SchemaType()]
