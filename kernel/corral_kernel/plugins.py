"""Discovery of plugins, and the only code that calls a hook: one plugin at a time."""

import importlib.metadata
import importlib.util
import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import pluggy

from corral_kernel import API_VERSION
from corral_kernel.contracts import (
    Backend,
    ChatRenderer,
    Claim,
    ConstraintType,
    Engine,
    LoadRequest,
    Registry,
)
from corral_kernel.errors import PluginError
from corral_kernel.models import Model

logger = logging.getLogger(__name__)
hookimpl = pluggy.HookimplMarker("corral")

GROUP = "corral"
"""Entry-point group by which plugins are found."""

T = TypeVar("T")


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
            self.api_version = getattr(module, "CORRAL_API_VERSION", None)
            if self.api_version != API_VERSION:
                raise PluginError(
                    f"it is written for plugin API {self.api_version}, this is {API_VERSION}: "
                    f"set CORRAL_API_VERSION = {API_VERSION} once it follows that contract"
                )
            manager.register(module, self.name)
            manager.check_pending()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's module may raise anything
            self.status, self.error = "failed", f"{type(error).__name__}: {error}"
            logger.warning("plugin %s of %s is left out: %s", self.name, self.distribution, error)
            return
        callers = manager.get_hookcallers(module) or []
        self.hooks = tuple(sorted(caller.name for caller in callers))
        self._manager = manager

    def ask(self, hook: str, **arguments: Any) -> Any:
        """Call one hook of this plugin alone; None where it does not implement it."""
        if self._manager is None or hook not in self.hooks:
            return None
        answers = getattr(self._manager.hook, hook)(**arguments)
        return answers[0] if answers else None

    def report(self, hook: str, error: Exception) -> None:
        """Remember that a hook raised."""
        self.error = f"{hook} raised {type(error).__name__}: {error}"
        logger.error("plugin %s: %s", self.name, self.error, exc_info=error)


@dataclass(frozen=True, slots=True)
class Clash:
    """A name that two plugins gave: `winner` serves, `losers` do not (names of plugins)."""

    kind: str
    name: str
    winner: str
    losers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bid:
    """A claim and the plugin that made it."""

    plugin: Plugin
    claim: Claim


class Plugins:
    """All plugins of this process.

    Args:
        only: Names to load; None: all that are installed.
        disabled: Names to leave out.
    """

    def __init__(self, only: Collection[str] | None = None, disabled: Collection[str] = ()) -> None:
        self.plugins: list[Plugin] = []
        self._clashes: dict[tuple[str, str], Clash] = {}
        for entry_point in _entry_points():
            dist = entry_point.dist
            plugin = Plugin(
                entry_point.name,
                dist.name if dist else "unknown",
                dist.version if dist else "0",
            )
            self.plugins.append(plugin)
            if entry_point.name in disabled or (only is not None and entry_point.name not in only):
                plugin.status = "disabled"
            else:
                plugin.load(entry_point)

    # ------------------------------------------------------------------- what plugins provide

    @cached_property
    def backends(self) -> dict[str, tuple[Plugin, Backend]]:
        """Backends by name, those whose library is missing too."""
        found = self._collect("backend", "corral_backends", Backend, lambda b: b.name)
        for plugin, backend in found.values():
            if backend.library and importlib.util.find_spec(backend.library) is None:
                plugin.status = "unavailable"
                plugin.hint = f"pip install '{backend.extra}'"
                plugin.error = f"backend {backend.name} needs {backend.library}"
        return found

    @cached_property
    def constraints(self) -> dict[str, tuple[Plugin, ConstraintType]]:
        """Kinds of `format` by name."""
        return self._collect("constraint", "corral_constraints", ConstraintType, lambda c: c.name)

    @cached_property
    def renderers(self) -> dict[str, tuple[Plugin, ChatRenderer]]:
        """Template languages by name."""
        return self._collect("renderer", "corral_chat_formats", ChatRenderer, lambda r: r.name)

    @cached_property
    def registries(self) -> dict[str, tuple[Plugin, Registry]]:
        """Sources of models by name."""
        return self._collect("registry", "corral_registries", Registry, lambda r: r.name)

    @property
    def clashes(self) -> tuple[Clash, ...]:
        """Names given twice, among what was asked for so far."""
        return tuple(self._clashes.values())

    def provides(self, plugin: Plugin) -> dict[str, list[str]]:
        """What one plugin gives, by kind: names that serve."""
        kinds: dict[str, dict[str, tuple[Plugin, Any]]] = {
            "backends": self.backends,
            "constraints": self.constraints,
            "renderers": self.renderers,
            "registries": self.registries,
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
        usable = {
            id(plugin): plugin for plugin, _ in self.backends.values() if plugin.status == "ok"
        }
        for plugin in usable.values():
            try:
                claim = plugin.ask("corral_claim", model=model)
            except Exception as error:  # noqa: BLE001 - a stranger's hook may raise anything
                plugin.report("corral_claim", error)
                continue
            if claim is not None:
                bids.append(Bid(plugin, claim))
        return sorted(bids, key=lambda bid: (-bid.claim.confidence, bid.claim.backend))

    def load(self, plugin_name: str, request: LoadRequest) -> Engine:
        """Have a plugin load a model it claimed.

        Raises:
            PluginError: If there is no such plugin, or it gives no engine.
        """
        for plugin in self.plugins:
            if plugin.name == plugin_name and plugin.status != "disabled":
                engine = plugin.ask("corral_load", request=request)
                if isinstance(engine, Engine):
                    return engine
                why = plugin.error or f"its corral_load gave {type(engine).__name__}, not an Engine"
                raise PluginError(f"plugin {plugin_name!r} loads no model: {why}")
        raise PluginError(f"plugin {plugin_name!r} is not installed here")

    def _collect(
        self, kind: str, hook: str, wanted: type[T], name_of: Callable[[T], str]
    ) -> dict[str, tuple[Plugin, T]]:
        found: dict[str, tuple[Plugin, T]] = {}
        for plugin in self.plugins:
            for item in self._answers(plugin, hook, wanted):
                name = name_of(item)
                if name not in found:
                    found[name] = (plugin, item)
                    continue
                winner = found[name][0].name
                before = self._clashes.get((kind, name), Clash(kind, name, winner, ()))
                losers = (*before.losers, plugin.name)
                self._clashes[kind, name] = Clash(kind, name, winner, losers)
                logger.warning(
                    "%s %r of plugin %s is left out: %s gives that name",
                    kind,
                    name,
                    plugin.name,
                    winner,
                )
        return found

    def _answers(self, plugin: Plugin, hook: str, wanted: type[T]) -> Iterator[T]:
        try:
            for item in plugin.ask(hook) or ():
                if not isinstance(item, wanted):
                    raise PluginError(f"{hook} gave {type(item).__name__}, not {wanted.__name__}")
                yield item
        except Exception as error:  # noqa: BLE001 - a stranger's hook may raise anything
            plugin.report(hook, error)


def _entry_points() -> list[importlib.metadata.EntryPoint]:
    """All of the group, each once, by distribution and name: the order in which clashes end."""
    points = {
        (point.dist.name.lower() if point.dist else "", point.name): point
        for point in importlib.metadata.entry_points(group=GROUP)
    }
    return [points[key] for key in sorted(points)]
