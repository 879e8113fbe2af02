"""What converters and quantizers share: a source, an offer to make something of it, and the work.

The server asks for offers, from names, sizes and small JSON texts alone. The work is done in a
task process, which has the files and is ended by being killed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from corral_kernel.contracts.backend import FileRef


class SourceFile(Struct, frozen=True, kw_only=True):
    """One file of a source, which the server has not opened.

    Args:
        name: Its path inside the source, with slashes.
        size_bytes: Of the file.
    """

    name: str
    size_bytes: int


class Source(Struct, frozen=True, kw_only=True):
    """What is to be made into something else, as the server knows it.

    Args:
        kind: Whether it is a model, or an adapter for one.
        format: `safetensors`, `gguf`, `onnx`: of the files.
        files: All of them.
        documents: Their small JSON files, decoded, by name.
        architecture: As a GGUF names it (`llama`); of an adapter its base's. Empty: not known.
        file_type: What most of the numbers are stored as, such as `F16`. Empty: not known.
        parameters: How many numbers there are; 0: not known.
    """

    kind: Literal["model", "adapter"]
    format: str
    files: tuple[SourceFile, ...]
    documents: dict[str, Any] = {}
    architecture: str = ""
    file_type: str = ""
    parameters: int = 0

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(file.size_bytes for file in self.files)


class Offer(Struct, frozen=True, kw_only=True):
    """A bid to make something of a source.

    Args:
        confidence: In (0, 1]; the highest of all offers is taken.
        why: One clause for people: "a Llama of Hugging Face".
        makes: One GGUF file (and perhaps a projector's beside it), or the files of a folder.
        size_bytes: Of all that will be made, as far as can be told; 0: as much as the source.
        private: What it tells its own work; shown to nobody.
    """

    confidence: Annotated[float, Meta(gt=0, le=1)]
    why: str
    makes: Literal["gguf", "folder"] = "gguf"
    size_bytes: int = 0
    private: dict[str, str] = {}


class MadeFile(Struct, frozen=True, kw_only=True):
    """One file that was made.

    Args:
        name: Its path inside the output folder, with slashes. In a model that is a folder it keeps
            this name.
        role: `weights`, `adapter` or `projector` for a GGUF file, `file` for one of a folder.
    """

    name: str
    role: Literal["weights", "adapter", "projector", "file"] = "weights"


class Work(Struct, frozen=True, kw_only=True):
    """What a task has to do, in its process. Nothing of the source may be written to.

    Args:
        source: As the offer knew it.
        private: What the offer told.
        files: Of the source, each with its `path`, which ends with its `name`; they lie together
            in one folder. An adapter's base follows, by the role `weights` and in another place.
        folder: Where to put what is made: it exists and is empty. It is removed after the task,
            whatever else lies in it.
        report: To be called with the bytes that are done and with all that there are to do, often;
            the first number only grows. A task in which it does not grow for long is killed.
    """

    source: Source
    private: dict[str, str]
    files: tuple[FileRef, ...]
    folder: Path
    report: Callable[[int, int], None]

    def path(self, name: str) -> Path:
        """Path of the source's file of a name.

        Raises:
            LookupError: If it has none.
        """
        for file in self.files:
            if file.name == name and file.role == "file":
                return Path(file.path)
        raise LookupError(f"the source has no file {name}")

    @property
    def base(self) -> Path | None:
        """The weights that an adapter is for."""
        found = (file.path for file in self.files if file.role == "weights")
        return next(map(Path, found), None)


class Maker:
    """What converters and quantizers are alike in.

    Attributes:
        name: What it is listed by.
        docs: One line for people.
        library: Import name of the library that it stands on; while that is not installed, it is
            not asked for offers. Empty: needs none.
        extra: What to install then, such as `corral[convert]`.
    """

    name: str
    docs: str = ""
    library: str = ""
    extra: str = ""
