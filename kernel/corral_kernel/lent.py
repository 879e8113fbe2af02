"""What registries that lend models share: manifests over files that lie elsewhere.

writing = LentManifest()
writing.layers.append(Layer(WEIGHTS_TYPE, digest, size_bytes))
writing.add(LICENSE_TYPE, text)             # a small blob that is no file
raw = writing.encode(gguf_config([header]))
LentModel(name="m", manifest=raw, blobs={digest: path}, contents=writing.contents, owner="…")
"""

import hashlib
from collections.abc import Sequence

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


def gguf_config(headers: Sequence[GgufHeader]) -> ModelConfig:
    """Tell what files of weights say of themselves; of a split model they are one."""
    first = headers[0]
    return ModelConfig(
        model_format="gguf",
        model_family=first.architecture,
        model_families=(first.architecture,),
        model_type=parameter_size_text(sum(header.parameter_count for header in headers)),
        file_type=stored_file_type(first),
        architecture="amd64",  # what such configs say everywhere; nothing depends on it
        os="linux",
    )
