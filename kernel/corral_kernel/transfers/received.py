"""A manifest that came from a registry: nothing of it is believed before it is looked at."""

from collections.abc import Iterable
from typing import Final

import msgspec

from corral_kernel.errors import (
    InvalidDigestError,
    InvalidModelError,
    InvalidRequestError,
    RegistryError,
)
from corral_kernel.foldernames import check_folder_names
from corral_kernel.models import Layer
from corral_kernel.names import ModelName, parse_digest
from corral_kernel.store.manifests import MAX_MANIFEST_BYTES, Manifest, parse_manifest

_MAX_LAYERS: Final = 4096
_MAX_BYTES: Final = 1 << 50  # of all layers together: a pebibyte
_TENSOR_TYPE: Final = "application/vnd.ollama.image.tensor"


def read_received(raw: bytes, name: ModelName) -> Manifest:
    """Read a manifest that a registry gave for a model.

    Raises:
        RegistryError: If it is none, or none of a model that can be kept here.
    """
    if len(raw) > MAX_MANIFEST_BYTES:
        raise RegistryError(f"pull model manifest: it is over {MAX_MANIFEST_BYTES} bytes long")
    try:
        manifest = parse_manifest(raw)
    except InvalidModelError as error:
        if isinstance(error.__cause__, InvalidDigestError):
            raise _digest_error(raw, name) from None
        raise RegistryError(f"pull model manifest: {error}") from None
    _check(manifest, name)
    return manifest


def _digest_error(raw: bytes, name: ModelName) -> RegistryError:
    if b'"digest":""' in raw.replace(b" ", b""):
        return RegistryError(f"{name.namespace}/{name.model}: digest is empty")
    return RegistryError("invalid digest format")


def _check(manifest: Manifest, name: ModelName) -> None:
    layers = manifest.layers
    if not layers and not manifest.config.digest:
        raise RegistryError(
            f"pull model manifest: what the registry has as {name.full} is no model: "
            "its manifest names neither a config nor layers"
        )
    if len(layers) > _MAX_LAYERS:
        raise RegistryError(f"pull model manifest: it names over {_MAX_LAYERS} layers")
    if manifest.size_bytes > _MAX_BYTES:
        raise RegistryError(f"pull model manifest: its layers have over {_MAX_BYTES} bytes")
    sizes: dict[str, int] = {}
    for layer in (*layers, manifest.config):
        if sizes.setdefault(layer.digest, layer.size_bytes) != layer.size_bytes:
            raise RegistryError(f"pull model manifest: it gives two sizes for {layer.digest}")
    if any(layer.media_type == _TENSOR_TYPE for layer in layers):
        raise RegistryError("this model requires MLX support, but the MLX runtime is not available")


def check_ingredients(files: Iterable[Layer]) -> list[Layer]:
    """Look at files that a registry gives to make a model of; digests come back canonical.

    Raises:
        RegistryError: If they cannot be.
    """
    found = [msgspec.structs.replace(file) for file in files]
    try:
        check_folder_names([file.name for file in found])
        found = [msgspec.structs.replace(f, digest=parse_digest(f.digest)) for f in found]
    except (InvalidRequestError, InvalidDigestError) as error:
        raise RegistryError(f"pull model manifest: {error}") from None
    if not found:
        raise RegistryError("pull model manifest: it names no files")
    if any(f.size_bytes < 0 for f in found) or sum(f.size_bytes for f in found) > _MAX_BYTES:
        raise RegistryError(f"pull model manifest: its files have over {_MAX_BYTES} bytes")
    return found


def wanted(manifest: Manifest) -> list[Layer]:
    """The blobs of a model in the order in which they are told of: the config is the last."""
    return [layer for layer in (*manifest.layers, manifest.config) if layer.digest]
