"""Settings from the environment: `CORRAL_X` wins over `OLLAMA_X`, as every reader here agrees.

    settings = Settings.from_environ(os.environ)
    bind_address(settings.host)     # (address, port) for a server to listen on
    connect_url(settings.host)      # "http://127.0.0.1:11434": where a client finds that server

A value that cannot be read is logged and its default taken, as Ollama does: a typing error in a
shell profile never keeps a server from starting.
"""

import ipaddress
import logging
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Final, Self, TypeVar

from msgspec import Struct

from corral_kernel.durations import FOREVER, MINUTE, parse_keep_alive
from corral_kernel.errors import InvalidRequestError
from corral_kernel.gotext import parse_bool

T = TypeVar("T")

DEFAULT_PORT: Final = 11434
DEFAULT_ADDRESS: Final = "127.0.0.1"
_SCHEME_PORTS: Final = {"http": 80, "https": 443}
_LAST_PORT: Final = 65535

_UINT: Final = re.compile(r"[0-9]{1,20}")
_UINT_LIMIT: Final = 2**64
_SIZE: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([KMGTP]?)(i?)B?", re.IGNORECASE)
_SIZE_FACTORS: Final[dict[str, dict[str, int]]] = {
    binary: {unit: base**power for power, unit in enumerate(("", "K", "M", "G", "T", "P"))}
    for binary, base in (("", 1000), ("i", 1024))
}

_log = logging.getLogger(__name__)


def variable(environ: Mapping[str, str], name: str) -> str:
    """Look up a setting by its bare name (`HOST`): `CORRAL_HOST`, else `OLLAMA_HOST`.

    Blanks and quotes around the value are taken off; what is then empty counts as not set.
    """
    return _clean(environ.get(f"CORRAL_{name}", "")) or _clean(environ.get(f"OLLAMA_{name}", ""))


def _clean(value: str) -> str:
    return value.strip().strip("\"'").strip()


def flag(environ: Mapping[str, str], name: str) -> bool | None:
    """Read a yes-or-no setting; any other text that is not empty counts as yes, none as `None`."""
    text = variable(environ, name)
    return _truth(text) if text else None


def _truth(text: str) -> bool:
    try:
        return parse_bool(text)
    except ValueError:
        return True


