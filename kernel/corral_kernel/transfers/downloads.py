"""All downloads of a server: whoever wants a blob that is being fetched joins in."""

import asyncio
import shutil
from collections.abc import AsyncGenerator, Callable, Iterable
from pathlib import Path
from typing import Any, Final

from corral_kernel.contracts import Repository
from corral_kernel.errors import ShuttingDownError, StoreError
from corral_kernel.models import Layer
from corral_kernel.store.blobs import Blobs
from corral_kernel.transfers.download import Download, Manner, end_of
from corral_kernel.transfers.partial import bytes_on_disk

TICK_S: Final = 0.06
"""Between two looks at how far a transfer is."""


class SharedRepository:
    """A repository that is closed when the last of those who hold it lets go.

    A download outlives the pull that began it, as long as another one waits for it.
    """

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self._holders = 0

    def hold(self) -> None:
        """Keep it open until `release`."""
        self._holders += 1

    async def release(self) -> None:
        """Let go of it."""
        self._holders -= 1
        if not self._holders:
            await self.repository.aclose()


class Downloads:
    """What is being fetched. On one event loop.

    Args:
        blobs: Where it goes.
        manner: How.
    """

    def __init__(self, blobs: Blobs, manner: Manner) -> None:
        self._blobs = blobs
        self._manner = manner
        self._running: dict[tuple[str, int], _Running] = {}

    async def fetch(self, layer: Layer, shared: SharedRepository) -> AsyncGenerator[int]:
        """Fetch a blob that is not there; tells from time to time how many bytes are.

        Who closes this leaves the download; the last to leave cancels it.

        Args:
            layer: Digest and size.
            shared: Where from, unless it is being fetched already.

        Raises:
            RegistryError: If the registry fails for good, or gives other bytes than it should.
            StoreError: If the bytes cannot be stored.
            ShuttingDownError: If all downloads were ended meanwhile.
        """
        running = self._join(layer, shared)
        try:
            async for _ in ticks(running.task):
                yield running.download.completed_bytes
        finally:
            await self._leave(layer, running)
        if running.task.cancelled():
            raise ShuttingDownError
        running.task.result()

    def _join(self, layer: Layer, shared: SharedRepository) -> "_Running":
        key = layer.digest, layer.size_bytes
        running = self._running.get(key)
        if running is None:
            running = self._running[key] = _Running(
                Download(layer, self._blobs, shared.repository, self._manner),
                shared,
                lambda: self._running.pop(key, None),
            )
        running.waiting += 1
        return running

    async def _leave(self, layer: Layer, running: "_Running") -> None:
        running.waiting -= 1
        if running.waiting == 0 and not running.task.done():
            self._running.pop((layer.digest, layer.size_bytes), None)
            await running.cancel()

    def check_room(self, layers: Iterable[Layer]) -> None:
        """Make sure that blobs fit on the disk, besides those that are being fetched.

        Raises:
            StoreError: If they do not, or if there is no telling.
        """
        wanted = [
            layer for layer in layers if (layer.digest, layer.size_bytes) not in self._running
        ]
        needed = sum(
            max(0, layer.size_bytes - bytes_on_disk(self._blobs, layer.digest)) for layer in wanted
        )
        promised = sum(running.download.remaining_bytes for running in self._running.values())
        folder = _existing(self._blobs.folder)
        try:
            free = shutil.disk_usage(folder).free
        except OSError as error:
            raise StoreError(f"{folder}: {error.strerror or error}") from error
        if needed + promised > free:
            also = f" beside {promised} bytes of other downloads" if promised else ""
            raise StoreError(
                f"not enough room: {needed} bytes are to be fetched{also}, and {folder} has "
                f"{free} left; free some space, or set CORRAL_MODELS to a folder on another disk"
            )

    async def close(self) -> None:
        """End all downloads; what they have stays for the next try."""
        while self._running:
            _, running = self._running.popitem()
            await running.cancel()


class _Running:
    """A download, and how many wait for it."""

    def __init__(
        self, download: Download, shared: SharedRepository, ended: Callable[[], object]
    ) -> None:
        self.download = download
        self.waiting = 0
        self._shared = shared
        self._ended = ended
        self._began = False
        shared.hold()
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        self._began = True
        cancelled = False
        try:
            await self.download.run()
        except asyncio.CancelledError:
            cancelled = True
            raise
        finally:
            if not cancelled:  # else who cancelled it took it out already
                self._ended()
            await self._shared.release()

    async def cancel(self) -> None:
        """Cancel it, and wait until nothing of it is under way."""
        self.task.cancel()
        try:
            await end_of([self.task])
        finally:
            if not self._began:
                await self._shared.release()
            if not self.task.cancelled():
                self.task.exception()  # nobody is left who could be told


async def ticks(task: asyncio.Task[Any]) -> AsyncGenerator[None]:
    """Come round every now and then until a task has ended, however it ends."""
    while not task.done():
        yield
        await asyncio.wait([task], timeout=TICK_S)


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.is_dir())
