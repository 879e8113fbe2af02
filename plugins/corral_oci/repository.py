"""One model at a registry that speaks the protocol of Ollama's, or of OCI."""

import re
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Final

import httpx
import msgspec

from corral_kernel.contracts import RegistryCall, Repository
from corral_kernel.errors import NoRangesError, RegistryError, RegistryUnavailableError
from corral_kernel.models import MANIFEST_TYPE, Layer
from corral_oci.places import Origin, Places
from corral_oci.session import Ask, Session, check, read_body
from corral_oci.upload import Upload

_MAX_MANIFEST_BYTES: Final = 4 << 20
_OK, _PARTIAL, _NOT_FOUND, _FIRST_ERROR = 200, 206, 404, 400
_RANGE: Final = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)")


class _Manifest(msgspec.Struct):
    media_type: str = msgspec.field(name="mediaType", default="")


class OciRepository(Repository):
    """One model at one registry.

    Args:
        call: Which, and how to get there.
    """

    def __init__(self, call: RegistryCall) -> None:
        self._places = Places(call.name, insecure=call.insecure)
        self._session = Session(call, self._places)
        self._direct: dict[str, httpx.URL] = {}  # by digest: where a blob was found to be

    async def manifest(self) -> bytes:
        """Give the manifest's own bytes."""
        headers = {"Accept": MANIFEST_TYPE}
        async with self._session.ask(Ask("GET", self._places.manifest, headers)) as response:
            await check(response)
            raw = await read_body(response, _MAX_MANIFEST_BYTES + 1)
        if len(raw) > _MAX_MANIFEST_BYTES:
            raise RegistryError(f"the manifest is over {_MAX_MANIFEST_BYTES} bytes long")
        return raw

    async def read(self, layer: Layer, start: int, end: int) -> AsyncGenerator[bytes]:
        """Give the bytes of a blob; where the registry sends us is asked directly from then on."""
        known = self._direct.get(layer.digest)
        headers = {"Range": f"bytes={start}-{end - 1}"}
        url = known or self._places.blob(layer.digest)
        async with self._session.ask(Ask("GET", url, headers), bare=known is not None) as response:
            if known is not None and response.status_code >= _FIRST_ERROR:
                self._direct.pop(layer.digest, None)  # such addresses expire
                raise RegistryUnavailableError(f"{response.status_code} from {url.host}")
            await check(response)
            _check_range(response, layer, start)
            if Origin.of(response.url) != self._places.origin:
                self._direct[layer.digest] = response.url
            async for piece in response.aiter_raw():
                yield piece

    async def has(self, layer: Layer) -> bool:
        """Whether the registry holds a blob of the model."""
        async with self._session.ask(Ask("HEAD", self._places.blob(layer.digest))) as response:
            if response.status_code == _NOT_FOUND:
                return False
            await check(response)
            return True

    async def send(self, layer: Layer, path: Path, tell: Callable[[int], None]) -> None:
        """Put a blob into the registry."""
        await Upload(self._session, self._places, layer, path, tell).run()

    async def put_manifest(self, raw: bytes) -> None:
        """Put the manifest's own bytes into the registry."""
        kind = msgspec.json.decode(raw, type=_Manifest).media_type or MANIFEST_TYPE
        headers = {"Content-Type": kind}
        async with self._session.ask(Ask("PUT", self._places.manifest, headers, raw)) as response:
            await check(response)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._session.aclose()


def _check_range(response: httpx.Response, layer: Layer, start: int) -> None:
    """Make sure that an answer holds the bytes that were asked for.

    Raises:
        NoRangesError: If it holds all bytes, and not the first were asked for.
        RegistryError: If the blob has another size than the manifest says.
    """
    status = response.status_code
    if status == _PARTIAL:
        found = _RANGE.fullmatch(response.headers.get("content-range", ""))
        if found is None or int(found[1]) != start:
            raise RegistryError(f"{response.url.host} gives other bytes than it was asked for")
        total = found[3]
    elif status == _OK:
        if start:
            raise NoRangesError(f"{response.url.host} gives no parts of a file")
        total = response.headers.get("content-length", "*")
    else:
        raise RegistryError(f"unexpected status code {status}")
    if total != "*" and total != str(layer.size_bytes):
        raise RegistryError(
            f"{layer.digest} has {total} bytes there, where the manifest says {layer.size_bytes}"
        )
