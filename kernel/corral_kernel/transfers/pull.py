"""From a registry into the store: blobs first, the manifest last."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing

from corral_kernel.contracts import Repository
from corral_kernel.errors import CorralError, RegistryError
from corral_kernel.models import Layer
from corral_kernel.names import ModelName
from corral_kernel.store import Progress, Store
from corral_kernel.store.blobs import digest_of
from corral_kernel.threads import to_its_end
from corral_kernel.transfers.download import holds
from corral_kernel.transfers.downloads import Downloads, SharedRepository
from corral_kernel.transfers.received import read_received, wanted


async def pull(
    store: Store, downloads: Downloads, name: ModelName, repository: Repository
) -> AsyncGenerator[Progress]:
    """Fetch a model, or bring it up to date, telling each step.

    Args:
        store: Where it goes.
        downloads: All that is being fetched.
        name: The model.
        repository: Where it comes from; closed in the end.

    Raises:
        RegistryError: If the registry has no such model, fails, or gives what is wrong.
        StoreError: If there is no room, or something cannot be stored.
    """
    shared = SharedRepository(repository)
    async with _holding(shared), pinned(store) as pin:
        yield Progress("pulling manifest")
        raw = await _manifest(repository)
        manifest = await asyncio.to_thread(read_received, raw, name)
        layers = wanted(manifest)
        await pin(manifest.digests)
        missing = await to_its_end(_missing, store, layers)
        await asyncio.to_thread(downloads.check_room, missing.values())
        for layer in layers:
            if layer.digest in missing:
                del missing[layer.digest]
                async with aclosing(_fetch(store, downloads, layer, shared)) as steps:
                    async for step in steps:
                        yield step
            else:
                yield _step(layer, layer.size_bytes)
        yield Progress("verifying sha256 digest")  # done, while they came
        yield Progress("writing manifest")
        if await to_its_end(_publish, store, name, raw, manifest.digests):
            yield Progress("removing unused layers")  # done by then
    yield Progress("success")


async def _manifest(repository: Repository) -> bytes:
    try:
        return await repository.manifest()
    except RegistryError as error:
        raise RegistryError(f"pull model manifest: {error}") from error


def _missing(store: Store, layers: Iterable[Layer]) -> dict[str, Layer]:
    return {layer.digest: layer for layer in layers if not holds(store.blobs, layer)}


async def _fetch(
    store: Store, downloads: Downloads, layer: Layer, shared: SharedRepository
) -> AsyncGenerator[Progress]:
    if not layer.size_bytes:
        await to_its_end(_make_empty, store, layer)
        yield _step(layer, 0)
        return
    last = -1
    async with aclosing(downloads.fetch(layer, shared)) as counts:
        async for completed in counts:
            if completed != last:
                yield _step(layer, completed)
                last = completed
    if last != layer.size_bytes:
        yield _step(layer, layer.size_bytes)


def _make_empty(store: Store, layer: Layer) -> None:
    digest = digest_of(b"")
    if digest != layer.digest:
        raise RegistryError(f"digest mismatch: want {layer.digest}, got {digest}: it is empty")
    store.blobs.add(b"")


def _step(layer: Layer, completed: int) -> Progress:
    short = layer.digest.partition(":")[2][:12]
    return Progress(f"pulling {short}", layer.digest, layer.size_bytes, completed)


def _publish(store: Store, name: ModelName, raw: bytes, digests: frozenset[str]) -> bool:
    """Write the manifest; tells whether blobs of the one before were let go."""
    before: frozenset[str] = frozenset()
    with contextlib.suppress(CorralError):
        stored, source = store.find(store.resolve(name), exact=True)
        before = frozenset() if source.owner else stored.manifest.digests
    store.publish(name, raw)
    return store.prunes and bool(before - digests)


@contextlib.asynccontextmanager
async def _holding(shared: SharedRepository) -> AsyncIterator[None]:
    shared.hold()
    try:
        yield
    finally:
        await shared.release()


@contextlib.asynccontextmanager
async def pinned(store: Store) -> AsyncIterator[Callable[[Iterable[str]], Awaitable[None]]]:
    """Keep blobs from being deleted meanwhile; gives a coroutine function that pins digests."""
    with contextlib.ExitStack() as ending:
        pin = await to_its_end(ending.enter_context, store.pinning())

        async def pin_in_thread(digests: Iterable[str]) -> None:
            await to_its_end(pin, digests)

        kept = ending.pop_all()
        try:
            yield pin_in_thread
        finally:
            await to_its_end(kept.close)
