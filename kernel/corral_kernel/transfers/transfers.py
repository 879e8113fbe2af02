"""Pulls and pushes of one server."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Final

from corral_kernel.contracts import Registry, RegistryCall, Repository
from corral_kernel.errors import CorralError, InvalidNameError, RegistryError
from corral_kernel.lockfile import LockedModel
from corral_kernel.names import ModelName
from corral_kernel.sources import Source, Sources
from corral_kernel.store import Progress, Store
from corral_kernel.transfers.download import Manner
from corral_kernel.transfers.downloads import Downloads
from corral_kernel.transfers.locked import Way, pull_locked
from corral_kernel.transfers.maker import Maker
from corral_kernel.transfers.pull import pull
from corral_kernel.transfers.push import push

NOBODY: Final = Maker()


class Transfers:
    """Moves models between the store and registries. On one event loop.

    Args:
        store: Of the server.
        registry_for: Gives the registry whose name it is; None: nobody's.
        home: The folder of the server's own files.
        address: Reads addresses that registries have beside names.
        maker: Makes models of files, for registries that have no manifests.
        auth: Users of registries; see `RegistryCall`.
        manner: How blobs are fetched.
    """

    def __init__(  # noqa: PLR0913 - a server's settings, each by its name
        self,
        store: Store,
        registry_for: Callable[[ModelName], Registry | None],
        home: Path,
        *,
        address: Callable[[str], tuple[Registry, ModelName] | None] = lambda _text: None,
        maker: Maker = NOBODY,
        auth: str = "",
        manner: Manner | None = None,
    ) -> None:
        self._store = store
        self._registry_for = registry_for
        self._home = home
        self._address = address
        self._maker = maker
        self._auth = auth
        self.sources = Sources(home / "sources")
        self._downloads = Downloads(store.blobs, manner or Manner())

    def pull(self, name: str, *, insecure: bool = False) -> AsyncGenerator[Progress]:
        """Fetch a model, or bring it up to date, telling each step.

        What the name shows to be wrong is raised by the call itself; the rest while iterating.

        Args:
            name: As a user writes it, or an address that some registry reads.
            insecure: Use plain http.

        Raises:
            InvalidNameError: If it is no name.
            RegistryError: If the registry has no such model, fails, or gives what is wrong.
            StoreError: If there is no room, or something cannot be stored.
        """
        return _guarded(self._pull(*self._reach(name, insecure=insecure)))

    def _reach(self, text: str, *, insecure: bool) -> tuple[RegistryCall, Registry | None]:
        """Read a name or an address; gives too the registry that alone reads such addresses."""
        registry, model = self._address(text) or (None, ModelName.parse(text))
        call = RegistryCall(
            name=model,
            home=self._home,
            insecure=insecure,
            auth=self._auth,
            address=text if registry else "",
        )
        return call, registry

    async def _pull(
        self, call: RegistryCall, registry: Registry | None
    ) -> AsyncGenerator[Progress]:
        repository = self._open(call, registry)
        steps = pull(self._store, self._downloads, call.name, repository, self._maker)
        async with aclosing(steps):
            async for step in steps:
                yield step
        await self._note(call.name, call.address or call.name.full)

    def pull_locked(
        self, model: LockedModel, *, insecure: bool = False
    ) -> AsyncGenerator[Progress]:
        """Make a model what a lock says, telling each step; nobody is asked for what is here.

        Args:
            model: As the lock has it.
            insecure: Use plain http.

        Raises:
            RegistryError: If a blob is neither here nor at the source.
            StoreError: If there is no room, or something cannot be stored.
        """
        return _guarded(self._pull_locked(model, insecure))

    async def _pull_locked(self, model: LockedModel, insecure: bool) -> AsyncGenerator[Progress]:  # noqa: FBT001 - handed on
        way = Way(
            store=self._store,
            pull=lambda name, place: pull(self._store, self._downloads, name, place, self._maker),
            open_source=lambda: self._open(*self._reach(model.source, insecure=insecure)),
        )
        try:
            async with aclosing(pull_locked(model, way)) as steps:
                async for step in steps:
                    yield step
        except RegistryError as error:
            raise RegistryError(
                f"{model.name.short} cannot be had as it is locked: {error}"
            ) from error
        if model.source:
            await self._note(model.name, model.source)

    async def _note(self, model: ModelName, address: str) -> None:
        """Note where a model came from, or was put."""
        with contextlib.suppress(CorralError):
            stored, _ = await asyncio.to_thread(self._store.find, model)
            call, registry = self._reach(address, insecure=False)
            registry = registry or self._registry_for(call.name)
            source = Source(registry=registry.name if registry else "", address=address)
            await asyncio.to_thread(self.sources.note, f"sha256:{stored.digest}", source)

    def push(self, name: str, *, insecure: bool = False) -> AsyncGenerator[Progress]:
        """Put a model of this machine into the registry of its name; otherwise as `pull`."""
        return _guarded(self._push(name, insecure))

    async def _push(self, name: str, insecure: bool) -> AsyncGenerator[Progress]:  # noqa: FBT001 - handed on
        try:
            model = ModelName.parse(name)
        except InvalidNameError:
            yield Progress("retrieving manifest")
            raise RegistryError(f"unqualified name: {name[:1000]}") from None
        call = RegistryCall(name=model, home=self._home, insecure=insecure, auth=self._auth)
        repository = self._open(call, None)
        async with aclosing(push(self._store, model, repository)) as steps:
            async for step in steps:
                yield step
        await self._note(model, model.full)

    def _open(self, call: RegistryCall, registry: Registry | None) -> Repository:
        registry = registry or self._registry_for(call.name)
        if registry is None:
            raise RegistryError(
                f"no registry plugin takes {call.name.full}: 'corral registries' lists those that "
                "are here"
            )
        return registry.open(call)

    async def close(self) -> None:
        """End all downloads; what they have stays for the next try."""
        await self._downloads.close()


async def _guarded(steps: AsyncGenerator[Progress]) -> AsyncGenerator[Progress]:
    """Turn whatever a plugin raises into an error that can be told."""
    try:
        async with aclosing(steps):
            async for step in steps:
                yield step
    except CorralError:
        raise
    except Exception as error:
        raise RegistryError(f"the registry's plugin failed: {error!r:.500}") from error
