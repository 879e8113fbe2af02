"""Users of private registries: from `CORRAL_REGISTRY_AUTH`, else from Docker's file.

Credentials are for one host, spelled with its port if that is not the usual one, and go nowhere
else. So is an identity token (`identitytoken` of that file), which stands in a password's place.
Docker's helpers (`credsStore`, `credHelpers`) are programs that nobody asked a server to run; they
are not called.
"""

import base64
import binascii
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

_MAX_FILE_BYTES: Final = 1 << 20
_log = logging.getLogger(__name__)


class User(NamedTuple):
    """Somebody whom a registry knows."""

    name: str
    password: str

    @property
    def header(self) -> str:
        """For `Authorization`."""
        return "Basic " + base64.b64encode(f"{self.name}:{self.password}".encode()).decode()

    def __repr__(self) -> str:
        return f"User({self.name!r}, ***)"


class Identity(NamedTuple):
    """What a host gave Docker in place of a password, to be changed for tokens there."""

    refresh_token: str

    def __repr__(self) -> str:
        return "Identity(***)"


def find_user(
    authority: str, auth: str, environ: Mapping[str, str] = os.environ
) -> User | Identity | None:
    """Look up who we are at a host. Reads a file: from asyncio, call it in a thread.

    Args:
        authority: `host` or `host:port`.
        auth: What `CORRAL_REGISTRY_AUTH` says.
        environ: Tells where Docker's file is.
    """
    return _parse(auth).get(authority) or _of_docker(authority, environ)


def _parse(auth: str) -> dict[str, User]:
    found: dict[str, User] = {}
    for number, item in enumerate(filter(None, (part.strip() for part in auth.split(","))), 1):
        host, equals, user = item.partition("=")
        name, colon, password = user.partition(":")
        if not (host and equals and name and colon):
            _log.warning("entry %d of CORRAL_REGISTRY_AUTH is no HOST=USER:PASSWORD", number)
            continue
        found[host.strip().lower()] = User(name, password)
    return found


def _of_docker(authority: str, environ: Mapping[str, str]) -> User | Identity | None:
    folder = environ.get("DOCKER_CONFIG") or str(Path.home() / ".docker")
    path = Path(folder) / "config.json"
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError:
        return None
    try:
        auths = msgspec.json.decode(data)["auths"] if len(data) <= _MAX_FILE_BYTES else {}
        entries = {_host(key): entry for key, entry in auths.items()}
        return _user(entries.get(authority))
    except (msgspec.MsgspecError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        _log.warning("%s is damaged and not used", path)
        return None


def _host(key: str) -> str:
    """Docker writes hosts, and for some registries a whole URL."""
    return key.partition("://")[2].partition("/")[0].lower() if "://" in key else key.lower()


def _user(entry: Any) -> User | Identity | None:
    if not isinstance(entry, dict):
        return None
    identity = entry.get("identitytoken")
    if isinstance(identity, str) and identity:
        return Identity(identity)
    text = entry.get("auth")
    if isinstance(text, str) and text:
        try:
            name, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return User(name, password.rstrip("\0")) if colon and name else None
    user, secret = entry.get("username"), entry.get("password")
    return User(user, secret) if isinstance(user, str) and isinstance(secret, str) else None
