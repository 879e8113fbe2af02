"""Which converter or quantizer works on a source: the one whose offer is the most confident.

makers = Makers(plugins)
makers.converter(source)                # Chosen(name, offer), or an error that says why not
makers.quantizer(source, "Q4_K_M")
makers.types()                          # every type that is known here, with who makes it
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from corral_kernel.contracts import (
    Converter,
    Maker,
    Offer,
    QuantizationType,
    Quantizer,
    Source,
)
from corral_kernel.errors import CorralError, PluginError, TaskError, UnsupportedError
from corral_kernel.given import ANYTHING, library_found
from corral_kernel.plugins import Plugin, Plugins


class Chosen(msgspec.Struct, frozen=True):
    """Who works, the plugin that gives it, and what was offered."""

    maker: str
    plugin: str
    offer: Offer


class TypeEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A quantization type and one who makes it.

    Args:
        kind: The type.
        quantizer: Who makes it.
        docs: Of that quantizer.
        plugin: Who gives it.
        install: What to install before it can; empty: it can.
    """

    kind: QuantizationType
    quantizer: str
    docs: str
    plugin: Plugin
    install: str = ""


class Makers:
    """The converters and quantizers of a server.

    Args:
        plugins: That give them; None: there are none.
    """

    def __init__(self, plugins: Plugins | None = None) -> None:
        self._plugins = plugins

    @property
    def _converters(self) -> Mapping[str, tuple[Plugin, Converter]]:
        return self._plugins.converters if self._plugins else {}

    @property
    def _quantizers(self) -> Mapping[str, tuple[Plugin, Quantizer]]:
        return self._plugins.quantizers if self._plugins else {}

    def types(self) -> list[TypeEntry]:
        """Every quantization type, the smallest first; one that several make comes several times.

        Those whose library is missing stand among them, with what to install.
        """
        entries: list[TypeEntry] = []
        for name, (plugin, quantizer) in self._quantizers.items():
            install = "" if library_found(quantizer) else quantizer.extra
            entries += [
                TypeEntry(
                    kind=kind,
                    quantizer=name,
                    docs=quantizer.docs,
                    plugin=plugin,
                    install=install,
                )
                for kind in quantizer.types
            ]
        return sorted(entries, key=lambda e: (e.kind.bits, e.kind.name, e.quantizer))

    def converter(self, source: Source) -> Chosen:
        """Choose who converts a source.

        Raises:
            TaskError: If nobody does: says why, or what to install.
        """
        asking = _Asking(self._converters, lambda maker: maker.offer(source))
        if asking.best is not None:
            return asking.best
        if asking.refusal is not None:
            raise TaskError(str(asking.refusal))
        if asking.missing:
            raise TaskError(
                f"files of format {source.format} are converted by {asking.missing.name}, which "
                f"needs {asking.missing.library}: pip install '{asking.missing.extra}'"
            )
        raise TaskError(_unknown(source))

    def quantizer(self, source: Source, type_name: str) -> Chosen:
        """Choose who makes a model into a type.

        Args:
            source: The model.
            type_name: In capitals.

        Raises:
            TaskError: If nobody knows the type.
            UnsupportedError: If nobody makes that of this model: says why, or what to install.
        """
        self.check_type(type_name)
        found = self._quantizers
        asking = _Asking(found, lambda maker: maker.offer(source, type_name))
        if asking.best is not None:
            return asking.best
        if asking.refusal is not None:
            raise UnsupportedError(str(asking.refusal))
        if asking.missing:
            raise UnsupportedError(
                f"{type_name} is made of {source.format} models by {asking.missing.name}, which "
                f"needs {asking.missing.library}: pip install '{asking.missing.extra}'"
            )
        possible = [entry.kind.name for entry in self.types() if self._makes(entry, source)]
        raise UnsupportedError(
            f"a model of format {source.format} cannot be made into {type_name}; "
            f"possible are: {', '.join(dict.fromkeys(possible)) or 'no types'}"
        )

    def check_type(self, type_name: str) -> None:
        """Make sure that somebody knows a type.

        Raises:
            TaskError: If nobody does, in the API's words.
        """
        known = dict.fromkeys(entry.kind.name for entry in self.types())
        if type_name not in known:
            supported = ", ".join(known) or "none here: pip install 'corral[llamacpp]'"
            raise TaskError(
                f"unsupported quantization type {type_name[:40]} - supported types are {supported}"
            )

    def imatrix_of(self, chosen: Chosen, type_name: str) -> str:
        """What an importance matrix is to a type: see `QuantizationType.imatrix`."""
        kinds = self._quantizers[chosen.maker][1].types
        return next(kind.imatrix for kind in kinds if kind.name == type_name)

    def _makes(self, entry: TypeEntry, source: Source) -> bool:
        quantizer = self._quantizers[entry.quantizer][1]
        try:
            return quantizer.offer(source, entry.kind.name) is not None
        except ANYTHING:
            return False


NO_MAKERS = Makers()
"""Those of a server without any plugin."""


class _Asking:
    """Everybody's answers to one question.

    Attributes:
        best: The most confident offer.
        refusal: The first reason that one gave for making none.
        missing: One that would offer, were its library installed.
    """

    def __init__(
        self, makers: Mapping[str, tuple[Plugin, Maker]], ask: Callable[[Any], Offer | None]
    ) -> None:
        self.refusal: CorralError | None = None
        self.missing: Maker | None = None
        self.best = self._best(makers.items(), ask)

    def _best(
        self,
        makers: Iterable[tuple[str, tuple[Plugin, Maker]]],
        ask: Callable[[Any], Offer | None],
    ) -> Chosen | None:
        offers: list[Chosen] = []
        for name, (plugin, maker) in makers:
            try:
                offer = _checked(ask(maker))
            except CorralError as error:
                if isinstance(error, PluginError):
                    plugin.report(f"offer of {name}", error)
                elif library_found(maker):
                    self.refusal = self.refusal or error
                continue
            except ANYTHING as error:
                plugin.report(f"offer of {name}", error)
                continue
            if offer is not None and library_found(maker):
                offers.append(Chosen(name, plugin.name, offer))
            elif offer is not None:
                self.missing = self.missing or maker
        return min(offers, key=lambda c: (-c.offer.confidence, c.maker), default=None)


def _checked(offer: object) -> Offer | None:
    """Check the fields of an offer.

    Raises:
        PluginError: If it is none.
    """
    if offer is None:
        return None
    if not isinstance(offer, Offer):
        raise PluginError(f"it gave {type(offer).__name__}, not an Offer")
    try:
        return msgspec.convert(msgspec.to_builtins(offer), Offer)
    except msgspec.ValidationError as error:
        raise PluginError(f"it gave a wrong Offer: {error}") from error


def _unknown(source: Source) -> str:
    """Say in the API's words that nobody knows an architecture."""
    config = source.documents.get("config.json")
    named = config.get("architectures") if isinstance(config, dict) else None
    if source.kind == "adapter":
        return f"unsupported architecture {source.architecture or 'unknown'}"
    if not isinstance(named, list) or not named or not isinstance(named[0], str):
        return "unknown architecture"
    return f'unsupported architecture "{named[0][:100]}"'
