"""Folders that are one model: ONNX, run where they are, and safetensors, which are only listed."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from corral_folders.naming import folder_names
from corral_folders.recipes import Part, Recipe
from corral_folders.site import Site
from corral_folders.states import States
from corral_folders.walk import File
from corral_kernel.errors import InvalidRequestError
from corral_kernel.foldernames import (
    check_folder_names,
    graph_name,
    is_encoder,
    is_generator,
)
from corral_kernel.models import FILE_TYPE, UNKNOWN, ModelConfig, ModelFile
from corral_kernel.store.documents import folder_config, read_texts
from corral_kernel.store.files import reason_of

_TEXTS: Final = (".json", ".txt", ".jinja", ".model")
_TENSORS: Final = ".safetensors"
_ADAPTER: Final = "adapter_config.json"
_CONFIG: Final = "config.json"


def folder_model(folder: Path, files: Sequence[File], site: Site) -> Recipe | None:
    """Give the model that a folder is; None: it is none.

    Args:
        folder: Of the model.
        files: In it and below; their parts begin at the listed folder.
        site: Where it is.
    """
    depth = _depth(folder, files)
    inside = {"/".join(file.parts[depth:]): file for file in files}
    build = _builder(inside)
    if build is None:
        return None
    try:
        chosen, config, problem = build(folder, inside, site.states)
        check_folder_names(chosen)
        parts = [
            site.states.part(file, FILE_TYPE, name=name, hashed=not problem)
            for name, file in sorted(chosen.items())
        ]
    except InvalidRequestError as error:
        site.notes.say(f"{folder}: {error}")
        return None
    except OSError as error:
        site.notes.say(f"{folder} cannot be read: {reason_of(error)}")
        return None
    names = folder_names(site.place, next(iter(inside.values())).parts[:depth])
    if not names and not site.place.folders:  # the listed folder itself
        names = folder_names(site.place, (folder.name,))
    return Recipe(
        names=tuple(names),
        parts=tuple(parts),
        config=config,
        owner=f"{site.owner} (its folder is {folder})",
        modified_ns=max(file.status.st_mtime_ns for file in chosen.values()),
        folder=folder,
        problem=problem,
    )


_Inside = Mapping[str, File]
_Built = tuple[dict[str, File], ModelConfig, str]


def _depth(folder: Path, files: Sequence[File]) -> int:
    """How many parts of the files' own lead to a folder."""
    first = files[0]
    return len(first.parts) - len(first.path.relative_to(folder).parts)


def _builder(names: _Inside) -> Callable[[Path, _Inside, States], _Built] | None:
    if is_generator(names):
        return _generator
    if is_encoder(names):
        return _encoder
    if _CONFIG in names and _ADAPTER not in names and any(n.endswith(_TENSORS) for n in names):
        return _safetensors
    return None


def _generator(_folder: Path, inside: _Inside, states: States) -> _Built:
    return _onnx(dict(inside), states)


def _encoder(_folder: Path, inside: _Inside, states: States) -> _Built:
    graph = graph_name(inside)
    chosen = {
        name: file
        for name, file in inside.items()
        if name.startswith(graph) or ("/" not in name and name.endswith(_TEXTS)) or _pools(name)
    }
    return _onnx(chosen, states)


def _pools(name: str) -> bool:
    """Whether a file is one of a sentence-transformers module, such as `1_Pooling/config.json`."""
    return name.count("/") == 1 and name[:1].isdigit() and name.endswith(_CONFIG)


def _onnx(chosen: dict[str, File], states: States) -> _Built:
    texts = read_texts(*_readable(chosen, states))
    return chosen, folder_config(texts, chosen), ""


def _readable(
    chosen: Mapping[str, File], states: States
) -> tuple[list[ModelFile], Callable[[str, int], bytes]]:
    """Give files as the kernel's reader of small texts takes them."""
    parts: list[Part] = [
        states.part(file, FILE_TYPE, name=name, hashed=False) for name, file in chosen.items()
    ]
    paths = {part.layer.digest: part.path for part in parts}
    files = [
        ModelFile(
            media_type=FILE_TYPE,
            digest=part.layer.digest,
            size_bytes=part.size_bytes,
            path=part.path,
            name=part.name,
        )
        for part in parts
    ]

    def read(digest: str, limit: int) -> bytes:
        with paths[digest].open("rb") as stream:
            return stream.read(limit)

    return files, read


def _safetensors(folder: Path, inside: _Inside, states: States) -> _Built:
    chosen = {
        name: file
        for name, file in inside.items()
        if "/" not in name and name.endswith((*_TEXTS, _TENSORS))
    }
    texts = read_texts(*_readable({n: f for n, f in chosen.items() if n == _CONFIG}, states))
    said: Any = texts.documents.get(_CONFIG)
    family = said.get("model_type") if isinstance(said, dict) else None
    config = ModelConfig(
        model_format="safetensors",
        model_family=family if isinstance(family, str) and family.isprintable() else "",
        file_type=UNKNOWN,
        architecture="amd64",
        os="linux",
    )
    return chosen, msgspec.structs.replace(config), _to_be_created(folder, inside)


def _to_be_created(folder: Path, inside: _Inside) -> str:
    """Say how a model is made of safetensors files; of a cache's links they are pulled."""
    words = f"{folder} holds safetensors files, which are converted before they run: "
    if any(file.path.is_symlink() for file in inside.values()):
        repository = folder.parent.parent.name.removeprefix("models--").replace("--", "/")
        return f"{words}corral pull hf://{repository}"
    return f"{words}write 'FROM {folder}' into a Modelfile, then corral create NAME -f Modelfile"
