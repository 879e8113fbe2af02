"""One blob on its way into a registry: in large parts, one after the other."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import httpx

from corral_kernel.errors import InvalidNameError, RegistryError, RegistryUnavailableError
from corral_kernel.models import Layer
from corral_kernel.names import ModelName
from corral_oci.places import Places
from corral_oci.session import Ask, Session, check

_MIN_PART_BYTES: Final = 100_000_000
_MAX_PART_BYTES: Final = 1_000_000_000
_PARTS: Final = 16
_READ_BYTES: Final = 1 << 20
_ATTEMPTS: Final = 6
_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0
_CREATED, _REDIRECT, _RANGE_REFUSED, _GONE = 201, 307, 416, 404


class Upload:
    """One blob that is being sent.

    Args:
        session: With the registry.
        places: Of the model.
        layer: Digest and size.
        path: The file.
        tell: Is told how many bytes are sent.
    """

    def __init__(
        self,
        session: Session,
        places: Places,
        layer: Layer,
        path: Path,
        tell: Callable[[int], None],
    ) -> None:
        self._session = session
        self._places = places
        self._layer = layer
        self._path = path
        self._tell = tell
        size = layer.size_bytes
        self._part_bytes = min(max(size // _PARTS, _MIN_PART_BYTES), _MAX_PART_BYTES)
        self._hashes: list[bytes] = []  # MD5 of each part, which storage of the S3 kind checks

    async def run(self) -> None:
        """Send the blob, from its beginning again where the registry failed.

        A registry keeps no half of a part for sure, so what it has of one is not gone on with.

        Raises:
            RegistryError: If the registry refuses it, or fails too often.
        """
        failures = 0
        while True:
            try:
                location = await self._begin()
                if location is None:
                    return
                await self._finish(await self._send_parts(location))
            except RegistryUnavailableError as error:
                failures += 1
                if failures >= _ATTEMPTS:
                    raise RegistryError(f"max retries exceeded: {error}") from error
                pause_s = _PAUSE_S * 2 ** (failures - 1)
                await asyncio.sleep(max(pause_s, min(error.after_s or 0.0, _LONGEST_PAUSE_S)))
            else:
                return

    async def _begin(self) -> httpx.URL | None:
        """Ask for a place to send to; None: the registry had the blob in another repository."""
        source = _repository(self._layer.inherited_from)
        if source:
            try:
                return await self._ask_for_place({"from": source, "mount": self._layer.digest})
            except RegistryUnavailableError:
                raise
            except RegistryError:
                pass  # it may be no repository, or one that is not for us: the blob is sent
        return await self._ask_for_place({})

    async def _ask_for_place(self, mounting: dict[str, str]) -> httpx.URL | None:
        url = self._places.uploads.copy_merge_params(mounting)
        async with self._session.ask(Ask("POST", url, body=b"")) as response:
            await check(response)
            if mounting and response.status_code == _CREATED:
                return None
            return self._next(response)

    def _next(self, response: httpx.Response) -> httpx.URL:
        headers = response.headers
        location = headers.get("docker-upload-location") or headers.get("location")
        if not location:
            raise RegistryError(f"{response.url.host} does not say where to send the blob to")
        return self._places.follow(response.url, location)

    async def _send_parts(self, location: httpx.URL) -> httpx.URL:
        self._hashes = []
        self._tell(0)
        for start in range(0, self._layer.size_bytes, self._part_bytes):
            end = min(start + self._part_bytes, self._layer.size_bytes)
            location = await self._send_part(location, start, end)
        return location

    async def _send_part(self, location: httpx.URL, start: int, end: int) -> httpx.URL:
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(end - start),
            "Content-Range": f"{start}-{end - 1}",
            "X-Redirect-Uploads": "1",
        }
        body = _Body(self._path, start, end, self._tell)
        async with self._session.ask(
            Ask("PATCH", location, headers, body), follow=False
        ) as response:
            direct = response.headers.get("location", "")
            if response.status_code != _REDIRECT:
                await _check_part(response)
                following = self._next(response)
            elif direct:
                following = self._next(response)
        if response.status_code == _REDIRECT:
            await self._send_directly(self._places.follow(location, direct), body, end - start)
        self._hashes.append(body.md5.digest())
        return following

    async def _send_directly(self, url: httpx.URL, body: "_Body", size: int) -> None:
        """Send a part to the storage behind the registry, which needs no credentials of ours."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        async with self._session.ask(
            Ask("PUT", url, headers, body), follow=False, bare=True
        ) as response:
            await _check_part(response)

    async def _finish(self, location: httpx.URL) -> None:
        whole = hashlib.md5(b"".join(self._hashes), usedforsecurity=False).hexdigest()
        url = location.copy_merge_params(
            {"digest": self._layer.digest, "etag": f"{whole}-{len(self._hashes)}"}
        )
        headers = {"Content-Type": "application/octet-stream", "Content-Length": "0"}
        async with self._session.ask(Ask("PUT", url, headers, b"")) as response:
            await check(response)


async def _check_part(response: httpx.Response) -> None:
    """Make sure that a part was taken.

    Raises:
        RegistryUnavailableError: If the place to send to is gone, so that a new one is needed.
        RegistryError: If it was refused.
    """
    if response.status_code in (_RANGE_REFUSED, _GONE):
        raise RegistryUnavailableError(f"the upload was given up by {response.url.host}")
    await check(response)


def _repository(model: str) -> str:
    """Tell the repository of a model that a layer was inherited from; empty: it is of none."""
    try:
        name = ModelName.parse(model)
    except InvalidNameError:
        return ""
    return f"{name.namespace}/{name.model}"


class _Body:
    """A part of a file, to be read anew for each try."""

    def __init__(self, path: Path, start: int, end: int, tell: Callable[[int], None]) -> None:
        self._path = path
        self._start = start
        self._end = end
        self._tell = tell
        self.md5 = hashlib.md5(usedforsecurity=False)

    async def __call__(self) -> AsyncIterator[bytes]:
        self.md5 = hashlib.md5(usedforsecurity=False)
        file = await asyncio.to_thread(self._path.open, "rb")
        try:
            position = self._start
            file.seek(position)
            while position < self._end:
                piece = await asyncio.to_thread(file.read, min(_READ_BYTES, self._end - position))
                if not piece:
                    raise RegistryError(f"{self._path} ends at byte {position}")
                await asyncio.to_thread(self.md5.update, piece)
                position += len(piece)
                yield piece
                self._tell(position)
        finally:
            file.close()
