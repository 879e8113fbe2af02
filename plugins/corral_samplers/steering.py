"""Samplers that steer towards a target over many tokens: names and fields. Light: no numpy here."""

from typing import Annotated, Literal

from msgspec import Meta

from corral_kernel.contracts import JobView, Sampler, SamplerOptions, SamplerType

SLOWEST_DECAY = 0.99


class AdaptivePOptions(SamplerOptions, frozen=True, kw_only=True):
    """Fields of `adaptive_p`."""

    adaptive_target: Annotated[
        float, Meta(le=1, description="mean chance that chosen tokens should have; negative: off")
    ] = -1.0
    adaptive_decay: Annotated[
        float, Meta(ge=0, le=1, description="how slowly that mean forgets; over 0.99 is as 0.99")
    ] = 0.9


class AdaptivePType(SamplerType):
    """Adaptive-p."""

    name = "adaptive_p"
    options = AdaptivePOptions
    docs = "prefers tokens near a target chance, which follows what was chosen so far"
    default_place = 110.0

    def enabled(self, options: AdaptivePOptions) -> bool:
        """Whether there is a target."""
        return options.adaptive_target >= 0

    def start(self, options: AdaptivePOptions, job: JobView) -> Sampler:
        """Make one job's."""
        from corral_samplers.adaptive import AdaptiveP

        del job
        return AdaptiveP(options.adaptive_target, min(options.adaptive_decay, SLOWEST_DECAY))


class MirostatOptions(SamplerOptions, frozen=True, kw_only=True):
    """Fields of `mirostat`."""

    mirostat: Annotated[
        Literal[0, 1, 2], Meta(description="keep a steady surprise; 0: off, 1 or 2: which Mirostat")
    ] = 0
    mirostat_tau: Annotated[
        float, Meta(ge=0, description="surprise to keep to, in bits a token")
    ] = 5.0
    mirostat_eta: Annotated[
        float, Meta(ge=0, description="how quickly Mirostat goes by what was chosen")
    ] = 0.1


class MirostatType(SamplerType):
    """Mirostat, and Mirostat 2.0."""

    name = "mirostat"
    options = MirostatOptions
    docs = "keeps as many of the likeliest tokens as make the text steadily surprising"
    default_place = 100.0
    # It decides alone how much is cut off. adaptive_p steers by another measure.
    replaces = ("top_n_sigma", "top_k", "typical_p", "top_p", "min_p", "xtc", "adaptive_p")

    def enabled(self, options: MirostatOptions) -> bool:
        """Whether it is on."""
        return options.mirostat > 0

    def start(self, options: MirostatOptions, job: JobView) -> Sampler:
        """Make one job's."""
        from corral_samplers.mirostat import Mirostat, MirostatV2

        tau, eta = options.mirostat_tau, options.mirostat_eta
        if options.mirostat == 1:
            return Mirostat(tau, eta, vocab_size=len(job.tokenizer.pieces))
        return MirostatV2(tau, eta)
