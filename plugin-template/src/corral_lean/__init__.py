"""A sampler that likes or dislikes new words; the entry module, which Corral's server imports.

Keep it light: fields and checks live here; what needs numpy is imported in `start`, which only
ever runs in a worker.
"""

from collections.abc import Sequence
from typing import Annotated

from corral_kernel.contracts import JobView, Sampler, SamplerOptions, SamplerType
from corral_kernel.plugins import hookimpl
from msgspec import Meta

CORRAL_API_VERSION = 1


class LeanOptions(SamplerOptions, frozen=True, kw_only=True):
    """Fields of the sampler. Their names are global, so begin each with its own."""

    lean: Annotated[
        float,
        Meta(ge=-100, le=100, description="added to tokens that begin a word; 0: off"),
    ] = 0.0


class LeanType(SamplerType):
    """What `GET /api/samplers` lists."""

    name = "lean"
    options = LeanOptions
    docs = "makes tokens that begin a word more or less likely"
    default_place = 15.0  # after the penalties, before top_k; None: only where `samplers` names it

    def enabled(self, options: LeanOptions) -> bool:
        """Whether it changes anything."""
        return options.lean != 0

    def start(self, options: LeanOptions, job: JobView) -> Sampler:
        """Make the sampler of one job."""
        from corral_lean.sampler import LeanSampler

        return LeanSampler(options.lean, job)


@hookimpl
def corral_samplers() -> Sequence[SamplerType]:
    return [LeanType()]
