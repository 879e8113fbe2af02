"""Addresses in a registry, and which of them belong to the registry itself."""

from typing import Final, NamedTuple, Self

import httpx

from corral_kernel.errors import RegistryError
from corral_kernel.names import ModelName

_PORTS: Final = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """Scheme, host and port: credentials belong to one of these and never leave it."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: httpx.URL) -> Self:
        """Of a URL."""
        return cls(url.scheme, url.host.lower().rstrip("."), url.port or _PORTS.get(url.scheme, 0))

    @property
    def authority(self) -> str:
        """`host`, or `host:port` where the port is not the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS.get(self.scheme) else f"{host}:{self.port}"


class Places:
    """Where the parts of one model are.

    Args:
        name: The model.
        insecure: Whether plain http is to be used.
    """

    def __init__(self, name: ModelName, *, insecure: bool) -> None:
        self.scheme = "http" if insecure else "https"
        self.repository = f"{name.namespace}/{name.model}"
        try:
            self._root = httpx.URL(f"{self.scheme}://{name.host}/v2/{self.repository}/")
        except httpx.InvalidURL as error:
            raise RegistryError(f"{name.host!r} is no host of a registry: {error}") from None
        self.origin = Origin.of(self._root)
        self.manifest = self._root.join(f"manifests/{name.tag}")
        self.uploads = self._root.join("blobs/uploads/")

    def blob(self, digest: str) -> httpx.URL:
        """Where a blob is."""
        return httpx.URL(f"{self._root}blobs/{digest}")

    def follow(self, url: httpx.URL, location: str) -> httpx.URL:
        """Where an answer of `url` points to.

        Raises:
            RegistryError: If that is nowhere, or unencrypted where all was encrypted so far.
        """
        try:
            target = url.join(location)
        except (httpx.InvalidURL, ValueError) as error:
            raise RegistryError(f"{url.host} points to what is no address: {error}") from None
        if target.scheme not in _PORTS or not target.host:
            raise RegistryError(
                f"{url.host} points to {str(target)[:200]!r}, which is no web address"
            )
        if target.scheme == "http" and self.scheme == "https":
            raise RegistryError(
                f"{url.host} points to the unencrypted address http://{target.host}: not followed"
            )
        return target.copy_with(username=None, password=None, fragment=None)
