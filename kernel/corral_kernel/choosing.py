"""Which backend runs a model: one choice, for showing, planning, loading and unloading alike.

An explicit choice (the request's `options.backend`, else the model's `PARAMETER backend`) comes
first; then, among the backends that bid, the earliest in `CORRAL_BACKEND_ORDER`; then the highest
bid. What is chosen and fails is told of, never replaced by the next.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from corral_kernel.calls import AbsentBackend, BackendBid, BackendChoice
from corral_kernel.errors import (
    BlobNotFoundError,
    CorralError,
    InvalidModelError,
    LoadError,
    NoBackendError,
    RemoteJobError,
    UnusableBackendError,
    WorkerDiedError,
)
from corral_kernel.models import Model
from corral_kernel.options import BACKEND
from corral_kernel.plugins import Bid, Plugins

logger = logging.getLogger(__name__)

NAME_CHARACTERS = 100


class Choice(Struct, frozen=True, kw_only=True):
    """A bid and how it came to be chosen.

    Args:
        bid: The chosen one.
        by: `option`: the request's; `parameter`: the model's; `order`: the server's setting;
            `bid`: it is the highest.
        others: Bids that were not chosen, the highest first.
    """

    bid: Bid
    by: Literal["option", "parameter", "order", "bid"]
    others: tuple[Bid, ...] = ()

    def to_call(self) -> BackendChoice:
        """Tell of it."""
        chosen = told(self.bid)
        return BackendChoice(
            name=chosen.name,
            why=chosen.why,
            confidence=chosen.confidence,
            chosen_by=self.by,
            others=tuple(map(told, self.others)),
        )


class Choosing:
    """Chooses backends.

    Args:
        plugins: Whose bids count.
        order: Names of backends that go before higher bids, the first of them first.
    """

    def __init__(self, plugins: Plugins, order: Sequence[str] = ()) -> None:
        self._plugins = plugins
        self._places = {name: place for place, name in reversed([*enumerate(order)])}

    def warn(self) -> None:
        """Log which names of the order mean nothing here; to be called once, at the start."""
        for name in self._places:
            if name not in self._plugins.backends or name in self._plugins.missing:
                logger.warning("CORRAL_BACKEND_ORDER: %s", self._unusable(name))

    def bids(self, model: Model) -> list[Bid]:
        """Every bid for a model, in the order in which they would be chosen."""
        last = len(self._places)
        return sorted(  # stable: the highest first where the order says nothing
            self._plugins.bids(model), key=lambda b: self._places.get(b.claim.backend, last)
        )

    def choose(self, model: Model, given: Mapping[str, Any]) -> Choice:
        """Choose for a request.

        Args:
            model: The model.
            given: The request's own options.

        Raises:
            BlobNotFoundError: If the file of its weights is missing.
            InvalidModelError: If a file is damaged, or one of a folder missing.
            InvalidOptionError: If the name that was asked for is no text.
            UnusableBackendError: If what was asked for is not installed, or does not bid.
            NoBackendError: If nothing installed runs the model.
        """
        if model.weights and model.weights.digest in model.missing:
            raise BlobNotFoundError(model.problem)
        if model.problem:
            raise InvalidModelError(model.problem)
        bids = self.bids(model)
        asked, own = given.get(BACKEND.name), model.parameters.get(BACKEND.name)
        if asked is not None or own is not None:
            name = BACKEND.convert(own if asked is None else asked)
            bid = next((bid for bid in bids if bid.claim.backend == name), None)
            if bid is None:
                raise UnusableBackendError(self._why_not(model, name, bids))
            by: Literal["option", "parameter"] = "parameter" if asked is None else "option"
            return Choice(bid=bid, by=by, others=_besides(bid, bids))
        if not bids:
            hint = self._hint(model)
            raise NoBackendError(f"no installed backend runs {model.name.short}{hint}")
        first, others = bids[0], _besides(bids[0], bids)
        by_order = first.claim.backend in self._places
        return Choice(bid=first, by="order" if by_order else "bid", others=others)

    def absent(self, model: Model) -> tuple[AbsentBackend, ...]:
        """Backends that are not usable here for want of a library, and would bid if they were."""
        return tuple(
            AbsentBackend(
                name=backend.name, why=why, needs=backend.library, install=_install(backend.extra)
            )
            for backend, why in self._plugins.missing_bids(model)
        )

    def _why_not(self, model: Model, name: str, bids: Sequence[Bid]) -> str:
        if name not in self._plugins.backends or name in self._plugins.missing:
            return self._unusable(name)
        those = ", ".join(bid.claim.backend for bid in bids) or "none"
        return f"backend {name!r} does not run {model.name.short}; those that do: {those}"

    def _unusable(self, name: str) -> str:
        """Why a backend is not there at all."""
        if name in self._plugins.missing:
            _, backend = self._plugins.backends[name]
            return f"backend {name!r} needs {backend.library}: {_install(backend.extra)}"
        usable = sorted(set(self._plugins.backends) - self._plugins.missing)
        have = ", ".join(usable) or "none"
        return f"backend {name[:NAME_CHARACTERS]!r} is not installed; installed: {have}"

    def _hint(self, model: Model) -> str:
        hints = [absent.install for absent in self.absent(model)]
        return ": " + " or ".join(hints) if hints else ""


def told(bid: Bid) -> BackendBid:
    """Tell of a bid."""
    claim = bid.claim
    return BackendBid(name=claim.backend, why=claim.why, confidence=claim.confidence)


def load_failed(error: CorralError, model: str, choice: Choice) -> CorralError:
    """Say beside a load's failure whose it is, and what else could be tried.

    Args:
        error: Of the worker or the scheduler; of the end of another thing it is given back.
        model: Its name.
        choice: By which it was to be loaded.

    Returns:
        An error of the same code, whose words begin with the old ones.
    """
    note = f"backend {choice.bid.claim.backend!r} was to load it"
    others = [repr(bid.claim.backend) for bid in choice.others]
    if others:
        note += f"; the option backend chooses another that bids: {', '.join(others)}"
    if isinstance(error, RemoteJobError):
        return RemoteJobError(error.remote_code, f"{error} ({note})")
    if isinstance(error, WorkerDiedError):
        detail = f"{error.detail} ({note})" if error.detail else note
        return WorkerDiedError(model, error.exit_status, detail)
    if isinstance(error, LoadError):
        return type(error)(f"{error} ({note})")
    return error


def _besides(chosen: Bid, bids: Sequence[Bid]) -> tuple[Bid, ...]:
    others = [bid for bid in bids if bid is not chosen]
    return tuple(sorted(others, key=lambda bid: -bid.claim.confidence))


def _install(extra: str) -> str:
    return f"pip install '{extra}'" if extra else "its documents tell what to install"
