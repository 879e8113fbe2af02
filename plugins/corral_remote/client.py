"""HTTP to one server: one pool, no redirects, no proxies, no cookies, bounded answers."""

import asyncio
from contextlib import suppress
from typing import Any, Final

import httpcore
import msgspec

from corral_kernel.causes import retry_after
from corral_kernel.errors import CorralError, RemoteServerError
from corral_remote import failures
from corral_remote.failures import AgainError
from corral_remote.keys import Secret
from corral_remote.network import CheckedNetwork
from corral_remote.places import Base, Limits

EVENTS: Final = "text/event-stream"
_OK: Final = 200
_FIELD_REFUSED: Final = frozenset({400, 422})
_ERROR_BYTES: Final = 64 << 10
_ERROR_S: Final = 5.0  # for the words of an error, once its status is known
_WRITE_S: Final = 120.0
_KEEPALIVE_S: Final = 30.0
_DRAIN_S: Final = 0.25
_DRAIN_BYTES: Final = 64 << 10
_NETWORK: Final = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)
_USAGE_FIELDS: Final = (b"stream_options", b"include_usage")


class RefusedFieldError(Exception):
    """A server does not know a field that a request can do without."""


class Answer:
    """The body of an answer, as it comes in."""

    def __init__(self, client: "Client", response: httpcore.Response) -> None:
        self._client = client
        self._response = response
        self._parts = response.aiter_stream().__aiter__()
        self.content_type = self.header(b"content-type").partition(";")[0].strip().lower()

    @property
    def status(self) -> int:
        """Of HTTP."""
        return self._response.status

    def header(self, name: bytes) -> str:
        """Give the first header of a name in lower case, without the key; empty: there is none."""
        found = (value for key, value in self._response.headers if key.lower() == name)
        return self._client.scrub(next(found, b"").decode("latin-1"))

    async def read(self, until: float) -> bytes:
        """Give the next bytes, empty at the end.

        Args:
            until: Time of the event loop at which to give up.

        Raises:
            TimeoutError: Then.
            AgainError: If the connection breaks.
        """
        async with asyncio.timeout_at(until):
            try:
                return await anext(self._parts, b"")
            except _NETWORK as error:
                raise AgainError(self._client.failed(error)) from None

    async def read_all(self, limit: int, until: float) -> bytes:
        """Give the whole rest.

        Raises:
            RemoteServerError: If it is over `limit` bytes.
        """
        data = bytearray()
        while part := await self.read(until):
            data += part
            if len(data) > limit:
                where = self._client.where
                raise RemoteServerError(f"the answer of {where} has over {limit} bytes")
        return bytes(data)

    async def drain(self) -> None:
        """Read the end of an answer that is complete, so that the connection can serve again."""
        until = asyncio.get_running_loop().time() + _DRAIN_S
        with suppress(TimeoutError, AgainError, CorralError):
            await self.read_all(_DRAIN_BYTES, until)

    async def aclose(self) -> None:
        """Give the connection back, or close it if there is more to come."""
        close = getattr(self._parts, "aclose", None)
        if close is not None:
            await close()
        await self._response.aclose()


class Client:
    """Asks one server; to be made and used in one event loop.

    Args:
        base: Where.
        key: Sent as bearer token; empty: none.
        network: What connections are opened by.
        limits: Of time.
        connections: At once at most.
    """

    def __init__(
        self, base: Base, key: Secret, network: CheckedNetwork, limits: Limits, connections: int
    ) -> None:
        self._base = base
        self._key = key
        self._limits = limits
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=httpcore.default_ssl_context() if base.scheme == "https" else None,
            max_connections=connections,
            keepalive_expiry=_KEEPALIVE_S,
            network_backend=network,
        )

    @property
    def where(self) -> str:
        """The base URL, for people."""
        return self._base.text

    def failed(self, error: Exception) -> CorralError:
        """Put words to an error of the connection."""
        return failures.of_connection(self.where, error, self._limits.connect_s, self.scrub)

    def scrub(self, text: str) -> str:
        """Take the key out of what the server said, which may repeat it."""
        return self._key.scrub(text)

    async def send(
        self, method: str, path: str, body: dict[str, Any] | None, until: float
    ) -> Answer:
        """Send a request and wait for the head of its answer; try once.

        Args:
            method: `GET` or `POST`.
            path: Below the base.
            body: To be sent as JSON; None: nothing.
            until: Time of the event loop at which to give up.

        Returns:
            An answer of status 200, to be closed.

        Raises:
            TimeoutError: If it takes too long.
            AgainError: If it failed in a way that may be gone at another try.
            RefusedFieldError: If the server does not know a field that it need not know.
            CorralError: If it failed otherwise.
        """
        request = self._request(method, path, body)
        async with asyncio.timeout_at(until):
            try:
                answer = Answer(self, await self._pool.handle_async_request(request))
            except (httpcore.ConnectError, httpcore.TimeoutException) as error:
                raise self.failed(error) from None
            except _NETWORK as error:  # often a connection that was kept a moment too long
                raise AgainError(self.failed(error)) from None
        try:
            if answer.status != _OK:
                await self._refused(answer, body or {})
            self._check_coding(answer)
        except BaseException:
            await answer.aclose()
            raise
        return answer

    def _request(self, method: str, path: str, body: dict[str, Any] | None) -> httpcore.Request:
        content = b"" if body is None else msgspec.json.encode(body)
        headers = {
            "Host": self._base.header,
            "User-Agent": "corral",
            "Accept": f"{EVENTS}, application/json",
            "Accept-Encoding": "identity",
        }
        if body is not None:
            headers |= {"Content-Type": "application/json", "Content-Length": str(len(content))}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key.reveal()}"
        limits = self._limits
        return httpcore.Request(
            method,
            httpcore.URL(
                scheme=self._base.scheme,
                host=self._base.host,
                port=self._base.port,
                target=f"{self._base.path}{path}",
            ),
            headers=list(headers.items()),
            content=content,
            extensions={
                "timeout": {"connect": limits.connect_s, "write": _WRITE_S, "pool": limits.first_s}
            },
        )

    async def _refused(self, answer: Answer, body: dict[str, Any]) -> None:
        """Raise what a status other than 200 means."""
        said = b""
        with suppress(TimeoutError, AgainError, CorralError):
            until = asyncio.get_running_loop().time() + _ERROR_S
            said = await answer.read_all(_ERROR_BYTES, until)
        status = answer.status
        asked = "stream_options" in body and status in _FIELD_REFUSED
        if asked and any(name in said for name in _USAGE_FIELDS):
            raise RefusedFieldError
        error = failures.of_status(
            self.where,
            status,
            said,
            model=body.get("model", ""),
            key=self._key.reference,
            scrub=self.scrub,
        )
        if failures.is_temporary(status):
            wait_s = retry_after(answer.header(b"retry-after"))
            raise AgainError(error, wait_s, answered=True)
        raise error

    def _check_coding(self, answer: Answer) -> None:
        coding = answer.header(b"content-encoding").strip().lower()
        if coding not in ("", "identity"):
            raise RemoteServerError(
                f"{self.where} answers in the encoding {coding[:50]!r}, which nobody asked for"
            )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()
