"""From a model and a request's options to what is to be loaded and how it is to be sampled."""

import logging
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import msgspec
from msgspec import Struct

from corral_kernel.calls import BackendChoice
from corral_kernel.catalog import option_clashes
from corral_kernel.chains import Chain, resolve
from corral_kernel.choosing import NAME_CHARACTERS, Choice, Choosing
from corral_kernel.choosing import told as bid_told
from corral_kernel.contracts import Backend, Claim, EngineInfo, FileRef, LoadOptions
from corral_kernel.environment import Settings
from corral_kernel.errors import CorralError, InvalidOptionError
from corral_kernel.fields import build
from corral_kernel.forwarding import (
    Forwarded,
    active_options,
    check_key,
    forward,
    told_of_others,
    without_ignored,
)
from corral_kernel.gotext import quote
from corral_kernel.models import (
    ADAPTER_TYPE,
    DRAFT_TYPE,
    FILE_TYPE,
    PROJECTOR_TYPE,
    WEIGHTS_TYPE,
    Model,
    ModelFile,
)
from corral_kernel.options import SAMPLERS, Given, OptionTable, RequestOptions
from corral_kernel.plugins import Bid, Plugins
from corral_kernel.scheduler import Want

logger = logging.getLogger(__name__)

AUTOMATIC_CONTEXT = 4096
SMALLEST_CONTEXT = 4
TOLD_NAMES = 20
_ROLES = {
    WEIGHTS_TYPE: "weights",
    ADAPTER_TYPE: "adapter",
    PROJECTOR_TYPE: "projector",
    DRAFT_TYPE: "draft",
}


class Plan(Struct, frozen=True, kw_only=True):
    """What one request comes to.

    Args:
        want: To be loaded.
        options: For the job.
        chain: Its samplers.
        adapters: LoRA weights of the job.
        warnings: What of the options nothing obeys, for the client.
        load_names: Load options that the request or the model sets.
        sampling: Options of sampling for an engine with a loop of its own.
        choice: Of the backend.
    """

    want: Want
    options: RequestOptions
    chain: Chain
    adapters: tuple[FileRef, ...]
    warnings: tuple[str, ...]
    load_names: frozenset[str]
    sampling: dict[str, Any] = {}
    choice: Choice

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

    Attributes:
        choosing: Of backends.
    """

    def __init__(self, plugins: Plugins, settings: Settings) -> None:
        self._plugins = plugins
        self._settings = settings
        self.choosing = Choosing(plugins, settings.backend_order)
        self._tables: dict[str, OptionTable] = {}

    def claim(self, model: Model) -> Claim | None:
        """The bid of the backend that would run a model as it is installed here; None: none."""
        try:
            return self.choosing.choose(model, {}).bid.claim
        except CorralError:
            return None

    def choice(self, model: Model) -> BackendChoice:
        """Which backend would run a model and why, who else bids, and who cannot for now."""
        absent = self.choosing.absent(model)
        try:
            told = self.plan(model, {}).choice.to_call()
        except CorralError as error:
            told = BackendChoice(
                error=str(error), others=tuple(bid_told(b) for b in self.choosing.bids(model))
            )
        return msgspec.structs.replace(told, absent=absent)

    def keys(self, model: Model) -> tuple[str, ...]:
        """Keys of all workers that may run a model, whichever backend a request chose."""
        bids = self.choosing.bids(model)
        return tuple(dict.fromkeys(bid.claim.share_key or _key(model) for bid in bids))

    def plan(self, model: Model, given: Mapping[str, Any], *, samples: bool = True) -> Plan:
        """Resolve what a request needs.

        Args:
            model: The model.
            given: The request's own options; they replace the model's one by one.
            samples: Whether it makes text, so that options of sampling mean something.

        Raises:
            NoBackendError: If nothing installed runs the model, or not what was asked for.
            InvalidOptionError: For an option of a wrong type or range.
            InvalidModelError: If the model's files are missing or damaged.
        """
        merged = {**model.parameters, **{k: v for k, v in given.items() if v is not None}}
        choice = self.choosing.choose(model, given)
        bid = choice.bid
        _plugin, backend = self._plugins.backends[bid.claim.backend]
        table = self._table(backend)
        check_key(model, given, table.load)
        found = table.sort(merged)
        lenient = self._settings.strict_options is False
        chain, told = resolve(table, found, lenient=lenient)
        forwarded = Forwarded()
        if bid.claim.takes != "tokens" and samples:
            active = active_options(table, found, chain)
            forwarded = forward(model, bid.claim, found, active, lenient=lenient)
            told = [*told_of_others(told, forwarded), *forwarded.warnings]
        load, ignored = without_ignored(bid.claim, found.load)
        automatic = frozenset(name for name in ("num_ctx", "num_batch") if not load.get(name))
        struct = self._load_options(backend, bid, dict(load))
        warnings = [
            *self._unknown(table, found, given),
            *(told if samples else _not_sampled(found, given)),
            *ignored,
            *_sized(load, struct, bid),
        ]
        return Plan(
            want=Want(
                key=bid.claim.share_key or _key(model),
                model=model,
                plugin=bid.plugin.name,
                claim=bid.claim,
                options=msgspec.to_builtins(struct),
                automatic=automatic,
                files=tuple(_ref(model, f) for f in model.files if f.media_type != ADAPTER_TYPE),
                slots=self._settings.num_parallel or None,
            ),
            options=build(RequestOptions, found.request),
            chain=chain if bid.claim.takes == "tokens" else Chain(),
            sampling=forwarded.sampling,
            adapters=tuple(_ref(model, file) for file in model.adapters),
            warnings=tuple(warnings),
            load_names=frozenset(load),
            choice=choice,
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

    def _load_options(self, backend: Backend, bid: Bid, load: dict[str, Any]) -> LoadOptions:
        """The backend's own struct, with what the server's settings and the model decide."""
        fields = backend.options.__struct_fields__
        for name in ("flash_attention", "kv_cache_type", "execution_provider"):
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
    if model.weights is None and not model.folder_files:
        return f"manifest:{model.digest}"
    apart = (ADAPTER_TYPE, FILE_TYPE)
    alone = [file.digest for file in model.files if file.media_type not in apart]
    return " ".join(filter(None, (model.folder_key, *alone)))


def _ref(model: Model, file: ModelFile) -> FileRef:
    path = file.path
    if file.media_type == FILE_TYPE and model.folder:
        path = model.folder / file.name  # it will lie there: see `Store.lay_out`
    return FileRef(
        role=_ROLES.get(file.media_type, "file"),
        digest=file.digest,
        size_bytes=file.size_bytes,
        name=file.name,
        path=str(path),
    )
