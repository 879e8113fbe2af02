"""From the specs of a chain to one job's samplers, in a worker."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from corral_kernel.contracts import (
    Companion,
    JobView,
    Sampler,
    SamplerSpec,
    SamplerType,
    Tokenizer,
)
from corral_kernel.errors import InvalidOptionError, PluginError
from corral_kernel.sampling.failures import sampler_failed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from corral_kernel.sampling.history import HistoryView

NUMBERS = 1 << 16
"""Random numbers that one sampler may ask for at one position."""


class PlacedView(JobView):
    """A job as one sampler of its chain sees it.

    Args:
        view: The job's.
        place: The sampler's, from 0 on.
    """

    def __init__(self, view: "HistoryView", place: int) -> None:
        self._view = view
        self._place = place

    @property
    def tokenizer(self) -> Tokenizer:  # type: ignore[override] # read-only here
        """The model's."""
        return self._view.tokenizer

    @property
    def prompt_tokens(self) -> int:  # type: ignore[override] # read-only here
        """How many of `token_ids` are the prompt."""
        return self._view.prompt_tokens

    @property
    def context_tokens(self) -> int:  # type: ignore[override] # read-only here
        """The job's context length."""
        return self._view.context_tokens

    @property
    def token_ids(self) -> "NDArray[np.int32]":
        """All positions so far `(n,)`, read-only; media are -1."""
        return self._view.token_ids

    def random(self, index: int = 0) -> float:
        """A number in [0, 1) for the next position, this place and an index below 65,536."""
        return self._view.random_at(self._place * NUMBERS + index % NUMBERS)


@dataclass(frozen=True, slots=True)
class Link:
    """One sampler of a job's chain.

    Attributes:
        sampler: The job's own.
        name: What requests name it by.
        companions: How many companion prompts it has.
    """

    sampler: Sampler
    name: str = ""
    companions: int = 0


def build_chain(
    specs: Iterable[SamplerSpec],
    types: Mapping[str, SamplerType],
    view: "HistoryView",
    companions: Sequence[int] = (),
) -> list[Link]:
    """Make the samplers of one job, in order.

    Args:
        specs: Names and fields.
        types: By name.
        view: The job's.
        companions: How many companion prompts each has; empty: none has any.

    Raises:
        PluginError: For a sampler that is not installed here, or one that gives no `Sampler`.
        InvalidOptionError: If one refuses its options, now that it sees the job.
        SamplerFailedError: For one that does not start.
    """
    chain: list[Link] = []
    for place, spec in enumerate(specs):
        kind, options = sampler_of(spec, types)
        try:
            sampler: object = kind.start(options, PlacedView(view, place))
        except InvalidOptionError:  # what only the model's tokens told
            raise
        except Exception as error:
            raise sampler_failed(spec.name, error) from error
        if not isinstance(sampler, Sampler):
            given = type(sampler).__name__
            raise PluginError(f"sampler {spec.name!r} gave {given} for a job, not a Sampler")
        chain.append(Link(sampler, spec.name, companions[place] if companions else 0))
    return chain


def companions_of(
    specs: Iterable[SamplerSpec], types: Mapping[str, SamplerType]
) -> list[Sequence[Companion]]:
    """Ask each sampler for its companion prompts.

    Raises:
        PluginError: For a sampler that is not installed here.
        SamplerFailedError: If one fails over it.
    """
    found: list[Sequence[Companion]] = []
    for spec in specs:
        kind, options = sampler_of(spec, types)
        try:
            found.append(tuple(kind.companions(options)))
        except Exception as error:
            raise sampler_failed(spec.name, error) from error
    return found


def sampler_of(spec: SamplerSpec, types: Mapping[str, SamplerType]) -> tuple[SamplerType, Any]:
    """Find the type of a spec, and make its options.

    Raises:
        PluginError: If no plugin gives it here.
    """
    kind = types.get(spec.name)
    if kind is None:
        raise PluginError(f"no plugin gives the sampler {spec.name!r} here")
    return kind, msgspec.convert(spec.options, kind.options, str_keys=True)


def greedy_chain(chain: list[Sampler]) -> list[Sampler]:
    """What of a chain can change which token is the likeliest in the end."""
    end = len(chain)
    while end and chain[end - 1].keeps_best:
        end -= 1
    return chain[:end]
