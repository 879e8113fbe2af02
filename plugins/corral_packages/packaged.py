"""A model inside a Python package, and how it is lent."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from corral_kernel.errors import InvalidModelError
from corral_kernel.gguf import GgufHeader
from corral_kernel.models import LICENSE_TYPE, PARAMETERS_TYPE, WEIGHTS_TYPE, Layer, LentModel


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
        # Late: it brings the store along, and workers import this module too.
        from corral_kernel.lent import LentManifest, gguf_config

        writing = LentManifest()
        writing.layers.append(Layer(WEIGHTS_TYPE, self.digest, self.size_bytes))
        if self.license:
            writing.add(LICENSE_TYPE, self.license.encode())
        if self.parameters:
            encoded = msgspec.json.encode(self.parameters, order="sorted") + b"\n"
            writing.add(PARAMETERS_TYPE, encoded)
        return LentModel(
            name=self.name,
            manifest=writing.encode(gguf_config(header)),
            blobs={self.digest: path},
            contents=writing.contents,
            modified_ns=path.stat().st_mtime_ns,
            owner=self.owner,
        )
