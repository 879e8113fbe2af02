"""From a model and a request's options to what is to be loaded and how it is to be sampled."""

import logging
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import msgspec
from msgspec import Struct

from corral_kernel.catalog import option_clashes
from corral_kernel.chains import Chain, resolve
from corral_kernel.contracts import Backend, EngineInfo, FileRef, LoadOptions
from corral_kernel.environment import Settings
from corral_kernel.errors import InvalidModelError, InvalidOptionError, NoBackendError
from corral_kernel.fields import build
from corral_kernel.gotext import quote
from corral_kernel.models import ADAPTER_TYPE, WEIGHTS_TYPE, Model, ModelFile
from corral_kernel.options import BACKEND, SAMPLERS, Given, OptionTable, RequestOptions
from corral_kernel.plugins import Bid, Plugins
from corral_kernel.scheduler import Want

logger = logging.getLogger(__name__)

AUTOMATIC_CONTEXT = 4096
SMALLEST_CONTEXT = 4
TOLD_NAMES = 20
NAME_CHARACTERS = 100
_ROLES = {WEIGHTS_TYPE: "weights", ADAPTER_TYPE: "adapter"}


class Plan(Struct, frozen=True, kw_only=True):
    """What one request comes to.

    Args:
        want: To be loaded.
        options: For the job.
        chain: Its samplers.
        adapters: LoRA weights of the job.
        warnings: What of the options nothing obeys, for the client.
        load_names: Load options that the request or the model sets.
    """

    want: Want
    options: RequestOptions
    chain: Chain
    adapters: tuple[FileRef, ...]
    warnings: tuple[str, ...]
    load_names: frozenset[str]

    def told_by(self, info: EngineInfo) -> tuple[str, ...]:
        """What of the load options a loaded engine does not follow, for the client.

        Args:
            info: The engine's.
        """
        told = {name: info.warnings[name] for name in self.load_names if name in info.warnings}
        drafts = self.want.options.get("draft_num_predict")
        if drafts and "draft_num_predict" in self.load_names and "drafts" not in info.capabilities:
            told.setdefault("draft_num_predict", "is ignored: the engine takes no drafts")
        return tuple(f'option "{name}" {told[name]}' for name in sorted(told))


class Planner:
    """Chooses backends and resolves options.

    Args:
        plugins: Whose bids count.
        settings: Defaults of this server.
    """

    def __init__(self, plugins: Plugins, settings: Settings) -> None:
        self._plugins = plugins
        self._settings = settings
        self._tables: dict[str, OptionTable] = {}

    def capabilities(self, model: Model) -> tuple[str, ...]:
        """What works with a model as it is installed here; nothing where no backend runs it."""
        bids = self._plugins.bids(model)
        chosen = model.parameters.get(BACKEND.name)
        bid = next((b for b in bids if chosen in (None, b.claim.backend)), None)
        return bid.claim.capabilities if bid else ()

    def plan(self, model: Model, given: Mapping[str, Any], *, samples: bool = True) -> Plan:
        """Resolve what a request needs.

        Args:
            model: The model.
            given: The request's own options; they replace the model's one by one.
            samples: Whether it makes text, so that options of sampling mean something.

        Raises:
            NoBackendError: If nothing installed runs the model.
            InvalidOptionError: For an option of a wrong type or range.
            InvalidModelError: If the model's files are missing or damaged.
        """
        merged = {**model.parameters, **{k: v for k, v in given.items() if v is not None}}
        bid = self._bid(model, merged.get(BACKEND.name))
        _plugin, backend = self._plugins.backends[bid.claim.backend]
        table = self._table(backend)
        found = table.sort(merged)
        chain, told = resolve(table, found, lenient=self._settings.strict_options is False)
        load = dict(found.load)
        automatic = frozenset(name for name in ("num_ctx", "num_batch") if not load.get(name))
        struct = self._load_options(backend, bid, load)
        warnings = [
            *self._unknown(table, found, given),
            *(told if samples else _not_sampled(found, given)),
            *_sized(found.load, struct, bid),
        ]
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
            options=build(RequestOptions, found.request),
            chain=chain,
            adapters=tuple(_ref(file) for file in model.adapters),
            warnings=tuple(warnings),
            load_names=frozenset(found.load),
        )

    def _table(self, backend: Backend) -> OptionTable:
        """Who knows what, where this backend is in charge."""
        if not self._tables:
            for clash in option_clashes(self._plugins):
                losers = ", ".join(clash.losers)
                logger.warning("option %r is %s's, not %s's", clash.name, clash.winner, losers)
        if backend.name not in self._tables:
            samplers = {name: kind for name, (_, kind) in self._plugins.samplers.items()}
            self._tables[backend.name] = OptionTable(backend.options, samplers)
        return self._tables[backend.name]

    def _unknown(self, table: OptionTable, found: Given, given: Mapping[str, Any]) -> Iterator[str]:
        """Tell what nobody obeys, in words for the client; of very many names the first few.

        Raises:
            InvalidOptionError: For an unknown option of the request's own, where strict.
        """
        for name in found.retired:
            yield f'option "{name}" is ignored: nothing here obeys it any more'
        strict = self._settings.strict_options
        # Guessing takes a while: a request with thousands of names gets few guesses.
        for name in islice(found.unknown, TOLD_NAMES):
            shown, guess = quote(name[:NAME_CHARACTERS]), table.guess(name)
            if strict and name in given:
                raise InvalidOptionError(f"option {shown} is unknown{guess}")
            yield f"option {shown} is unknown and ignored{guess}"
        more = len(found.unknown) - TOLD_NAMES
        if more > 0:
            if strict and (own := next((n for n in found.unknown if n in given), None)):
                raise InvalidOptionError(f"option {quote(own[:NAME_CHARACTERS])} is unknown")
            yield f"{more} more options are unknown and ignored"

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
            raise NoBackendError(self._why_not(model, BACKEND.convert(chosen)))
        raise NoBackendError(f"no installed backend runs {model.name.short}{self._hints()}")

    def _why_not(self, model: Model, chosen: str) -> str:
        found = self._plugins.backends.get(chosen)
        if found is None:
            have = ", ".join(sorted(self._plugins.backends)) or "none"
            return f"backend {chosen[:NAME_CHARACTERS]!r} is not installed; installed: {have}"
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
        return build(backend.options, load)


def _sized(load: Mapping[str, Any], effective: LoadOptions, bid: Bid) -> Iterator[str]:
    """Tell of a context length that is not the one that was asked for."""
    asked, context = load.get("num_ctx"), effective.num_ctx
    if asked and asked < context:
        yield f'option "num_ctx" is {asked}; the least is {context}, which is used'
    if asked and asked > context:
        trained = bid.claim.context_tokens
        yield f'option "num_ctx" is {asked}; the model was trained for {trained}, which is used'


def _not_sampled(found: Given, given: Mapping[str, Any]) -> Iterator[str]:
    """Tell of the request's own options that mean something only where text is made."""
    known = (*found.request, *found.flat, *found.nested, SAMPLERS.name)
    names = [name for name in known if given.get(name) is not None]
    for name in dict.fromkeys(names):
        yield f'option "{name}" is ignored: vectors are not sampled'


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
