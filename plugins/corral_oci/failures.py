"""What goes wrong at a registry, in the words that Ollama's users know."""

import re
import socket
import ssl
from typing import Final

import httpx

from corral_kernel.causes import causes, retry_after
from corral_kernel.errors import RegistryError, RegistryUnavailableError

_WORDS: Final = 1000  # of what a registry says, that are repeated
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_TEMPORARY: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
_NOT_FOUND: Final = 404
_PLAIN_ANSWER: Final = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")

MAX_ERROR_BYTES: Final = 16 << 10
"""Of an answer that tells an error, that are read."""


def of_status(status: int, body: bytes, headers: httpx.Headers) -> RegistryError:
    """Make the error for a status of 400 or more."""
    if status == _NOT_FOUND:
        return RegistryError("file does not exist")
    text = f"{status}: {words(body)}"
    if status in _TEMPORARY:
        return RegistryUnavailableError(text, retry_after(headers.get("retry-after", "")))
    return RegistryError(text)


def words(body: bytes) -> str:
    """What a registry says, on one line and not too long."""
    said = _UNPRINTABLE.sub(" ", body.decode("utf-8", "replace")).strip()
    return said if len(said) <= _WORDS else f"{said[:_WORDS]}…"


def of_connection(
    error: httpx.HTTPError | httpx.InvalidURL, method: str, url: httpx.URL
) -> RegistryError:
    """Make the error for a request that got no answer, or half of one."""
    text = f'{method.title()} "{_shown(url)}": {_why(error, url)}'
    return RegistryUnavailableError(text)


def _shown(url: httpx.URL) -> str:
    """A URL without what signs it: that would let anybody do what we may."""
    return str(url.copy_with(query=None, fragment=None, username=None, password=None))


def _why(error: Exception, url: httpx.URL) -> str:
    where = f"{url.host}:{url.port or (443 if url.scheme == 'https' else 80)}"
    for cause in causes(error):
        if known := _known(cause, url.host, where):
            return known
    if isinstance(error, httpx.TimeoutException):
        return "i/o timeout"
    said = _UNPRINTABLE.sub(" ", str(error))[:_WORDS] or type(error).__name__
    cut = isinstance(error, httpx.RemoteProtocolError | httpx.ReadError)
    return f"unexpected EOF: {said}" if cut else said


def _known(cause: BaseException, host: str, where: str) -> str:
    if isinstance(cause, socket.gaierror):
        return f"dial tcp: lookup {host}: no such host"
    if isinstance(cause, ConnectionRefusedError):
        return f"dial tcp {where}: connect: connection refused"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"tls: failed to verify certificate: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError) and cause.reason in _PLAIN_ANSWER:
        return "http: server gave HTTP response to HTTPS client (for plain http: --insecure)"
    return ""
