"""A model inside a Python package, and how it is lent."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from corral_kernel.errors import InvalidModelError
from corral_kernel.gguf import GgufHeader
from corral_kernel.models import (
    CONFIG_TYPE,
    LICENSE_TYPE,
    MANIFEST_TYPE,
    PARAMETERS_TYPE,
    WEIGHTS_TYPE,
    LentModel,
    ModelConfig,
    parameter_size_text,
    stored_file_type,
)


class PackagedModel(Struct, frozen=True, kw_only=True):
    """What an entry point of group `corral.models` names.

    Args:
        name: What the model is called, such as `smollm2` or `team/model:tag`.
        distribution: The package that holds the file, as pip calls it. It is never imported.
        file: The GGUF file's path inside the package, as in the package's list of files.
        digest: `sha256:` and 64 hexadecimal digits; checked before the model is first run.
        size_bytes: Of the file.
        license: Its text; empty: none is shown.
        parameters: Defaults of request and load options, as PARAMETER lines of a Modelfile.
    """

    name: str
    distribution: str
    file: str
    digest: Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
    size_bytes: Annotated[int, Meta(ge=1)]
    license: str = ""
    parameters: dict[str, Any] = {}

    @property
    def owner(self) -> str:
        """Who lends the model, for messages."""
        return f"Python package {self.distribution} (pip uninstall {self.distribution} removes it)"

    def find(self) -> Path | None:
        """Find the file by the package's metadata; None if the package is not installed.

        Raises:
            InvalidModelError: If the package is installed, but the file is not there.
        """
        try:
            package = importlib.metadata.distribution(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return None
        path = Path(str(package.locate_file(self.file)))
        if not any(str(file) == self.file for file in package.files or ()) or not path.is_file():
            raise InvalidModelError(
                f"{self.owner} {package.version} has no file {self.file}: install the release "
                f"that {self.name} is in"
            )
        return path

    def lend(self, path: Path, header: GgufHeader) -> LentModel:
        """Describe the model as a manifest over its file and what else is said of it here."""
        contents: dict[str, bytes] = {}
        layers = [_entry(WEIGHTS_TYPE, self.digest, self.size_bytes)]
        if self.license:
            layers.append(_content(contents, LICENSE_TYPE, self.license.encode()))
        if self.parameters:
            encoded = msgspec.json.encode(self.parameters, order="sorted") + b"\n"
            layers.append(_content(contents, PARAMETERS_TYPE, encoded))
        config = msgspec.json.encode(_config(header).to_document()) + b"\n"
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": _content(contents, CONFIG_TYPE, config),
            "layers": layers,
        }
        return LentModel(
            name=self.name,
            manifest=msgspec.json.encode(document) + b"\n",
            blobs={self.digest: path},
            contents=contents,
            modified_ns=path.stat().st_mtime_ns,
            owner=self.owner,
        )


def _config(header: GgufHeader) -> ModelConfig:
    return ModelConfig(
        model_format="gguf",
        model_family=header.architecture,
        model_families=(header.architecture,),
        model_type=parameter_size_text(header.parameter_count),
        file_type=stored_file_type(header),
        architecture="amd64",  # what such configs say everywhere; nothing depends on it
        os="linux",
    )


def _content(contents: dict[str, bytes], media_type: str, data: bytes) -> dict[str, str | int]:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    contents[digest] = data
    return _entry(media_type, digest, len(data))


def _entry(media_type: str, digest: str, size_bytes: int) -> dict[str, str | int]:
    return {"mediaType": media_type, "digest": digest, "size": size_bytes}
