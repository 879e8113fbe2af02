"""A model as a lock has it: its manifest is known, and only missing blobs are asked for."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from corral_kernel.contracts import Repository
from corral_kernel.errors import RegistryError
from corral_kernel.lockfile import LockedModel
from corral_kernel.models import Layer


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
            raise RegistryError(
                f"{self._model.source} has what the model was made of, and not its blobs: pull it, "
                "which makes it anew, or push the model to a registry and lock it again"
            )
        return self._source

    async def aclose(self) -> None:
        """Close what was opened."""
        if self._source is not None:
            await self._source.aclose()
