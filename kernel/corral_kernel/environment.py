"""Settings from the environment: `CORRAL_X` wins over `OLLAMA_X`, as every reader here agrees.

settings = Settings.from_environ(os.environ)

`corral_kernel.variables` tells people of each. A value that cannot be read is logged and its
default taken, as Ollama does: a typing error in a shell profile never keeps a server from
starting, unless it would then listen where nobody asked (`addresses.check_port`).
"""

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Final, Self, TypeVar

from msgspec import Struct

from corral_kernel.addresses import HostAddress, parse_host
from corral_kernel.durations import FOREVER, MILLISECOND, MINUTE, SECOND, parse_keep_alive
from corral_kernel.errors import InvalidRequestError
from corral_kernel.gotext import parse_bool
from corral_kernel.remotes import DEFAULT_REMOTES
from corral_kernel.variables import UNUSED

T = TypeVar("T")

_UINT: Final = re.compile(r"[0-9]{1,20}")
_UINT_LIMIT: Final = 2**64
_MAX_STREAMS: Final = 64
_STREAM_INTERVAL: Final = 30 * MILLISECOND
NO_PATHS: Final = "none"
OLLAMA_MODELS: Final = ("~/.ollama/models", "/usr/share/ollama/.ollama/models")
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


def home_dir(environ: Mapping[str, str]) -> Path:
    """Give the folder of our own files: `CORRAL_HOME`, by default `~/.corral`; absolute."""
    return _path(_clean(environ.get("CORRAL_HOME", "")) or "~/.corral")


