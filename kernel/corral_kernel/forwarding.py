"""What of a request an engine with a loop of its own is given: options of sampling, and a format.

Such an engine draws by itself. What it does not obey is refused by name before anything is loaded,
where its claim tells; what would change nothing anyway is left out.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from msgspec import Struct

from corral_kernel.chains import Chain
from corral_kernel.contracts import Claim
from corral_kernel.errors import InvalidModelError, InvalidOptionError, UnsupportedError
from corral_kernel.fields import fields_of
from corral_kernel.models import Model
from corral_kernel.options import SAMPLERS, Given, OptionTable
from corral_kernel.remotes import API_KEY, is_reference

_LOOP_ONLY = ("num_keep", "think_budget", "constrain_tools", "control_tokens")
"""Options of our own loop that no other loop knows."""


class Forwarded(Struct, frozen=True, kw_only=True):
    """Options for a `TextEngine`.

    Args:
        sampling: By name; none that is not set.
        warnings: What is left out, for the client.
    """

    sampling: dict[str, Any] = {}
    warnings: tuple[str, ...] = ()


def forward(
    model: Model, claim: Claim, found: Given, active: frozenset[str], *, lenient: bool
) -> Forwarded:
    """Pick the options of sampling that are handed on.

    Args:
        model: In question.
        claim: Its backend's, which `takes` chats or texts.
        found: The request's and the model's options.
        active: Those that change an answer.
        lenient: Whether what cannot be obeyed is only told of, and left out.

    Raises:
        UnsupportedError: If the engine does not obey one that would change the answer.
    """
    obeyed = None if claim.sampling is None else frozenset(claim.sampling)
    sampling = {
        name: value
        for name, value in found.flat.items()
        if (name in active if obeyed is None else name in obeyed)
    }
    refused = [name for name in found.flat if name in active and name not in sampling]
    refused += found.nested
    if found.samplers is not None:
        refused.append(SAMPLERS.name)
    where = _where(model, claim)
    told = [f'option "{n}" is ignored: {where}' for n in _LOOP_ONLY if n in found.request]
    if refused:
        words = not_obeyed(refused, obeyed, where)
        if not lenient:
            raise UnsupportedError(words)
        told.append(f"{words}: ignored")
    return Forwarded(sampling=sampling, warnings=tuple(told))


def active_options(table: OptionTable, found: Given, chain: Chain) -> frozenset[str]:
    """Names of flat options that change an answer as they are set.

    Args:
        table: Who knows what.
        found: The request's and the model's options.
        chain: What our own loop makes of them.
    """
    names = {"temperature"}  # of 0 there is no sampler, and the best token is taken
    for spec in chain.samplers:
        kind = table.samplers[spec.name]
        names |= {name for name in fields_of(kind.options) if table.owns(kind, name)}
    return frozenset(names & found.flat.keys())


def _where(model: Model, claim: Claim) -> str:
    if model.is_remote:
        return f"{model.name.short} runs on another server, which samples by itself"
    return f"backend {claim.backend!r} samples by itself"


def not_obeyed(names: Collection[str], obeyed: Collection[str] | None, where: str) -> str:
    """Say which options an engine does not obey, where that is, and which it does."""
    shown = ", ".join(f'"{name}"' for name in sorted(names))
    word = "option" if len(names) == 1 else "options"
    does = "" if obeyed is None else f" and obeys {', '.join(sorted(obeyed)) or 'no option'}"
    return f"{word} {shown} cannot be obeyed: {where}{does}"


def check_forwarded_format(kind: str, model: Model, claim: Claim) -> None:
    """Refuse a format that the engine of a claim does not enforce.

    Raises:
        UnsupportedError: If the claim tells that.
    """
    if claim.formats is not None and kind not in claim.formats:
        does = ", ".join(sorted(claim.formats)) or "none"
        where = _where(model, claim)
        raise UnsupportedError(f"format {kind!r} cannot be enforced: {where}; it enforces {does}")


def without_ignored(claim: Claim, load: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Leave out the load options that change nothing for a model; tell of each that is set."""
    left = {name: value for name, value in load.items() if name not in claim.ignored}
    told = [f'option "{name}" {claim.ignored[name]}' for name in load if name in claim.ignored]
    return left, told


def check_key(model: Model, given: Mapping[str, Any], known: Collection[str]) -> None:
    """Check that a key comes from the model alone, and by reference.

    Args:
        model: In question.
        given: The request's own options.
        known: Load options of the backend.

    Raises:
        InvalidOptionError: If a request sets it.
        InvalidModelError: If the model holds what is no reference; it is not told.
    """
    if API_KEY not in known:
        return
    if given.get(API_KEY) is not None:
        raise InvalidOptionError(
            f'option "{API_KEY}" is not for a request to set: PARAMETER {API_KEY} of a model is'
        )
    own = model.parameters.get(API_KEY)
    if own is not None and not is_reference(own):
        raise InvalidModelError(
            f"PARAMETER {API_KEY} of {model.name.short} is neither env:NAME nor file:PATH: "
            "make the model anew with one of these"
        )


def told_of_others(told: list[str], forwarded: Forwarded) -> Iterator[str]:
    """What our own chain had to tell, less what it said of options that are handed on."""
    for words in told:
        if not any(words.startswith(f'option "{name}" ') for name in forwarded.sampling):
            yield words
