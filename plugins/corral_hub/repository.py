"""One repository of the Hub, during one pull."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

import msgspec

from corral_hub.addresses import Address
from corral_hub.choosing import Chosen, choose
from corral_hub.fetching import Fetcher
from corral_hub.listing import HubFile, Listing, list_repository
from corral_kernel.contracts import Ingredients, Repository
from corral_kernel.errors import RegistryError
from corral_kernel.gguf.filenames import is_gguf
from corral_kernel.models import FILE_TYPE, Layer
from corral_kernel.store.blobs import digest_of

MAX_SMALL_BYTES: Final = 32 << 20
"""Of a file that the Hub tells no SHA-256 of: it is kept in memory until it is stored."""

MAX_SMALL_TOTAL: Final = 128 << 20
_MAX_TEXT_BYTES: Final = 1 << 20
_AT_ONCE: Final = 8
_LICENSES: Final = ("license", "license.txt", "license.md", "notice")


class HubRepository(Repository):
    """One repository.

    Args:
        address: Which, and what of it.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._fetcher: Fetcher | None = None
        self._small: dict[str, bytes] = {}  # by digest
        self._files: dict[str, HubFile] = {}  # by digest
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def ingredients(self) -> Ingredients:
        """Ask what there is, choose, and fetch what is small."""
        listing = await asyncio.to_thread(list_repository, self._address)
        self._fetcher = Fetcher(listing)
        chosen = choose(listing.files, self._address.wish, self._address.repository)
        small = [file for file in chosen.values() if not file.sha256]
        texts = await asyncio.gather(
            self._digests(small), self._texts(listing, chosen), self._licenses(listing)
        )
        digests, more, licenses = texts
        layers = [self._layer(name, file, digests) for name, file in chosen.items()]
        return Ingredients(files=layers, licenses=licenses, **more)

    def read(self, layer: Layer, start: int, end: int) -> AsyncGenerator[bytes]:
        """Give the bytes of a file."""
        if layer.digest in self._small:
            return _pieces(self._small[layer.digest][start:end])
        file = self._files.get(layer.digest)
        if file is None or self._fetcher is None:
            raise RegistryError("file does not exist")
        return self._fetcher.read(file, start, end)

    async def aclose(self) -> None:
        """Close all connections."""
        if self._fetcher is not None:
            await self._fetcher.aclose()

    def _layer(self, name: str, file: HubFile, digests: dict[str, str]) -> Layer:
        digest = f"sha256:{file.sha256}" if file.sha256 else digests[file.name]
        self._files[digest] = file
        return Layer(media_type=FILE_TYPE, digest=digest, size_bytes=file.size_bytes, name=name)

    async def _digests(self, files: Sequence[HubFile]) -> dict[str, str]:
        """Fetch files whose digests nobody tells; gives those by name."""
        if sum(file.size_bytes for file in files) > MAX_SMALL_TOTAL:
            raise RegistryError(f"{self._address.repository} holds too much that has no SHA-256")
        contents = await asyncio.gather(*(self._content(f, MAX_SMALL_BYTES) for f in files))
        found = {}
        for file, content in zip(files, contents, strict=True):
            found[file.name] = await asyncio.to_thread(digest_of, content)
            self._small[found[file.name]] = content
        return found

    async def _texts(self, listing: Listing, chosen: Chosen) -> dict[str, Any]:
        """What the files `template`, `system` and `params` say beside GGUF files."""
        if not any(is_gguf(name) for name in chosen):
            return {}
        found: dict[str, Any] = {}
        for file in listing.files:
            if file.name in ("template", "system"):
                found[file.name] = await self._text(file)
            elif file.name == "params":
                found["parameters"] = _parameters(await self._text(file))
        return found

    async def _licenses(self, listing: Listing) -> tuple[str, ...]:
        files = [f for f in listing.files if f.name.lower() in _LICENSES]
        return tuple([await self._text(file) for file in files])

    async def _text(self, file: HubFile) -> str:
        return (await self._content(file, _MAX_TEXT_BYTES)).decode("utf-8", "replace")

    async def _content(self, file: HubFile, limit: int) -> bytes:
        if file.size_bytes > limit:
            raise RegistryError(f"{file.name} has over {limit} bytes")
        assert self._fetcher is not None
        async with self._slots:
            content = await self._fetcher.whole(file)
        if file.git and not file.sha256:
            git = await asyncio.to_thread(_git_name, content)
            if git != file.git:
                raise RegistryError(
                    f"{file.name} is not what the Hub says that it is: its Git name is "
                    f"{git}, not {file.git}"
                )
        return content


def _git_name(content: bytes) -> str:
    head = f"blob {len(content)}\0".encode()
    return hashlib.sha1(head + content, usedforsecurity=False).hexdigest()


def _parameters(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise RegistryError(f"the file params is no JSON object: {error}") from None


async def _pieces(data: bytes) -> AsyncGenerator[bytes]:
    yield data