class HiddenText(str):
    """A text with passwords in it, which no log shows."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'" if self else "''"


class Settings(Struct, frozen=True, kw_only=True):
    """All that a server takes from its environment. Durations are nanoseconds, sizes bytes."""

    home: Path  # our own files
    models_dir: Path  # blobs and manifests
    model_paths: tuple[Path, ...] = ()  # folders whose models are lent
    locked: Path | None = None  # a models.lock: its models are served, and no others
    locked_insecure: bool = False  # what of them is not here is fetched by plain http
    usual_model_paths: tuple[Path, ...] = ()  # where an Ollama on this machine keeps its own
    host: HostAddress = HostAddress()
    origins: tuple[str, ...] = ()  # allowed besides the built-in ones; as written
    keep_alive_ns: int = 5 * MINUTE  # FOREVER: never unload
    load_timeout_ns: int = 5 * MINUTE  # without any progress; FOREVER: no limit
    step_timeout_ns: int = 2 * MINUTE  # of a worker that owes a frame; FOREVER: no limit
    stall_timeout_ns: int = (
        MINUTE  # of a client that reads nothing of its answer; FOREVER: no limit
    )
    sampler_timeout_ns: int = SECOND  # of one call of a sampler or constraint; FOREVER: no limit
    stream_interval_ns: int = _STREAM_INTERVAL  # between two frames of text of a worker
    task_timeout_ns: int = 15 * MINUTE  # of converting without progress; FOREVER: no limit
    max_tasks: int = 2  # conversions, quantizations and comparisons at once
    strict_options: bool | None = None  # True: refuse unknown options; False: warn of all
    max_loaded_models: int = 0  # 0: automatic
    num_parallel: int = 0  # requests at once for each model; 0: automatic
    max_queue: int = 512
    context_length: int = 0  # default num_ctx; 0: automatic
    flash_attention: bool | None = None  # None: automatic
    kv_cache_type: str = ""  # "" is f16
    execution_provider: str = ""  # of ONNX Runtime; "": the backend's default
    memory_budget_bytes: int | None = None  # for all loaded models; None: what the machine has
    max_transfer_streams: int = 8  # parts of a blob that are fetched at once
    registry_auth: str = HiddenText()  # HOST=USER:PASSWORD, separated by commas
    go_template: bool | None = None  # of a Go and a Jinja template take Go's; None: by what they do
    noprune: bool = False
    no_cloud: bool = False
    debug: int = 0  # 1: debug messages, 2: traces too
    plugins: tuple[str, ...] | None = None  # the only ones to load; None: all that are found
    disable_plugins: tuple[str, ...] = ()
    backend_order: tuple[str, ...] = ()  # of those that bid, these go first
    remotes: tuple[str, ...] = DEFAULT_REMOTES  # hosts and networks that models may run on
    unused: tuple[str, ...] = ()  # what is set and not obeyed, in words for the log

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
            model_paths=_paths(variable(environ, "MODEL_PATHS")),
            locked=_path(locked) if (locked := variable(environ, "LOCKED")) else None,
            usual_model_paths=_usual_paths(environ),
            host=parse_host(variable(environ, "HOST")),
            origins=reader.items("ORIGINS") or (),
            keep_alive_ns=reader.duration("KEEP_ALIVE", 5 * MINUTE),
            load_timeout_ns=reader.duration("LOAD_TIMEOUT", 5 * MINUTE) or FOREVER,
            step_timeout_ns=reader.duration("STEP_TIMEOUT", 2 * MINUTE) or FOREVER,
            stall_timeout_ns=reader.duration("STALL_TIMEOUT", MINUTE) or FOREVER,
            sampler_timeout_ns=reader.duration("SAMPLER_TIMEOUT", SECOND) or FOREVER,
            stream_interval_ns=reader.duration("STREAM_INTERVAL", _STREAM_INTERVAL),
            task_timeout_ns=reader.duration("TASK_TIMEOUT", 15 * MINUTE) or FOREVER,
            max_tasks=max(reader.uint("MAX_TASKS", 2), 1),
            strict_options=flag(environ, "STRICT_OPTIONS"),
            max_loaded_models=reader.uint("MAX_LOADED_MODELS", 0),
            num_parallel=reader.uint("NUM_PARALLEL", 0),
            max_queue=reader.uint("MAX_QUEUE", 512),
            context_length=reader.uint("CONTEXT_LENGTH", 0),
            flash_attention=flag(environ, "FLASH_ATTENTION"),
            kv_cache_type=variable(environ, "KV_CACHE_TYPE").lower(),
            execution_provider=variable(environ, "EXECUTION_PROVIDER"),
            memory_budget_bytes=reader.read("MEMORY_BUDGET", parse_size, None),
            max_transfer_streams=min(max(reader.uint("MAX_TRANSFER_STREAMS", 8), 1), _MAX_STREAMS),
            registry_auth=HiddenText(variable(environ, "REGISTRY_AUTH")),
            go_template=flag(environ, "GO_TEMPLATE"),
            noprune=flag(environ, "NOPRUNE") or False,
            no_cloud=flag(environ, "NO_CLOUD") or False,
            debug=_debug_level(variable(environ, "DEBUG")),
            plugins=reader.items("PLUGINS"),
            disable_plugins=reader.items("DISABLE_PLUGINS") or (),
            backend_order=reader.items("BACKEND_ORDER") or (),
            remotes=reader.items("REMOTES") or DEFAULT_REMOTES,
            unused=tuple(_unused(environ)),
        )


def _unused(environ: Mapping[str, str]) -> Iterator[str]:
    for name, why in UNUSED.items():
        for prefix in ("CORRAL", "OLLAMA"):
            if _clean(environ.get(f"{prefix}_{name}", "")):
                yield f"{prefix}_{name} is ignored: {why}"


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
            _log.warning("%s=%s is ignored: %s", self._given(name), text[:100], error)
            return default

    def _given(self, name: str) -> str:
        """Name a variable as it was set."""
        ours = _clean(self._environ.get(f"CORRAL_{name}", ""))
        return f"CORRAL_{name}" if ours else f"OLLAMA_{name}"

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


def _paths(text: str) -> tuple[Path, ...]:
    items = [] if text == NO_PATHS else filter(None, text.split(os.pathsep))
    return tuple(dict.fromkeys(_path(item) for item in items))


def _usual_paths(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Where an Ollama on this machine keeps models; `MODEL_PATHS=none` looks nowhere."""
    if variable(environ, "MODEL_PATHS") == NO_PATHS:
        return ()
    set_there = _clean(environ.get("OLLAMA_MODELS", ""))
    return tuple(_path(item) for item in (set_there, *OLLAMA_MODELS) if item)


def _path(text: str) -> Path:
    return Path(text).expanduser().absolute()
