"""What the suites of converters and quantizers share: sources on disk, and work on them."""

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from corral_kernel.contracts import FileRef, MadeFile, Maker, Offer, Source, SourceFile, Work
from corral_kernel.errors import CorralError, InvalidRequestError
from corral_kernel.foldernames import check_folder_names
from corral_kernel.gguf import read_header
from corral_kernel.testing.suites import EVERYTHING, ContractBrokenError, attempt, demand

_SMALL_BYTES: Final = 1 << 20
STRANGER: Final = Source(
    kind="model",
    format="nothing-that-is-known",
    files=(SourceFile(name="notes.txt", size_bytes=12),),
)
"""What nobody may make an offer for."""


def source_of(
    path: Path,
    kind: Literal["model", "adapter"] = "model",
    format_name: str = "safetensors",
    architecture: str = "",
) -> Source:
    """Describe a file or folder as the server does.

    Args:
        path: One GGUF file, or a folder.
        kind: Of it.
        format_name: Of a folder; a file is a GGUF.
        architecture: Of an adapter's base.
    """
    if path.is_file():
        header = read_header(path)
        return Source(
            kind=kind,
            format="gguf",
            files=(SourceFile(name="model.gguf", size_bytes=path.stat().st_size),),
            architecture=header.architecture,
            file_type=header.file_type_name,
            parameters=header.parameter_count,
        )
    files = _files(path)
    documents = {
        name: json.loads(file.read_bytes())
        for name, file in files.items()
        if name.endswith(".json") and file.stat().st_size <= _SMALL_BYTES
    }
    return Source(
        kind=kind,
        format=format_name,
        files=tuple(SourceFile(name=n, size_bytes=f.stat().st_size) for n, f in files.items()),
        documents=documents,
        architecture=architecture,
    )


def _files(path: Path) -> dict[str, Path]:
    if path.is_file():
        return {"model.gguf": path}
    found = sorted(file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): file for file in found}


def references(path: Path, base: Path | None = None) -> tuple[FileRef, ...]:
    """Name the files of a source as a task gets them."""
    own = tuple(_reference("file", name, file) for name, file in _files(path).items())
    return own if base is None else (*own, _reference("weights", "", base))


def _reference(role: str, name: str, file: Path) -> FileRef:
    size_bytes = file.stat().st_size
    return FileRef(role=role, digest="", size_bytes=size_bytes, name=name, path=str(file))


def demand_described(maker: Maker) -> None:
    """Demand a name, a line of docs, and of one that needs a library what to install."""
    demand(isinstance(maker.name, str) and maker.name, "it has no name")
    demand(maker.docs, f"{maker.name} has no docs: one line for people")
    demand(
        bool(maker.library) == bool(maker.extra),
        f"{maker.name} is to have both `library` and `extra`, or neither",
    )


def demand_offer(offer: object, whose: str) -> Offer:
    """Demand an offer with fields in their ranges; give it."""
    if not isinstance(offer, Offer):
        raise ContractBrokenError(f"{whose} made no offer, but gave {offer!r}")
    try:
        return msgspec.convert(msgspec.to_builtins(offer), Offer)
    except msgspec.ValidationError as error:
        raise ContractBrokenError(f"{whose} made a wrong offer: {error}") from error


@contextlib.contextmanager
def made_by(
    call: Callable[[Work], Sequence[MadeFile]],
    source: Source,
    offer: Offer,
    files: tuple[FileRef, ...],
) -> Iterator[dict[MadeFile, Path]]:
    """Have a maker work; gives what it made, until the block ends.

    Raises:
        ContractBrokenError: If it did so in a way that its contract forbids.
    """
    before = {file.path: _digest(Path(file.path)) for file in files}
    with tempfile.TemporaryDirectory(prefix="corral-suite-") as folder:
        reporter = _Reporter()
        work = Work(
            source=source,
            private=offer.private,
            files=files,
            folder=Path(folder),
            report=reporter,
        )
        made = call(work)
        reporter.check()
        after = {file.path: _digest(Path(file.path)) for file in files}
        demand(before == after, "it changed a file of its source")
        yield dict(_looked_at(made, Path(folder), offer))


def _looked_at(made: Any, folder: Path, offer: Offer) -> Iterator[tuple[MadeFile, Path]]:
    demand(isinstance(made, (list, tuple)) and made, f"it gave {made!r}, not what it made")
    demand(all(isinstance(file, MadeFile) for file in made), f"it gave {made!r}, not MadeFiles")
    try:
        check_folder_names([file.name for file in made])
    except InvalidRequestError as error:
        raise ContractBrokenError(f"it names its files wrongly: {error}") from error
    for file in made:
        path = folder / file.name
        demand(path.is_file() and not path.is_symlink(), f"{file.name} is not there, or no file")
        demand(
            (file.role == "file") == (offer.makes == "folder"),
            f"{file.name} has the role {file.role!r}, and {offer.makes!r} was offered",
        )
        if file.role != "file":
            attempt(f"reading the head of {file.name}", read_header, path)
        yield file, path


class _Reporter:
    """Takes reports, and sees whether they are as they should be."""

    def __init__(self) -> None:
        self._reports: list[tuple[int, int]] = []

    def __call__(self, completed: int, total: int) -> None:
        self._reports.append((completed, total))

    def check(self) -> None:
        demand(self._reports, "it reported no progress: call work.report(completed, total)")
        done = [completed for completed, _ in self._reports]
        demand(done == sorted(done), f"its progress went back: {done[:50]}")
        for completed, total in self._reports:
            demand(0 <= completed <= total, f"it reported {completed} bytes of {total}")


def demand_refusal(call: Callable[[], Any], what: str) -> None:
    """Demand that a call raises a `CorralError`."""
    try:
        call()
    except CorralError as error:
        demand(str(error), f"{what} is refused without a word")
    except EVERYTHING as error:
        raise ContractBrokenError(
            f"{what} raised {type(error).__name__}: {error}; raise a CorralError that says why"
        ) from error
    else:
        raise ContractBrokenError(f"{what} was taken, and something made of it")


@contextlib.contextmanager
def damaged(path: Path) -> Iterator[Path]:
    """Give a copy of a source whose largest file ends in its middle, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="corral-suite-") as folder:
        files = _files(path)
        largest = max(files, key=lambda name: files[name].stat().st_size)
        copy = Path(folder) / "copy"
        for name, file in files.items():
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            content = file.read_bytes()
            target.write_bytes(content[: len(content) // 2] if name == largest else content)
        yield copy if path.is_dir() else copy / "model.gguf"


def digests_of(made: dict[MadeFile, Path]) -> dict[str, str]:
    """Digests of files that were made, by name."""
    return {file.name: _digest(path) for file, path in made.items()}


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
