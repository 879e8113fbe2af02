"""The standard samplers: names, fields, and places in the default chain. Light: no numpy here."""

import math
from typing import Annotated, Any

from msgspec import Meta

from corral_kernel.contracts import JobView, Sampler, SamplerOptions, SamplerType
from corral_kernel.errors import PluginError
from corral_kernel.fields import fields_of

_MIN_KEEP = Meta(ge=0, description="candidates that filters leave at least")


class PenaltiesOptions(SamplerOptions, frozen=True, kw_only=True):
    """Fields of `penalties`."""

    repeat_last_n: Annotated[
        int, Meta(description="tokens that penalties look back on; 0: off, -1: the window")
    ] = 64
    repeat_penalty: Annotated[
        float, Meta(gt=0, description="divisor for seen tokens; 1.0: off")
    ] = 1.0
    presence_penalty: Annotated[float, Meta(description="taken off for any seen token")] = 0.0
    frequency_penalty: Annotated[float, Meta(description="taken off for each time seen")] = 0.0


class PenaltiesType(SamplerType):
    """Repeat, presence and frequency penalties."""

    name = "penalties"
    options = PenaltiesOptions
    docs = "makes tokens less likely that were among the last ones"
    default_place = 10.0

    def enabled(self, options: PenaltiesOptions) -> bool:
        """Whether any of them is on."""
        on = (options.repeat_penalty != 1, options.presence_penalty, options.frequency_penalty)
        return bool(options.repeat_last_n) and any(on)

    def start(self, options: PenaltiesOptions, job: JobView) -> Sampler:
        """Make one job's."""
        from corral_kernel.sampling.penalties import Penalties

        last = options.repeat_last_n
        return Penalties(
            job,
            last=last if last >= 0 else job.context_tokens,
            repeat=options.repeat_penalty,
            presence=options.presence_penalty,
            frequency=options.frequency_penalty,
        )


class TopKOptions(SamplerOptions, frozen=True, kw_only=True):
    """Fields of `top_k`."""

    top_k: Annotated[int, Meta(description="keep the k likeliest tokens; 0 or less: all")] = 40


class TopKType(SamplerType):
    """The likeliest few."""

    name = "top_k"
    options = TopKOptions
    docs = "keeps the k likeliest tokens"
    default_place = 40.0

    def enabled(self, options: TopKOptions) -> bool:
        """Whether it keeps fewer than all."""
        return options.top_k > 0

    def start(self, options: TopKOptions, job: JobView) -> Sampler:
        """Make one job's."""
        from corral_kernel.sampling.filters import TopK

        del job
        return TopK(options.top_k)


class TypicalPOptions(SamplerOptions, frozen=True, kw_only=True):
    """Fields of `typical_p`."""

    typical_p: Annotated[float, Meta(description="locally typical mass; 1.0: off")] = 1.0
    min_keep: Annotated[int, _MIN_KEEP] = 0


class TypicalPType(SamplerType):
    """Locally typical sampling."""

    name = "typical_p"
    options = TypicalPOptions
    docs = "keeps the tokens whose surprise is nearest to the expected one"
    default_place = 50.0

    def enabled(self, options: TypicalPOptions) -> bool:
        """Whether it keeps fewer than all."""
        return options.typical_p < 1

    def start(self, options: TypicalPOptions, job: JobView) -> Sampler:
        """Make one job's."""
        from corral_kernel.sampling.filters import TypicalP

        del job
        return TypicalP(options.typical_p, options.min_keep)


class TopPOptions(SamplerOptions, frozen=True, kw_only=True):
    """Fields of `top_p`."""

    top_p: Annotated[float, Meta(description="keep the likeliest tokens of this mass")] = 0.9
    min_keep: Annotated[int, _MIN_KEEP] = 0


class TopPType(SamplerType):
    """Nucleus sampling."""

    name = "top_p"
    options = TopPOptions
    docs = "keeps the likeliest tokens that together reach a mass"
    default_place = 60.0

    def enabled(self, options: TopPOptions) -> bool:
        """Whether it keeps fewer than all."""
        return options.top_p < 1

    def start(self, options: TopPOptions, job: JobView) -> Sampler:
        """Make one job's."""
        from corral_kernel.sampling.filters import TopP

        del job
        return TopP(options.top_p, options.min_keep)


class MinPOptions(SamplerOptions, frozen=True, kw_only=True):
    """Fields of `min_p`."""

    min_p: Annotated[
        float, Meta(description="drop tokens less than this times as likely as the likeliest")
    ] = 0.0
    min_keep: Annotated[int, _MIN_KEEP] = 0


class MinPType(SamplerType):
    """Minimum probability, measured by the likeliest token's."""

    name = "min_p"
    options = MinPOptions
    docs = "drops tokens much less likely than the likeliest"
    default_place = 70.0

    def enabled(self, options: MinPOptions) -> bool:
        """Whether it drops any."""
        return options.min_p > 0

    def start(self, options: MinPOptions, job: JobView) -> Sampler:
        """Make one job's."""
        from corral_kernel.sampling.filters import MinP

        del job
        return MinP(options.min_p, options.min_keep)


class TemperatureOptions(SamplerOptions, frozen=True, kw_only=True):
    """Fields of `temperature`."""

    temperature: Annotated[float, Meta(description="0: always the likeliest token")] = 0.8


class TemperatureType(SamplerType):
    """Flatter or sharper chances."""

    name = "temperature"
    options = TemperatureOptions
    docs = "divides the logits: over 1 for more even chances, under 1 for more certain ones"
    default_place = 90.0

    def enabled(self, options: TemperatureOptions) -> bool:
        """Whether it changes a chance; at 0 and below there are no chances, but the best token."""
        return options.temperature > 0 and options.temperature != 1

    def start(self, options: TemperatureOptions, job: JobView) -> Sampler:
        """Make one job's."""
        from corral_kernel.sampling.filters import Temperature

        del job
        return Temperature(options.temperature)


def standard_samplers() -> dict[str, SamplerType]:
    """Every sampler of the kernel's own, by name."""
    kinds: tuple[type[SamplerType], ...] = (
        PenaltiesType,
        TopKType,
        TypicalPType,
        TopPType,
        MinPType,
        TemperatureType,
    )
    return {kind.name: kind() for kind in kinds}


def check_sampler_type(kind: Any) -> None:
    """Check what a plugin says of a sampler, so that no request trips over it.

    Args:
        kind: A `SamplerType`, as a stranger wrote it.

    Raises:
        PluginError: For options that are none or lack defaults, or attributes of a wrong type.
    """
    name, place = kind.name, kind.default_place
    if not issubclass(kind.options, SamplerOptions):
        raise PluginError(f"the options of sampler {name} are no SamplerOptions")
    fields_of(kind.options)
    kind.options()  # every field has a default
    if place is not None and not (isinstance(place, int | float) and math.isfinite(place)):
        raise PluginError(f"the default_place of sampler {name} is no number: {place!r}")
    if isinstance(kind.replaces, str) or not all(isinstance(n, str) for n in kind.replaces):
        raise PluginError(f"the replaces of sampler {name} is no tuple of names")
    if not isinstance(kind.docs, str):
        raise PluginError(f"the docs of sampler {name} are no text")
