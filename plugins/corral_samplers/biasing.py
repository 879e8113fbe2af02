"""The sampler `logit_bias`: its field, and what that may hold. Light: no numpy here."""

import math
import re
from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta

from corral_kernel.contracts import JobView, Sampler, SamplerOptions, SamplerType
from corral_kernel.errors import InvalidOptionError

MOST_ENTRIES = 16_384
LONGEST_TEXT = 256

_IDS = 1 << 31

Bias = float | bool
Biases = dict[str, Bias] | list[tuple[int | str, Bias]]

_ID = re.compile(rf"-?[0-9]{{1,{LONGEST_TEXT}}}")


class LogitBiasOptions(SamplerOptions, frozen=True, kw_only=True):
    """Fields of `logit_bias`."""

    logit_bias: Annotated[
        Biases,
        Meta(
            description="what to add to logits: an object of token ids (or texts) and numbers, or"
            " a list of [id or text, number]; false: never"
        ),
    ] = {}  # noqa: RUF012 - msgspec gives each its own


class LogitBiasType(SamplerType):
    """Biases of single tokens."""

    name = "logit_bias"
    options = LogitBiasOptions
    docs = "makes tokens that are named likelier, less likely, or impossible"
    default_place = 5.0

    def enabled(self, options: LogitBiasOptions) -> bool:
        """Whether any token is named."""
        return bool(options.logit_bias)

    def check(self, options: LogitBiasOptions) -> None:
        """Refuse too many, and biases and tokens that mean nothing."""
        count = len(options.logit_bias)
        if count > MOST_ENTRIES:
            raise _wrong(f"has {count} entries; at most {MOST_ENTRIES}")
        for token, bias in entries(options.logit_bias):
            if isinstance(token, str) and not 0 < len(token) <= LONGEST_TEXT:
                raise _wrong(
                    f"has a text of {len(token)} characters: 1 to {LONGEST_TEXT} are allowed"
                )
            if isinstance(token, int) and not 0 <= token < _IDS:
                raise _wrong(f"names token {token:.10g}, which no model has")
            if bias is True or math.isnan(bias) or bias == math.inf:
                shown = "true" if bias is True else bias
                raise _wrong(f"has {shown} for {token!r}: a number is wanted, or false for never")

    def start(self, options: LogitBiasOptions, job: JobView) -> Sampler:
        """Make one job's.

        Raises:
            InvalidOptionError: For an id that the model does not have.
        """
        from corral_samplers.logit_bias import LogitBias

        known = len(job.tokenizer.pieces)
        biases: dict[int, float] = {}
        for token, bias in entries(options.logit_bias):
            number = -math.inf if bias is False else float(bias)
            if isinstance(token, str):
                ids = job.tokenizer.encode(token, special=False)
            elif 0 <= token < known:
                ids = [token]
            else:
                raise _wrong(f"names token {token}: this model has those from 0 to {known - 1}")
            for token_id in ids:
                biases[token_id] = biases.get(token_id, 0.0) + number
        return LogitBias(biases)


def entries(biases: Biases) -> Iterator[tuple[int | str, Bias]]:
    """Token ids, or texts, with their biases. In an object a key of digits is an id."""
    if isinstance(biases, dict):
        for key, bias in biases.items():
            yield (int(key) if _ID.fullmatch(key) else key), bias
    else:
        yield from biases


def _wrong(words: str) -> InvalidOptionError:
    return InvalidOptionError(f'option "logit_bias" {words}')
