"""The families, a module for each way of writing: its `FAMILIES` are given to the hook."""

import importlib
import pkgutil
from collections.abc import Iterator

from corral_kernel.contracts import ChatParser


def families() -> Iterator[ChatParser]:
    """Give the families of all modules here."""
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        yield from importlib.import_module(f"{__name__}.{module.name}").FAMILIES
