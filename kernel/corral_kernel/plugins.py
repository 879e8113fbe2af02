"""Discovery of plugins, and the only code that calls a hook: one plugin at a time."""

import importlib.metadata
import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import msgspec
import pluggy

from corral_kernel import API_VERSION
from corral_kernel.contracts import (
    Backend,
    ChatParser,
    ChatRenderer,
    Claim,
    ConstraintType,
    Converter,
    Engine,
    LoadRequest,
    Maker,
    Quantizer,
    Registry,
    SamplerType,
)
from corral_kernel.entry_points import distribution_of, found_entry_points
from corral_kernel.errors import PluginError
from corral_kernel.given import ANYTHING, all_of, library_found, name_of
from corral_kernel.models import Model
from corral_kernel.registry_verbs import RegistryVerbs
from corral_kernel.samplers import standard_samplers

logger = logging.getLogger(__name__)
hookimpl = pluggy.HookimplMarker("corral")

T = TypeVar("T")

_MIXED: dict[str, tuple[type[Any], ...]] = {"corral_chat_formats": (ChatRenderer, ChatParser)}
"""Hooks that give things of several types."""

MAKING = {"corral_converters", "corral_quantizers"}
"""Hooks of plugins that only work on files."""


@dataclass(slots=True)
class Plugin:
    """One entry point, loaded or not.

    Attributes:
        name: Of the entry point; what `CORRAL_PLUGINS` and `CORRAL_DISABLE_PLUGINS` name.
        distribution: That it came with, and its `version`.
        status: `ok`, `failed`, `disabled`, or `unavailable` (its library is not installed).
        error: Why it failed, or what a hook of it raised last.
        hint: What to do about it.
        hooks: Names of those it implements.
        api_version: Of the contract that it was written for.
    """

    name: str
    distribution: str
    version: str
    status: str = "ok"
    error: str = ""
    hint: str = ""
    hooks: tuple[str, ...] = ()
    api_version: int | None = None
    _manager: pluggy.PluginManager | None = field(default=None, repr=False)

    def load(self, entry_point: importlib.metadata.EntryPoint) -> None:
        """Import the entry module and look at its hooks; what goes wrong is recorded."""
        from corral_kernel import hookspecs

        # A manager of its own: pluggy drops every answer when one implementation raises.
        manager = pluggy.PluginManager("corral")
        manager.add_hookspecs(hookspecs)
        try:
            module = entry_point.load()
            self._check_version(getattr(module, "CORRAL_API_VERSION", None))
            manager.register(module, self.name)
            manager.check_pending()
        except ANYTHING as error:
            self.fail(f"{type(error).__name__}: {error}")
            return
        callers = manager.get_hookcallers(module) or []
        self.hooks = tuple(sorted(caller.name for caller in callers))
        self._manager = manager

    def _check_version(self, version: object) -> None:
        if isinstance(version, int):
            self.api_version = version
        if version != API_VERSION:
            raise PluginError(
                f"it is written for plugin API {version}, this is {API_VERSION}: "
                f"set CORRAL_API_VERSION = {API_VERSION} once it follows that contract"
            )

    def fail(self, why: str) -> None:
        """Leave it out."""
        self.status, self.error = "failed", " ".join(why.split())  # pluggy's words have lines
        logger.warning("plugin %s of %s is left out: %s", self.name, self.distribution, why)

    def ask(self, hook: str, **arguments: Any) -> Any:
        """Call one hook of this plugin alone; None where it does not implement it."""
        if self._manager is None or hook not in self.hooks:
            return None
        answers = getattr(self._manager.hook, hook)(**arguments)
        return answers[0] if answers else None

    def report(self, hook: str, error: BaseException) -> None:
        """Remember that a hook raised; it is logged once, however often it is asked."""
        before, self.error = self.error, f"{hook} raised {type(error).__name__}: {error}"
        if self.error != before:
            logger.error("plugin %s: %s", self.name, self.error, exc_info=error)


KERNEL = Plugin("corral", "corral", "")
"""Who gives what is built in."""


@dataclass(frozen=True, slots=True)
class Clash:
    """A name that two plugins gave: `winner` serves, `losers` do not (names of plugins).

    Of the kind `option` they are owners of options instead; see `catalog.option_clashes`.
    """

    kind: str
    name: str
    winner: str
    losers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bid:
    """A claim and the plugin that made it."""

    plugin: Plugin
    claim: Claim


