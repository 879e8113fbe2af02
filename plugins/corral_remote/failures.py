"""What goes wrong at another server, in words that name it; and what is worth another try."""

import errno
import re
import ssl
from collections.abc import Callable
from typing import Any, Final

import httpcore
import msgspec

from corral_kernel.causes import causes
from corral_kernel.errors import (
    CorralError,
    PromptTooLongError,
    RemoteBusyError,
    RemoteRefusedError,
    RemoteServerError,
    RemoteTimeoutError,
)

_WORDS: Final = 300  # characters of another server's words that are repeated
_BLANK: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
_AUTH: Final = frozenset({401, 403})
_AGAIN: Final = frozenset({429, 500, 502, 503, 504, 529})
_TOO_LONG: Final = "context_length_exceeded"
_REDIRECTS: Final = range(300, 400)
_FAULTS: Final = range(500, 600)
_BUSY: Final = frozenset({429, 503, 529})
_NO_ROUTE: Final = frozenset({404, 405, 501})


class AgainError(Exception):
    """A failure that may be gone at another try.

    Args:
        error: What to raise in the end.
        after_s: How long the server asks to wait; None: it does not say.
        answered: Whether the server said so itself, by a status.
    """

    def __init__(
        self, error: CorralError, after_s: float | None = None, *, answered: bool = False
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.after_s = after_s
        self.answered = answered


def of_status(  # noqa: PLR0913 - all of what an error tells
    where: str,
    status: int,
    body: bytes,
    *,
    model: str = "",
    key: str = "",
    scrub: Callable[[str], str] = str,
) -> CorralError:
    """Make the error for an answer that is none.

    Args:
        where: The base URL.
        status: Not 200.
        body: As much of it as was read.
        model: That was asked for; empty: none was.
        key: The reference of the key that was sent; empty: none was.
        scrub: Takes out what must not be shown.
    """
    kind, what = _meaning(status, body, model, key)
    said = words(body, scrub)
    return kind(f"{where} {what} ({status})" + (f": {said}" if said else ""))


def _meaning(status: int, body: bytes, model: str, key: str) -> tuple[type[CorralError], str]:
    kind: type[CorralError] = RemoteRefusedError
    if status in _REDIRECTS:
        kind = RemoteServerError
        what = "redirects, which is not followed: give the address that it leads to"
    elif status in _AUTH:
        kind = RemoteServerError
        what = f"refused the key of {key}" if key else "wants a key (PARAMETER api_key)"
    elif status in _BUSY:
        kind, what = RemoteBusyError, "is busy"
    elif status in _NO_ROUTE:
        what = f"has no model {model!r}, or no such route" if model else "has no such route"
    elif status in _FAULTS:
        kind, what = RemoteServerError, "failed"
    else:
        kind = PromptTooLongError if _code(body) == _TOO_LONG else RemoteRefusedError
        what = "refused the request"
    return kind, what


def is_temporary(status: int) -> bool:
    """Whether a status may be another one at the next try."""
    return status in _AGAIN


def words(body: bytes, scrub: Callable[[str], str] = str) -> str:
    """Find what a server says of an error, on one line and not too long; empty: nothing.

    Args:
        body: As it came.
        scrub: Takes out what must not be shown: after decoding, which may bring it to light, and
            before cutting, which may leave the half of it.
    """
    try:
        found = _message(msgspec.json.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = body.decode("utf-8", "replace")
        found = "" if text.lstrip().startswith("<") else text  # a proxy's page says nothing
    line = _BLANK.sub(" ", scrub(found)).strip()
    return line if len(line) <= _WORDS else f"{line[:_WORDS]}…"


def _message(spec: Any) -> str:
    """Look where servers put it: `error.message`, `error`, `message`, `detail`."""
    if not isinstance(spec, dict):
        return spec if isinstance(spec, str) else ""
    for name in ("error", "message", "detail"):
        value = spec.get(name)
        if isinstance(value, dict):
            return _message(value)
        if isinstance(value, list) and value:
            return msgspec.json.encode(value).decode()
        if value:
            return str(value)
    return ""


def _code(body: bytes) -> str:
    try:
        spec = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    error = spec.get("error") if isinstance(spec, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) else ""


def told_in_stream(where: str, error: Any, scrub: Callable[[str], str]) -> CorralError:
    """Make the error for an error object in the middle of a stream."""
    said = words(msgspec.json.encode({"error": error}), scrub)
    return RemoteServerError(f"{where} broke the answer off: {said or 'it does not say why'}")


def of_connection(
    where: str, error: Exception, connect_s: float, scrub: Callable[[str], str]
) -> CorralError:
    """Make the error for a connection that failed.

    Args:
        where: The base URL.
        error: What httpcore raised.
        connect_s: What a connection may take.
        scrub: Takes out what must not be shown.
    """
    if isinstance(error, httpcore.ConnectTimeout):
        return RemoteTimeoutError(f"{where} took no connection within {connect_s:g} s")
    if isinstance(error, httpcore.TimeoutException):
        return RemoteTimeoutError(
            f"{where} stopped reading the request, or no connection to it is free"
        )
    if isinstance(error, httpcore.ConnectError):
        return RemoteServerError(_connect_words(where, error))
    if isinstance(error, httpcore.RemoteProtocolError):
        return RemoteServerError(
            f"{where} does not speak HTTP as it should: {words(str(error).encode(), scrub)}"
        )
    return RemoteServerError(f"the connection to {where} was cut")


def _connect_words(where: str, error: Exception) -> str:
    for cause in causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate of {where} is not trusted: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return f"{where} does not speak TLS as it should: {cause.reason or cause}"
        if isinstance(cause, ConnectionRefusedError) or _errno(cause) == errno.ECONNREFUSED:
            return f"{where} refused the connection: is the server running there?"
    return f"no connection to {where}: {words(str(error).encode()) or type(error).__name__}"


def _errno(error: BaseException) -> int | None:
    return error.errno if isinstance(error, OSError) else None
