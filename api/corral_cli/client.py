"""The HTTP client: one request a call, streams line by line, every failure a clear error."""

import os
import platform
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Self, TypeVar

import httpx
import msgspec

from corral_cli import wire
from corral_cli.errors import BrokenAnswerError, NoServerError, ServerError, UnreachableError
from corral_kernel import __version__
from corral_kernel.addresses import HostAddress, check_port, connect_url, is_local, parse_host
from corral_kernel.environment import variable

T = TypeVar("T")
L = TypeVar("L", bound=wire.Line)

MAX_LINE_BYTES: Final = 8 * 1024 * 1024
MAX_BODY_BYTES: Final = 512 * 1024 * 1024
NOT_FOUND: Final = 404
_NO_ROUTE: Final = "404 page not found"  # what servers of Go say, and ours
_FIRST_ERROR: Final = 400
_NDJSON: Final = "application/x-ndjson"
_BREAKS: Final = (httpx.ReadError, httpx.RemoteProtocolError, httpx.WriteError)


def connect(environ: Mapping[str, str] = os.environ, *, start: bool = True) -> "Client":
    """Find the server that the environment names.

    Args:
        environ: The environment.
        start: Whether one is started in the background where none answers on this machine.

    Raises:
        UnreachableError: If there is no server, and there cannot be one.
        InvalidRequestError: If the address has no good port.
    """
    host = parse_host(variable(environ, "HOST"))
    check_port(host)
    client = Client(host)
    if client.answers():
        return client
    if host.scheme != "http" or host.path or not is_local(host):
        raise UnreachableError(
            f"could not connect to {client.url}: {client.refusal}; "
            "is the address in CORRAL_HOST (or OLLAMA_HOST) right, and does a server run there?"
        )
    if not start:
        raise NoServerError
    from corral_cli.background import start_server

    start_server(environ, client.answers)
    return client


