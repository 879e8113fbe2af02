"""Which files of a repository make the model that is wanted."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from corral_hub.listing import HubFile
from corral_kernel.errors import RegistryError
from corral_kernel.foldernames import GENAI_CONFIG, graph_name, is_encoder
from corral_kernel.gguf.filenames import SUFFIX, is_gguf, quantization_of, split_of

PREFERRED: Final = (
    "Q4_K_M", "Q4_K_S", "Q5_K_M", "Q4_0", "Q5_K_S", "Q6_K", "Q8_0", "IQ4_XS", "IQ4_NL", "Q4_1",
    "Q3_K_M", "Q3_K_L", "BF16", "F16",
)  # fmt: skip
"""Of several GGUF files the first of these is taken, where no tag says which."""

_TENSORS: Final = ".safetensors"
_NO_WEIGHTS: Final = re.compile(r"(?:^|/)(?:mmproj|imatrix)|[-.]mmproj|\.imatrix", re.IGNORECASE)
_TEXTS: Final = (".json", ".txt", ".jinja", ".model")
_PROJECTOR: Final = "mmproj"
_OF_PROJECTORS: Final = ("F16", "BF16", "F32", "Q8_0")
_SHOWN: Final = 20

Chosen = dict[str, HubFile]  # by the name that each has in the model


def choose(files: Sequence[HubFile], wish: str, repository: str) -> Chosen:
    """Choose the files of a model.

    Args:
        files: Of the repository.
        wish: A quantization, a GGUF file's name, or an ONNX folder's; empty: what suits most.
        repository: For messages.

    Raises:
        RegistryError: If there is nothing that can be run, or not what is wanted: says what is.
    """
    visible = [f for f in files if not any(part.startswith(".") for part in f.name.split("/"))]
    weights = [f for f in visible if _is_weights(f.name)]
    if weights:
        return _gguf(visible, weights, wish, repository)
    folders = _genai_folders(visible)
    if folders:
        return _onnx(visible, folders, wish, repository)
    if any(_is_tensors(f.name) for f in visible):
        if wish:
            raise RegistryError(
                f"{repository} holds safetensors alone, and no {wish}: pull it without a tag, then "
                f"'corral quantize'"
            )
        return _safetensors(visible)
    if not wish and is_encoder([f.name for f in visible]):
        return _encoder(visible)
    names = ", ".join(f.name for f in visible[:_SHOWN])
    raise RegistryError(
        f"{repository} holds no GGUF files, no {GENAI_CONFIG} and no safetensors, which could be "
        f"run here; it has: {names or 'nothing'}"
    )


# ------------------------------------------------------------------------------------------- GGUF


def _gguf(
    files: Sequence[HubFile], weights: Sequence[HubFile], wish: str, repository: str
) -> Chosen:
    groups: dict[str, list[HubFile]] = defaultdict(list)
    for file in weights:
        groups[_whole(file.name)].append(file)
    stem = _wished(groups, wish, repository) if wish else min(groups, key=_rank)
    group = sorted(groups[stem], key=lambda file: file.name)
    split = split_of(_stem(group[0].name))
    if split and len(group) != split[2]:
        raise RegistryError(
            f"{repository} holds {len(group)} of the {split[2]} parts of {stem}: it is not whole"
        )
    projectors = [f for f in files if is_gguf(f.name) and _is_projector(f.name)]
    chosen = [*group, *sorted(projectors, key=_projector_rank)[:1]]
    return {file.name.rpartition("/")[2]: file for file in chosen}


def _wished(groups: Iterable[str], wish: str, repository: str) -> str:
    folded = wish.lower().removesuffix(SUFFIX)
    stems = sorted(groups)
    for stem in stems:
        base = stem.rpartition("/")[2]
        if folded in (quantization(stem).lower(), base.lower()):
            return stem
    there = ", ".join(dict.fromkeys(quantization(s) or s.rpartition("/")[2] for s in stems))
    raise RegistryError(f"{repository} has no {wish}; it has: {there[:1000]}")


def quantization(stem: str) -> str:
    """Read the quantization off a file's name without its ending; empty: it has none."""
    return quantization_of(stem.rpartition("/")[2])[1].upper()


def _rank(stem: str) -> tuple[int, str]:
    kind = quantization(stem)
    return (PREFERRED.index(kind) if kind in PREFERRED else len(PREFERRED), stem)


def _projector_rank(file: HubFile) -> tuple[int, str]:
    kind = quantization(_stem(file.name))
    return (
        _OF_PROJECTORS.index(kind) if kind in _OF_PROJECTORS else len(_OF_PROJECTORS),
        file.name,
    )


def _is_weights(name: str) -> bool:
    return is_gguf(name) and not _NO_WEIGHTS.search(name)


def _is_projector(name: str) -> bool:
    return _PROJECTOR in name.rpartition("/")[2].lower()


def _stem(name: str) -> str:
    return name[: -len(SUFFIX)]


def _whole(name: str) -> str:
    """Give what the parts of a split file share."""
    split = split_of(_stem(name))
    return split[0] if split else _stem(name)


# -------------------------------------------------------------------------------- ONNX, safetensors


def _genai_folders(files: Iterable[HubFile]) -> list[str]:
    """Folders with the configuration of ONNX Runtime GenAI; the root is an empty text."""
    ending = f"/{GENAI_CONFIG}"
    return sorted(
        f.name[: -len(GENAI_CONFIG)].rstrip("/")
        for f in files
        if f.name == GENAI_CONFIG or f.name.endswith(ending)
    )


def _onnx(files: Sequence[HubFile], folders: list[str], wish: str, repository: str) -> Chosen:
    wished = [f for f in folders if not wish or wish.lower() in (f.lower(), _last(f).lower())]
    if len(wished) > 1:  # several kinds of devices: the one that every machine has
        wished = [folder for folder in wished if not folder or "cpu" in folder.lower()]
    if len(wished) != 1:
        there = ", ".join(_last(folder) or "one at the top" for folder in folders)
        raise RegistryError(
            f"{repository} holds {len(folders)} ONNX models: name one as the tag, of {there[:1000]}"
        )
    prefix = f"{wished[0]}/" if wished[0] else ""
    inside = [f for f in files if f.name.startswith(prefix) and not f.name.endswith(".md")]
    return {file.name[len(prefix) :]: file for file in inside}


def _last(folder: str) -> str:
    return folder.rpartition("/")[2]


def _safetensors(files: Sequence[HubFile]) -> Chosen:
    tensors = [f for f in files if _is_tensors(f.name)]
    usual = [f for f in tensors if not f.name.startswith("consolidated")]
    texts = [f for f in files if _is_text(f.name)]
    return {file.name: file for file in (*(usual or tensors), *texts)}


def _encoder(files: Sequence[HubFile]) -> Chosen:
    graph = graph_name([f.name for f in files])
    return {f.name: f for f in files if f.name.startswith(graph) or _is_text(f.name)}


def _is_text(name: str) -> bool:
    return name.endswith(_TEXTS) and ("/" not in name or _pools(name))


def _is_tensors(name: str) -> bool:
    return name.endswith(_TENSORS) and "/" not in name


def _pools(name: str) -> bool:
    """Whether a file is that of a sentence-transformers module: `1_Pooling/config.json`."""
    return bool(re.fullmatch(r"[0-9]+_[A-Za-z]+/config\.json", name))
