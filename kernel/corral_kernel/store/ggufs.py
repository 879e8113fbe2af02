"""Uploaded GGUF files as layers: what each is, and the parts of split ones put together."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from corral_kernel.errors import InvalidModelError, InvalidRequestError, NotGgufError
from corral_kernel.gguf import GgufHeader
from corral_kernel.gguf.filenames import SUFFIX, is_gguf, split_of
from corral_kernel.gguf.rewriting import Rewriting, merge, with_text
from corral_kernel.models import ADAPTER_TYPE, PROJECTOR_TYPE, WEIGHTS_TYPE, Layer
from corral_kernel.store.files import store_errors
from corral_kernel.store.layering import Layers
from corral_kernel.store.making import told
from corral_kernel.store.steps import Progress, Steps

_PROJECTOR_TYPES: Final = ("projector_type", "vision.projector_type", "audio.projector_type")
_FIRST_PROJECTOR: Final = "mlp"  # what files of before that key are
_WRITING_DIGEST: Final = "0000000000000000002"  # clients tell bars apart by it


class GgufFile(NamedTuple):
    """A layer and what its head says."""

    layer: Layer
    header: GgufHeader


def gguf_files(layers: Layers, files: Mapping[str, str]) -> Steps[list[GgufFile]]:
    """Read uploaded files, sorted by name, and put those together that were split.

    Raises:
        InvalidRequestError: If one of them is no GGUF file.
        InvalidModelError: If one is damaged, or a part is missing.
        StoreError: If a blob is missing, or cannot be stored.
    """
    found: list[GgufFile] = []
    parts: dict[str, list[GgufFile]] = {}
    for file_name, digest in sorted(files.items()):
        yield Progress("parsing GGUF")
        file = read_gguf(layers, file_name, digest)
        if file.header.split_count > 1:
            part = split_of(file_name[: -len(SUFFIX)]) if is_gguf(file_name) else None
            parts.setdefault(part[0] if part else "", []).append(file)
        elif _lacks_projector_type(file):
            yield Progress("updating GGUF projector metadata")
            plan = with_text(
                layers.path(file.layer.digest), "clip.projector_type", _FIRST_PROJECTOR
            )
            found.append((yield from _written(layers, plan, file, "")))
        else:
            found.append(file)
    for together in parts.values():
        plan = _merged(layers, together)
        found.append((yield from _written(layers, plan, together[0], "merging GGUF")))
    return sorted(found, key=lambda file: file.layer.inherited_from)


def read_gguf(layers: Layers, file_name: str, digest: str) -> GgufFile:
    """Read one uploaded file.

    Raises:
        InvalidRequestError: If it is no GGUF file.
        InvalidModelError: If it is damaged.
        StoreError: If the blob is missing.
    """
    layer = layers.layer(WEIGHTS_TYPE, digest, inherited_from=file_name)
    try:
        header = layers.header(layer)
    except NotGgufError:
        raise InvalidRequestError("supplied file was not in GGUF format") from None
    return GgufFile(msgspec.structs.replace(layer, media_type=_media_type(header)), header)


def _media_type(header: GgufHeader) -> str:
    if header.kind == "adapter":
        return ADAPTER_TYPE
    return PROJECTOR_TYPE if header.is_projector else WEIGHTS_TYPE


def _lacks_projector_type(file: GgufFile) -> bool:
    header = file.header
    is_clip = header.is_projector and header.architecture == "clip"
    return is_clip and not any(f"clip.{key}" in header.metadata for key in _PROJECTOR_TYPES)


def _merged(layers: Layers, parts: list[GgufFile]) -> Rewriting:
    try:
        return merge([layers.path(part.layer.digest) for part in parts])
    except InvalidModelError as error:
        raise InvalidModelError(f"{parts[0].layer.inherited_from}: {error}") from error


def _written(layers: Layers, plan: Rewriting, like: GgufFile, status: str) -> Steps[GgufFile]:
    """Write a file; gives its layer, which takes its name from another."""
    yield Progress(status)
    layers.store.check_room(plan.size_bytes)
    shown = Progress(status, _WRITING_DIGEST, plan.size_bytes)
    with store_errors("writing a GGUF file"):
        digest = yield from told(layers.write(plan.chunks()), shown)
    layer = layers.layer(like.layer.media_type, digest, inherited_from=like.layer.inherited_from)
    return GgufFile(layer, layers.header(layer))
