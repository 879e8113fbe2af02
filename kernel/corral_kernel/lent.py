"""What registries that lend models share: manifests over files that lie elsewhere.

writing = LentManifest()
writing.layers.append(Layer(WEIGHTS_TYPE, digest, size_bytes))
writing.add(LICENSE_TYPE, text)             # a small blob that is no file
raw = writing.encode(gguf_config(header))
LentModel(name="m", manifest=raw, blobs={digest: path}, contents=writing.contents, owner="…")
"""

import hashlib

import msgspec

from corral_kernel.gguf import GgufHeader
from corral_kernel.models import (
    CONFIG_TYPE,
    Layer,
    ModelConfig,
    parameter_size_text,
    stored_file_type,
)
from corral_kernel.store.manifests import encode_manifest


class LentManifest:
    """A manifest that is being written, and the small blobs that it names."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.contents: dict[str, bytes] = {}

    def add(self, media_type: str, data: bytes) -> None:
        """Add a layer whose bytes are no file."""
        self.layers.append(self._keep(media_type, data))

    def encode(self, config: ModelConfig) -> bytes:
        """Give the manifest's bytes."""
        raw = msgspec.json.encode(config.to_document()) + b"\n"
        return encode_manifest(self._keep(CONFIG_TYPE, raw), self.layers)

    def _keep(self, media_type: str, data: bytes) -> Layer:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.contents[digest] = data
        return Layer(media_type, digest, len(data))


def gguf_config(header: GgufHeader) -> ModelConfig:
    """Tell what a file of weights says of itself."""
    return ModelConfig(
        model_format="gguf",
        model_family=header.architecture,
        model_families=(header.architecture,),
        model_type=parameter_size_text(header.parameter_count),
        file_type=stored_file_type(header),
        architecture="amd64",  # what such configs say everywhere; nothing depends on it
        os="linux",
    )
