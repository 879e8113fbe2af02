"""The files that a Modelfile names: found on this machine, and checked before anything is sent."""

import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

from msgspec import Struct

from corral_cli.errors import CommandError
from corral_cli.layouts import (
    Found,
    adapter_files,
    model_files,
    single_file,
    with_adapter_config,
)
from corral_cli.sources import (
    described,
    is_gguf,
    is_onnx_adapter,
    is_safetensors,
    is_there,
    resolve,
)
from corral_kernel.errors import InvalidNameError
from corral_kernel.modelfile import Modelfile
from corral_kernel.names import ModelName
from corral_kernel.remotes import split_source

_ADAPTERS: Final = "adapters are GGUF, safetensors and .onnx_adapter files"


class Files(Struct, frozen=True, kw_only=True):
    """What to send for a Modelfile: files by name, or the name of a model that the server has."""

    source: str = ""  # the FROM that is a model name
    weights: dict[str, Path] = {}
    adapters: dict[str, Path] = {}
    drafts: dict[str, Path] = {}
    left_out: tuple[str, ...] = ()  # names of what lies in a model's folder and is not sent


def gather(modelfile: Modelfile, folder: Path, own: Path | None = None) -> Files:
    """Tell the files of a Modelfile from model names.

    Args:
        modelfile: Whose files.
        folder: Its paths are relative to.
        own: Where it lies itself.

    Raises:
        CommandError: If a file is missing, or nothing that a model is made of.
    """
    source = ""
    found: list[Found] = []
    paths = set()
    for text in modelfile.sources:
        path = resolve(text, folder)
        if is_there(path):
            paths.add(path.resolve())
            found.append(_meant(text, path, own))
        else:
            source = _model_name(text)
    if len(found) > 1 and any(one.is_alone for one in found):
        raise CommandError("FROM: a folder is a whole model, and takes no other file beside it")
    return Files(
        source=source,
        weights=_named(found),
        adapters=_named([_adapter(modelfile.adapter, folder)] if modelfile.adapter else []),
        drafts=_named([_draft(text, folder, paths) for text in modelfile.drafts]),
        left_out=tuple(name for one in found for name in one.left_out),
    )


def _named(found: Iterable[Found]) -> dict[str, Path]:
    """Name files: one by its last part, several by their paths in the folder that they share."""
    files = (path for one in found for path in one.files)
    paths = list(dict.fromkeys(path.parent.resolve() / path.name for path in files))
    if len(paths) == 1:
        return {_sendable(paths[0].name): paths[0]}
    common = os.path.commonpath([path.parent for path in paths]) if paths else ""
    return {_sendable(path.relative_to(common).as_posix()): path for path in paths}


def _sendable(name: str) -> str:
    if not name.isprintable():
        raise CommandError(f"{name!a} holds a character that cannot be printed: rename the file")
    return name


def is_path(text: str) -> bool:
    """Tell whether a text is plainly a path: no model has such a name."""
    return text.startswith((".", "/", "~")) or text.endswith((".gguf", ".safetensors", ".bin"))


def _model_name(text: str) -> str:
    """Refuse a path to nothing, so that a missing file is not looked for as a model."""
    # A model on another server may have any name there.
    if is_path(text) and not split_source(text):
        raise CommandError(f"FROM {text}: no such file or directory")
    return text


def _model(path: Path, own: Path | None) -> Found:
    return model_files(path, own) if path.is_dir() else single_file(path)


def _meant(text: str, path: Path, own: Path | None) -> Found:
    """Take what FROM names; what is none may have the name of the model that was meant."""
    try:
        return _model(path, own)
    except CommandError as error:
        name = _name_of(text)
        if not name or name == text:
            raise
        raise CommandError(f"{error}; for the model of that name write FROM {name}") from None


def _name_of(text: str) -> str:
    """Give the name that a text would be of a model, its tag included; of a path, none."""
    try:
        return "" if is_path(text) else ModelName.parse(text).short
    except InvalidNameError:
        return ""


def _draft(text: str, folder: Path, sources: Collection[Path]) -> Found:
    path = resolve(text, folder)
    if not is_there(path):
        raise CommandError(f"DRAFT {text}: no such file or directory")
    if path.resolve() in sources:
        raise CommandError(f"DRAFT must not reference the same local path as FROM: {text}")
    return _model(path, None)


def _adapter(text: str, folder: Path) -> Found:
    path = resolve(text, folder)
    if not is_there(path):
        raise CommandError(f"ADAPTER {text}: no such file or directory")
    if path.is_dir():
        return adapter_files(path)
    if is_safetensors(path):
        return with_adapter_config(path)
    if not is_gguf(path) and not is_onnx_adapter(path):
        raise CommandError(f"{path} is no adapter: {described(path)}; {_ADAPTERS}")
    return Found((path,))
