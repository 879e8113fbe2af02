"""Requests to one registry: authenticated there and nowhere else, redirects looked at."""

import asyncio
import platform
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import httpx

from corral_kernel import __version__
from corral_kernel.contracts import RegistryCall
from corral_kernel.errors import RegistryError
from corral_oci import failures
from corral_oci.places import Origin, Places
from corral_oci.tokens import Authority

_UNAUTHORIZED: Final = 401
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS: Final = 10
_TIMEOUT: Final = httpx.Timeout(60.0, connect=30.0, pool=None)
_FIRST_ERROR: Final = 400
_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}
# Ollama's registry tells by the first word what models a client can take.
_MACHINE: Final = f"{platform.machine()} {platform.system().lower()}"
_AGENT: Final = f"ollama/0.31.0 ({_MACHINE}) corral/{__version__}"

Body = Callable[[], AsyncIterator[bytes]]


class Ask(NamedTuple):
    """A request.

    Args:
        method: Of HTTP.
        url: Where.
        headers: Beside our own.
        body: Made anew for each try where it is no bytes.
    """

    method: str
    url: httpx.URL
    headers: Mapping[str, str] = {}
    body: Body | bytes | None = None


class Session:
    """Asks a registry. On one event loop; any number of requests at once.

    Args:
        call: What is pulled or pushed.
        places: Of the model.
    """

    def __init__(self, call: RegistryCall, places: Places) -> None:
        self._places = places
        self._authority = Authority(call, places, self._ask_for_token)
        self._client: httpx.AsyncClient | None = None
        self._opening = asyncio.Lock()

    @asynccontextmanager
    async def ask(
        self, ask: Ask, *, follow: bool = True, bare: bool = False
    ) -> AsyncIterator[httpx.Response]:
        """Send a request; give the answer with its body still to come, and close it in the end.

        Args:
            ask: What to send.
            follow: Whether a redirect is followed, up to ten; credentials stay behind.
            bare: Whether no credentials are sent, wherever it goes.

        Raises:
            RegistryError: If there is no answer, or the registry does not know us.
        """
        url = ask.url
        try:
            response = await self._answer(ask, follow=follow, bare=bare)
            url = response.url
            try:
                yield response
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            raise failures.of_connection(error, ask.method, url) from error

    async def _answer(self, ask: Ask, *, follow: bool, bare: bool) -> httpx.Response:
        at_home = not bare
        for _ in range(_MAX_REDIRECTS + 1):
            at_home = at_home and Origin.of(ask.url) == self._places.origin
            response = await self._send(ask, authorized=at_home)
            if not follow or response.status_code not in _REDIRECTS:
                return response
            location = response.headers.get("location", "")
            await response.aclose()
            if not location:
                raise RegistryError(f"{ask.url.host} redirects to nowhere")
            ask = ask._replace(url=self._places.follow(ask.url, location))
        raise RegistryError(f"maximum redirects exceeded ({_MAX_REDIRECTS}) for directURL")

    async def _send(self, ask: Ask, *, authorized: bool) -> httpx.Response:
        header = self._authority.header if authorized else ""
        response = await self._try(ask, header)
        if response.status_code != _UNAUTHORIZED or not authorized:
            return response
        asked = response.headers.get_list("www-authenticate")
        await response.aclose()
        response = await self._try(ask, await self._authority.answer(asked, header))
        if response.status_code == _UNAUTHORIZED:
            await response.aclose()
            raise RegistryError("unauthorized: access denied")
        return response

    async def _try(self, ask: Ask, authorization: str) -> httpx.Response:
        client = await self._open()
        headers = {"User-Agent": _AGENT, "Accept-Encoding": "identity", **ask.headers}
        if authorization:
            headers["Authorization"] = authorization
        content = ask.body() if callable(ask.body) else ask.body
        request = client.build_request(ask.method, ask.url, headers=headers, content=content)
        return await client.send(request, stream=True, follow_redirects=False)

    async def _ask_for_token(
        self, url: httpx.URL, authorization: str, form: bytes
    ) -> tuple[int, bytes]:
        """Ask once, without following anything; gives the status and the body."""
        ask = Ask("POST", url, _FORM, form) if form else Ask("GET", url)
        try:
            response = await self._try(ask, authorization)
            try:
                return response.status_code, await read_body(response, failures.MAX_ERROR_BYTES)
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            raise failures.of_connection(error, ask.method, url) from error

    async def _open(self) -> httpx.AsyncClient:
        async with self._opening:
            if self._client is None:
                # Reading the certificates takes a while.
                self._client = await asyncio.to_thread(_client)
            return self._client

    async def aclose(self) -> None:
        """Close all connections."""
        async with self._opening:
            if self._client is not None:
                await self._client.aclose()
                self._client = None


def _client() -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    return httpx.AsyncClient(timeout=_TIMEOUT, limits=limits)


async def read_body(response: httpx.Response, limit: int) -> bytes:
    """Read what an answer says, up to a limit; what is behind it is left."""
    data = bytearray()
    async for piece in response.aiter_raw():
        data += piece
        if len(data) >= limit:
            break
    return bytes(data[:limit])


async def check(response: httpx.Response) -> None:
    """Make sure that an answer is none of an error.

    Raises:
        RegistryError: If it is.
    """
    if response.status_code >= _FIRST_ERROR:
        body = await read_body(response, failures.MAX_ERROR_BYTES)
        raise failures.of_status(response.status_code, body, response.headers)
