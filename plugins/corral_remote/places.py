"""Where a server is, and how long to wait for it."""

import asyncio
import math
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from corral_kernel.remotes import parse_remote
from corral_remote.failures import AgainError

_PORTS: Final = {"http": 80, "https": 443}
_FIRST_WAIT_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Base:
    """The URL under which a server has its routes.

    Attributes:
        text: For people, without a slash at its end.
        scheme: `http` or `https`.
        host: A name or an address without brackets.
        port: Always set.
        path: Without a slash at its end.
    """

    text: str
    scheme: str
    host: str
    port: int
    path: str

    @property
    def header(self) -> str:
        """What the `Host` header says."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == _PORTS[self.scheme] else f"{name}:{self.port}"


def parse_base(text: str) -> Base:
    """Read a base URL; one without a path gets `/v1`.

    Raises:
        InvalidRequestError: If it is none.
    """
    url = parse_remote(text)
    parts = urlsplit(url)
    port = parts.port or _PORTS[parts.scheme]
    path = parts.path or "/v1"
    shown = url if parts.path else f"{url}{path}"
    return Base(shown, parts.scheme, parts.hostname or "", port, path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Patience with a server, in seconds.

    Attributes:
        connect_s: For a connection, TLS not included.
        first_s: From a request to its first token.
        silence_s: From one token to the next.
        retries: More tries at most, of what failed before its first token.
        retries_s: What all waiting between tries may add up to.
    """

    connect_s: float = 10.0
    first_s: float = 600.0
    silence_s: float = 120.0
    retries: int = 3
    retries_s: float = 30.0


class Patience:
    """Waits between the tries of one request, ever longer, or as long as the server asks."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._tries = 0
        self._waited_s = 0.0

    async def wait(self, failure: AgainError) -> None:
        """Wait before another try.

        Raises:
            CorralError: What failed, if there shall be none.
        """
        asked_s = failure.after_s
        wait_s = _FIRST_WAIT_S * 2**self._tries if asked_s is None else asked_s
        limits = self._limits
        if self._tries >= limits.retries or self._waited_s + wait_s > limits.retries_s:
            if not asked_s:
                raise failure.error from None
            words = f"{failure.error}; try again in {math.ceil(asked_s)} s"
            raise type(failure.error)(words) from None
        self._tries += 1
        self._waited_s += wait_s
        await asyncio.sleep(wait_s)
