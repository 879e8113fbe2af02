"""Which files of a folder make a model: what is looked for, in which order, and what goes along."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from msgspec import Struct

from corral_cli.errors import CommandError
from corral_cli.folders import check_inside, folder_files
from corral_cli.ggufs import one_model, whole_set
from corral_cli.sources import (
    TEXT,
    content_type,
    described,
    is_gguf,
    is_legacy,
    is_safetensors,
)
from corral_kernel.foldernames import GENAI_CONFIG, MAX_FILES, is_encoder

TAKEN: Final = (
    "models are made of GGUF files, of folders of safetensors files or of an ONNX model, and of "
    "old GGML files"
)
_WEIGHTS: Final = (
    ("model*.safetensors", "*/model*.safetensors"),
    ("consolidated*.safetensors",),
)
_ADAPTER: Final = ("adapter_model*.safetensors",)
_ADAPTER_CONFIG: Final = "adapter_config.json"
_TEXTS: Final = ("*.json", "*/*.json", "chat_template.jinja", "vocab.txt", "merges.txt")
_VOCABULARIES: Final = ("tokenizer.model", "*/tokenizer.model")
_PYTORCH: Final = ("pytorch_model*.bin", "consolidated*.pth", "*.bin")


class Found(Struct, frozen=True):
    """The files of one model, and the names of what lies beside them and is not sent."""

    files: tuple[Path, ...]
    left_out: tuple[str, ...] = ()
    is_alone: bool = False  # a folder that makes a model, and nothing beside it does


def model_files(folder: Path, own: Path | None = None) -> Found:
    """Find the files of the model that a folder is.

    Args:
        folder: To look in.
        own: The Modelfile that names it, which is no part of the model.

    Raises:
        CommandError: If it holds no model, or several, or a file that leads out of it.
    """
    if (folder / GENAI_CONFIG).is_file():
        return _onnx(folder, own)
    if found := safetensors_files(folder, _WEIGHTS):
        return Found(found, is_alone=True)
    if ggufs := matching(folder, "*.gguf"):
        for path in ggufs:
            if not is_gguf(path):
                raise CommandError(f"{path} is no GGUF file: {described(path)}")
        return Found(one_model(folder, ggufs))
    if _is_encoder(folder):
        return _onnx(folder, own)
    if (legacy := _only_legacy(folder)) is not None:
        return Found((legacy,))
    if any(matching(folder, pattern) for pattern in _PYTORCH):
        raise CommandError(f"{folder}: PyTorch models cannot be imported: {TAKEN}")
    raise CommandError("no Modelfile or safetensors files found")


def adapter_files(folder: Path) -> Found:
    """Find the files of the adapter that a folder is; raises what `model_files` raises."""
    if found := safetensors_files(folder, (*_WEIGHTS, _ADAPTER)):
        return Found(found)
    files = [*matching(folder, "*.gguf"), *matching(folder, "*.onnx_adapter")]
    if len(files) == 1:
        return Found((files[0],))
    if files:
        names = ", ".join(file.name for file in files)
        raise CommandError(f"{folder} holds {len(files)} adapters, name one of them: {names}")
    raise CommandError("no Modelfile or safetensors files found")


def with_adapter_config(path: Path) -> Found:
    """Take the safetensors file of an adapter, and what describes it from beside it."""
    config = path.with_name(_ADAPTER_CONFIG)
    return Found((path, config) if config.is_file() else (path,))


def safetensors_files(folder: Path, groups: Iterable[tuple[str, ...]]) -> tuple[Path, ...]:
    """Find the first group that a folder holds, and what describes it; empty: none.

    Raises:
        CommandError: For a file that leads out of the folder, or a text that is none.
    """
    for patterns in groups:
        weights = [path for pattern in patterns for path in matching(folder, pattern)]
        if weights:
            break
    else:
        return ()
    for path in weights:
        if not is_safetensors(path):
            raise CommandError(f"{path} is no safetensors file: {described(path)}")
    texts = [path for pattern in _TEXTS for path in matching(folder, pattern)]
    for path in texts:
        if (kind := content_type(path)) != TEXT:
            raise CommandError(f"invalid content type: expected {TEXT} for {path}, found {kind}")
    found = (matching(folder, pattern) for pattern in _VOCABULARIES)
    files = (*weights, *texts, *next(filter(None, found), []))
    if len(files) > MAX_FILES:
        raise CommandError(f"{folder} holds over {MAX_FILES} files: that is no model")
    return files


def matching(folder: Path, pattern: str) -> list[Path]:
    """List the files of a folder that match, sorted; hidden ones and hidden folders are left out.

    Raises:
        CommandError: For one that leads out of the folder.
    """
    found = [
        path
        for path in sorted(folder.glob(pattern))
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and not path.is_dir()
    ]
    for path in found:
        check_inside(path, folder)
    return found


def _onnx(folder: Path, own: Path | None) -> Found:
    found = folder_files(folder, own)
    return Found(tuple(found.files.values()), found.left_out, is_alone=True)


def _is_encoder(folder: Path) -> bool:
    paths = (*folder.glob("*.onnx"), *folder.glob("*/*.onnx"), *folder.glob("tokenizer.json"))
    return is_encoder([path.relative_to(folder).as_posix() for path in paths])


def _only_legacy(folder: Path) -> Path | None:
    """The one file of weights of a folder, if it is of a format before GGUF."""
    found = matching(folder, "*.bin")
    return found[0] if len(found) == 1 and is_legacy(found[0]) else None


def single_file(path: Path) -> Found:
    """Take one file that FROM or DRAFT names, with the other parts of a split one.

    Raises:
        CommandError: If it cannot be read, or is no model.
    """
    if is_gguf(path):
        return Found(whole_set(path))
    if is_legacy(path):
        return Found((path,))
    raise CommandError(f"{path} is no GGUF file: {described(path)}; {TAKEN}")
