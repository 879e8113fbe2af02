"""A model as a lock has it: its manifest is known, and only missing blobs are asked for."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import NamedTuple

from corral_kernel.contracts import Repository
from corral_kernel.errors import CorralError, RegistryError
from corral_kernel.lockfile import LockedModel
from corral_kernel.models import Layer
from corral_kernel.names import ModelName
from corral_kernel.store import Progress, Store
from corral_kernel.store.workshops import scratch_name
from corral_kernel.threads import to_its_end


class MadeAnewError(RegistryError):
    """A source that has no blobs of the model, but what it was made of."""


class Way(NamedTuple):
    """How a locked model is had.

    Args:
        store: Where it goes.
        pull: Fetches a model of a name from a repository.
        open_source: Opens the place that its source names.
    """

    store: Store
    pull: Callable[[ModelName, Repository], AsyncGenerator[Progress]]
    open_source: Callable[[], Repository]


async def pull_locked(model: LockedModel, way: Way) -> AsyncGenerator[Progress]:
    """Make a model what a lock says, telling each step.

    Raises:
        RegistryError: If a blob is neither here nor at the source.
        StoreError: If there is no room, or something cannot be stored.
    """
    try:
        async with aclosing(_as_it_is(model, way)) as steps:
            async for step in steps:
                yield step
    except MadeAnewError:
        async with aclosing(_made_anew(model, way)) as steps:
            async for step in steps:
                yield step


def _as_it_is(model: LockedModel, way: Way) -> AsyncGenerator[Progress]:
    return way.pull(model.name, LockedRepository(model, way.open_source))


async def _made_anew(model: LockedModel, way: Way) -> AsyncGenerator[Progress]:
    """Make it under another name of what the source has, and see whether it is the same."""
    scratch = scratch_name(model.name)
    workshop = contextlib.ExitStack()
    await to_its_end(workshop.enter_context, way.store.workshops.open(scratch))
    try:
        async with aclosing(way.pull(scratch, way.open_source())) as steps:
            async for step in steps:
                if step.status != "success":
                    yield step
        made, _ = await asyncio.to_thread(way.store.find, scratch)
        if f"sha256:{made.digest}" != model.manifest:
            raise RegistryError(
                f"what is made of {model.source} now has the manifest sha256:{made.digest}, and "
                f"the lock says {model.manifest}: push a model to a registry before it is locked"
            )
        async with aclosing(_as_it_is(model, way)) as steps:
            async for step in steps:
                yield step
    finally:
        with contextlib.suppress(CorralError):
            await to_its_end(way.store.delete, scratch)
        await to_its_end(workshop.close)


class LockedRepository(Repository):
    """Where a locked model comes from. Nothing is opened before a blob is missing.

    Args:
        model: As the lock has it.
        open_source: Opens the place that its source names.
    """

    def __init__(self, model: LockedModel, open_source: Callable[[], Repository]) -> None:
        self._model = model
        self._open_source = open_source
        self._source: Repository | None = None
        self._makes = False  # whether the source has what a model is made of, and no manifest
        self._opening = asyncio.Lock()

    async def manifest(self) -> bytes:
        """Give the lock's own bytes, whatever the registry has under the name by now."""
        return self._model.document

    async def read(self, layer: Layer, start: int, end: int) -> AsyncGenerator[bytes]:
        """Give the bytes of a blob by its digest.

        Raises:
            RegistryError: If the lock names no source.
        """
        if not self._model.source:
            raise RegistryError(
                f"{layer.digest} is not here, and the lock names no source of it: push the model "
                "to a registry where it is, and lock it again"
            )
        source = await self._opened()
        async with aclosing(source.read(layer, start, end)) as pieces:
            async for piece in pieces:
                yield piece

    async def _opened(self) -> Repository:
        async with self._opening:
            if self._source is None:
                self._source = self._open_source()
                self._makes = await self._source.ingredients() is not None
        if self._makes:
            raise MadeAnewError(f"{self._model.source} has what the model was made of")
        return self._source

    async def aclose(self) -> None:
        """Close what was opened."""
        if self._source is not None:
            await self._source.aclose()
