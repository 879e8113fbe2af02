"""What a worker hands to `corral_load`, for tests of an engine by itself."""

from collections.abc import Sequence
from pathlib import Path

from corral_kernel.contracts import Claim, FileRef, LoadOptions, LoadRequest

_NO_DIGEST = "sha256:" + "0" * 64


def load_request(
    options: LoadOptions,
    *paths: Path,
    slots: int = 1,
    capabilities: Sequence[str] = ("completion",),
) -> LoadRequest:
    """Make a request to load a model.

    Args:
        options: The backend's own, with the sizes that it is to have.
        paths: Of the weights, or of a folder whose files the model is.
        slots: Jobs at once.
        capabilities: Of the claim.
    """
    return LoadRequest(
        claim=Claim(
            backend="tested", confidence=1.0, why="a test", capabilities=tuple(capabilities)
        ),
        options=options,
        files=tuple(file for path in paths for file in _files(path)),
        slots=slots,
        report=lambda _share: True,
    )


def _files(path: Path) -> list[FileRef]:
    if not path.is_dir():
        return [_ref("weights", path, "")]
    found = sorted(file for file in path.rglob("*") if file.is_file())
    return [_ref("file", file, file.relative_to(path).as_posix()) for file in found]


def _ref(role: str, path: Path, name: str) -> FileRef:
    size_bytes = path.stat().st_size
    return FileRef(role=role, digest=_NO_DIGEST, size_bytes=size_bytes, name=name, path=str(path))
