"""From the store into a registry: blobs first, the manifest last."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from corral_kernel.contracts import Repository
from corral_kernel.errors import BlobNotFoundError, ModelNotFoundError, RegistryError
from corral_kernel.models import Layer
from corral_kernel.names import ModelName
from corral_kernel.store import Progress, Store
from corral_kernel.threads import to_its_end
from corral_kernel.transfers.download import end_of
from corral_kernel.transfers.downloads import ticks
from corral_kernel.transfers.pull import pinned
from corral_kernel.transfers.received import wanted


async def push(store: Store, name: ModelName, repository: Repository) -> AsyncGenerator[Progress]:
    """Put a model of this machine into a registry, telling each step.

    Args:
        store: Where the model is, or is lent to.
        name: The model, and where it goes.
        repository: Of that name; closed in the end.

    Raises:
        RegistryError: If there is no such model, or the registry refuses it or fails.
        InvalidModelError: If the model is damaged.
        StoreError: If a blob cannot be read.
    """
    made: list[str] = []
    try:
        async with pinned(store) as pin:
            yield Progress("retrieving manifest")
            try:
                stored, source = await asyncio.to_thread(store.settle, name)
            except ModelNotFoundError:
                yield Progress("couldn't retrieve manifest")
                path = store.manifest_path(name)
                raise RegistryError(f"open {path}: no such file or directory") from None
            await pin(stored.manifest.digests)
            made += await to_its_end(store.adopt, stored, source)
            for layer in wanted(stored.manifest):
                async with aclosing(_push_blob(store, layer, repository)) as steps:
                    async for step in steps:
                        yield step
            yield Progress("pushing manifest")
            await repository.put_manifest(stored.raw)
        yield Progress("success")
    finally:
        await repository.aclose()
        await to_its_end(store.discard, made)


async def _push_blob(
    store: Store, layer: Layer, repository: Repository
) -> AsyncGenerator[Progress]:
    path = await asyncio.to_thread(_path, store, layer)
    if not await repository.has(layer):
        sent = 0

        def tell(count: int) -> None:
            nonlocal sent
            sent = count

        work = asyncio.create_task(repository.send(layer, path, tell))
        try:
            last = -1
            async for _ in ticks(work):
                if sent != last:
                    yield _step(layer, sent)
                    last = sent
        finally:
            work.cancel()
            await end_of([work])
        work.result()
    yield _step(layer, layer.size_bytes)


def _path(store: Store, layer: Layer) -> Path:
    path = store.blobs.path(layer.digest)
    try:
        size = store.blobs.size(layer.digest)
    except BlobNotFoundError:
        raise RegistryError(f"open {path}: no such file or directory") from None
    if size != layer.size_bytes:
        raise RegistryError(
            f"{path} has {size} bytes where the manifest says {layer.size_bytes}: "
            "it is damaged, pull or create the model again"
        )
    return path


def _step(layer: Layer, completed: int) -> Progress:
    short = layer.digest.partition(":")[2][:12]
    return Progress(f"pushing {short}", layer.digest, layer.size_bytes, completed)
