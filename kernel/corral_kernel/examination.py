"""The examination of one plugin, in a process of its own; see `doctor.py`, which starts it."""

import importlib.metadata
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import msgspec

from corral_kernel import API_VERSION
from corral_kernel.catalog import option_clashes
from corral_kernel.contracts import (
    Claim,
    LoadOptions,
    Source,
)
from corral_kernel.doctor import Check
from corral_kernel.entry_points import GROUP
from corral_kernel.given import ANYTHING
from corral_kernel.models import Model, ModelConfig
from corral_kernel.names import ModelName
from corral_kernel.plugins import Plugin, Plugins

SLOW_IMPORT_S = 0.5
_MAPS = Path("/proc/self/maps")
_SHOWN = 5
_SYSTEM = ("/lib/", "/lib64/", "/usr/lib/", "/usr/lib64/", f"{sys.base_prefix}/lib/libpython")
_MODELS: Mapping[str, Model] = {
    what: Model(
        name=ModelName.parse("examined"),
        digest="0" * 64,
        size_bytes=0,
        modified_ns=0,
        config=config,
        files=(),
        parameters=parameters,
    )
    for what, config, parameters in (
        ("a model without files", ModelConfig(), {}),
        ("a model of odd parameters", ModelConfig(), {"backend": 5, "stop": None}),
        ("a remote model", ModelConfig(remote_host="https://example.org", remote_model="m"), {}),
    )
}
_SOURCE = Source(kind="model", format="safetensors", files=())


class Examination:
    """Looks at one plugin, before anything else of Corral's plugins is imported.

    Args:
        name: Of its entry point.
        distribution: That it came with.
    """

    def __init__(self, name: str, distribution: str) -> None:
        points = importlib.metadata.entry_points(group=GROUP, name=name)
        self._point = next(p for p in points if p.dist is None or p.dist.name == distribution)
        version = self._point.dist.version if self._point.dist else ""
        self._plugin = Plugin(name, distribution, version)
        self._before = _native()
        self._kinds: dict[str, list[Any]] = {}

    def checks(self) -> Iterator[Check]:
        """Give what was found, as it is found."""
        modules, begin = len(sys.modules), time.monotonic()
        self._plugin.load(self._point)
        seconds, count = time.monotonic() - begin, len(sys.modules) - modules
        if self._plugin.status == "failed":
            # A wrong version and a broken hook are told apart, since the cure is another.
            old = "CORRAL_API_VERSION" in self._plugin.error
            name = "API version" if old else "import and hooks"
            yield _failed(name, self._plugin.error)
            return
        yield Check(
            name="import",
            status="ok" if seconds < SLOW_IMPORT_S else "note",
            detail=f"{seconds * 1000:.0f} ms, {count} more modules",
        )
        yield _check("API version", [], f"{API_VERSION}")
        hooks = [] if self._plugin.hooks else ["it implements no hook: corral_kernel/hookspecs.py"]
        yield _check("hooks", hooks, ", ".join(self._plugin.hooks))
        yield from self._given()
        yield from self._claims()
        yield self._light()  # before other plugins are imported
        yield from self._names()
        yield from self._suites()

    # ------------------------------------------------------------------------ what it gives

    def _given(self) -> Iterator[Check]:
        """Ask everything that a server asks of it, and see whose names serve."""
        plugins = Plugins(only=[self._plugin.name])
        whole = (self._plugin.name, self._plugin.distribution)
        own = next(p for p in plugins.plugins if (p.name, p.distribution) == whole)
        provided = plugins.provides(own)
        self._kinds = {
            kind: [item for giver, item in found.values() if giver is own]
            for kind, found in _found(plugins).items()
        }
        words = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in provided.items())
        wrong = [own.error] if own.error and not own.hint else []
        yield _check("answers", wrong, words)
        if own.hint:
            yield Check(name="library", status="note", detail=f"{own.error}: {own.hint}")

    def _claims(self) -> Iterator[Check]:
        if "corral_claim" not in self._plugin.hooks:
            return
        wrong: list[str] = []
        bids: list[str] = []
        for what, model in _MODELS.items():
            try:
                claim = self._plugin.ask("corral_claim", model=model)
                if claim is None:
                    continue
                if not isinstance(claim, Claim):
                    wrong.append(f"for {what} it gave {type(claim).__name__}, not a Claim")
                    continue
                msgspec.convert(msgspec.to_builtins(claim), Claim)
                bids.append(f"{claim.confidence:g} for {what}")
            except ANYTHING as error:
                wrong.append(f"for {what} it raised {type(error).__name__}: {error}")
        yield _check("claims", wrong, ", ".join(bids) or "no bid for models that it cannot know")

    def _names(self) -> Iterator[Check]:
        """See which of its names somebody else has, among all that is installed."""
        everybody = Plugins()
        _found(everybody)  # asking everybody for everything is what finds clashes
        lost = [
            f"{clash.kind} {clash.name!r} is given by {clash.winner}"
            for clash in everybody.clashes
            if clash.kind != "plugin" and self._plugin.name in clash.losers
        ]
        samplers = {kind.name for kind in self._kinds["sampler"]}
        fields = [
            f"option {clash.name!r} is {clash.winner}'s"
            for clash in option_clashes(everybody)
            if samplers.intersection(clash.losers)
        ]
        yield _check("names", lost, "no other plugin has them")
        if fields:
            how = "; set it under the sampler's name, or better rename the field"
            yield Check(name="fields", status="note", detail=", ".join(fields) + how)

    def _light(self) -> Check:
        """See what native code was loaded by import, hooks, claims, and checks of formats."""
        for kind in self._kinds["constraint"]:
            for spec in kind.examples:
                _quietly(kind.check, spec)
        for kind in self._kinds["sampler"]:
            _quietly(lambda kind=kind: kind.enabled(kind.options()))
            _quietly(lambda kind=kind: kind.check(kind.options()))
        for converter in self._kinds["converter"]:
            _quietly(converter.offer, _SOURCE)
        for quantizer in self._kinds["quantizer"]:
            for kind in quantizer.types:
                _quietly(quantizer.offer, _SOURCE, kind.name)
        loaded = sorted(_native() - self._before)
        more = f" and {len(loaded) - _SHOWN} more" if len(loaded) > _SHOWN else ""
        what = f"the server would load {', '.join(loaded[:_SHOWN])}{more}: import it in a worker"
        return _check("native code", [what] if loaded else [], "none, as a server wants it")

    # ---------------------------------------------------------------------- what it breaks

    def _suites(self) -> Iterator[Check]:
        from corral_kernel.testing.constraints import ConstraintSuite
        from corral_kernel.testing.converters import ConverterSuite
        from corral_kernel.testing.quantizers import QuantizerSuite
        from corral_kernel.testing.registries import RegistrySuite
        from corral_kernel.testing.samplers import SamplerSuite
        from corral_kernel.testing.suites import ContractBrokenError, demand_documented

        for backend in self._kinds["backend"]:
            name = f"backend {backend.name}"
            wrong: list[str] = []
            try:
                demand_documented(backend.options, name, inherited=LoadOptions)
            except ContractBrokenError as error:
                wrong.append(str(error))
            yield _check(name, wrong, "its options; its engine is for tests of its own")
        for sampler in self._kinds["sampler"]:
            yield _run(f"sampler {sampler.name}", SamplerSuite, sampler)
        for constraint in self._kinds["constraint"]:
            name = f"format {constraint.name}"
            if not constraint.examples and constraint.name not in ("json", "schema"):
                detail = "not tried: its type has no `examples` of formats that it takes"
                yield Check(name=name, status="note", detail=detail)
            else:
                yield _run(name, ConstraintSuite, constraint)
        for registry in self._kinds["registry"]:
            yield _run(f"registry {registry.name}", RegistrySuite, registry)
        for what, suite in (("converter", ConverterSuite), ("quantizer", QuantizerSuite)):
            for maker in self._kinds[what]:
                yield _run(f"{what} {maker.name}", suite, maker, what)


