"""A plugin of the tests: a converter and a quantizer that do as the name of a file tells them.

The converter takes folders with a `recipe.json`, the quantizer GGUF files. A recipe's `how` is
`copy` (to make the file `source.gguf`), or a way to fail; further fields are read by the steps.
"""

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from corral_kernel.contracts import (
    Converter,
    MadeFile,
    Offer,
    QuantizationType,
    Quantizer,
    Source,
    Work,
)
from corral_kernel.errors import InvalidModelError, UnsupportedError
from corral_kernel.gguf import read_header
from corral_kernel.plugins import hookimpl

CORRAL_API_VERSION = 1
RECIPE = "recipe.json"
SOURCE = "source.safetensors"
PART_BYTES = 1 << 12


def copy_it(work: Work, source: Path) -> None:
    """Make a copy of the source's GGUF file, with progress."""
    read_header(source)


def fail(work: Work, source: Path) -> None:
    raise InvalidModelError("the numbers of the model make no sense")


def raise_other(work: Work, source: Path) -> None:
    raise ValueError("something else")


def die(work: Work, source: Path) -> None:
    (work.folder / "half.gguf").write_bytes(b"half")
    print("my last words", flush=True)  # noqa: T201 - as native code does
    os.kill(os.getpid(), signal.SIGKILL)


def leave(work: Work, source: Path) -> None:
    sys.exit("left early")


def hang(work: Work, source: Path) -> None:
    work.report(1, 1000)
    while True:  # progress that is none
        work.report(1, 1000)
        time.sleep(0.01)


def wait(work: Work, source: Path) -> None:
    """Tell a test that the work is under way, and go on for ever with true progress."""
    Path(work.source.documents[RECIPE]["mark"]).write_text(str(os.getpid()))
    for done in range(1_000_000):
        work.report(done, 1_000_000)
        time.sleep(0.01)


def flood(work: Work, source: Path) -> None:
    for _ in range(200):
        print("x" * 100_000)  # noqa: T201 - as native code does


def leave_things(work: Work, source: Path) -> None:
    (work.folder / "deep" / "er").mkdir(parents=True)
    (work.folder / "deep" / "er" / "scratch").write_bytes(b"x" * 1000)
    (work.folder / "link").symlink_to("/etc/passwd")


def link(work: Work, source: Path) -> None:
    """Give a link for a file that was made."""
    (work.folder / "linked.gguf").symlink_to(source)


STEPS = {
    step.__name__.removesuffix("_it"): step
    for step in (copy_it, fail, raise_other, die, leave, hang, wait, flood, leave_things, link)
}


class RecipeConverter(Converter):
    """Makes what a recipe says."""

    name = "recipe"
    docs = "folders with a recipe"

    def offer(self, source: Source) -> Offer | None:
        recipe = source.documents.get(RECIPE)
        if not isinstance(recipe, dict):
            return None
        if why := recipe.get("refuse"):
            raise UnsupportedError(why)
        return Offer(
            confidence=recipe.get("confidence", 0.5),
            why="it has a recipe",
            makes=recipe.get("makes", "gguf"),
            size_bytes=recipe.get("size", 0),
            private={"how": recipe["how"]},
        )

    def convert(self, work: Work) -> Sequence[MadeFile]:
        recipe = work.source.documents[RECIPE]
        assert work.private["how"] == recipe["how"]
        source = work.path(SOURCE)
        STEPS[recipe["how"]](work, source)
        made = work.folder / "made.gguf"
        copy(source, made, work)
        if recipe.get("cut"):
            os.truncate(made, recipe["cut"])
        return [
            MadeFile(name=recipe.get("name", made.name), role=recipe.get("role", "weights")),
        ]


class CopyQuantizer(Quantizer):
    """Makes a model of `COPY`, which is the same again."""

    name = "copier"
    docs = "the same again"
    types = (
        QuantizationType(name="COPY", bits=32, docs="the same"),
        QuantizationType(name="COPY_BY_MATRIX", bits=32, docs="the same", imatrix="needs"),
    )

    def offer(self, source: Source, type_name: str) -> Offer | None:
        if source.format != "gguf" or type_name not in {kind.name for kind in self.types}:
            return None
        return Offer(confidence=0.5, why="it copies", private={"who": "copier"})

    def quantize(
        self, work: Work, type_name: str, imatrix: Path | None = None
    ) -> Sequence[MadeFile]:
        assert work.private == {"who": "copier"}
        assert (imatrix is not None) == (type_name == "COPY_BY_MATRIX")
        (source,) = work.files
        read_header(Path(source.path))
        copy(Path(source.path), work.folder / "copy.gguf", work)
        return [MadeFile(name="copy.gguf")]


def copy(source: Path, target: Path, work: Work) -> None:
    total = source.stat().st_size
    done = 0
    with source.open("rb") as reading, target.open("wb") as writing:
        while part := reading.read(PART_BYTES):
            writing.write(part)
            done += len(part)
            work.report(done, total)


@hookimpl
def corral_converters() -> Sequence[Converter]:
    return [RecipeConverter()]


@hookimpl
def corral_quantizers() -> Sequence[Quantizer]:
    return [CopyQuantizer()]
