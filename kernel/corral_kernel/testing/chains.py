"""Chains of samplers as requests get them, without a server."""

from collections.abc import Iterable
from typing import Any

from corral_kernel.chains import Chain, resolve
from corral_kernel.contracts import LoadOptions, Sampler, SamplerType
from corral_kernel.options import OptionTable
from corral_kernel.samplers import standard_samplers
from corral_kernel.sampling import HistoryView, build_chain


def chain_of(options: dict[str, Any], more: Iterable[SamplerType] = ()) -> Chain:
    """Resolve a request's options.

    Args:
        options: As decoded from JSON; only those of samplers count.
        more: Sampler types beside the kernel's own.

    Raises:
        InvalidOptionError: As a request would be refused.
    """
    types = {**standard_samplers(), **{kind.name: kind for kind in more}}
    table = OptionTable(LoadOptions, types)
    chain, _told = resolve(table, table.sort(options), lenient=False)
    return chain


def samplers_of(
    options: dict[str, Any], view: HistoryView, more: Iterable[SamplerType] = ()
) -> list[Sampler]:
    """Make the samplers of a request's chain.

    Args:
        options: As for `chain_of`.
        view: The job's.
        more: Sampler types beside the kernel's own.
    """
    more = tuple(more)
    types = {**standard_samplers(), **{kind.name: kind for kind in more}}
    links = build_chain(chain_of(options, more).samplers, types, view)
    return [link.sampler for link in links]
