"""Classifier-free guidance: a sampler that looks at a second prompt, complete as a plugin.

What the model would say after a negative prompt is taken off what it says after the real one:

    curl localhost:11434/api/generate -d '{"model": "smollm2", "prompt": "The sea is",
      "options": {"cfg_scale": 2, "negative_prompt": "Write about ships."}}'

Source: Sanchez et al., "Stay on topic with Classifier-Free Guidance", arXiv:2306.17806.
"""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from corral_kernel.contracts import (
    Candidates,
    Companion,
    JobView,
    Sampler,
    SamplerOptions,
    SamplerType,
)
from corral_kernel.plugins import hookimpl

CORRAL_API_VERSION = 1


class CfgOptions(SamplerOptions, frozen=True, kw_only=True):
    """Fields of `cfg`."""

    cfg_scale: Annotated[
        float, Meta(ge=0, le=20, description="how far from the negative prompt; 1.0: off")
    ] = 1.0
    negative_prompt: Annotated[
        str, Meta(max_length=65536, description="stands in the place of the last message")
    ] = ""


class Cfg(Sampler):
    """Moves logits away from a negative prompt's: `negative + scale * (own - negative)`."""

    def __init__(self, scale: float) -> None:
        self._scale = scale

    def apply(self, candidates: Candidates) -> None:
        """Change them in place."""
        (negative,) = candidates.companion_logits
        if candidates.ids is not None:  # something before this sampler kept fewer
            negative = negative[candidates.ids]
        candidates.logits -= negative
        candidates.logits *= self._scale
        candidates.logits += negative


class CfgType(SamplerType):
    """Classifier-free guidance."""

    name = "cfg"
    options = CfgOptions
    docs = "moves the answer away from what a negative prompt would bring"
    default_place = 5.0

    def enabled(self, options: CfgOptions) -> bool:
        """Whether it changes anything."""
        return options.cfg_scale != 1

    def companions(self, options: CfgOptions) -> Sequence[Companion]:
        """Have the negative prompt continued beside the job's own."""
        return [Companion(last_message=options.negative_prompt)]

    def start(self, options: CfgOptions, job: JobView) -> Sampler:
        """Make one job's."""
        del job
        return Cfg(options.cfg_scale)


@hookimpl
def corral_samplers() -> Sequence[SamplerType]:
    return [CfgType()]
