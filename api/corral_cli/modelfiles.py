"""The files that a Modelfile names: found on this machine, and checked before anything is sent."""

from pathlib import Path
from typing import Final

from msgspec import Struct

from corral_cli.errors import CommandError
from corral_kernel.modelfile import Modelfile

_MAGIC: Final = b"GGUF"
_HEAD_BYTES: Final = 64
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
_GGUF_ONLY: Final = "this release of corral takes GGUF files only"


class Files(Struct, frozen=True, kw_only=True):
    """What to send for a Modelfile: files, or the name of a model that the server has."""

    source: str = ""  # the FROM that is a model name
    weights: tuple[Path, ...] = ()
    adapters: tuple[Path, ...] = ()


def gather(modelfile: Modelfile, folder: Path) -> Files:
    """Tell the files of a Modelfile from model names. Paths are relative to `folder`.

    Raises:
        CommandError: If a file is missing or of a kind that this release does not take.
    """
    if modelfile.drafts:
        raise CommandError("DRAFT: draft models are not part of this release of corral")
    source = ""
    weights: list[Path] = []
    for text in modelfile.sources:
        path = resolve(text, folder)
        if path.exists():
            weights.append(_model_file(path))
        else:
            source = _model_name(text)
    adapters = (_adapter(modelfile.adapter, folder),) if modelfile.adapter else ()
    for paths in (weights, adapters):
        names = [path.name for path in paths]
        if len(set(names)) < len(names):
            raise CommandError(f"two files of the same name: {', '.join(sorted(names))}")
    return Files(source=source, weights=tuple(weights), adapters=adapters)


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
    if text.startswith((".", "/", "~")) or text.endswith((".gguf", ".safetensors", ".bin")):
        raise CommandError(f"FROM {text}: no such file or directory")
    return text


def _adapter(text: str, folder: Path) -> Path:
    path = resolve(text, folder)
    if not path.exists():
        raise CommandError(f"ADAPTER {text}: no such file or directory")
    return _model_file(path)


def _model_file(path: Path) -> Path:
    if not path.is_dir():
        _check_gguf(path)
        return path
    found = sorted(file for file in path.glob("*.gguf") if file.is_file())
    if len(found) == 1:
        _check_inside(found[0], path)
        _check_gguf(found[0])
        return found[0]
    if found:
        names = ", ".join(file.name for file in found)
        raise CommandError(f"{path} holds {len(found)} GGUF files, name one of them: {names}")
    if any(next(path.glob(pattern), None) for pattern in _OTHER_LAYOUTS):
        raise CommandError(
            f"{path}: safetensors and PyTorch models cannot be imported: {_GGUF_ONLY}"
        )
    raise CommandError("no Modelfile or safetensors files found")


def _check_inside(file: Path, folder: Path) -> None:
    target, root = file.resolve(), folder.resolve()
    if not target.is_relative_to(root):
        hint = "; download it with --local-dir" if ".cache" in target.parts else ""
        raise CommandError(f"insecure path: {file.name} leads to {target}{hint}")


def _check_gguf(path: Path) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or error}") from None
    if not head.startswith(_MAGIC):
        raise CommandError(f"{path} is no GGUF file: {_described(head)}; {_GGUF_ONLY}")


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