class Client:
    """Requests to one server."""

    def __init__(self, host: HostAddress) -> None:
        self.url = connect_url(host)
        self.is_here = is_local(host)  # on this machine
        self.refusal = ""  # why nothing answered, in the words of the operating system
        try:
            self._http = httpx.Client(
                base_url=self.url,
                # Loading a model may take minutes, in which nothing is sent.
                timeout=httpx.Timeout(None, connect=30.0),
                trust_env=not is_local(host),  # proxies are for other machines
                headers={"User-Agent": f"corral/{__version__} ({platform.machine()} {os.name})"},
            )
        except httpx.InvalidURL as error:
            raise UnreachableError(f"{self.url!r} is no address of a server: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def answers(self) -> bool:
        """Tell whether a server answers at all, whatever it says.

        Raises:
            UnreachableError: If something is there that speaks no HTTP, or says nothing.
        """
        try:
            self._http.head("/", timeout=30.0)
        except httpx.ConnectError as error:
            self.refusal = str(error)
            return False
        except httpx.ConnectTimeout:
            raise UnreachableError(f"no answer from {self.url}") from None
        except httpx.TimeoutException:
            raise UnreachableError(
                f"what listens at {self.url} does not answer; is it a corral server?"
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UnreachableError(f"no corral server at {self.url}: {error}") from None
        return True

    def get(self, path: str, kind: type[T]) -> T:
        """Ask for a JSON document.

        Raises:
            ServerError: If the server reports an error.
            BrokenAnswerError: If the answer is cut off, or not what it should be.
        """
        return _decode(self._request("GET", path), kind)

    def post(self, path: str, body: Mapping[str, Any], kind: type[T]) -> T:
        """Send a JSON document and read one back; raises what `get` raises."""
        return _decode(self._request("POST", path, body), kind)

    def send(self, method: str, path: str, body: Mapping[str, Any]) -> None:
        """Send a JSON document where the answer is empty; raises what `get` raises."""
        self._request(method, path, body)

    def has_blob(self, digest: str) -> bool:
        """Ask whether the server holds a blob already."""
        try:
            self._request("HEAD", f"/api/blobs/{digest}")
        except ServerError as error:
            if error.status == NOT_FOUND:
                return False
            raise
        return True

    def upload(self, digest: str, size_bytes: int, pieces: Iterator[bytes]) -> None:
        """Send a blob, piece by piece as `pieces` gives them; raises what `get` raises."""
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(size_bytes),
        }
        self._read("POST", f"/api/blobs/{digest}", content=pieces, headers=headers)

    def stream(self, path: str, body: Mapping[str, Any], kind: type[L]) -> Generator[L]:
        """Send a JSON document and give the lines of the answer as they come.

        Closing the iterator closes the connection, by which the server stops its work.

        Raises:
            ServerError: For an error status (the message then begins with it), or for an error
                line in the middle.
            BrokenAnswerError: For an answer that is cut off, or holds what is no such line.
        """
        decoder = msgspec.json.Decoder(kind)
        headers = {"Content-Type": "application/json", "Accept": _NDJSON}
        with self._open("POST", path, msgspec.json.encode(body), headers) as response:
            if response.status_code >= _FIRST_ERROR:
                text = _error_text(_limited(response))
                if not text or text == _NO_ROUTE:
                    raise self._wordless(response, text)
                status = f"{response.status_code} {response.reason_phrase}"
                raise ServerError(f"{status}: {text}", response.status_code)
            for line in _lines(response):
                try:
                    decoded = decoder.decode(line)
                except msgspec.MsgspecError as error:
                    raise BrokenAnswerError(f"unreadable line from the server: {error}") from None
                if decoded.error:
                    raise ServerError(str(decoded.error))
                yield decoded

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        content = None if body is None else msgspec.json.encode(body)
        return self._read(method, path, content=content, headers=headers)

    def _read(
        self,
        method: str,
        path: str,
        content: bytes | Iterator[bytes] | None,
        headers: Mapping[str, str],
    ) -> bytes:
        with self._open(method, path, content, headers) as response:
            answer = _limited(response)
        if response.status_code < _FIRST_ERROR:
            return answer
        text = _error_text(answer)
        if not text or text == _NO_ROUTE:
            raise self._wordless(response, text)
        raise ServerError(text, response.status_code)

    def _wordless(self, response: httpx.Response, text: str) -> ServerError:
        """Make an error of an answer that gives no reason, or none that helps."""
        if text:
            return ServerError(
                f"the server at {self.url} does not know {response.request.url.path}: it is older "
                "than this command, or not Corral; start it anew ('corral shutdown' ends one in "
                "the background)",
                response.status_code,
            )
        status = f"{response.status_code} {response.reason_phrase}"
        message = f"{self.url} answered {status} and gave no reason; is a corral server there?"
        return ServerError(message, response.status_code)

    @contextmanager
    def _open(
        self,
        method: str,
        path: str,
        content: bytes | Iterator[bytes] | None,
        headers: Mapping[str, str],
    ) -> Iterator[httpx.Response]:
        try:
            with self._http.stream(method, path, content=content, headers=headers) as response:
                yield response
        except httpx.ConnectError as error:
            raise UnreachableError(
                f"could not connect to {self.url} any more: {error}; "
                "has the server ended? Its log tells why"
            ) from None
        except _BREAKS:
            raise BrokenAnswerError(
                f"the server at {self.url} closed the connection in the middle: it ended, or what "
                "stands between gave up; its log may tell why"
            ) from None
        except httpx.HTTPError as error:
            raise BrokenAnswerError(f"no answer from {self.url}: {error}") from None


def _limited(response: httpx.Response) -> bytes:
    answer = bytearray()
    for piece in response.iter_bytes():
        answer += piece
        if len(answer) > MAX_BODY_BYTES:
            raise BrokenAnswerError(f"the server's answer is over {MAX_BODY_BYTES} bytes long")
    return bytes(answer)


def _lines(response: httpx.Response) -> Iterator[bytes]:
    waiting = bytearray()
    for piece in response.iter_bytes():
        waiting += piece
        *whole, rest = waiting.split(b"\n")
        for line in whole:
            yield bytes(line)
        waiting = bytearray(rest)
        if len(waiting) > MAX_LINE_BYTES:
            raise BrokenAnswerError(f"the server sent a line of over {MAX_LINE_BYTES} bytes")
    if waiting:
        yield bytes(waiting)


def _decode(answer: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(answer, type=kind)
    except msgspec.MsgspecError as error:
        raise BrokenAnswerError(f"unreadable answer from the server: {error}") from None


def _error_text(answer: bytes) -> str:
    """Take the `error` out of a body, or the body itself where there is none."""
    try:
        found = msgspec.json.decode(answer, type=wire.Line).error
    except msgspec.MsgspecError:
        found = None
    return str(found) if found else answer.decode("utf-8", "replace").strip()[:4096]
