"""The standard chain of samplers, by a request's options."""

import math

from corral_kernel.contracts import JobView, Sampler
from corral_kernel.errors import InvalidOptionError
from corral_kernel.options import RequestOptions
from corral_kernel.sampling.filters import MinP, Temperature, TopK, TopP, TypicalP
from corral_kernel.sampling.penalties import Penalties

_FLOATS = (
    "top_p",
    "min_p",
    "typical_p",
    "temperature",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
)


def standard_chain(options: RequestOptions, view: JobView) -> list[Sampler]:
    """Make the samplers that the options ask for, in llama.cpp's order.

    Penalties, top_k, typical_p, top_p, min_p, temperature. What is off, or could not change the
    outcome, is left out: at temperature 0 only what can take the likeliest token's lead.

    Raises:
        InvalidOptionError: For a number that is not finite, or a repeat penalty of 0 or less.
    """
    _check(options)
    greedy = options.temperature <= 0
    typical = options.typical_p < 1
    chain: list[Sampler] = _penalties(options, view)
    if options.top_k > 0 and (typical or not greedy):
        chain.append(TopK(options.top_k))
    if typical:
        chain.append(TypicalP(options.typical_p))
    if greedy:
        return chain
    if options.top_p < 1:
        chain.append(TopP(options.top_p))
    if options.min_p > 0:
        chain.append(MinP(options.min_p))
    if options.temperature != 1:
        chain.append(Temperature(options.temperature))
    return chain


def _penalties(options: RequestOptions, view: JobView) -> list[Sampler]:
    last = options.repeat_last_n if options.repeat_last_n >= 0 else view.context_tokens
    idle = options.repeat_penalty == 1 and not options.presence_penalty
    if not last or (idle and not options.frequency_penalty):
        return []
    return [
        Penalties(
            view,
            last=last,
            repeat=options.repeat_penalty,
            presence=options.presence_penalty,
            frequency=options.frequency_penalty,
        )
    ]


def _check(options: RequestOptions) -> None:
    for name in _FLOATS:
        value = getattr(options, name)
        if not math.isfinite(value):
            raise InvalidOptionError(f'option "{name}" is {value}; it must be a finite number')
    if options.repeat_penalty <= 0:
        raise InvalidOptionError(
            f'option "repeat_penalty" is {options.repeat_penalty:g}; it must be over 0 (1 is off)'
        )