class Plugins(RegistryVerbs):
    """All plugins of this process.

    Args:
        only: Names to load; None: all that are installed.
        disabled: Names to leave out.
    """

    def __init__(self, only: Collection[str] | None = None, disabled: Collection[str] = ()) -> None:
        self.plugins: list[Plugin] = []
        self._clashes: dict[tuple[str, str], Clash] = {}
        self._missing: set[str] = set()  # backends whose library is not installed
        loaded: dict[str, Plugin] = {}
        for entry_point in found_entry_points():
            plugin = Plugin(entry_point.name, *distribution_of(entry_point))
            self.plugins.append(plugin)
            if plugin.name in disabled or (only is not None and plugin.name not in only):
                plugin.status = "disabled"
            elif plugin.name in loaded:
                first = loaded[plugin.name]
                plugin.fail(f"{first.distribution} has a plugin of that name")
                self._clash("plugin", plugin.name, first, plugin)
            else:
                loaded[plugin.name] = plugin
                plugin.load(entry_point)
        for name in sorted({*(only or ()), *disabled} - {plugin.name for plugin in self.plugins}):
            logger.warning("no plugin named %r is installed", name)

    # ------------------------------------------------------------------- what plugins provide

    @cached_property
    def backends(self) -> dict[str, tuple[Plugin, Backend]]:
        """Backends by name, those whose library is missing too."""
        found = self._collect("backend", "corral_backends", Backend)
        self._missing = {name for name, (_, backend) in found.items() if not library_found(backend)}
        for name in sorted(self._missing):
            plugin, backend = found[name]
            plugin.hint = f"pip install '{backend.extra}'"
            plugin.error = f"backend {name} needs {backend.library}"
            own = {other for other, (giver, _) in found.items() if giver is plugin}
            if own <= self._missing:
                plugin.status = "unavailable"
        return found

    @cached_property
    def samplers(self) -> dict[str, tuple[Plugin, SamplerType]]:
        """Samplers by name, the kernel's own first."""
        return self._collect("sampler", "corral_samplers", SamplerType, standard_samplers())

    @cached_property
    def constraints(self) -> dict[str, tuple[Plugin, ConstraintType]]:
        """Kinds of `format` by name."""
        return self._collect("constraint", "corral_constraints", ConstraintType)

    @cached_property
    def renderers(self) -> dict[str, tuple[Plugin, ChatRenderer]]:
        """Template languages by name."""
        return self._collect("renderer", "corral_chat_formats", ChatRenderer)

    @cached_property
    def parsers(self) -> dict[str, tuple[Plugin, ChatParser]]:
        """Families of models whose answers are read, by name."""
        return self._collect("parser", "corral_chat_formats", ChatParser)

    @cached_property
    def registries(self) -> dict[str, tuple[Plugin, Registry]]:
        """Sources of models by name."""
        return self._collect("registry", "corral_registries", Registry)

    @cached_property
    def converters(self) -> dict[str, tuple[Plugin, Converter]]:
        """Importers by name, those whose library is missing too."""
        found = self._collect("converter", "corral_converters", Converter)
        self._tell_missing(found)
        return found

    @cached_property
    def quantizers(self) -> dict[str, tuple[Plugin, Quantizer]]:
        """Quantizers by name, those whose library is missing too."""
        found = self._collect("quantizer", "corral_quantizers", Quantizer)
        self._tell_missing(found)
        return found

    def _tell_missing(self, found: Mapping[str, tuple[Plugin, Maker]]) -> None:
        """Mark plugins that give nothing but what lacks its library."""
        for name, (plugin, maker) in found.items():
            if set(plugin.hooks) <= MAKING and not library_found(maker):
                plugin.status = "unavailable"
                plugin.hint = f"pip install '{maker.extra}'"
                plugin.error = f"{name} needs {maker.library}"

    @property
    def clashes(self) -> tuple[Clash, ...]:
        """Names given twice, among what was asked for so far."""
        return tuple(self._clashes.values())

    @property
    def missing(self) -> frozenset[str]:
        """Names of the backends whose library is not installed."""
        return frozenset(name for name in self.backends if name in self._missing)

    def provides(self, plugin: Plugin) -> dict[str, list[str]]:
        """What one plugin gives, by kind: names that serve."""
        kinds: dict[str, dict[str, tuple[Plugin, Any]]] = {
            "backends": self.backends,
            "samplers": self.samplers,
            "constraints": self.constraints,
            "renderers": self.renderers,
            "parsers": self.parsers,
            "registries": self.registries,
            "converters": self.converters,
            "quantizers": self.quantizers,
        }
        return {
            kind: names
            for kind, found in kinds.items()
            if (names := [name for name, (giver, _) in found.items() if giver is plugin])
        }

    # ------------------------------------------------------------------------------ the verbs

    def bids(self, model: Model) -> list[Bid]:
        """Every bid for a model, the highest first."""
        bids: list[Bid] = []
        askable = {id(p): p for name, (p, _) in self.backends.items() if name not in self._missing}
        for plugin in askable.values():
            try:
                claim = plugin.ask("corral_claim", model=model)
                if claim is not None and self._may_bid(plugin, claim):
                    bids.append(Bid(plugin, claim))
            except ANYTHING as error:
                plugin.report("corral_claim", error)
        return sorted(bids, key=lambda bid: (-bid.claim.confidence, bid.claim.backend))

    def missing_bids(self, model: Model) -> list[tuple[Backend, str]]:
        """Backends whose library is not installed, and that would bid; each with why.

        A claim tells without the library, mostly; one that cannot counts as a bid without a why.
        """
        found: list[tuple[Backend, str]] = []
        for name in sorted(self.missing):
            plugin, backend = self.backends[name]
            try:
                claim = plugin.ask("corral_claim", model=model)
            except ANYTHING:
                found.append((backend, ""))
                continue
            if isinstance(claim, Claim) and claim.backend == name:
                found.append((backend, str(claim.why)))
        return found

    def load(self, plugin_name: str, request: LoadRequest) -> Engine:
        """Have a plugin load a model it claimed.

        Raises:
            PluginError: If there is no such plugin, or it gives no engine.
        """
        for plugin in self.plugins:
            if plugin.name == plugin_name and plugin.status in ("ok", "unavailable"):
                engine = plugin.ask("corral_load", request=request)
                if isinstance(engine, Engine):
                    return engine
                why = plugin.error or f"its corral_load gave {type(engine).__name__}, not an Engine"
                raise PluginError(f"plugin {plugin_name!r} loads no model: {why}")
        raise PluginError(f"plugin {plugin_name!r} is not installed here")

    def _may_bid(self, plugin: Plugin, claim: object) -> bool:
        """Whether a claim is for a backend of this plugin whose library is installed.

        Raises:
            PluginError: If it is no claim at all, or for the backend of somebody else.
            msgspec.ValidationError: If a field of it has a wrong type or range.
        """
        if not isinstance(claim, Claim):
            raise PluginError(f"it gave {type(claim).__name__}, not a Claim")
        msgspec.convert(msgspec.to_builtins(claim), Claim)
        giver, _ = self.backends.get(claim.backend, (None, None))
        if giver is not plugin:
            whose = f"plugin {giver.name}" if giver else "nobody"
            raise PluginError(f"it bid for backend {claim.backend!r}, which is given by {whose}")
        return claim.backend not in self._missing

    def _collect(
        self,
        kind: str,
        hook: str,
        wanted: type[T],
        own: Mapping[str, T] | None = None,
    ) -> dict[str, tuple[Plugin, T]]:
        """Every plugin's answers to one hook, by name; the kernel's `own` before all."""
        found = {name: (KERNEL, item) for name, item in (own or {}).items()}
        for plugin in self.plugins:
            for name, item in self._answers(plugin, hook, wanted):
                if name in found:
                    self._clash(kind, name, found[name][0], plugin)
                else:
                    found[name] = (plugin, item)
        return found

    def _clash(self, kind: str, name: str, winner: Plugin, loser: Plugin) -> None:
        before = self._clashes.get((kind, name), Clash(kind, name, winner.name, ()))
        self._clashes[kind, name] = Clash(
            kind, name, winner.name, tuple(dict.fromkeys((*before.losers, loser.name)))
        )
        logger.warning(
            "%s %r of %s is left out: %s gives that name",
            kind,
            name,
            loser.distribution,
            winner.distribution,
        )

    def _answers(self, plugin: Plugin, hook: str, wanted: type[T]) -> Iterator[tuple[str, T]]:
        try:
            for item in all_of(_MIXED.get(hook, (wanted,)), plugin.ask(hook) or (), hook):
                if isinstance(item, wanted):
                    yield name_of(item), item
        except ANYTHING as error:
            plugin.report(hook, error)


def installed() -> set[tuple[str, str, str]]:
    """Name, distribution and version of every plugin on disk now, loaded or not."""
    return {(point.name, *distribution_of(point)) for point in found_entry_points()}
