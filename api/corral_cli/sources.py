"""Paths that a Modelfile names: where they lead, and what the file there begins with."""

import errno
import os
import re
import stat
from pathlib import Path
from typing import Final

from corral_cli.errors import CommandError
from corral_kernel.gguf import MAGIC
from corral_kernel.models import HEAD_BYTES, LEGACY_MAGICS

TEXT: Final = "text/plain"
BINARY: Final = "application/octet-stream"
ZIP: Final = "application/zip"
HTML: Final = "text/html"

_ONNX_ADAPTER: Final = b"TORT"  # from its fifth byte on
_SAFETENSORS: Final = b'{"'  # from its ninth byte on
_LFS: Final = b"version https://git-lfs"
_SNIFFED_BYTES: Final = 512
_SHOWN: Final = 30  # characters of a foreign file
_MODELFILE_STARTS: Final = ("from ", "#")
_BINARY_BYTES: Final = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")


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


def is_there(path: Path) -> bool:
    """Whether a path leads to something.

    Raises:
        CommandError: If that cannot be found out.
    """
    try:
        return path.exists()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise CommandError(f"{path}: {error.strerror or error}") from None


def head_of(path: Path, size_bytes: int = HEAD_BYTES) -> bytes:
    """Read how a file begins.

    Raises:
        CommandError: If it cannot be read, or is no file but a pipe, a device or a folder.
    """
    try:
        # Not blocking: a named pipe would never open.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise CommandError(f"{path} is no file")
            return os.read(descriptor, size_bytes)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or error}") from None


def is_gguf(path: Path) -> bool:
    """Whether a file begins as GGUF does; raises what `head_of` raises."""
    return head_of(path).startswith(MAGIC)


def is_legacy(path: Path) -> bool:
    """Whether a file begins as those of the formats before GGUF; raises what `head_of` raises."""
    return head_of(path).startswith(LEGACY_MAGICS)


def is_onnx_adapter(path: Path) -> bool:
    """Whether a file begins as an adapter of ONNX Runtime; raises what `head_of` raises."""
    head = head_of(path)
    return head[4 : 4 + len(_ONNX_ADAPTER)] == _ONNX_ADAPTER


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as a safetensors file; raises what `head_of` raises."""
    return head_of(path)[8:10] == _SAFETENSORS


def content_type(path: Path) -> str:
    """Tell by its beginning what is in a file: one of the four types above.

    Raises:
        CommandError: If it cannot be read.
    """
    head = head_of(path, _SNIFFED_BYTES)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return ZIP
    if head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html", b"<head")):
        return HTML
    return BINARY if _BINARY_BYTES.search(head) else TEXT


def described(path: Path) -> str:
    """Say what a file is instead of a model, as far as its beginning tells."""
    head = head_of(path)
    if not head:
        return "it is empty"
    if head.startswith(b"PK"):
        return "it is an archive, perhaps a PyTorch model"
    if head.startswith(_LFS):
        return "it is what Git LFS puts in a file's place: run 'git lfs pull' in that folder"
    if head[8:10] == _SAFETENSORS:
        return "it is perhaps a safetensors file: name the folder that it lies in"
    text = head.decode("utf-8", "replace").strip()
    if not all(character.isprintable() or character.isspace() for character in text):
        return f"it begins with the bytes {head[: len(MAGIC)].hex(' ')}"
    hint = ", perhaps a Modelfile" if text.lower().startswith(_MODELFILE_STARTS) else ""
    return f"it is a text{hint} (it begins with {text.splitlines()[0][:_SHOWN]!r})"
