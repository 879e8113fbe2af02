"""Where a server is: what `CORRAL_HOST` or `OLLAMA_HOST` says, for who listens and who connects.

host = parse_host("0.0.0.0:8080")
bind_address(host)  # ("0.0.0.0", 8080): for a server to listen on
connect_url(host)   # "http://127.0.0.1:8080": where a client finds that server
"""

import ipaddress
import re
from typing import Final

from msgspec import Struct

from corral_kernel.errors import InvalidRequestError

DEFAULT_PORT: Final = 11434
DEFAULT_ADDRESS: Final = "127.0.0.1"
_SCHEME_PORTS: Final = {"http": 80, "https": 443}
_LAST_PORT: Final = 65535
_DIGITS: Final = re.compile(r"[0-9]{1,20}")


class HostAddress(Struct, frozen=True):
    """Where a server is, as `CORRAL_HOST` or `OLLAMA_HOST` says it."""

    scheme: str = "http"
    host: str = DEFAULT_ADDRESS  # a name or an address without brackets; "" is every interface
    port: int = DEFAULT_PORT
    path: str = ""  # a prefix for clients: no slash at its end; "" or "/…"
    bad_port: str = ""  # what stands in place of a port and is none; `port` is the default then


def parse_host(text: str) -> HostAddress:
    """Read `[scheme://][host][:port][/path]`.

    Without a scheme the port is 11434, with `http` 80, with `https` 443; a port that is none
    falls back to that, and is told as `bad_port`. Nothing is refused here: what is left of odd text
    is a host that nobody has; whoever listens or connects calls `check_port` first.
    """
    if text == "ollama.com":
        return HostAddress("https", "ollama.com", _SCHEME_PORTS["https"])
    before, found, after = text.partition("://")
    scheme, rest = (before, after) if found else ("http", text)
    default_port = _SCHEME_PORTS.get(scheme, DEFAULT_PORT) if found else DEFAULT_PORT
    authority, _, path = rest.partition("/")
    host, port = _split_port(authority)
    found_port = _port(port, default_port)
    bad_port = (port or "") if found_port is None else ""
    return HostAddress(
        scheme,
        host,
        default_port if found_port is None else found_port,
        f"/{path.rstrip('/')}".rstrip("/"),
        bad_port,
    )


def _split_port(authority: str) -> tuple[str, str | None]:
    """Cut `host:port` apart; the port is `None` where the text has none."""
    bare = authority.strip("[]")
    if ":" in bare and _is_address(bare):
        return bare, None
    head, colon, tail = authority.rpartition(":")
    if not colon or "]" in tail:
        return bare or DEFAULT_ADDRESS, None
    if ":" in head and not (head.startswith("[") and head.endswith("]")):
        return authority, None  # more colons than one and no address: left as it is
    return head.strip("[]"), tail


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _port(text: str | None, default: int) -> int | None:
    """Read a port; `None`: it is none."""
    if not text:
        return default
    return int(text) if _DIGITS.fullmatch(text) and int(text) <= _LAST_PORT else None


def check_port(host: HostAddress) -> None:
    """Refuse an address whose port is none, rather than use one that nobody asked for.

    Raises:
        InvalidRequestError: If it is.
    """
    if host.bad_port:
        raise InvalidRequestError(
            f"CORRAL_HOST (or OLLAMA_HOST): {host.bad_port[:100]!r} is no port: "
            f"write a number from 0 to {_LAST_PORT}, as in {DEFAULT_ADDRESS}:{DEFAULT_PORT}"
        )


def bind_address(host: HostAddress) -> tuple[str, int]:
    """Give the address and port that a server listens on; no host at all is `0.0.0.0`."""
    return host.host or "0.0.0.0", host.port  # noqa: S104 - the user asked for every interface


def connect_url(host: HostAddress) -> str:
    """Give the URL, without a slash at its end, at which a client finds the server."""
    name = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host.host, host.host)  # noqa: S104 - compared, not bound
    shown = f"[{name}]" if ":" in name else name
    return f"{host.scheme}://{shown}:{host.port}{host.path}"


def is_local(host: HostAddress) -> bool:
    """Tell whether a client of `host` talks to this machine, over loopback."""
    if host.host in ("", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
