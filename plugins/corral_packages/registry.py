"""The registry of packaged models: found by entry points, read by metadata."""

from __future__ import annotations

import importlib.metadata
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from corral_kernel.contracts import Registry
from corral_kernel.errors import InvalidModelError
from corral_kernel.gguf import read_header
from corral_kernel.models import LentModel
from corral_packages.packaged import PackagedModel

_log = logging.getLogger(__name__)

GROUP = "corral.models"
"""Entry-point group by which packaged models are found."""


class PackageRegistry(Registry):
    """Lends what installed packages offer. A model whose package is missing is not listed."""

    name = "packages"
    docs = "models inside installed Python packages"

    def __init__(self) -> None:
        self._lent: dict[tuple[str, Path, int, int], LentModel] = {}
        self._told: set[str] = set()
        self._listed: tuple[tuple[object, ...], list[LentModel]] | None = None

    def lent(self) -> Sequence[LentModel]:
        """Give the models that are there now; a file that was not seen before is read first.

        Every request for a model asks. To read all packages' metadata takes milliseconds, so it is
        done anew only when something was installed, removed or changed.
        """
        if self._listed is None or self._listed[0] != _stamp(self._listed[1]):
            entries = importlib.metadata.entry_points(group=GROUP)
            found = [self._try(entry) for entry in sorted(entries)]
            models = [model for model in found if model is not None]
            self._listed = _stamp(models), models
        return self._listed[1]

    def _try(self, entry: importlib.metadata.EntryPoint) -> LentModel | None:
        try:
            return self._lend(_packaged(entry), entry.name)
        except Exception as error:  # noqa: BLE001 - a stranger's module may raise anything
            self._tell(f"{entry.name} ({entry.value}) is left out: {error}")
            return None

    def _lend(self, model: PackagedModel, entry_name: str) -> LentModel | None:
        path = model.find()
        if path is None:
            return None
        status = path.stat()
        key = (entry_name, path, status.st_size, status.st_mtime_ns)
        if key not in self._lent:
            try:
                header = read_header(path)
            except InvalidModelError as error:
                raise InvalidModelError(f"{path} of {model.owner}: {error}") from error
            self._lent[key] = model.lend(path, header)
        return self._lent[key]

    def _tell(self, message: str) -> None:
        """Log what is wrong once, since models are listed often."""
        if message not in self._told:
            self._told.add(message)
            _log.warning("packaged model %s", message)


def _stamp(models: Sequence[LentModel]) -> tuple[object, ...]:
    """What changes with the folders that packages are installed into, and with models' files."""
    paths = [Path(folder or ".") for folder in sys.path]
    paths += [path for model in models for path in model.blobs.values()]
    return tuple((path, _changed_ns(path)) for path in paths)


def _changed_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _packaged(entry: importlib.metadata.EntryPoint) -> PackagedModel:
    """Load what an entry point names and check its fields.

    Raises:
        InvalidModelError: If it is no `PackagedModel`, or one with bad fields.
    """
    model = entry.load()
    if not isinstance(model, PackagedModel):
        raise InvalidModelError(f"it is {type(model).__name__}, not PackagedModel")
    try:
        return msgspec.convert(msgspec.to_builtins(model), PackagedModel)
    except msgspec.ValidationError as error:
        raise InvalidModelError(f"a field is wrong: {error}") from error
