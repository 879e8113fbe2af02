"""What is known of one model before it is lent."""

from collections.abc import Callable
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from corral_kernel.errors import UnsupportedError
from corral_kernel.lent import LentManifest
from corral_kernel.models import WEIGHTS_TYPE, Layer, LentModel, ModelConfig
from corral_kernel.names import ModelName


class Part(Struct, frozen=True, kw_only=True):
    """A file of a model.

    Args:
        media_type: Of its layer.
        path: Where it is.
        size_bytes: Of it.
        state: 64 digits that change whenever the file does.
        digest: `sha256:hex`; empty: not known yet, and its state stands for it.
        name: In the manifest.
    """

    media_type: str
    path: Path
    size_bytes: int
    state: str
    digest: str = ""
    name: str = ""

    @property
    def layer(self) -> Layer:
        """The entry of a manifest."""
        digest = self.digest or f"sha256:{self.state}"
        return Layer(self.media_type, digest, self.size_bytes, name=self.name)


class Recipe(Struct, frozen=True, kw_only=True):
    """A model that may be lent.

    Args:
        names: That it could have, the usual first.
        parts: In the order of the manifest.
        config: What is said of it.
        owner: Where it is, and how it is got rid of.
        modified_ns: Unix time.
        folder: That holds its files by their names, if it is a folder.
        problem: Why it cannot be run.
    """

    names: tuple[ModelName, ...]
    parts: tuple[Part, ...]
    config: ModelConfig
    owner: str
    modified_ns: int
    folder: Path | None = None
    problem: str = ""

    @property
    def is_one(self) -> bool:
        """Whether its weights are one file, or a folder: such models can be copied."""
        return sum(part.media_type == WEIGHTS_TYPE for part in self.parts) < 2  # noqa: PLR2004 - one

    def lend(self, name: ModelName, settle: Callable[[], LentModel] | None = None) -> LentModel:
        """Write the manifest."""
        writing = LentManifest()
        writing.layers += [part.layer for part in self.parts]
        return LentModel(
            name=name.full,
            manifest=writing.encode(self.config),
            blobs={part.layer.digest: part.path for part in self.parts},
            contents=writing.contents,
            modified_ns=self.modified_ns,
            owner=self.owner,
            folder=self.folder,
            problem=self.problem,
            trusted=True,
            settle=settle,
        )

    def settled(self, digest_of: Callable[[Path], str]) -> "Recipe":
        """Find out the digests that are not known yet.

        Raises:
            UnsupportedError: If it cannot be copied as it is.
        """
        if not self.is_one:
            raise UnsupportedError(
                f"{self.names[0].short} is split into several files and can only be run where "
                f"they lie: write 'FROM {self.parts[0].path.parent}' into a Modelfile, and "
                "'corral create' puts them together"
            )
        return replace(
            self,
            parts=tuple(
                part if part.digest else replace(part, digest=digest_of(part.path))
                for part in self.parts
            ),
        )
