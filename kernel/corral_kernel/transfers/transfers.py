"""Pulls and pushes of one server."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path

from corral_kernel.contracts import Registry, RegistryCall, Repository
from corral_kernel.errors import CorralError, InvalidNameError, RegistryError
from corral_kernel.names import ModelName
from corral_kernel.store import Progress, Store
from corral_kernel.transfers.download import Manner
from corral_kernel.transfers.downloads import Downloads
from corral_kernel.transfers.pull import pull
from corral_kernel.transfers.push import push


class Transfers:
    """Moves models between the store and registries. On one event loop.

    Args:
        store: Of the server.
        registry_for: Gives the registry whose name it is; None: nobody's.
        home: The folder of the server's own files.
        auth: Users of registries; see `RegistryCall`.
        manner: How blobs are fetched.
    """

    def __init__(
        self,
        store: Store,
        registry_for: Callable[[ModelName], Registry | None],
        home: Path,
        *,
        auth: str = "",
        manner: Manner | None = None,
    ) -> None:
        self._store = store
        self._registry_for = registry_for
        self._home = home
        self._auth = auth
        self._downloads = Downloads(store.blobs, manner or Manner())

    def pull(self, name: str, *, insecure: bool = False) -> AsyncGenerator[Progress]:
        """Fetch a model, or bring it up to date, telling each step.

        What the name shows to be wrong is raised by the call itself; the rest while iterating.

        Args:
            name: As a user writes it.
            insecure: Use plain http.

        Raises:
            InvalidNameError: If it is no name.
            RegistryError: If the registry has no such model, fails, or gives what is wrong.
            StoreError: If there is no room, or something cannot be stored.
        """
        model = ModelName.parse(name)
        return _guarded(self._pull(model, insecure))

    async def _pull(self, model: ModelName, insecure: bool) -> AsyncGenerator[Progress]:  # noqa: FBT001 - handed on
        repository = self._open(model, insecure)
        async with aclosing(pull(self._store, self._downloads, model, repository)) as steps:
            async for step in steps:
                yield step

    def push(self, name: str, *, insecure: bool = False) -> AsyncGenerator[Progress]:
        """Put a model of this machine into the registry of its name; otherwise as `pull`."""
        return _guarded(self._push(name, insecure))

    async def _push(self, name: str, insecure: bool) -> AsyncGenerator[Progress]:  # noqa: FBT001 - handed on
        try:
            model = ModelName.parse(name)
        except InvalidNameError:
            yield Progress("retrieving manifest")
            raise RegistryError(f"unqualified name: {name[:1000]}") from None
        repository = self._open(model, insecure)
        async with aclosing(push(self._store, model, repository)) as steps:
            async for step in steps:
                yield step

    def _open(self, model: ModelName, insecure: bool) -> Repository:  # noqa: FBT001 - handed on
        registry = self._registry_for(model)
        if registry is None:
            raise RegistryError(
                f"no registry plugin takes {model.full}: 'corral plugins' lists those that are here"
            )
        call = RegistryCall(name=model, home=self._home, insecure=insecure, auth=self._auth)
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
