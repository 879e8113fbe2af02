"""Work of converters and quantizers, from an offer to layers of the store."""

import time
from collections.abc import Generator, Sequence
from typing import Final, TypeVar

import msgspec

from corral_kernel.contracts import FileRef, MadeFile, Source, SourceFile
from corral_kernel.errors import TaskError
from corral_kernel.gguf import GgufHeader
from corral_kernel.makers import Chosen
from corral_kernel.models import (
    ADAPTER_TYPE,
    FILE_TYPE,
    PROJECTOR_TYPE,
    WEIGHTS_TYPE,
    Layer,
    ModelFile,
)
from corral_kernel.store.layering import Layers
from corral_kernel.store.steps import NeedsTask, Progress, Steps
from corral_kernel.store.workshops import Workshop
from corral_kernel.tasks.messages import AnyTask, Convert, Quantize

T = TypeVar("T")
VERIFYING: Final = "verifying conversion"
TELL_INTERVAL_S: Final = 0.1
MODEL_NAME: Final = "model.gguf"
_TYPES: Final = {
    "weights": WEIGHTS_TYPE,
    "adapter": ADAPTER_TYPE,
    "projector": PROJECTOR_TYPE,
    "file": FILE_TYPE,
}


class Making(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be made.

    Args:
        source: Of it.
        chosen: Who makes it.
        files: Of the source.
        base: The weights that an adapter is for.
        doing: In words: `converting m:latest`.
        shown: What clients are told meanwhile.
        type_name: To quantize to; empty: it is converted.
        imatrix: File of an importance matrix.
    """

    source: Source
    chosen: Chosen
    files: tuple[ModelFile, ...]
    doing: str
    shown: Progress
    base: ModelFile | None = None
    type_name: str = ""
    imatrix: ModelFile | None = None


def make(layers: Layers, making: Making) -> Steps[list[Layer]]:
    """Have it made; gives the layers of what was.

    Raises:
        StoreError: If there is no room for it, or it cannot be stored.
        TaskError: If what was made is not what was offered.
        CorralError: Why it cannot be made.
    """
    offer = making.chosen.offer
    layers.store.check_room(offer.size_bytes or making.source.size_bytes)
    with layers.store.workshops.open() as workshop:
        files = workshop.lay_out(making.files)
        if making.base is not None:
            files = (*files, _reference("weights", making.base))
        task = _task(making, files, workshop)
        made = yield NeedsTask(task, making.doing, making.shown)
        assert made, "whoever does the task answers with files, or raises"
        _check_roles(made, making)
        yield Progress(VERIFYING)
        taken: list[Layer] = []
        for file in made:
            path = workshop.path_of(file)
            digest = yield from told(layers.take(path), Progress(VERIFYING))
            name = file.name if file.role == "file" else ""
            taken.append(layers.layer(_TYPES[file.role], digest, name=name))
        return taken


def _task(making: Making, files: tuple[FileRef, ...], workshop: Workshop) -> AnyTask:
    task = Convert(
        plugin=making.chosen.plugin,
        maker=making.chosen.maker,
        source=making.source,
        private=making.chosen.offer.private,
        files=files,
        folder=str(workshop.made),
    )
    if not making.type_name:
        return task
    imatrix = str(making.imatrix.path) if making.imatrix else ""
    return Quantize(**msgspec.structs.asdict(task), type_name=making.type_name, imatrix=imatrix)


def _reference(role: str, file: ModelFile) -> FileRef:
    return FileRef(role=role, digest=file.digest, size_bytes=file.size_bytes, path=str(file.path))


def _check_roles(made: Sequence[MadeFile], making: Making) -> None:
    """Make sure that a plugin made what it had offered.

    Raises:
        TaskError: If it did not.
    """
    offer = making.chosen.offer
    if offer.makes == "folder":
        fits = all(file.role == "file" for file in made)
    else:
        wanted = "adapter" if making.source.kind == "adapter" else "weights"
        main = [file for file in made if file.role == wanted]
        fits = len(main) == 1 and all(f.role in (wanted, "projector") for f in made)
    if not fits:
        roles = ", ".join(file.role for file in made)
        raise TaskError(
            f"{making.chosen.maker} offered to make a {offer.makes}, and made files for: {roles}"
        )


def told(work: Generator[int, None, T], shown: Progress) -> Generator[Progress, None, T]:
    """Tell of work that counts bytes, some times a second at most."""
    last = time.monotonic()
    while True:
        try:
            done = next(work)
        except StopIteration as end:
            result: T = end.value
            return result
        if time.monotonic() - last >= TELL_INTERVAL_S:
            last = time.monotonic()
            try:
                yield msgspec.structs.replace(shown, completed=done if shown.total else 0)
            except GeneratorExit:
                work.close()
                raise


def gguf_source(layer: Layer, header: GgufHeader, file_type: str) -> Source:
    """Describe a GGUF layer to quantizers."""
    return Source(
        kind="model",
        format="gguf",
        files=(SourceFile(name=MODEL_NAME, size_bytes=layer.size_bytes),),
        architecture=header.architecture,
        file_type=file_type,
        parameters=header.parameter_count,
    )
