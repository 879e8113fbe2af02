"""The layers of a model that is being made, and the blobs that they need."""

from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path

import msgspec

from corral_kernel.errors import InvalidDigestError, StoreError
from corral_kernel.gguf import GgufHeader
from corral_kernel.models import Layer, ModelFile
from corral_kernel.names import parse_digest
from corral_kernel.store.blobs import digest_of
from corral_kernel.store.files import open_regular
from corral_kernel.store.manifests import StoredManifest
from corral_kernel.store.opening import BlobSource, read_head
from corral_kernel.store.store import Store


class Layers:
    """Layers in the order of the manifest.

    Args:
        store: That holds the blobs.
        pin: Keeps blobs from being deleted.
        made: Digests of blobs that were not there before; more are added to it.
    """

    def __init__(self, store: Store, pin: Callable[[Iterable[str]], None], made: list[str]) -> None:
        self.store = store
        self.pin = pin
        self._made = made
        self.items: list[Layer] = []

    def require(self, digest: str) -> str:
        """Pin a blob that must be there; give its canonical digest.

        Raises:
            StoreError: If it is not there, or `digest` is none.
        """
        try:
            digest = parse_digest(digest)
        except InvalidDigestError as error:
            # Only an empty digest is the request's fault alone; the API tells these two apart.
            raise StoreError(str(error)) from None
        self.pin([digest])
        if not self.store.blobs.touch(digest):
            path = self.store.blobs.path(digest)
            raise StoreError(f"open {path}: no such file or directory")
        return digest

    def adopt(self, stored: StoredManifest, source: BlobSource) -> None:
        """Pin all blobs of a model that is here, and make sure that the store itself holds them.

        Raises:
            InvalidModelError: If a lender's file is damaged.
            StoreError: If a blob cannot be stored.
        """
        self.pin(stored.manifest.digests)
        self._made += self.store.adopt(stored, source)

    def layer(self, media_type: str, digest: str, **more: str) -> Layer:
        """Make a layer of a blob that must be there."""
        digest = self.require(digest)
        size_bytes = self.store.blobs.size(digest)
        return Layer(media_type=media_type, digest=digest, size_bytes=size_bytes, **more)

    def begins(self, digest: str, *magics: bytes) -> bool:
        """Whether a blob that must be there begins with one of these."""
        return read_head(self.path(self.require(digest))).startswith(magics)

    def path(self, digest: str) -> Path:
        """Where a blob lies."""
        return self.store.blobs.path(digest)

    def header(self, layer: Layer) -> GgufHeader:
        """Read the head of a GGUF layer."""
        return self.store.header(self.file(layer))

    def file(self, layer: Layer) -> ModelFile:
        """Give the file of a layer."""
        return ModelFile(
            media_type=layer.media_type,
            digest=layer.digest,
            size_bytes=layer.size_bytes,
            path=self.path(layer.digest),
            name=layer.name,
        )

    def read(self, digest: str, limit: int) -> bytes:
        """Read the beginning of a blob."""
        with open_regular(self.path(digest)) as stream:
            return stream.read(limit)

    # --- new blobs --------------------------------------------------------------------------------

    def keep(self, data: bytes) -> str:
        """Store a small blob; give its digest."""
        self.pin([digest_of(data)])
        digest, is_new = self.store.blobs.add(data)
        if is_new:
            self._made.append(digest)
        return digest

    def take(self, path: Path) -> Generator[int, None, str]:
        """Move a file that was made into the store; gives the bytes that are read so far.

        Raises:
            StoreError: If it is no file, or cannot be stored.
        """
        digest, is_new = yield from self.store.blobs.take(path, self.pin)
        if is_new:
            self._made.append(digest)
        return digest

    def write(self, chunks: Iterator[bytes]) -> Generator[int, None, str]:
        """Write a blob; gives the bytes that are written so far.

        Raises:
            StoreError: If it cannot be stored.
        """
        with self.store.blobs.writer() as writer:
            for chunk in chunks:
                writer.write(chunk)
                yield writer.size_bytes
            digest = writer.digest
            self.pin([digest])
            is_new = digest not in self.store.blobs
            writer.finish()
        if is_new:
            self._made.append(digest)
        return digest

    def small(self, media_type: str, data: bytes) -> Layer:
        """Make a layer of a small blob, which is stored."""
        return Layer(media_type=media_type, digest=self.keep(data), size_bytes=len(data))

    def add(self, media_type: str, data: bytes) -> None:
        """Add such a layer."""
        self.items.append(self.small(media_type, data))

    def replace(self, media_types: tuple[str, ...], data: bytes) -> None:
        """Put such a layer in the place of those of some types."""
        self.remove(media_types)
        self.add(media_types[0], data)

    def remove(self, media_types: tuple[str, ...]) -> None:
        """Take away those of some types."""
        self.items = [layer for layer in self.items if layer.media_type not in media_types]

    def exchange(self, old: Layer, new: Layer) -> None:
        """Put a layer in another's place."""
        self.items = [new if layer is old else layer for layer in self.items]

    def named(self, layer: Layer, name: str) -> ModelFile:
        """Give the file of a layer under another name."""
        return msgspec.structs.replace(self.file(layer), name=name)
