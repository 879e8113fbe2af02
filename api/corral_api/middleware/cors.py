"""Which web pages may read answers: the CORS rules of the native API."""

from collections.abc import Sequence
from typing import Final

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from corral_api.middleware.plain import header, send_empty
from corral_kernel.errors import CorralError

_LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104 (an origin, not a bind)
_LOCAL_ORIGINS: Final = tuple(
    origin
    for host in _LOCAL_HOSTS
    for origin in (f"http://{host}", f"https://{host}", f"http://{host}:*", f"https://{host}:*")
)
_APP_ORIGINS: Final = (
    "app://*",
    "file://*",
    "tauri://*",
    "vscode-webview://*",
    "vscode-file://*",
)
_SCHEMES: Final = (
    "http://",
    "https://",
    "chrome-extension://",
    "safari-extension://",
    "moz-extension://",
    "ms-browser-extension://",
)
_ALLOWED_HEADERS: Final = (
    b"Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,"
    b"X-Stainless-Arch,X-Stainless-Async,X-Stainless-Custom-Poll-Interval,"
    b"X-Stainless-Helper-Method,X-Stainless-Lang,X-Stainless-Os,X-Stainless-Package-Version,"
    b"X-Stainless-Poll-Helper,X-Stainless-Retry-Count,X-Stainless-Runtime,"
    b"X-Stainless-Runtime-Version,X-Stainless-Timeout"
)
_PREFLIGHT: Final = (
    (b"access-control-allow-methods", b"GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"),
    (b"access-control-allow-headers", _ALLOWED_HEADERS),
    (b"access-control-max-age", b"43200"),
)
_ALLOW_ORIGIN: Final = b"access-control-allow-origin"
_PREFLIGHT_VARY: Final = (
    (b"vary", b"Origin"),
    (b"vary", b"Access-Control-Request-Method"),
    (b"vary", b"Access-Control-Request-Headers"),
)


class InvalidOriginError(CorralError):
    """An entry of the list of allowed origins that can match nothing."""

    code = "invalid_origin"


class Origins:
    """The origins whose pages may read answers.

    Args:
        extra: Entries beside those for pages of this machine and of desktop applications: an
            origin, or a pattern with one `*` for any run of characters. `*` alone allows all.

    Raises:
        InvalidOriginError: If an entry has two `*`, or none and no scheme of a web page or of a
            browser's extension.
    """

    def __init__(self, extra: Sequence[str] = ()) -> None:
        entries = [entry.strip() for entry in extra]
        for entry in entries:
            _check(entry)
        self.all = "*" in entries
        entries += [*_LOCAL_ORIGINS, *_APP_ORIGINS]
        self._exact = frozenset(entry.lower() for entry in entries if "*" not in entry)
        self._patterns = tuple(
            (prefix, suffix)
            for prefix, star, suffix in (entry.partition("*") for entry in entries)
            if star
        )

    def allow(self, origin: str) -> bool:
        """Tell whether pages of `origin`, as a browser spells it, may read answers."""
        return (
            self.all
            or origin in self._exact
            or any(
                origin.startswith(prefix) and origin.endswith(suffix)
                for prefix, suffix in self._patterns
            )
        )


def _check(entry: str) -> None:
    stars = entry.count("*")
    if stars > 1:
        raise InvalidOriginError(f"allowed origin {entry!r}: use at most one '*'")
    if not stars and not entry.startswith(_SCHEMES):
        raise InvalidOriginError(
            f"allowed origin {entry!r}: begin it with one of {', '.join(_SCHEMES)}, or use a '*'"
        )


class Cors:
    """Answers preflights, refuses strange origins, and marks answers to the others.

    Requests without an origin, and those of pages that this server itself sent, pass untouched.
    """

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        origin, host = header(scope, b"origin"), header(scope, b"host")
        if not origin or origin in (b"http://" + host, b"https://" + host):
            await self._app(scope, receive, send)
        elif not self._origins.allow(origin.decode("latin-1")):
            await send_empty(send, 403)
        elif scope["method"] == "OPTIONS":
            vary = () if self._origins.all else _PREFLIGHT_VARY
            allowed = (_ALLOW_ORIGIN, b"*" if self._origins.all else origin)
            await send_empty(send, 204, [*_PREFLIGHT, *vary, allowed])
        else:
            await self._app(scope, receive, self._marking(send, origin))

    def _marking(self, send: Send, origin: bytes) -> Send:
        marks = [(_ALLOW_ORIGIN, b"*")]
        if not self._origins.all:
            marks = [(_ALLOW_ORIGIN, origin), (b"vary", b"Origin")]

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *marks]
            await send(message)

        return marked
