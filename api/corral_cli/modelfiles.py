"""The files that a Modelfile names: found on this machine, and checked before anything is sent."""

from pathlib import Path
from typing import Final

from msgspec import Struct

from corral_cli.errors import CommandError
from corral_cli.folders import check_inside, folder_files
from corral_kernel.foldernames import GENAI_CONFIG, is_encoder
from corral_kernel.modelfile import Modelfile
from corral_kernel.models import HEAD_BYTES, LEGACY_MAGICS
from corral_kernel.remotes import split_source

_MAGIC: Final = b"GGUF"
_ONNX_ADAPTER: Final = b"TORT"  # from its fifth byte on
_SHOWN: Final = 30  # characters of a foreign file
_MODELFILE_STARTS: Final = ("from ", "#")
_OTHER_LAYOUTS: Final = (
    "model*.safetensors",
    "*/model*.safetensors",
    "consolidated*.safetensors",
    "pytorch_model*.bin",
    "consolidated*.pth",
    "*.bin",
)
_TAKEN: Final = "this release of corral takes GGUF and old GGML files, and folders of ONNX models"
_ADAPTERS: Final = "this release of corral takes adapters in GGUF and .onnx_adapter files"


class Files(Struct, frozen=True, kw_only=True):
    """What to send for a Modelfile: files by name, or the name of a model that the server has."""

    source: str = ""  # the FROM that is a model name
    weights: dict[str, Path] = {}
    adapters: dict[str, Path] = {}
    left_out: tuple[str, ...] = ()  # names of what lies in a model's folder and is not sent


def gather(modelfile: Modelfile, folder: Path, own: Path | None = None) -> Files:
    """Tell the files of a Modelfile from model names.

    Args:
        modelfile: Whose files.
        folder: Its paths are relative to.
        own: Where it lies itself.

    Raises:
        CommandError: If a file is missing or of a kind that this release does not take.
    """
    if modelfile.drafts:
        raise CommandError("DRAFT: draft models are not part of this release of corral")
    source = ""
    found: list[Files] = []
    for text in modelfile.sources:
        path = resolve(text, folder)
        if path.exists():
            found.append(_model(path, own))
        else:
            source = _model_name(text)
    if len(found) > 1 and any(len(files.weights) > 1 for files in found):
        raise CommandError("FROM: a folder is a whole model, and takes no other file beside it")
    adapters = [_adapter(modelfile.adapter, folder)] if modelfile.adapter else []
    return Files(
        source=source,
        weights=_by_name([item for files in found for item in files.weights.items()]),
        adapters=_by_name([(path.name, path) for path in adapters]),
        left_out=tuple(name for files in found for name in files.left_out),
    )


def _by_name(items: list[tuple[str, Path]]) -> dict[str, Path]:
    named = dict(items)
    if len(named) < len(items):
        names = ", ".join(sorted(name for name, _ in items))
        raise CommandError(f"two files of the same name: {names}")
    return named


def resolve(text: str, folder: Path) -> Path:
    """Turn a path of a Modelfile into an absolute one; `~` and `~user` are home folders.

    Raises:
        CommandError: If there is no such user.
    """
    if not text.startswith("~"):
        return folder / text
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        user = text[1:].partition("/")[0]
        raise CommandError(f"failed to find user '{user}': {error}") from None


def _model_name(text: str) -> str:
    """Refuse what is plainly a path, so that a missing file is not looked for as a model."""
    if split_source(text):  # a model on another server, which may have any name there
        return text
    if text.startswith((".", "/", "~")) or text.endswith((".gguf", ".safetensors", ".bin")):
        raise CommandError(f"FROM {text}: no such file or directory")
    return text


def _adapter(text: str, folder: Path) -> Path:
    path = resolve(text, folder)
    if not path.exists():
        raise CommandError(f"ADAPTER {text}: no such file or directory")
    if path.is_dir():
        path = _only_gguf(path)
    head = _head(path)
    if not head.startswith(_MAGIC) and head[4:8] != _ONNX_ADAPTER:
        raise CommandError(f"{path} is no GGUF file: {_described(head)}; {_ADAPTERS}")
    return path


def _model(path: Path, own: Path | None) -> Files:
    if path.is_dir() and _is_onnx(path):
        found = folder_files(path, own)
        return Files(weights=found.files, left_out=found.left_out)
    file = (_only_legacy(path) or _only_gguf(path)) if path.is_dir() else path
    head = _head(file)
    if not head.startswith((_MAGIC, *LEGACY_MAGICS)):
        raise CommandError(f"{file} is no GGUF file: {_described(head)}; {_TAKEN}")
    return Files(weights={file.name: file})


def _is_onnx(folder: Path) -> bool:
    """Whether a folder is to be sent as one model: GGUF files in it come before an encoder."""
    if (folder / GENAI_CONFIG).is_file():
        return True
    names = [path.relative_to(folder).as_posix() for path in folder.glob("*.onnx")]
    names += [path.relative_to(folder).as_posix() for path in folder.glob("*/*.onnx")]
    names += [path.name for path in folder.glob("tokenizer.json")]
    return is_encoder(names) and next(folder.glob("*.gguf"), None) is None


def _only_legacy(folder: Path) -> Path | None:
    """The one file of weights of a folder, if it is of a format before GGUF."""
    found = [file for file in folder.glob("*.bin") if file.is_file()]
    if len(found) != 1 or next(folder.glob("*.gguf"), None):
        return None
    check_inside(found[0], folder)
    return found[0] if _head(found[0]).startswith(LEGACY_MAGICS) else None


def _only_gguf(folder: Path) -> Path:
    found = sorted(file for file in folder.glob("*.gguf") if file.is_file())
    if len(found) == 1:
        check_inside(found[0], folder)
        return found[0]
    if found:
        names = ", ".join(file.name for file in found)
        raise CommandError(f"{folder} holds {len(found)} GGUF files, name one of them: {names}")
    if any(next(folder.glob(pattern), None) for pattern in _OTHER_LAYOUTS):
        raise CommandError(f"{folder}: safetensors and PyTorch models cannot be imported: {_TAKEN}")
    raise CommandError("no Modelfile or safetensors files found")


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or error}") from None


def _described(head: bytes) -> str:
    """Say what a file is instead, as far as its beginning tells."""
    if not head:
        return "it is empty"
    if head.startswith(b"PK"):
        return "it is an archive, perhaps a PyTorch model"
    if head[8:10] == b'{"':
        return "it is perhaps a safetensors file"
    text = head.decode("utf-8", "replace").strip()
    if not all(character.isprintable() or character.isspace() for character in text):
        return f"it begins with the bytes {head[: len(_MAGIC)].hex(' ')}"
    hint = ", perhaps a Modelfile" if text.lower().startswith(_MODELFILE_STARTS) else ""
    return f"it is a text{hint} (it begins with {text.splitlines()[0][:_SHOWN]!r})"
