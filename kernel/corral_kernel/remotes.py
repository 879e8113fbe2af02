"""Models on other servers: their addresses, which of them are allowed, and references to keys.

    parse_remote("https://Host/v1/")                       # "https://host/v1"
    split_source("https://host/v1#some-model")             # ("https://host/v1", "some-model")
    RemotePolicy(["host", "10.0.0.0/8"]).check_url(url)    # raises RemoteHostError, or not

A name may lead anywhere, so that whoever connects asks `check_address` too, about the address that
it is going to connect to.
"""

import ipaddress
import re
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from corral_kernel.errors import InvalidRequestError, RemoteHostError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

API_KEY: Final = "api_key"
"""The parameter of a model that refers to the key for its server; no request may set it."""
DEFAULT_REMOTES: Final = ("ollama.com",)
_PORTS: Final = {"http": 80, "https": 443}
_URL_CHARACTERS: Final = 2000
_TARGET_CHARACTERS: Final = 350
_HOST: Final = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_.])?")
_REFERENCE: Final = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]{0,255}|file:[^\x00-\x1f\x7f]{1,4096}")
# What is public in IPv6, and what is not for all that `ipaddress` of some releases says.
_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
_RESERVED: Final = tuple(
    map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "2001:db8::/32", "3fff::/20"))
)
# IPv6 with an IPv4 address in its last four bytes, which is where packets end: compatible, mapped,
# translated (SIIT) and NAT64. In 64:ff9b:1::/48 each network says itself where it puts the four
# bytes; so these addresses, outside of what is public, are refused as they are.
_ENDS_IN_IPV4: Final = tuple(
    map(ipaddress.IPv6Network, ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96"))
)
_LOOPBACK: Final = ipaddress.IPv6Address("::1")
_LOCAL: Final = "localhost"


# ------------------------------------------------------------------------------------ addresses


def parse_remote(text: str) -> str:
    """Read the base URL of another server; without a scheme it is `https`.

    Returns:
        `http(s)://host[:port][/path]`, scheme and host in lower case, no slash at the end.

    Raises:
        InvalidRequestError: If it is none, or holds more: a user, a query, a fragment.
    """
    text = text.strip()
    found = _split(text if "://" in text else f"https://{text}")
    host, port = _host_and_port(found)
    path = found.path.rstrip("/")
    if not path.isascii() or re.search(r"[\x00-\x20\x7f\\]", path):
        raise _bad("its path holds what is to be written as %XX")
    shown = f"[{host}]" if ":" in host else host
    return f"{found.scheme}://{shown}{'' if port is None else f':{port}'}{path}"


def _split(text: str) -> SplitResult:
    if len(text) > _URL_CHARACTERS:
        raise _bad(f"it is over {_URL_CHARACTERS} characters long")
    if any(ord(character) <= ord(" ") for character in text):  # `urlsplit` drops some of them
        raise _bad("it holds white space")
    try:
        found = urlsplit(text)
    except ValueError:
        raise _bad("it is no URL") from None
    if found.scheme not in _PORTS:
        raise _bad("it begins neither with http:// nor with https://")
    if "@" in found.netloc:
        raise _bad("it holds a user or a password; a key is set by PARAMETER api_key")
    if found.query or found.fragment or text.endswith(("?", "#")):
        raise _bad("it holds more than scheme, host, port and path")
    return found


def _host_and_port(found: SplitResult) -> tuple[str, int | None]:
    try:
        host, port = (found.hostname or "").lower(), found.port
    except ValueError:
        raise _bad("its port is none") from None
    if port == 0:
        raise _bad("its port is none")
    if not _HOST.fullmatch(host) and (":" not in host or _address(host) is None):
        raise _bad("its host is no name and no address")
    return host, port


def _bad(why: str) -> InvalidRequestError:
    return InvalidRequestError(f"bad remote: {why}; wanted is such as https://host:port/v1")


def split_source(text: str) -> tuple[str, str] | None:
    """Cut `http(s)://…#MODEL` into the server and the model there; None: it is something else."""
    url, mark, target = text.partition("#")
    if not mark or not url.lower().startswith(("http://", "https://")):
        return None
    return url, target


def check_target(text: str) -> str:
    """Check the name of a model on another server, which may be any short line of text.

    Raises:
        InvalidRequestError: If it is none.
    """
    if not text or text != text.strip() or not text.isprintable():
        raise InvalidRequestError("invalid model name")
    if len(text) > _TARGET_CHARACTERS:
        raise InvalidRequestError("invalid model name")
    return text


# ----------------------------------------------------------------------------------------- keys


def is_reference(value: Any) -> bool:
    """Whether a value says where a key is, as `env:NAME` or `file:PATH`, and is none itself."""
    return isinstance(value, str) and _REFERENCE.fullmatch(value) is not None


# --------------------------------------------------------------------------------------- policy


class RemotePolicy:
    """Which servers models may run on.

    A host must be listed. Addresses of this machine and of private networks must be listed
    themselves besides, or be those of `localhost` where that is: what a name leads to is not for
    whoever made the list to say.

    Args:
        remotes: Each a host, `host:port`, an address, or a network such as `10.0.0.0/8`.
    """

    def __init__(self, remotes: Iterable[str]) -> None:
        self._remotes = tuple(remotes)
        self._networks = [net for text in self._remotes if (net := _network(text)) is not None]
        self._hosts = {found for text in self._remotes if (found := _entry(text)) is not None}

    def check_url(self, url: str) -> None:
        """Check a server's base URL.

        Raises:
            InvalidRequestError: If it is none.
            RemoteHostError: If it is not allowed.
        """
        found = _split(parse_remote(url))
        host, port = _host_and_port(found)
        port = port or _PORTS[found.scheme]
        address = _address(host)
        if address is None and _is_numeric(host):
            raise RemoteHostError(f"{host} is an address in an unusual spelling")
        if not self._lists(host, port, address):
            raise RemoteHostError(f"{host} is not listed in CORRAL_REMOTES")
        if address is not None:
            self.check_address(host, port, address)

    def check_address(self, host: str, port: int, address: str | IPAddress) -> None:
        """Check the address that somebody is about to connect to.

        Args:
            host: Of the URL.
            port: That is connected to.
            address: What the host led to.

        Raises:
            RemoteHostError: If it is private, and not listed.
        """
        found = _address(address) if isinstance(address, str) else address
        if found is None:
            raise RemoteHostError(f"{host} leads to what is no address")
        for one in _meant(found):
            if not _is_public(one) and not self._lists_address(host, port, one):
                raise RemoteHostError(
                    f"{host} is at the private address {one}, which CORRAL_REMOTES does not list"
                )

    def _lists(self, host: str, port: int, address: IPAddress | None) -> bool:
        name = str(address) if address is not None else host.rstrip(".")
        if {(name, None), (name, port)} & self._hosts:
            return True
        return address is not None and any(address in network for network in self._networks)

    def _lists_address(self, host: str, port: int, address: IPAddress) -> bool:
        if {(str(address), None), (str(address), port)} & self._hosts:
            return True
        if address.is_loopback and host == _LOCAL:
            return self._lists(host, port, None)
        return any(address in network for network in self._networks)


def _entry(text: str) -> tuple[str, int | None] | None:
    """The host of an entry, and the port if only that one is meant; None: it is no host."""
    bare = text.strip().lower()
    if (address := _address(bare.strip("[]"))) is not None:
        return str(address), None
    if _network(bare) is not None:
        return None
    try:
        found = urlsplit(bare if "://" in bare else f"//{bare}")
        host, port = found.hostname or "", found.port
    except ValueError:
        return None
    address = _address(host)
    return (host.rstrip(".") if address is None else str(address), port) if host else None


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    if "/" not in text:
        return None
    try:
        return ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        return None


def _address(text: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None


def _is_numeric(host: str) -> bool:
    """Whether resolvers may take a host for an address: `127.1`, `0x7f000001`, `2130706433`."""
    last = host.rstrip(".").rpartition(".")[2]
    return re.fullmatch(r"[0-9]+|0x[0-9a-f]*", last) is not None


def _meant(address: IPAddress) -> tuple[IPAddress, ...]:
    """The address, or those inside it that packets to it would reach."""
    if isinstance(address, ipaddress.IPv4Address) or address == _LOOPBACK:
        return (address,)
    inside = [address.sixtofour, *(address.teredo or ())]
    if any(address in network for network in _ENDS_IN_IPV4):
        inside.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return tuple(one for one in inside if one is not None) or (address,)


def _is_public(address: IPAddress) -> bool:
    if any(address in network for network in _RESERVED):
        return False
    if isinstance(address, ipaddress.IPv6Address) and address not in _UNICAST:
        return False
    return address.is_global and not address.is_multicast
