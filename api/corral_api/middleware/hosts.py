"""Refuses requests under a foreign host name: the guard against DNS rebinding.

A page of evil.example whose name suddenly resolves to 127.0.0.1 is of the same origin as this
server in its browser's eyes. Its requests still carry its name as the host, and stop here.
"""

import ipaddress
import socket
from typing import Final, TypeAlias

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from corral_api.middleware.plain import header, send_empty

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_PRIVATE: Final = tuple(
    ipaddress.ip_network(block)
    for block in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)
_LOCAL_DOMAINS: Final = (".localhost", ".local", ".internal")


def is_loopback(host: str) -> bool:
    """Tell whether the address that a server listens on is reached from this machine alone."""
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


class Hosts:
    """Lets requests pass whose host is an address of a private network, or a local name."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._hostname = socket.gethostname().lower()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        host = _without_port(header(scope, b"host").decode("latin-1"))
        address = _address(host)
        if address is not None and _is_near(address):
            await self._app(scope, receive, send)
        elif not self._is_local_name(host):
            await send_empty(send, 403)
        elif scope["method"] == "OPTIONS":
            await send_empty(send, 204)
        else:
            await self._app(scope, receive, send)

    def _is_local_name(self, host: str) -> bool:
        name = host.lower()
        return name in ("", "localhost", self._hostname) or name.endswith(_LOCAL_DOMAINS)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0] if host.count(":") == 1 else host


def _address(host: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_near(address: _Address) -> bool:
    return (
        address.is_loopback
        or address.is_unspecified
        or any(address in block for block in _PRIVATE if block.version == address.version)
        or _is_ours(address)
    )


def _is_ours(address: _Address) -> bool:
    """Tell whether an interface of this machine has the address: then a socket can bind to it."""
    if address.is_multicast or address.is_reserved:  # these can be bound to, and are nobody's
        return False
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
