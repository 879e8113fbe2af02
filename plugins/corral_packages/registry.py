"""The registry of packaged models: found by entry points, read by metadata."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from corral_kernel.contracts import Registry
from corral_kernel.errors import CorralError
from corral_kernel.gguf import read_header
from corral_kernel.models import LentModel
from corral_packages.packaged import PackagedModel

_log = logging.getLogger(__name__)

GROUP = "corral.models"
"""Entry-point group by which packaged models are found."""


class PackageRegistry(Registry):
    """Lends what installed packages offer. A model whose package is missing is not listed."""

    name = "packages"

    def __init__(self) -> None:
        self._lent: dict[tuple[str, Path, int, int], LentModel] = {}
        self._told: set[str] = set()

    def lent(self) -> Sequence[LentModel]:
        """Give the models that are there now; milliseconds, but for a file not seen before."""
        found = (self._attempt(entry.name, entry.load) for entry in _entry_points())
        lent = (self._attempt(m.name, lambda m=m: self._lend(m)) for m in found if m is not None)
        return [model for model in lent if model is not None]
