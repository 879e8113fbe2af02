"""A backend for tests: it loads folders, looks at their files for each job, and repeats prompts."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from corral_echo.engine import EchoEngine
from corral_echo.options import EchoOptions

from corral_kernel.contracts import Admission, Backend, Claim, Engine, Job, LoadRequest
from corral_kernel.models import Model
from corral_kernel.plugins import hookimpl

CORRAL_API_VERSION = 1
NAME = "reader"


class ReaderEngine(EchoEngine):
    """Fails a job if a file of the folder is not there any more."""

    def __init__(self, request: LoadRequest) -> None:
        assert isinstance(request.options, EchoOptions)
        super().__init__(request.options, request.slots)
        self._folder: Path = request.folder()
        self._sizes = {file.name: file.size_bytes for file in request.files}
        found = (path for path in self._folder.rglob("*") if path.is_file())
        names = sorted(path.relative_to(self._folder).as_posix() for path in found)
        details: dict[str, str | int] = {"files": " ".join(names), "folder": str(self._folder)}
        self.info = msgspec.structs.replace(self.info, details=details)

    def admit(self, job: Job) -> Admission | None:
        for name, size_bytes in self._sizes.items():
            assert (self._folder / name).lstat().st_size == size_bytes
        return super().admit(job)


@hookimpl
def corral_backends() -> Sequence[Backend]:
    return [Backend(name=NAME, options=EchoOptions)]


@hookimpl
def corral_claim(model: Model) -> Claim | None:
    if not model.folder_files:
        return None
    return Claim(backend=NAME, confidence=1.0, why="a folder", capabilities=("completion",))


@hookimpl
def corral_load(request: LoadRequest) -> Engine:
    return ReaderEngine(request)
