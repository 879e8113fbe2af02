"""One blob on its way into the store: parts side by side, hashed while they come, retried."""

import asyncio
import hashlib
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from functools import partial
from typing import Any, Final

from msgspec import Struct

from corral_kernel.contracts import Repository
from corral_kernel.errors import NoRangesError, RegistryError, RegistryUnavailableError
from corral_kernel.models import Layer
from corral_kernel.store.blobs import Blobs
from corral_kernel.threads import to_its_end
from corral_kernel.transfers.partial import PART_BYTES, Partial

_WRITE_BYTES: Final = 1 << 19  # gathered: a thread for each piece would cost more than it does
_HASH_BYTES: Final = 8 << 20
_WORTHWHILE_BYTES: Final = 1 << 20  # what an attempt must bring so that failures count anew
_LOCK_POLL_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 60.0

_log = logging.getLogger(__name__)


class Manner(Struct, frozen=True, kw_only=True):
    """How blobs are fetched.

    Args:
        streams: Parts of a blob at once.
        part_bytes: Size of a part.
        stall_s: A part that brings no byte for so long is asked for anew.
        attempts: For each part, in a row, without anything gained.
        pause_s: After the first failure; each further one doubles it.
    """

    streams: int = 8
    part_bytes: int = PART_BYTES
    stall_s: float = 30.0
    attempts: int = 6
    pause_s: float = 1.0


class _StalledError(RegistryUnavailableError):
    """Nothing came for too long."""


