"""Samplers that look at one position alone, and DRY: names and fields. Light: no numpy here."""

from typing import Annotated

from msgspec import Meta

from corral_kernel.contracts import JobView, Sampler, SamplerOptions, SamplerType

MOST_BREAKERS = 64
LONGEST_BREAKER = 40
XTC_HIGHEST = 0.5
"""Two tokens cannot both be likelier than this, so a higher threshold removes nothing."""


class DryOptions(SamplerOptions, frozen=True, kw_only=True):
    """Fields of `dry`."""

    dry_multiplier: Annotated[
        float, Meta(ge=0, description="strength of the penalty on repeating a sequence; 0: off")
    ] = 0.0
    dry_base: Annotated[
        float, Meta(ge=1, description="how the penalty grows with each repeated token")
    ] = 1.75
    dry_allowed_length: Annotated[
        int, Meta(ge=0, description="longest repeated sequence that costs nothing to begin")
    ] = 2
    dry_penalty_last_n: Annotated[
        int, Meta(ge=-1, description="tokens that DRY looks back on; 0: off, -1: the window")
    ] = -1
    dry_sequence_breakers: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=LONGEST_BREAKER)], ...],
        Meta(max_length=MOST_BREAKERS, description="texts that no repeated sequence goes across"),
    ] = ("\n", ":", '"', "*")


class DryType(SamplerType):
    """DRY, "don't repeat yourself"."""

    name = "dry"
    options = DryOptions
    docs = "makes the token less likely that would go on with a sequence that was there before"
    default_place = 20.0

    def enabled(self, options: DryOptions) -> bool:
        """Whether it penalizes anything."""
        return options.dry_multiplier > 0 and options.dry_penalty_last_n != 0

    def start(self, options: DryOptions, job: JobView) -> Sampler:
        """Make one job's."""
        from corral_samplers.breakers import breakers_of
        from corral_samplers.dry import Dry

        last = options.dry_penalty_last_n
        return Dry(
            job,
            multiplier=options.dry_multiplier,
            base=options.dry_base,
            allowed=options.dry_allowed_length,
            last=last if last >= 0 else job.context_tokens,
            breakers=breakers_of(job.tokenizer, options.dry_sequence_breakers),
        )


class TopNSigmaOptions(SamplerOptions, frozen=True, kw_only=True):
    """Fields of `top_n_sigma`."""

    top_n_sigma: Annotated[
        float,
        Meta(description="keep logits this many standard deviations from the best; 0 or less: off"),
    ] = -1.0


class TopNSigmaType(SamplerType):
    """Top-n-sigma."""

    name = "top_n_sigma"
    options = TopNSigmaOptions
    docs = "keeps the tokens whose logit is within n standard deviations of the greatest"
    default_place = 30.0

    def enabled(self, options: TopNSigmaOptions) -> bool:
        """Whether it drops any."""
        return options.top_n_sigma > 0

    def start(self, options: TopNSigmaOptions, job: JobView) -> Sampler:
        """Make one job's."""
        from corral_samplers.filters import TopNSigma

        del job
        return TopNSigma(options.top_n_sigma)


class XtcOptions(SamplerOptions, frozen=True, kw_only=True):
    """Fields of `xtc`."""

    xtc_probability: Annotated[
        float, Meta(ge=0, le=1, description="how often the likeliest tokens are removed; 0: off")
    ] = 0.0
    xtc_threshold: Annotated[
        float,
        Meta(ge=0, le=1, description="chance from which on a token is removed; over 0.5: off"),
    ] = 0.1
    min_keep: Annotated[int, Meta(ge=0, description="candidates that filters leave at least")] = 0


class XtcType(SamplerType):
    """XTC, "exclude top choices"."""

    name = "xtc"
    options = XtcOptions
    docs = "now and then removes all likely tokens but the least likely of them"
    default_place = 80.0

    def enabled(self, options: XtcOptions) -> bool:
        """Whether it ever removes any."""
        return options.xtc_probability > 0 and options.xtc_threshold <= XTC_HIGHEST

    def start(self, options: XtcOptions, job: JobView) -> Sampler:
        """Make one job's."""
        from corral_samplers.filters import Xtc

        return Xtc(job, options.xtc_probability, options.xtc_threshold, options.min_keep)


class DynatempOptions(SamplerOptions, frozen=True, kw_only=True):
    """Fields of `dynatemp`."""

    temperature: Annotated[float, Meta(description="0: always the likeliest token")] = 0.8
    dynatemp_range: Annotated[
        float, Meta(ge=0, description="how far the temperature goes up and down; 0: off")
    ] = 0.0
    dynatemp_exponent: Annotated[
        float, Meta(ge=0, description="power of the normalized entropy that moves it")
    ] = 1.0


class DynatempType(SamplerType):
    """Dynamic temperature."""

    name = "dynatemp"
    options = DynatempOptions
    docs = "a temperature that is the higher the less certain the model is"
    default_place = 90.0
    replaces = ("temperature",)

    def enabled(self, options: DynatempOptions) -> bool:
        """Whether it moves; at temperature 0 there is nothing to move around."""
        return options.dynatemp_range > 0 and options.temperature > 0

    def start(self, options: DynatempOptions, job: JobView) -> Sampler:
        """Make one job's."""
        from corral_samplers.dynatemp import Dynatemp

        del job
        return Dynatemp(
            options.temperature, options.dynatemp_range, exponent=options.dynatemp_exponent
        )
