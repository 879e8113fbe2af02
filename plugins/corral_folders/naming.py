"""Names of models by where their files lie: one rule.

The file's own name ends in its quantization, which is the tag. The two folders above it, below the
listed one, are namespace and model; where there are fewer, the file's name takes the place of what
is missing. What lies in Hugging Face's cache has the name that it is pulled by.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from corral_kernel.errors import InvalidNameError
from corral_kernel.gguf.filenames import quantization_of
from corral_kernel.names import DEFAULT_HOST, DEFAULT_NAMESPACE, DEFAULT_TAG, ModelName, NameParts

HUB_HOST: Final = "hf.co"

_UNUSABLE: Final = re.compile(r"[^A-Za-z0-9_.-]+")
_UNUSABLE_IN_NAMESPACE: Final = re.compile(r"[^A-Za-z0-9_-]+")
_LONGEST: Final = 80


class Place(NamedTuple):
    """Where names of a group of files begin: a listed folder, or one repository of a cache."""

    host: str = DEFAULT_HOST
    folders: tuple[str, ...] = ()  # that stand for namespace and model whatever lies below


def file_names(place: Place, folders: Sequence[str], stem: str) -> list[ModelName]:
    """Names for a file, the usual first, and one that it does not share with its neighbours.

    Args:
        place: Where names begin.
        folders: Between there and the file.
        stem: Of the file, without its ending.
    """
    own, kind = quantization_of(stem)
    above = [*place.folders, *([] if place.folders else folders)][-2:]
    parts = above if len(above) > 1 else [*above, own or stem]
    return _names(place.host, parts, (kind or DEFAULT_TAG, stem))


def folder_names(place: Place, folders: Sequence[str]) -> list[ModelName]:
    """Names for a model that is a folder."""
    if place.folders:
        return _names(place.host, place.folders, (folders[-1] if folders else DEFAULT_TAG,))
    return _names(place.host, list(folders)[-2:], (DEFAULT_TAG,))


def _names(host: str, parts: Sequence[str], tags: Sequence[str]) -> list[ModelName]:
    """Names of parts; what no name takes becomes `-`. None where nothing usable is left."""
    if not parts:
        return []
    namespace, model = ([DEFAULT_NAMESPACE, *parts])[-2:]
    namespace = _usable(_UNUSABLE_IN_NAMESPACE, namespace)
    found = []
    for tag in tags:
        whole = NameParts(host, namespace, _usable(_UNUSABLE, model), _usable(_UNUSABLE, tag))
        try:
            found.append(ModelName.from_parts(whole))
        except InvalidNameError:
            continue
    return found


def _usable(unusable: re.Pattern[str], text: str) -> str:
    return unusable.sub("-", text).lstrip(".-")[:_LONGEST]
