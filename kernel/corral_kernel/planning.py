"""From a model and a request's options to what is to be loaded and how it is to be sampled."""

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from corral_kernel import options
from corral_kernel.contracts import Backend, FileRef, LoadOptions
from corral_kernel.environment import Settings
from corral_kernel.errors import InvalidModelError, InvalidOptionError, NoBackendError
from corral_kernel.models import ADAPTER_TYPE, WEIGHTS_TYPE, Model, ModelFile
from corral_kernel.options import RequestOptions
from corral_kernel.plugins import Bid, Plugins
from corral_kernel.scheduler import Want

logger = logging.getLogger(__name__)

AUTOMATIC_CONTEXT = 4096
SMALLEST_CONTEXT = 4
LOGGED_NAMES = 10
TOLD_NAMES = 1000
_ROLES = {WEIGHTS_TYPE: "weights", ADAPTER_TYPE: "adapter"}


class Plan(Struct, frozen=True, kw_only=True):
    """What one request comes to.

    Args:
        want: To be loaded.
        options: For the job.
        adapters: LoRA weights of the job.
    """

    want: Want
    options: RequestOptions
    adapters: tuple[FileRef, ...]


class Planner:
    """Chooses backends and resolves options.

    Args:
        plugins: Whose bids count.
        settings: Defaults of this server.
    """

    def __init__(self, plugins: Plugins, settings: Settings) -> None:
        self._plugins = plugins
        self._settings = settings
        self._told: set[tuple[str, str]] = set()

    def capabilities(self, model: Model) -> tuple[str, ...]:
        """What works with a model as it is installed here; nothing where no backend runs it."""
        bids = self._plugins.bids(model)
        chosen = model.parameters.get(options.BACKEND_OPTION)
        bid = next((b for b in bids if chosen in (None, b.claim.backend)), None)
        return bid.claim.capabilities if bid else ()

    def plan(self, model: Model, given: Mapping[str, Any]) -> Plan:
        """Resolve what a request needs.

        Args:
            model: The model.
            given: The request's own options; they replace the model's one by one.

        Raises:
            NoBackendError: If nothing installed runs the model.
            InvalidOptionError: For an option of a wrong type or range.
            InvalidModelError: If the model's files are missing or damaged.
        """
        merged = {**model.parameters, **{k: v for k, v in given.items() if v is not None}}
        bid = self._bid(model, merged.get(options.BACKEND_OPTION))
        _plugin, backend = self._plugins.backends[bid.claim.backend]
        request, load, unknown = options.coerce(merged, backend.options)
        self._tell_unknown(bid.claim.backend, unknown)
        load.pop(options.BACKEND_OPTION, None)
        automatic = frozenset(name for name in ("num_ctx", "num_batch") if not load.get(name))
        struct = self._load_options(backend, bid, load)
        return Plan(
            want=Want(
                key=bid.claim.share_key or _key(model),
                model=model,
                plugin=bid.plugin.name,
                claim=bid.claim,
                options=msgspec.to_builtins(struct),
                automatic=automatic,
                files=tuple(_ref(file) for file in model.files if file.media_type != ADAPTER_TYPE),
                slots=self._settings.num_parallel or None,
            ),
            options=options.build(RequestOptions, request),
            adapters=tuple(_ref(file) for file in model.adapters),
        )

    def _tell_unknown(self, backend: str, unknown: tuple[str, ...]) -> None:
        """Log options that nobody knows, each once: clients send them with every request."""
        new = [name for name in unknown[:LOGGED_NAMES] if (backend, name) not in self._told]
        if new and len(self._told) < TOLD_NAMES:
            self._told.update((backend, name) for name in new)
            names = ", ".join(map(repr, new))
            logger.warning("backend %s has no options %s: ignored", backend, names)

    def _bid(self, model: Model, chosen: Any) -> Bid:
        if model.problem:
            raise InvalidModelError(model.problem)
        bids = self._plugins.bids(model)
        if chosen is None and bids:
            return bids[0]
        for bid in bids:
            if bid.claim.backend == chosen:
                return bid
        if chosen is not None:
            if not isinstance(chosen, str):
                raise InvalidOptionError('option "backend" must be of type string')
            raise NoBackendError(self._why_not(model, chosen))
        raise NoBackendError(f"no installed backend runs {model.name.short}{self._hints()}")

    def _why_not(self, model: Model, chosen: str) -> str:
        found = self._plugins.backends.get(chosen)
        if found is None:
            have = ", ".join(sorted(self._plugins.backends)) or "none"
            return f"backend {chosen!r} is not installed; installed: {have}"
        if chosen in self._plugins.missing:
            backend = found[1]
            return f"backend {chosen!r} needs {backend.library}: pip install '{backend.extra}'"
        return f"backend {chosen!r} does not run {model.name.short}"

    def _hints(self) -> str:
        hints = {self._plugins.backends[name][0].hint for name in self._plugins.missing}
        return ": " + " or ".join(sorted(hints)) if hints else ""

    def _load_options(self, backend: Backend, bid: Bid, load: dict[str, Any]) -> LoadOptions:
        """The backend's own struct, with what the server's settings and the model decide."""
        fields = backend.options.__struct_fields__
        for name in ("flash_attention", "kv_cache_type"):
            setting = getattr(self._settings, name)
            if name in fields and name not in load and setting not in (None, ""):
                load[name] = setting
        context = load.get("num_ctx") or self._settings.context_length or AUTOMATIC_CONTEXT
        context = max(context, SMALLEST_CONTEXT)
        if bid.claim.context_tokens:
            context = min(context, bid.claim.context_tokens)
        load["num_ctx"] = context
        batch = load.get("num_batch") or _batch(
            context, embedding="embedding" in bid.claim.capabilities
        )
        load["num_batch"] = min(batch, context) if batch > 0 else batch  # more is never in a prompt
        return options.build(backend.options, load)


def _batch(context_tokens: int, *, embedding: bool) -> int:
    if embedding:
        return min(2048, context_tokens)
    for longer_than, batch in ((32768, 2048), (4096, 1024)):
        if context_tokens > longer_than:
            return batch
    return 512


def _key(model: Model) -> str:
    """Names with the same files share a worker; adapters are each request's own."""
    if model.weights is None:
        return f"manifest:{model.digest}"
    return " ".join(file.digest for file in model.files if file.media_type != ADAPTER_TYPE)


def _ref(file: ModelFile) -> FileRef:
    return FileRef(
        role=_ROLES.get(file.media_type, "file"),
        digest=file.digest,
        size_bytes=file.size_bytes,
        name=file.name,
        path=str(file.path),
    )