class Download:
    """One blob that is being fetched, for whoever wants it.

    Args:
        layer: Digest and size of the blob.
        blobs: Where it goes.
        repository: Where it comes from.
        manner: How.
    """

    def __init__(self, layer: Layer, blobs: Blobs, repository: Repository, manner: Manner) -> None:
        self._layer = layer
        self._blobs = blobs
        self._repository = repository
        self._manner = manner
        self._partial = Partial(blobs, layer.digest, layer.size_bytes, manner.part_bytes)
        self._waiting: deque[int] = deque()
        self._grown = asyncio.Event()
        self.completed_bytes = 0

    @property
    def remaining_bytes(self) -> int:
        """What is still to come."""
        return self._layer.size_bytes - self.completed_bytes

    async def run(self) -> None:
        """Fetch the blob; cancelled, it leaves what it has for the next try.

        Raises:
            RegistryError: If the registry fails for good, or gives other bytes than it should.
            StoreError: If the bytes cannot be stored.
        """
        try:
            while not await to_its_end(self._partial.open):
                await asyncio.sleep(_LOCK_POLL_S)  # another server fetches it
                if await self._is_there():
                    return
            if await self._is_there():
                await to_its_end(self._partial.discard)
                return
            await self._fetch()
        finally:
            await to_its_end(self._partial.close)

    async def _is_there(self) -> bool:
        return await asyncio.to_thread(holds, self._blobs, self._layer)

    async def _fetch(self) -> None:
        self._waiting.extend(self._partial.missing())
        try:
            digest = await self._gather(
                self._take_parts, min(self._manner.streams, len(self._waiting))
            )
        except NoRangesError:
            digest = await self._gather(self._take_whole, 1)
        if digest != self._layer.digest:
            await to_its_end(self._partial.discard)
            raise RegistryError(
                "digest mismatch, file must be downloaded again: "
                f"want {self._layer.digest}, got {digest}"
            )
        await to_its_end(self._partial.finish)

    async def _gather(self, take: Callable[[], Awaitable[None]], number: int) -> str:
        """Run takers side by side, and the hash behind them; the first failure ends all.

        Returns:
            The digest of all that is there.
        """
        self.completed_bytes = self._partial.completed_bytes
        hashing = asyncio.create_task(self._hash())
        tasks = [hashing, *(asyncio.ensure_future(take()) for _ in range(number))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            await end_of(tasks)
        errors = [error for task in tasks if not task.cancelled() and (error := task.exception())]
        if errors:
            raise errors[0]
        return hashing.result()

    async def _hash(self) -> str:
        hasher = hashlib.sha256()
        done = 0
        while done < self._layer.size_bytes:
            self._grown.clear()
            there = self._partial.prefix_bytes(done)
            if there == done:
                await self._grown.wait()
                continue
            end = min(there, done + _HASH_BYTES)
            await to_its_end(self._partial.hash, hasher, done, end)
            done = end
        return f"sha256:{hasher.hexdigest()}"

    # --- taking --------------------------------------------------------------------------------

    async def _take_parts(self) -> None:
        while self._waiting:
            part = self._waiting.popleft()
            await self._persist(partial(self._take, part), partial(self._count, part))

    async def _take(self, part: int) -> None:
        start, end = self._partial.span(part)
        await self._stream(start + self._count(part), end)

    def _count(self, part: int) -> int:
        return self._partial.counts[part]

    async def _take_whole(self) -> None:
        """Take all in one stream, from a registry that can give no part of it."""

        async def attempt() -> None:
            await to_its_end(self._partial.restart)
            self.completed_bytes = 0
            await self._stream(0, self._layer.size_bytes)

        await self._persist(attempt, lambda: 0)

    async def _persist(
        self, attempt: Callable[[], Awaitable[None]], kept_bytes: Callable[[], int]
    ) -> None:
        """Try until it works, or until it failed too often without anything gained."""
        failures = 0
        while True:
            before = kept_bytes()
            try:
                await attempt()
            except RegistryUnavailableError as error:
                gained = kept_bytes() - before
                if isinstance(error, _StalledError) and gained:
                    continue
                failures = 1 if gained >= _WORTHWHILE_BYTES else failures + 1
                _log.info("%s: %s (failure %d)", self._layer.digest, error, failures)
                if failures >= self._manner.attempts:
                    raise RegistryError(f"max retries exceeded: {error}") from error
                pause_s = self._manner.pause_s * 2 ** (failures - 1)
                await asyncio.sleep(max(pause_s, min(error.after_s or 0.0, _LONGEST_PAUSE_S)))
            else:
                return

    async def _stream(self, start: int, end: int) -> None:
        """Store one stretch of bytes as it comes; what came before a failure is kept.

        Raises:
            RegistryUnavailableError: If it stalls or ends too early, besides what `read` raises.
        """
        pending = bytearray()
        position = start
        try:
            async with aclosing(self._repository.read(self._layer, start, end)) as pieces:
                while (missing := end - position - len(pending)) > 0:
                    piece = await self._next(pieces)
                    pending += piece[:missing]
                    self.completed_bytes += min(missing, len(piece))
                    if len(pending) >= _WRITE_BYTES:
                        whole, pending = pending, bytearray()
                        position += len(whole)
                        await self._write(position - len(whole), whole)
        finally:
            if pending:
                await self._write(position, pending)

    async def _next(self, pieces: AsyncGenerator[bytes]) -> bytes:
        try:
            async with asyncio.timeout(self._manner.stall_s):
                return await anext(pieces)
        except TimeoutError:
            raise _StalledError(f"nothing came for {self._manner.stall_s:g} s") from None
        except StopAsyncIteration:
            raise RegistryUnavailableError("unexpected EOF") from None

    async def _write(self, position: int, data: bytearray) -> None:
        await to_its_end(self._partial.write, position, data)
        self._grown.set()


def holds(blobs: Blobs, layer: Layer) -> bool:
    """Whether a blob is in the store with the size that a manifest gives; marks it as used.

    One of another size is damaged, or the manifest lies: to fetch it tells which.
    """
    if layer.digest not in blobs or blobs.size(layer.digest) != layer.size_bytes:
        return False
    return blobs.touch(layer.digest)


async def end_of(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Wait until cancelled tasks have ended, whoever is cancelled meanwhile."""
    cancelled: asyncio.CancelledError | None = None
    while waiting := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(waiting)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
