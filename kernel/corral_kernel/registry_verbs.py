"""What is asked of registries, each alone: the part of `Plugins` that deals with them."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Protocol

from corral_kernel.contracts import Registry, RegistryPlaces
from corral_kernel.errors import InvalidNameError
from corral_kernel.given import ANYTHING, all_of
from corral_kernel.models import LentModel
from corral_kernel.names import ModelName


class Reported(Protocol):
    """A plugin, of which it is remembered what it raised."""

    def report(self, hook: str, error: BaseException) -> None:
        """Remember it."""


class RegistryVerbs:
    """Asks registries; what one raises is reported, and harms no other."""

    @property
    @abstractmethod
    def registries(self) -> Mapping[str, tuple[Reported, Registry]]:
        """Sources of models by name, each with the plugin that gives it."""

    def begin(self, places: RegistryPlaces) -> None:
        """Tell the registries where the server's files are. Once, before they are asked."""
        for plugin, registry in self.registries.values():
            try:
                registry.begin(places)
            except ANYTHING as error:
                plugin.report(f"registry {registry.name}", error)

    def lent(self) -> list[LentModel]:
        """Every model that a registry lends."""
        lent: list[LentModel] = []
        for plugin, registry in self.registries.values():
            try:
                lent.extend(all_of((LentModel,), registry.lent(), f"registry {registry.name}"))
            except ANYTHING as error:
                plugin.report(f"registry {registry.name}", error)
        return lent

    def address(self, text: str) -> tuple[Registry, ModelName] | None:
        """The registry that reads an address of its own form, and the model's name; None: nobody.

        Raises:
            InvalidNameError: If a registry knows the form, and it is wrong.
        """
        for plugin, registry in self.registries.values():
            try:
                if (name := registry.parse(text)) is not None:
                    return registry, name
            except InvalidNameError:
                raise
            except ANYTHING as error:
                plugin.report(f"registry {registry.name}", error)
        return None

    def registry_for(self, name: ModelName) -> Registry | None:
        """The registry that pulls and pushes a name: the highest claim; None: nobody claims it."""
        claims: list[tuple[float, Registry]] = []
        for plugin, registry in self.registries.values():
            try:
                claims.append((float(registry.claim(name)), registry))
            except ANYTHING as error:
                plugin.report(f"registry {registry.name}", error)
        best = max(claims, key=lambda claim: claim[0], default=None)
        return best[1] if best and best[0] > 0 else None