def parse_size(text: str) -> int:
    """Read a size in bytes: `8589934592`, `8G` or `8GB` (decimal units), `8GiB` (binary ones).

    Raises:
        InvalidRequestError: If `text` is no size.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise InvalidRequestError(
            f"{text[:100]!r} is no size: write bytes, or a number with K, M, G, T, KiB, MiB, GiB"
        )
    number, unit, binary = match.groups()
    factor = _SIZE_FACTORS[binary.lower()][unit.upper()]
    return int(Decimal(number) * factor)


class HostAddress(Struct, frozen=True):
    """Where a server is, as `CORRAL_HOST` or `OLLAMA_HOST` says it."""

    scheme: str = "http"
    host: str = DEFAULT_ADDRESS  # a name or an address without brackets; "" is every interface
    port: int = DEFAULT_PORT
    path: str = ""  # a prefix for clients: no slash at its end; "" or "/…"


def parse_host(text: str) -> HostAddress:
    """Read `[scheme://][host][:port][/path]`.

    Without a scheme the port is 11434, with `http` 80, with `https` 443; a port that is none
    falls back to that. Nothing is refused: what is left of odd text is a host that nobody has.
    """
    if text == "ollama.com":
        return HostAddress("https", "ollama.com", _SCHEME_PORTS["https"])
    before, found, after = text.partition("://")
    scheme, rest = (before, after) if found else ("http", text)
    default_port = _SCHEME_PORTS.get(scheme, DEFAULT_PORT) if found else DEFAULT_PORT
    authority, _, path = rest.partition("/")
    host, port = _split_port(authority)
    return HostAddress(scheme, host, _port(port, default_port), f"/{path.rstrip('/')}".rstrip("/"))


def _split_port(authority: str) -> tuple[str, str | None]:
    """Cut `host:port` apart; the port is `None` where the text has none."""
    bare = authority.strip("[]")
    if ":" in bare and _is_address(bare):
        return bare, None
    head, colon, tail = authority.rpartition(":")
    if not colon or "]" in tail:
        return bare or DEFAULT_ADDRESS, None
    if ":" in head and not (head.startswith("[") and head.endswith("]")):
        return authority, None  # more colons than one and no address: left as it is
    return head.strip("[]"), tail


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _port(text: str | None, default: int) -> int:
    if text is None:
        return default
    if _UINT.fullmatch(text) and int(text) <= _LAST_PORT:
        return int(text)
    _log.warning("invalid port %r, using %d", text[:100], default)
    return default


def bind_address(host: HostAddress) -> tuple[str, int]:
    """Give the address and port that a server listens on; no host at all is `0.0.0.0`."""
    return host.host or "0.0.0.0", host.port  # noqa: S104 - the user asked for every interface


def connect_url(host: HostAddress) -> str:
    """Give the URL, without a slash at its end, at which a client finds the server."""
    name = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host.host, host.host)  # noqa: S104 - compared, not bound
    shown = f"[{name}]" if ":" in name else name
    return f"{host.scheme}://{shown}:{host.port}{host.path}"


def is_local(host: HostAddress) -> bool:
    """Tell whether a client of `host` talks to this machine, over loopback."""
    if host.host in ("", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def home_dir(environ: Mapping[str, str]) -> Path:
    """Give the folder of our own files: `CORRAL_HOME`, by default `~/.corral`; absolute."""
    return _path(_clean(environ.get("CORRAL_HOME", "")) or "~/.corral")


class Settings(Struct, frozen=True, kw_only=True):
    """All that a server takes from its environment. Durations are nanoseconds, sizes bytes."""

    home: Path  # our own files
    models_dir: Path  # blobs and manifests
    host: HostAddress = HostAddress()
    origins: tuple[str, ...] = ()  # allowed besides the built-in ones; as written
    keep_alive_ns: int = 5 * MINUTE  # FOREVER: never unload
    load_timeout_ns: int = 5 * MINUTE  # without any progress; FOREVER: no limit
    step_timeout_ns: int = 2 * MINUTE  # of a worker that owes a frame; FOREVER: no limit
    stall_timeout_ns: int = (
        MINUTE  # of a client that reads nothing of its answer; FOREVER: no limit
    )
    max_loaded_models: int = 0  # 0: automatic
    num_parallel: int = 0  # requests at once for each model; 0: automatic
    max_queue: int = 512
    context_length: int = 0  # default num_ctx; 0: automatic
    flash_attention: bool | None = None  # None: automatic
    kv_cache_type: str = ""  # "" is f16
    memory_budget_bytes: int | None = None  # for all loaded models; None: what the machine has
    noprune: bool = False
    no_cloud: bool = False
    debug: int = 0  # 1: debug messages, 2: traces too
    plugins: tuple[str, ...] | None = None  # the only ones to load; None: all that are found
    disable_plugins: tuple[str, ...] = ()

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read every setting; what cannot be read is logged and its default taken.

        Paths come back absolute, with `~` replaced.
        """
        home = home_dir(environ)
        reader = _Reader(environ)
        return cls(
            home=home,
            models_dir=_path(variable(environ, "MODELS") or str(home / "models")),
            host=parse_host(variable(environ, "HOST")),
            origins=reader.items("ORIGINS") or (),
            keep_alive_ns=reader.duration("KEEP_ALIVE", 5 * MINUTE),
            load_timeout_ns=reader.duration("LOAD_TIMEOUT", 5 * MINUTE) or FOREVER,
            step_timeout_ns=reader.duration("STEP_TIMEOUT", 2 * MINUTE) or FOREVER,
            stall_timeout_ns=reader.duration("STALL_TIMEOUT", MINUTE) or FOREVER,
            max_loaded_models=reader.uint("MAX_LOADED_MODELS", 0),
            num_parallel=reader.uint("NUM_PARALLEL", 0),
            max_queue=reader.uint("MAX_QUEUE", 512),
            context_length=reader.uint("CONTEXT_LENGTH", 0),
            flash_attention=flag(environ, "FLASH_ATTENTION"),
            kv_cache_type=variable(environ, "KV_CACHE_TYPE").lower(),
            memory_budget_bytes=reader.read("MEMORY_BUDGET", parse_size, None),
            noprune=flag(environ, "NOPRUNE") or False,
            no_cloud=flag(environ, "NO_CLOUD") or False,
            debug=_debug_level(variable(environ, "DEBUG")),
            plugins=reader.items("PLUGINS"),
            disable_plugins=reader.items("DISABLE_PLUGINS") or (),
        )


class _Reader:
    """Reads typed settings, with a warning and the default for what cannot be read."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def read(self, name: str, parse: Callable[[str], T], default: T) -> T:
        text = variable(self._environ, name)
        if not text:
            return default
        try:
            return parse(text)
        except (ValueError, InvalidRequestError) as error:
            _log.warning("%s=%s is ignored: %s", name, text[:100], error)
            return default

    def uint(self, name: str, default: int) -> int:
        return self.read(name, _parse_uint, default)

    def duration(self, name: str, default: int) -> int:
        return self.read(name, parse_keep_alive, default)

    def items(self, name: str) -> tuple[str, ...] | None:
        text = variable(self._environ, name)
        found = tuple(item.strip() for item in text.split(",") if item.strip())
        return found or None


def _parse_uint(text: str) -> int:
    if not _UINT.fullmatch(text) or int(text) >= _UINT_LIMIT:
        raise ValueError("not a whole number of 0 or more")
    return int(text)


def _debug_level(text: str) -> int:
    if _UINT.fullmatch(text):
        return min(2, int(text))
    return int(bool(text) and _truth(text))


def _path(text: str) -> Path:
    return Path(text).expanduser().absolute()
