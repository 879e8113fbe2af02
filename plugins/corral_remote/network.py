"""Connections to addresses that were looked at first.

A name is resolved here, each of its addresses is checked, and the connection is made to one of
these very addresses. So nothing can change between check and connection (DNS rebinding), while
`Host` and the certificate's name stay those of the URL.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import httpcore

from corral_kernel.errors import RemoteHostError, RemoteServerError, RemoteTimeoutError
from corral_kernel.remotes import RemotePolicy

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
Check = Callable[[str, int, str], None]


async def system_addresses(host: str, port: int) -> Sequence[str]:
    """Ask the system's resolver, in a thread; an address as a name is given back as it is.

    Raises:
        OSError: If nothing has that name.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def no_clear_key(host: str, port: int, address: str) -> None:
    """Refuse to carry a key over the internet for all to read.

    Raises:
        RemoteHostError: If the address is a public one.
    """
    try:
        RemotePolicy(()).check_address(host, port, address)
    except RemoteHostError:
        return  # a private one
    raise RemoteHostError(
        f"its key would travel unencrypted to the public address {address}: use https"
    )


class _Stream(httpcore.AsyncNetworkStream):
    """A connection that is closed where TLS is given up: httpcore forgets it on cancellation."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's signature
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as above
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
    ) -> httpcore.AsyncNetworkStream:
        try:
            return await self._stream.start_tls(ssl_context, server_hostname, timeout)
        except asyncio.CancelledError:
            await self._stream.aclose()
            raise


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Opens connections for a pool.

    Args:
        checks: Each is asked of every address, and raises to refuse it.
        resolve: What names are resolved by.
    """

    def __init__(self, *checks: Check, resolve: Resolve = system_addresses) -> None:
        self._checks = checks
        self._resolve = resolve
        self._sockets = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, check every address, connect to the first that answers.

        The pool that this is for sets neither a local address nor socket options.

        Raises:
            RemoteHostError: If one of the addresses is not allowed.
            RemoteServerError: If the name has no address.
            httpcore.ConnectError: If none of them takes the connection.
            httpcore.ConnectTimeout: If that takes too long.
        """
        del local_address, socket_options
        addresses = await self._addresses(host, port, timeout)
        for address in addresses:
            for check in self._checks:
                check(host, port, address)
        share_s = timeout and timeout / len(addresses)
        for address in addresses[:-1]:
            try:
                return await self._connect(address, port, share_s)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._connect(addresses[-1], port, share_s)

    async def _connect(self, address: str, port: int, timeout_s: float | None) -> _Stream:
        return _Stream(await self._sockets.connect_tcp(address, port, timeout_s))

    async def _addresses(self, host: str, port: int, timeout_s: float | None) -> Sequence[str]:
        try:
            async with asyncio.timeout(timeout_s):
                found = await self._resolve(host, port)
        except TimeoutError:
            raise RemoteTimeoutError(f"the name {host} was not resolved in time") from None
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or error
            raise RemoteServerError(f"the name {host} cannot be resolved: {why}") from None
        if not found:
            raise RemoteServerError(f"the name {host} has no address")
        return found

    async def sleep(self, seconds: float) -> None:
        """Wait; the pool's own affair."""
        await asyncio.sleep(seconds)
