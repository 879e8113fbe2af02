"""llama.cpp's own functions, as llama-cpp-python binds them, without the rest of that package.

    from corral_llamacpp.binding import lib

`import llama_cpp.llama_cpp` would run the package's `__init__` first, whose high-level classes
bring jinja2, diskcache and more along: 40 ms of each load and each task, for what is never called.
"""

import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from threading import RLock
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import llama_cpp.llama_cpp as lib

__all__ = ["lib"]

_PACKAGE: Final = "llama_cpp"


class _LatePackage(ModuleType):
    """A package that runs its `__init__` when somebody asks for more than its modules."""

    def __init__(self, spec: ModuleSpec) -> None:
        super().__init__(spec.name)
        self.__spec__ = spec
        self.__file__ = spec.origin
        self.__path__ = list(spec.submodule_search_locations or ())
        self._lock = RLock()
        self._begun = False

    def __getattr__(self, name: str) -> Any:
        with self._lock:
            if not self._begun and self.__spec__ and self.__spec__.loader:
                self._begun = True
                self.__spec__.loader.exec_module(self)
        if name in self.__dict__:
            return self.__dict__[name]
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


def _low_level() -> ModuleType:
    """Import the low-level module; the package waits for whoever else may want it."""
    if _PACKAGE not in sys.modules and (spec := importlib.util.find_spec(_PACKAGE)):
        sys.modules[_PACKAGE] = _LatePackage(spec)
    return importlib.import_module(f"{_PACKAGE}.llama_cpp")


if not TYPE_CHECKING:
    lib = _low_level()
