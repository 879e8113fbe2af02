"""What a registry asks for with status 401, and the address of the token that answers it."""

import base64
import os
import re
import time
from collections.abc import Iterable
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, urlencode

import httpx

_MAX_HEADER: Final = 8192
# `name="value"`, a value without quotes (which counts as none), or the name of a way.
_TOKEN: Final = re.compile(r'([A-Za-z_]+)=(?:"([^"]*)"|[^\s,"]*)|([A-Za-z]+)(?=[\s,]|$)')


class Challenge(NamedTuple):
    """One way to authenticate; what is not given is empty."""

    kind: str  # "basic" or "bearer"
    realm: str = ""
    service: str = ""
    scope: str = ""


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Read `WWW-Authenticate` headers; ways that are not known here are left out."""
    found: list[Challenge] = []
    for header in headers:
        known = False
        for name, value, kind in _TOKEN.findall(header[:_MAX_HEADER]):
            if kind:
                known = kind.lower() in ("basic", "bearer")
                found += [Challenge(kind.lower())] if known else []
            elif known and (field := name.lower()) in ("realm", "service", "scope"):
                found[-1] = found[-1]._replace(**{field: value})
    return found


def token_form(challenge: Challenge, refresh_token: str) -> bytes:
    """What is posted to the realm to change a refresh token for one, as OAuth 2 has it."""
    fields = {
        "grant_type": "refresh_token",
        "refresh_token": refresh_token,
        "service": challenge.service,
        "scope": challenge.scope,
        "client_id": "corral",
    }
    return urlencode(fields).encode()


def token_url(challenge: Challenge, *, signed: bool) -> httpx.URL:
    """Where the token is.

    Args:
        challenge: With a realm that is a web address.
        signed: Whether the request will be signed: it then has a time and a number used once.
    """
    realm = httpx.URL(challenge.realm)
    query = parse_qsl(realm.query.decode("ascii", "replace"), keep_blank_values=True)
    if challenge.service or signed:
        query.append(("service", challenge.service))
    query += [("scope", scope) for scope in challenge.scope.split()]
    if signed:
        nonce = base64.urlsafe_b64encode(os.urandom(16)).rstrip(b"=").decode()
        query += [("ts", str(int(time.time()))), ("nonce", nonce)]
    query.sort(key=lambda pair: pair[0])
    return realm.copy_with(query=urlencode(query).encode(), fragment=None)
