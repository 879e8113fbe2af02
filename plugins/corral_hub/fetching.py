"""Bytes of files, asked for by HTTP: parts of them, from where the Hub sends us.

The library's own downloads would fill a cache of theirs besides the store, and block; its bytes go
into the store's partial files here, as those of every registry do. The token goes to the endpoint
and to no other host.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Final
from urllib.parse import quote

import httpx

from corral_hub.listing import HubFile, Listing
from corral_kernel.causes import causes, retry_after
from corral_kernel.errors import NoRangesError, RegistryError, RegistryUnavailableError

_TIMEOUT: Final = httpx.Timeout(60.0, connect=30.0, pool=None)
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS: Final = 10
_TEMPORARY: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
_PARTIAL: Final = 206
_FIRST_ERROR: Final = 400
_OF_ERRORS: Final = 500  # bytes that are repeated
_EXPIRED: Final = frozenset({401, 403, 404})
_ATTEMPTS: Final = 4
_PAUSE_S: Final = 0.5


class Fetcher:
    """Fetches files of one repository. On one event loop; any number of reads at once.

    Args:
        listing: Of the repository.
    """

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._home = httpx.URL(listing.endpoint)
        self._direct: dict[str, httpx.URL] = {}  # by name: where the Hub sent us
        self._client: httpx.AsyncClient | None = None
        self._opening = asyncio.Lock()

    async def read(self, file: HubFile, start: int, end: int) -> AsyncGenerator[bytes]:
        """Give a stretch of a file.

        Raises:
            NoRangesError: If only whole files are given, and `start` is not the beginning.
            RegistryError: If it is not there, or has another size.
        """
        async with self._ask(file, {"Range": f"bytes={start}-{end - 1}"}) as response:
            _check_size(response, file, start)
            async for piece in response.aiter_raw():
                yield piece

    async def whole(self, file: HubFile) -> bytes:
        """Give all of a small file, asked for again a few times where that may help.

        Raises:
            RegistryError: If it is not there, or has another size.
        """
        if not file.size_bytes:
            return b""
        for attempt in range(_ATTEMPTS):
            try:
                return await self._once(file)
            except RegistryUnavailableError as error:
                if attempt == _ATTEMPTS - 1:
                    raise RegistryError(f"max retries exceeded: {error}") from error
                await asyncio.sleep(max(error.after_s or 0.0, _PAUSE_S * 2**attempt))
        raise AssertionError("the last attempt returns or raises")

    async def _once(self, file: HubFile) -> bytes:
        data = bytearray()
        async with aclosing(self.read(file, 0, file.size_bytes)) as pieces:
            async for piece in pieces:
                data += piece
                if len(data) > file.size_bytes:
                    break
        if len(data) != file.size_bytes:
            raise RegistryUnavailableError(
                f"{file.name} came with {len(data)} bytes, not {file.size_bytes}"
            )
        return bytes(data)

    @asynccontextmanager
    async def _ask(self, file: HubFile, headers: dict[str, str]) -> AsyncIterator[httpx.Response]:
        known = self._direct.get(file.name)
        url = known or self._url(file)
        try:
            response = await self._follow(url, headers)
            try:
                if known and response.status_code in _EXPIRED:
                    del self._direct[file.name]  # it was signed for a while only
                    raise RegistryUnavailableError(f"{response.status_code} from {url.host}")
                await _check(response, file)
                if not self._is_home(response.url):
                    self._direct[file.name] = response.url
                yield response
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            raise RegistryUnavailableError(_said(error, url)) from error

    async def _follow(self, url: httpx.URL, headers: dict[str, str]) -> httpx.Response:
        client = await self._open()
        for _ in range(_MAX_REDIRECTS + 1):
            ours = self._listing.headers if self._is_home(url) else {}
            sent = {**ours, "Accept-Encoding": "identity", **headers}
            request = client.build_request("GET", url, headers=sent)
            response = await client.send(request, stream=True)
            if response.status_code not in _REDIRECTS:
                return response
            location = response.headers.get("location", "")
            await response.aclose()
            url = self._target(url, location)
        raise RegistryError(f"over {_MAX_REDIRECTS} redirects from {self._home.host}")

    def _target(self, url: httpx.URL, location: str) -> httpx.URL:
        try:
            target = url.join(location)
        except (httpx.InvalidURL, ValueError) as error:
            raise RegistryError(f"{url.host} points to what is no address: {error}") from None
        allowed = ("https",) if self._home.scheme == "https" else ("http", "https")
        if target.scheme not in allowed or not target.host:
            raise RegistryError(f"{url.host} points to {str(target)[:200]!r}: not followed")
        return target.copy_with(username=None, password=None, fragment=None)

    def _is_home(self, url: httpx.URL) -> bool:
        """Whether a URL is one of the endpoint itself, which the token is for."""
        return (url.scheme, url.host, url.port) == (
            (self._home.scheme, self._home.host, self._home.port)
        )

    def _url(self, file: HubFile) -> httpx.URL:
        listing = self._listing
        path = f"{listing.repository}/resolve/{listing.commit}/{quote(file.name)}"
        return httpx.URL(f"{listing.endpoint}/{path}")

    async def _open(self) -> httpx.AsyncClient:
        async with self._opening:
            if self._client is None:
                self._client = await asyncio.to_thread(_client)  # reading certificates takes long
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


async def _check(response: httpx.Response, file: HubFile) -> None:
    status = response.status_code
    if status < _FIRST_ERROR:
        return
    said = bytearray()
    async for piece in response.aiter_raw():
        said += piece
        if len(said) >= _OF_ERRORS:
            break
    words = " ".join(said[:_OF_ERRORS].decode("utf-8", "replace").split())
    text = f"{status} for {file.name}: {words}"
    if status in _TEMPORARY:
        raise RegistryUnavailableError(text, retry_after(response.headers.get("retry-after", "")))
    raise RegistryError(text)


def _check_size(response: httpx.Response, file: HubFile, start: int) -> None:
    headers = response.headers
    if response.status_code == _PARTIAL:
        span, _, total = headers.get("content-range", "").removeprefix("bytes ").partition("/")
        if not span.startswith(f"{start}-"):
            raise RegistryError(f"{response.url.host} gives other bytes than it was asked for")
    else:
        if start:
            raise NoRangesError(f"{response.url.host} gives no parts of a file")
        total = headers.get("content-length", "*")
    if total not in ("*", str(file.size_bytes)):
        raise RegistryError(
            f"{file.name} has {total[:20]} bytes there, where the Hub said {file.size_bytes}"
        )


def _said(error: httpx.HTTPError, url: httpx.URL) -> str:
    """Say why there was no answer, without what signs an address."""
    shown = url.copy_with(query=None, fragment=None)
    why = next((str(c) for c in causes(error) if str(c)), type(error).__name__)
    return f'Get "{shown}": {why[:_OF_ERRORS]}'
