"""Who makes models of files, and whether one can be made at all, before the large are fetched."""

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final, NamedTuple

from corral_kernel.contracts import Source, SourceFile
from corral_kernel.errors import RegistryError
from corral_kernel.makers import Makers
from corral_kernel.models import Layer, ModelFile
from corral_kernel.store import CreateRequest, Progress, Store
from corral_kernel.store.documents import MAX_DOCUMENT_BYTES, read_texts
from corral_kernel.store.files import read_regular
from corral_kernel.store.requests import source_format, source_kind

SMALL_BYTES: Final = MAX_DOCUMENT_BYTES
"""What has no more is fetched first: it may tell that the rest is of no use."""


async def make_nothing(request: CreateRequest) -> AsyncGenerator[Progress]:
    """Stand for the making of models where there is none."""
    yield Progress("parsing files")
    raise RegistryError(f"{request.model} has no manifest, and nothing here makes one")


def check_nothing(layers: Sequence[Layer]) -> None:
    """Let everything be fetched."""
    del layers


class Maker(NamedTuple):
    """Who makes models of files.

    Args:
        make: Makes one, step by step.
        check: Refuses what nobody can make one of, when the small files are in the store.
    """

    make: Callable[[CreateRequest], AsyncGenerator[Progress]] = make_nothing
    check: Callable[[Sequence[Layer]], None] = check_nothing


def check_source(store: Store, makers: Makers, layers: Sequence[Layer]) -> None:
    """Refuse files that nobody converts. Reads the small ones, which are in the store by then.

    Raises:
        CorralError: Why they cannot be made into a model, as the making would say it.
    """
    digests = {layer.name: layer.digest for layer in layers}
    if source_kind(digests) != "safetensors":
        return
    files = [
        ModelFile(
            media_type=layer.media_type,
            digest=layer.digest,
            size_bytes=layer.size_bytes,
            path=store.blobs.path(layer.digest),
            name=layer.name,
        )
        for layer in layers
    ]
    texts = read_texts([file for file in files if file.size_bytes <= SMALL_BYTES], _reader(store))
    makers.converter(
        Source(
            kind="model",
            format=source_format(digests),
            files=tuple(SourceFile(name=f.name, size_bytes=f.size_bytes) for f in files),
            documents=texts.documents,
        )
    )


def _reader(store: Store) -> Callable[[str, int], bytes]:
    def read(digest: str, limit: int) -> bytes:
        return read_regular(store.blobs.path(digest), limit)

    return read
