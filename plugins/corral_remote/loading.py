"""Loading: the key, the policy, and one question to the server, so that a wrong one is told."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from corral_kernel.contracts import Engine, EngineInfo, LoadRequest
from corral_kernel.errors import RemoteRefusedError, RemoteTimeoutError
from corral_kernel.remotes import RemotePolicy
from corral_remote.asking import Manners
from corral_remote.claim import BASE_URL
from corral_remote.client import Client
from corral_remote.engine import RemoteEngine
from corral_remote.failures import AgainError
from corral_remote.keys import resolve
from corral_remote.network import Check, CheckedNetwork, no_clear_key
from corral_remote.options import RemoteOptions
from corral_remote.places import Base, Limits, parse_base
from corral_remote.wire import Listing, decode

T = TypeVar("T")

_PROBE_S = 10.0
_PROBE_BYTES = 4 << 20
_SPARE_CONNECTIONS = 4


def load(request: LoadRequest) -> Engine:
    """Make the engine for one server.

    Raises:
        CorralError: If the key cannot be read, the server is not allowed, is not there, refuses
            the key, or is none that speaks OpenAI's API.
    """
    # It writes several lines for each request, and what a server's headers hold.
    logging.getLogger("httpcore").setLevel(logging.INFO)
    options = request.options
    assert isinstance(options, RemoteOptions)
    base = parse_base(request.claim.private[BASE_URL])
    policy = RemotePolicy(request.remotes)
    policy.check_url(base.text)
    key = resolve(options.api_key)
    limits = Limits(
        connect_s=options.remote_connect_timeout,
        first_s=options.remote_first_timeout,
        silence_s=options.remote_silence_timeout,
        retries=options.remote_retries,
    )
    checks: list[Check] = [policy.check_address]
    if key and base.scheme == "http":
        checks.append(no_clear_key)

    def connect() -> Client:
        network = CheckedNetwork(*checks)
        connections = max(request.slots, 1) + _SPARE_CONNECTIONS
        return Client(base, key, network, limits, connections)

    listing = _run(_probe(connect, base))
    info = EngineInfo(
        capabilities=("completion", "embedding"),  # of the server, whose models share a worker
        context_tokens=request.claim.context_tokens or _context(listing),
        slots=max(request.slots, 1),
        details={"server": base.text},
    )
    return RemoteEngine(info, connect, limits, _manners(listing))


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run as `asyncio.run` does, but for the wait for its threads: a resolver may hang in one."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _probe(connect: Callable[[], Client], base: Base) -> Listing:
    """Ask which models there are; a server need not have that route, or not now."""
    client = connect()
    until = asyncio.get_running_loop().time() + _PROBE_S
    try:
        answer = await client.send("GET", "/models", None, until)
        try:
            data = await answer.read_all(_PROBE_BYTES, until)
        finally:
            await answer.aclose()
    except RemoteRefusedError:
        return Listing()
    except AgainError as failure:
        if not failure.answered:
            raise failure.error from None
        return Listing()
    except TimeoutError:
        raise RemoteTimeoutError(f"{base.text} did not answer within {_PROBE_S:g} s") from None
    finally:
        await client.aclose()
    return decode(data, Listing, f"what {base.text} lists as models")


def _context(listing: Listing) -> int:
    """Give the context length, if all models there have the same."""
    lengths = {model.max_model_len or 0 for model in listing.data or ()}
    return max(lengths.pop(), 0) if len(lengths) == 1 else 0


def _manners(listing: Listing) -> Manners:
    models = listing.data or []
    ours = any(model.owned_by == "me" and model.permissions is not None for model in models)
    return Manners(llama_python=ours)
