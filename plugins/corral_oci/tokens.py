"""Who we are to one registry: what it asks for is answered with what belongs to it alone.

A registry that knows us by a user gets Basic credentials, or gives a token for them, or for the
identity token that Docker has of it. Any other one is answered as Ollama's: a request for a token,
signed with this server's key; and where that is refused, one without a name. A token of another
host is asked for only where credentials of that very host are set; the registry's own never go
there.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import httpx
import msgspec

from corral_kernel.contracts import RegistryCall
from corral_kernel.errors import RegistryError
from corral_oci import failures
from corral_oci.challenges import Challenge, parse_challenges, token_form, token_url
from corral_oci.credentials import Identity, User, find_user
from corral_oci.keys import signed
from corral_oci.places import Origin, Places

_FIRST_ERROR: Final = 400
_FIRST_REDIRECT: Final = 300
# Base64 of the hexadecimal digest of nothing: the request has no body.
_NO_BODY: Final = (
    "ZTNiMGM0NDI5OGZjMWMxNDlhZmJmNGM4OTk2ZmI5MjQyN2FlNDFlNDY0OWI5MzRjYTQ5NTk5MWI3ODUyYjg1NQ=="
)

Ask = Callable[[httpx.URL, str, bytes], Awaitable[tuple[int, bytes]]]
"""Asks an address with an `Authorization` and a form to post; an empty one is not sent."""


class _Token(msgspec.Struct):
    token: str = ""
    access_token: str = ""
    refresh_token: str = ""


class Authority:
    """What goes into `Authorization` of requests to the registry, and only there.

    Args:
        call: What is pulled or pushed.
        places: Of the model.
        ask: Sends a request for a token.
    """

    def __init__(self, call: RegistryCall, places: Places, ask: Ask) -> None:
        self._call = call
        self._places = places
        self._ask = ask
        self._answering = asyncio.Lock()
        self._renewed: dict[Origin, str] = {}  # refresh tokens that took others' places
        self.header = ""

    async def answer(self, asked: Iterable[str], refused: str) -> str:
        """Answer a status 401.

        Args:
            asked: Its `WWW-Authenticate` headers.
            refused: What was sent with the request.

        Returns:
            What to send.

        Raises:
            RegistryError: If there is no answer.
        """
        async with self._answering:
            if self.header == refused:  # else another request has just been answered
                self.header = await self._find(parse_challenges(asked))
            return self.header

    async def _find(self, challenges: list[Challenge]) -> str:
        bearer = next((c for c in challenges if c.kind == "bearer"), None)
        basic = next((c for c in challenges if c.kind == "basic"), None)
        if bearer is None and basic is not None:
            user = await self._user(self._places.origin)
            if not isinstance(user, User):
                host = self._places.origin.authority
                raise RegistryError(
                    f"unauthorized: access denied: {host} wants a user and a password; set "
                    f"CORRAL_REGISTRY_AUTH={host}=USER:PASSWORD where the server runs"
                )
            return user.header
        return f"Bearer {await self._token(bearer or Challenge('bearer'))}"

    async def _token(self, challenge: Challenge) -> str:
        realm = self._realm(challenge)
        user = await self._user(realm)
        if isinstance(user, Identity):
            return await self._exchanged(challenge, realm, user)
        if user is not None:
            return await self._asked(token_url(challenge, signed=False), user.header)
        if realm != self._places.origin:
            raise RegistryError(
                f'realm host "{realm.authority}" does not match original host '
                f'"{self._places.origin.authority}"'
            )
        url = token_url(challenge, signed=True)
        text = f"GET,{url},{_NO_BODY}"
        try:
            return await self._asked(url, await asyncio.to_thread(signed, self._call.home, text))
        except RegistryError as error:
            try:  # not Ollama's: many give tokens for what is public
                return await self._asked(token_url(challenge, signed=False), "")
            except RegistryError:
                raise error from None

    async def _exchanged(self, challenge: Challenge, realm: Origin, identity: Identity) -> str:
        """Change an identity token for a token; where it is good for one only, keep the next."""
        refresh_token = self._renewed.get(realm, identity.refresh_token)
        url = httpx.URL(challenge.realm).copy_with(fragment=None)
        found = await self._grant(url, "", token_form(challenge, refresh_token))
        if found.refresh_token:
            self._renewed[realm] = found.refresh_token
        return found.access_token

    def _realm(self, challenge: Challenge) -> Origin:
        try:
            realm = Origin.of(httpx.URL(challenge.realm))
        except httpx.InvalidURL:
            realm = Origin("", "", 0)
        origin = self._places.origin
        if realm.scheme not in ("https", origin.scheme) or not realm.host:
            raise RegistryError(
                f'realm host "{realm.authority if realm.host else ""}" does not match original '
                f'host "{origin.authority}"'
            )
        return realm

    async def _user(self, origin: Origin) -> User | Identity | None:
        return await asyncio.to_thread(find_user, origin.authority, self._call.auth)

    async def _asked(self, url: httpx.URL, authorization: str) -> str:
        return (await self._grant(url, authorization)).access_token

    async def _grant(self, url: httpx.URL, authorization: str, form: bytes = b"") -> _Token:
        """Ask for a token; it is the answer's `access_token`, whatever it was called."""
        status, body = await self._ask(url, authorization, form)
        if status >= _FIRST_ERROR:
            said = failures.words(body)
            raise RegistryError(f"{status}: {said}" if said else str(status))
        try:
            found = msgspec.json.decode(body, type=_Token)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            found = _Token()
        token = found.token or found.access_token
        if status >= _FIRST_REDIRECT or not token.isascii() or not token.isprintable() or not token:
            raise RegistryError(f"{url.host} gives no token (status {status})")
        return _Token(access_token=token, refresh_token=found.refresh_token)