def _run(name: str, suite: type[Any], given: object, member: str = "kind") -> Check:
    from corral_kernel.testing.suites import run_suite

    outcomes = list(run_suite(type("Examined", (suite,), {member: given})))
    wrong = [f"{outcome.test}: {outcome.error}" for outcome in outcomes if outcome.error]
    return _check(name, wrong, f"{len(outcomes)} tests of its contract")


def _found(plugins: Plugins) -> dict[str, Mapping[str, tuple[Plugin, Any]]]:
    return {
        "backend": plugins.backends,
        "sampler": plugins.samplers,
        "constraint": plugins.constraints,
        "renderer": plugins.renderers,
        "parser": plugins.parsers,
        "registry": plugins.registries,
        "converter": plugins.converters,
        "quantizer": plugins.quantizers,
    }


def _check(name: str, wrong: list[str], fine: str) -> Check:
    return _failed(name, "; ".join(wrong)) if wrong else Check(name=name, status="ok", detail=fine)


def _failed(name: str, detail: str) -> Check:
    return Check(name=name, status="failed", detail=detail)


def _quietly(call: Callable[..., object], *arguments: object) -> None:
    try:
        call(*arguments)
    except ANYTHING:
        return  # the suites tell


def _native() -> set[str]:
    """Extension modules that are not the interpreter's, and shared libraries without one."""
    files = {
        name: getattr(module, "__file__", None) or "" for name, module in list(sys.modules.items())
    }
    found = {
        name
        for name, file in files.items()
        if file.endswith(tuple(EXTENSION_SUFFIXES)) and not _interpreters(file)
    }
    return found | _mapped()


def _mapped() -> set[str]:
    """Shared libraries in memory that belong neither to the system nor to the interpreter."""
    if not _MAPS.exists():
        return set()
    paths = {line.split(maxsplit=5)[-1].strip() for line in _MAPS.read_text().splitlines()}
    return {
        Path(path).name
        for path in paths
        if path.startswith("/")
        and ".so" in Path(path).name
        and not path.endswith(tuple(EXTENSION_SUFFIXES))
        and not path.startswith(_SYSTEM)
        and not _interpreters(path)
    }


def _interpreters(file: str) -> bool:
    """Whether a file is part of Python's own library, not of what was installed into it."""
    own = Path(os.__file__).parent
    path = Path(file)
    packages = {"site-packages", "dist-packages"}
    return path.is_relative_to(own) and packages.isdisjoint(path.relative_to(own).parts)
