"""GGUF files of one folder, put together to models: split ones are one, projectors join theirs."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, Self

from msgspec import Struct
from msgspec.structs import replace

from corral_folders.naming import file_names
from corral_folders.recipes import Recipe
from corral_folders.site import Site
from corral_folders.walk import File, Notes
from corral_kernel.errors import InvalidModelError
from corral_kernel.gguf import GgufHeader
from corral_kernel.gguf.filenames import SUFFIX, split_of
from corral_kernel.lent import gguf_config
from corral_kernel.models import (
    PROJECTOR_TYPE,
    WEIGHTS_TYPE,
    ModelConfig,
    parameter_size_text,
)
from corral_kernel.store.files import reason_of

_SENSES: Final = ("vision", "audio")


class _Facts(Struct, frozen=True):
    """What is taken of a file's head."""

    split_count: int
    is_adapter: bool
    is_projector: bool
    parameters: int
    width: int | None  # of the model's input
    widths: frozenset[int | None]  # of a projector's outputs
    config: ModelConfig

    @classmethod
    def of(cls, header: GgufHeader) -> Self:
        """Take them."""
        return cls(
            split_count=header.split_count,
            is_adapter=header.kind == "adapter",
            is_projector=header.is_projector,
            parameters=header.parameter_count,
            width=header.embedding_length,
            widths=frozenset(header.integer(f"clip.{k}.projection_dim") for k in _SENSES),
            config=gguf_config(header),
        )


class _Weights(NamedTuple):
    stem: str
    files: tuple[File, ...]
    facts: tuple[_Facts, ...]


def gguf_models(files: Sequence[File], site: Site) -> Iterator[Recipe]:
    """Give the models that the GGUF files of one folder make."""
    found: list[_Weights] = []
    projectors: list[_Weights] = []
    for stem, group in _groups(files, site.notes):
        try:
            weights = _Weights(
                stem, group, tuple(site.states.facts(file, _Facts.of) for file in group)
            )
        except InvalidModelError as error:
            site.notes.say(f"{group[0].path}: {error}")
            continue
        except OSError as error:
            site.notes.say(f"{group[0].path} cannot be read: {reason_of(error)}")
            continue
        if fault := _fault(weights):
            site.notes.say(f"{group[0].path} {fault}")
        else:
            (projectors if weights.facts[0].is_projector else found).append(weights)
    for weights in found:
        try:
            yield _recipe(weights, _projector_of(weights, projectors), site)
        except OSError as error:  # it went away just now
            site.notes.say(f"{weights.files[0].path} cannot be read: {reason_of(error)}")
    for weights in projectors if not found else ():
        site.notes.say(f"{weights.files[0].path} is a projector, and no model is beside it")


def _groups(files: Sequence[File], notes: Notes) -> Iterator[tuple[str, tuple[File, ...]]]:
    """Put the parts of split files together, in order."""
    parts: dict[tuple[str, int], dict[int, File]] = defaultdict(dict)
    for file in files:
        stem = file.parts[-1][: -len(SUFFIX)]
        if split := split_of(stem):
            parts[split[0], split[2]][split[1]] = file
        else:
            yield stem, (file,)
    for (stem, count), numbered in parts.items():
        missing = [number for number in range(1, count + 1) if number not in numbered]
        if missing:
            first = next(iter(numbered.values()))
            notes.say(f"{first.path}: part {missing[0]} of {count} is missing beside it")
        else:
            yield stem, tuple(numbered[number] for number in range(1, count + 1))


def _fault(weights: _Weights) -> str:
    """Say why files are no model; empty: they are one."""
    first = weights.facts[0]
    if first.split_count != len(weights.files):
        return f"says that it is one of {first.split_count} parts, and lies beside no others"
    if first.is_adapter:
        return "is a LoRA adapter: name it by ADAPTER in a Modelfile"
    return ""


def _projector_of(weights: _Weights, projectors: Sequence[_Weights]) -> File | None:
    """Find the projector whose output is as wide as the model's input; those of 16 bits first."""
    width = weights.facts[0].width
    fitting = [
        projector for projector in projectors if width and width in projector.facts[0].widths
    ]
    fitting.sort(key=lambda projector: ("f16" not in projector.stem.lower(), projector.stem))
    return fitting[0].files[0] if fitting else None


def _recipe(weights: _Weights, projector: File | None, site: Site) -> Recipe:
    split = len(weights.files) > 1
    parts = [
        site.states.part(file, WEIGHTS_TYPE, name=file.parts[-1] if split else "")
        for file in weights.files
    ]
    if projector is not None:
        parts.append(site.states.part(projector, PROJECTOR_TYPE))
    first = weights.files[0]
    return Recipe(
        names=tuple(file_names(site.place, first.parts[:-1], weights.stem)),
        parts=tuple(parts),
        config=replace(
            weights.facts[0].config,
            model_type=parameter_size_text(sum(facts.parameters for facts in weights.facts)),
        ),
        owner=f"{site.owner} (its file is {first.path})",
        modified_ns=max(file.status.st_mtime_ns for file in weights.files),
    )
