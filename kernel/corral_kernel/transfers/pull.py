"""From a registry into the store: blobs first, the manifest last."""

import asyncio
import contextlib
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Sequence,
)
from contextlib import aclosing
from typing import Final, NamedTuple, TypeVar

from corral_kernel.contracts import Ingredients, Repository
from corral_kernel.errors import CorralError, RegistryError
from corral_kernel.models import Layer
from corral_kernel.names import ModelName
from corral_kernel.store import CreateRequest, Progress, Store
from corral_kernel.store.blobs import digest_of
from corral_kernel.threads import to_its_end
from corral_kernel.transfers.download import holds
from corral_kernel.transfers.downloads import Downloads, SharedRepository
from corral_kernel.transfers.maker import SMALL_BYTES, Maker
from corral_kernel.transfers.received import check_ingredients, read_received, wanted

T = TypeVar("T")
VERIFYING: Final = "verifying sha256 digest"
"""That is done by then, while the bytes came."""


async def pull(
    store: Store, downloads: Downloads, name: ModelName, repository: Repository, maker: Maker
) -> AsyncGenerator[Progress]:
    """Fetch a model, or bring it up to date, telling each step.

    Args:
        store: Where it goes.
        downloads: All that is being fetched.
        name: The model.
        repository: Where it comes from; closed in the end.
        maker: Of models of files, where the registry has no manifest.

    Raises:
        RegistryError: If the registry has no such model, fails, or gives what is wrong.
        StoreError: If there is no room, or something cannot be stored.
        CorralError: If no model can be made of what is there.
    """
    shared = SharedRepository(repository)
    async with _holding(shared):
        yield Progress("pulling manifest")
        ingredients = await _told(repository.ingredients())
        if ingredients is None:
            steps = _as_it_is(store, downloads, name, shared)
        else:
            steps = _made(store, downloads, _request(name, ingredients), shared, maker)
        async with aclosing(steps):
            async for step in steps:
                yield step
    yield Progress("success")


async def _as_it_is(
    store: Store, downloads: Downloads, name: ModelName, shared: SharedRepository
) -> AsyncGenerator[Progress]:
    """Fetch a model that has a manifest."""
    async with pinned(store) as pin:
        raw = await _told(shared.repository.manifest())
        manifest = await asyncio.to_thread(read_received, raw, name)
        await pin(manifest.digests)
        async with aclosing(_fetch_all(store, downloads, wanted(manifest), shared)) as steps:
            async for step in steps:
                yield step
        yield Progress(VERIFYING)
        yield Progress("writing manifest")
        if await to_its_end(_publish, store, name, raw, manifest.digests):
            yield Progress("removing unused layers")  # done by then


async def _made(
    store: Store,
    downloads: Downloads,
    wish: "_Wish",
    shared: SharedRepository,
    maker: Maker,
) -> AsyncGenerator[Progress]:
    """Fetch files, and make a model of them; those that it does not need go again.

    They stay where it is given up, for the next try: a later clean-up sees to them.
    """
    spent: list[str] = []
    try:
        async with pinned(store) as pin:
            await pin(layer.digest for layer in wish.layers)
            missing = await to_its_end(_missing, store, wish.layers)
            await asyncio.to_thread(downloads.check_room, missing.values())
            try:
                async with aclosing(_fetch_all(store, downloads, wish.small, shared)) as steps:
                    async for step in steps:
                        yield step
                await asyncio.to_thread(maker.check, wish.layers)
                async with aclosing(_fetch_all(store, downloads, wish.large, shared)) as steps:
                    async for step in steps:
                        yield step
                yield Progress(VERIFYING)
                async with aclosing(maker.make(wish.request)) as steps:
                    async for step in steps:
                        if step.status != "success":  # that is said once, in the end
                            yield step
            except RegistryError:
                raise  # the next try goes on where this one was
            except CorralError:
                spent += missing
                raise
            spent += missing
    finally:
        await to_its_end(store.discard, spent)


class _Wish(NamedTuple):
    """Files, and what is to be made of them."""

    layers: list[Layer]
    request: CreateRequest

    @property
    def small(self) -> list[Layer]:
        """Files that come first: they may tell that the others are of no use."""
        return [layer for layer in self.layers if layer.size_bytes <= SMALL_BYTES]

    @property
    def large(self) -> list[Layer]:
        """The others."""
        return [layer for layer in self.layers if layer.size_bytes > SMALL_BYTES]


def _request(name: ModelName, ingredients: Ingredients) -> _Wish:
    """Look at what a registry gives before it is believed.

    Raises:
        RegistryError: If nothing can be made of it.
    """
    layers = check_ingredients(ingredients.files)
    request = CreateRequest(
        model=name.full,
        files={layer.name: layer.digest for layer in layers},
        template=ingredients.template,
        system=ingredients.system,
        licenses=tuple(ingredients.licenses),
        parameters=dict(ingredients.parameters),
    )
    return _Wish(layers, request)


async def _fetch_all(
    store: Store, downloads: Downloads, layers: Sequence[Layer], shared: SharedRepository
) -> AsyncGenerator[Progress]:
    """Fetch the blobs that are not here, in order."""
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


async def _told(asking: Awaitable[T]) -> T:
    try:
        return await asking
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
