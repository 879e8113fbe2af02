"""Models as a lock has them: written down, brought here, and kept as they are."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing

from corral_kernel.environment import Settings
from corral_kernel.errors import InvalidLockError
from corral_kernel.lockfile import LockedModel, dump, lock_models, parse
from corral_kernel.models import LentModel
from corral_kernel.names import ModelName
from corral_kernel.store import Fixed, FixedStore, Progress, Store
from corral_kernel.transfers import Transfers

_log = logging.getLogger(__name__)


def make_store(
    settings: Settings,
    lent: Callable[[], Sequence[LentModel]],
    locked: Mapping[ModelName, LockedModel],
) -> Store:
    """Make the store of a server, which serves the models of a lock alone where there is one."""
    cache, prune = settings.home / "cache", not settings.noprune
    if settings.locked is None:
        return Store(settings.models_dir, cache, prune=prune, lent=lent)
    manifests = {name: model.manifest for name, model in locked.items()}
    fixed = Fixed(manifests=manifests, lock=str(settings.locked))
    return FixedStore(settings.models_dir, cache, fixed, prune=prune, lent=lent)


class Locking:
    """Writes locks, and makes models what a lock says.

    Args:
        store: Of the server.
        transfers: Of the server.
        locked: The models that the server serves, if it is bound to a lock.
    """

    def __init__(
        self, store: Store, transfers: Transfers, locked: Mapping[ModelName, LockedModel]
    ) -> None:
        self._store = store
        self._transfers = transfers
        self._locked = locked

    async def begin(self, *, insecure: bool) -> None:
        """Make the models what the server's lock says; from then on nothing changes them.

        Args:
            insecure: Use plain http.

        Raises:
            RegistryError: If a blob is neither here nor at the source.
            StoreError: If something cannot be stored.
        """
        await asyncio.to_thread(self._transfers.sources.sweep)
        for model in self._locked.values():
            seen = ""
            async with aclosing(self._transfers.pull_locked(model, insecure=insecure)) as steps:
                async for step in steps:
                    if step.status != seen:
                        _log.info("%s: %s", model.name.short, step.status)
                    seen = step.status
        if isinstance(self._store, FixedStore):
            self._store.fix()

    async def lock(self, names: Sequence[str]) -> str:
        """Write a lock of models as they are now; see `corral_kernel.lockfile`.

        Args:
            names: Which; none: all of the store's own.

        Raises:
            InvalidNameError: If one is no name.
            ModelNotFoundError: If one is not there.
        """
        wanted = [ModelName.parse(name) for name in names]
        sources = self._transfers.sources
        return dump(await asyncio.to_thread(lock_models, self._store, sources, wanted))

    def pull(self, name: str, *, insecure: bool = False) -> AsyncGenerator[Progress]:
        """Fetch a model; see `Transfers.pull`. One of the server's lock is here as it is to be.

        Raises:
            LockedStoreError: If no model is to change, and this one is not in the lock.
        """
        for locked in self._locked:
            if locked.same_as(ModelName.parse(name)):
                return self._found(locked)
        self._store.check_changes()
        return self._transfers.pull(name, insecure=insecure)

    async def pull_locked(
        self, name: str, lock: str, *, insecure: bool = False
    ) -> AsyncGenerator[Progress]:
        """Make a model what a lock says; see `Transfers.pull_locked`.

        Args:
            name: Of a model of the lock.
            lock: The lock's text.
            insecure: Use plain http.

        Raises:
            InvalidLockError: If `lock` is none, or has no such model.
            LockedStoreError: If no model is to change.
        """
        self._store.check_changes()
        wanted = ModelName.parse(name)
        models = await asyncio.to_thread(parse, lock)  # which takes seconds for a long one
        for model in models.values():
            if model.name.same_as(wanted):
                return self._transfers.pull_locked(model, insecure=insecure)
        raise InvalidLockError(f"the lock has no model {wanted.short}")

    async def _found(self, name: ModelName) -> AsyncGenerator[Progress]:
        yield Progress("pulling manifest")
        await asyncio.to_thread(self._store.find, name)
        yield Progress("success")
