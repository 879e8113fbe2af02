"""GGUF files that belong together: the parts of a split model, and what goes with a model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from corral_cli.errors import CommandError
from corral_kernel.errors import InvalidModelError
from corral_kernel.gguf import read_header
from corral_kernel.gguf.filenames import SUFFIX, split_of

_MOST_PARTS: Final = 1000
_SENT: Final = ("model", "projector", "adapter")  # an importance matrix, say, is not


def whole_set(path: Path) -> tuple[Path, ...]:
    """Take all parts of the model that a GGUF file is a part of; of one that is whole, itself.

    Raises:
        CommandError: If a part is missing.
    """
    found = split_of(path.stem) if path.suffix == SUFFIX else None
    if found is None:
        return (path,)
    stem, number, count = found
    if not 1 <= number <= count <= _MOST_PARTS:
        return (path,)
    parts = [path.with_name(f"{stem}-{part:05}-of-{count:05}.gguf") for part in range(1, count + 1)]
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise CommandError(
            f"{path.name} is one of {count} parts of a split GGUF file, and of the others "
            f"{len(missing)} are not in {path.parent}: {missing[0]}"
        )
    return tuple(parts)


def one_model(folder: Path, files: Sequence[Path]) -> tuple[Path, ...]:
    """Check that the GGUF files of a folder are one model, perhaps with projectors and an adapter.

    Raises:
        CommandError: If they are several, none, or damaged.
    """
    sets = dict.fromkeys(whole_set(path) for path in files)
    kinds = {parts: _kind(parts[0]) if len(sets) > 1 else "model" for parts in sets}
    models = [parts for parts, kind in kinds.items() if kind == "model"]
    if len(models) == 1:
        return tuple(path for parts, kind in kinds.items() if kind in _SENT for path in parts)
    if not models:
        raise CommandError(f"{folder} holds GGUF files, and none of them is a model")
    names = ", ".join(parts[0].name for parts in models)
    raise CommandError(f"{folder} holds {len(models)} GGUF models, name one of them: {names}")


def _kind(path: Path) -> str:
    """What a file is: `model`, `projector`, `adapter`, or what else it says of itself."""
    try:
        header = read_header(path)
    except InvalidModelError as error:
        raise CommandError(f"{path}: {error}") from None
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or error}") from None
    return "projector" if header.is_projector else header.kind
