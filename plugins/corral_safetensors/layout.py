"""Which tensors an architecture has, and of what shape: what a model is measured against."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import gguf

from corral_kernel.errors import InvalidModelError
from corral_safetensors.reader import Stored
from corral_safetensors.tensors import NO_CHANGE, Change, Moved, OutType

_SUFFIXES = (".weight", ".bias")
_FLOAT32 = frozenset({"position_embd.weight", "token_types.weight"})


@dataclass(frozen=True, slots=True)
class Expected:
    """A tensor that a model is to have, or may have.

    Args:
        shape: In the source, the slowest dimension first.
        change: What becomes of it.
        needed: Whether the model is nothing without it.
    """

    shape: tuple[int, ...]
    change: Change = NO_CHANGE
    needed: bool = True


@cache
def _names(arch: gguf.MODEL_ARCH, blocks: int) -> gguf.TensorNameMap:
    """Thousands of names, which take 40 ms for thirty layers."""
    return gguf.get_tensor_name_map(arch, blocks)


def _as_is(name: str) -> str | None:
    return name


@dataclass(frozen=True, slots=True)
class Layout:
    """All tensors of a model, by the names of the new file.

    Args:
        arch: llama.cpp's name of the architecture.
        blocks: How many layers there are.
        expected: By the new name.
        rename: A name of the source as the architecture's other models would have it; `None` for
            what is left out.
    """

    arch: gguf.MODEL_ARCH
    blocks: int
    expected: Mapping[str, Expected]
    rename: Callable[[str], str | None] = field(default=_as_is)

    def new_name(self, name: str) -> str | None:
        """What the new file calls a tensor; `None`, if it is left out.

        Raises:
            InvalidModelError: If the architecture has no such tensor.
        """
        renamed = self.rename(name)
        if renamed is None:
            return None
        found = _names(self.arch, self.blocks).get_name(renamed, _SUFFIXES)
        if found is None or found not in self.expected:
            architecture = gguf.MODEL_ARCH_NAMES[self.arch]
            raise InvalidModelError(
                f"tensor {name} has no place in a {architecture} model of {self.blocks} layers"
            )
        return found

    def moved(self, tensors: Sequence[Stored], out_type: OutType) -> list[Moved]:
        """The tensors of a source, each with its new name.

        Raises:
            InvalidModelError: If one is missing, unknown, there twice or of another shape.
        """
        found: dict[str, Moved] = {}
        for tensor in tensors:
            name = self.new_name(tensor.name)
            if name is None:
                continue
            if name in found:
                raise InvalidModelError(
                    f"tensors {found[name].stored.name} and {tensor.name} are the same one"
                )
            expected = self.expected[name]
            if tensor.shape != expected.shape:
                raise InvalidModelError(
                    f"tensor {tensor.name} has the shape {list(tensor.shape)}; "
                    f"by config.json it is to be {list(expected.shape)}"
                )
            kind = OutType.F32 if _stays_float32(name, tensor.shape) else out_type
            found[name] = Moved(name, tensor, kind, expected.change)
        missing = [name for name, one in self.expected.items() if one.needed and name not in found]
        if missing:
            raise InvalidModelError(
                f"the model lacks {len(missing)} tensors, of which {', '.join(missing[:4])}"
            )
        return list(found.values())


def _stays_float32(name: str, shape: tuple[int, ...]) -> bool:
    return (
        len(shape) < 2  # noqa: PLR2004 - a matrix has two
        or name in _FLOAT32
        or name.endswith("_norm.weight")
        or not name.endswith(".weight")
    )
