"""A model as its maker published it: files by name, of which the small ones are JSON."""

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from corral_kernel.errors import InvalidModelError
from corral_safetensors.reader import Stored, stored_tensors

INDEX: Final = "model.safetensors.index.json"
_SUFFIX: Final = ".safetensors"
_MOST_SMALL_BYTES: Final = 256 * 1024 * 1024  # Gemma's tokenizer.json has 33 MB
_MOST_FILES: Final = 2000


class ModelFiles:
    """The files of a model.

    Args:
        files: Where each lies; names are relative, with `/` between folders.
        name: What to call the model; empty for what its config says.
    """

    def __init__(self, files: Mapping[str, Path], name: str = "") -> None:
        if len(files) > _MOST_FILES:
            raise InvalidModelError(f"{len(files)} files; at most {_MOST_FILES} are looked at")
        self.files = dict(files)
        self.name = name

    @classmethod
    def of_folder(cls, folder: Path) -> "ModelFiles":
        """The files of a folder and of the folders in it; the model is called as the folder is."""
        found = [*folder.glob("*"), *folder.glob("*/*")]
        return cls(
            {path.relative_to(folder).as_posix(): path for path in found if path.is_file()},
            folder.resolve().name,
        )

    def __contains__(self, name: object) -> bool:
        return name in self.files

    def data(self, name: str) -> bytes:
        """A small file's bytes.

        Raises:
            InvalidModelError: If it is missing, no regular file, or not small.
        """
        path = self.files.get(name)
        if path is None or not path.exists():
            raise InvalidModelError(f"the model has no file {name}, which is needed")
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_SMALL_BYTES:
            raise InvalidModelError(
                f"{name} is no regular file of at most {_MOST_SMALL_BYTES} bytes"
            )
        return path.read_bytes()

    def text(self, name: str) -> str:
        """A small file's text."""
        try:
            return self.data(name).decode()
        except UnicodeDecodeError as error:
            raise InvalidModelError(f"{name} is no UTF-8: {error}") from None

    def json(self, name: str) -> Any:
        """What a JSON file holds."""
        try:
            return msgspec.json.decode(self.data(name))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidModelError(f"{name} cannot be read as JSON: {error}") from None

    def mapping(self, name: str, *, needed: bool = False) -> dict[str, Any]:
        """What a JSON file holds, which is to be an object; nothing, if there is no such file."""
        if name not in self and not needed:
            return {}
        found = self.json(name)
        if not isinstance(found, dict):
            raise InvalidModelError(f"{name} is to hold a JSON object")
        return found

    def tensors(self) -> list[Stored]:
        """What the weights' files hold, in the order of the files' names and bytes.

        Raises:
            InvalidModelError: If one of them is missing or damaged, or a name is given twice.
        """
        parts = self._parts()
        found: dict[str, Stored] = {}
        for part in parts:
            for tensor in stored_tensors(self.files[part], part):
                if tensor.name in found:
                    raise InvalidModelError(
                        f"tensor {tensor.name} is in {part} and in another file too"
                    )
                found[tensor.name] = tensor
        self._check_index(found)
        return list(found.values())

    def _parts(self) -> list[str]:
        if INDEX in self:
            parts = sorted(set(self._weight_map().values()))
            missing = [part for part in parts if part not in self]
            if missing:
                raise InvalidModelError(
                    f"files that {INDEX} names are missing: {', '.join(missing[:5])}"
                )
            return parts
        parts = sorted(name for name in self.files if name.endswith(_SUFFIX) and "/" not in name)
        if "model.safetensors" in parts:
            return ["model.safetensors"]
        if not parts:
            raise InvalidModelError("the model has no .safetensors file")
        return parts

    def _weight_map(self) -> dict[str, str]:
        found = self.mapping(INDEX).get("weight_map")
        if not isinstance(found, dict) or not all(isinstance(p, str) for p in found.values()):
            raise InvalidModelError(f"{INDEX} has no weight_map of tensor names to file names")
        return found

    def _check_index(self, found: Mapping[str, Stored]) -> None:
        if INDEX in self:
            missing = sorted(self._weight_map().keys() - found.keys())
            if missing:
                raise InvalidModelError(
                    f"tensors that {INDEX} names are in no file: {', '.join(missing[:5])}"
                )
