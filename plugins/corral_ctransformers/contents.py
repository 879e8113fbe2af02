"""The tensors of a file, walked over: names, types, shapes, and where each ends."""

from collections.abc import Callable
from dataclasses import dataclass

from corral_ctransformers.fields import matrix_type
from corral_ctransformers.layouts import GGJT, GGMF, GGML, Layout
from corral_ctransformers.reader import Reader
from corral_ctransformers.tensors import F16, F32, TYPES, Tensor, expected
from corral_kernel.errors import LoadError

_NAME_BYTES = 128
_MOST_DIMS = 2
_ALIGNED = 32
_REPORT_EVERY = 64  # tensors
_SHARED_HEADS = 8
_SHARING_LAYERS = 80
# Types whose blocks have been the same since the second version of `ggjt`.
_KEPT = frozenset({F32, F16, 6, 7, 10, 11, 12, 13, 14})


@dataclass(frozen=True)
class Stored:
    """A tensor that was found.

    Attributes:
        at: Byte at which it begins.
        shape: Row length first.
        type_id: Of `TYPES`.
    """

    at: int
    shape: tuple[int, ...]
    type_id: int


def read_tensors(
    reader: Reader,
    layout: Layout,
    fields: dict[str, int],
    kind: tuple[bytes, int],
    report: Callable[[float], bool],
) -> dict[str, Stored]:
    """Walk to the end of the file; for llama, `fields` is given its `shared_heads`.

    Args:
        reader: Where the first tensor begins.
        layout: The architecture's.
        fields: Of the head.
        kind: Magic and version.
        report: Told the share that was passed; False from it gives up.

    Raises:
        LoadError: With what is wrong, and at which byte.
    """
    fields["shared_heads"] = 1
    names = expected(layout.name, fields)
    types = _types(kind)
    found: dict[str, Stored] = {}
    while reader.left:
        name, stored = _head(reader)
        if name not in names:
            raise LoadError(f"{_where(name, stored)} is none of this architecture's")
        if name in found:
            raise LoadError(f"damaged: {_where(name, stored)} comes a second time")
        if kind[0] not in (GGML, GGMF):
            reader.align(_ALIGNED, "what fills up to a tensor")
        reader.skip(_bytes(name, stored, types), f"the tensor {name!r}")
        found[name] = stored
        if len(found) % _REPORT_EVERY == 0 and not report(reader.position / reader.size):
            raise LoadError("loading was given up")
    if layout.name == "llama" and fields["n_layer"] == _SHARING_LAYERS:
        _tell_shared_heads(fields, found)
    _compare(expected(layout.name, fields), found, layout, fields)
    return found


def _head(reader: Reader) -> tuple[str, Stored]:
    at = reader.position
    n_dims, name_bytes, type_id = reader.integers(3, "the head of a tensor")
    if not 1 <= n_dims <= _MOST_DIMS or not 1 <= name_bytes <= _NAME_BYTES:
        raise LoadError(
            f"damaged: at byte {at} stands a tensor of {n_dims} dimensions and a name of "
            f"{name_bytes} bytes"
        )
    shape = reader.integers(n_dims, "the shape of a tensor")
    name = reader.take(name_bytes, "the name of a tensor").decode(errors="backslashreplace")
    return name, Stored(at, shape, type_id)


def _bytes(name: str, stored: Stored, types: frozenset[int]) -> int:
    if stored.type_id not in types:
        known = TYPES.get(stored.type_id)
        shown = f"{stored.type_id} ({known.name})" if known else f"{stored.type_id}"
        raise LoadError(
            f"{_where(name, stored)} is of type {shown}, which is not read in this version"
        )
    kind = TYPES[stored.type_id]
    if min(stored.shape) < 1 or stored.shape[0] % kind.block:
        raise LoadError(
            f"{_where(name, stored)} has rows of {stored.shape[0]} numbers; "
            f"{kind.name} stores {kind.block} together"
        )
    count = stored.shape[0] * (stored.shape[1] if len(stored.shape) > 1 else 1)
    return count // kind.block * kind.block_bytes


def _compare(
    wanted: dict[str, Tensor], found: dict[str, Stored], layout: Layout, fields: dict[str, int]
) -> None:
    missing = [name for name, tensor in wanted.items() if not (tensor.optional or name in found)]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise LoadError(f"damaged: the tensor {missing[0]!r}{more} is not in the file")
    # Files of the magic `ggml` have one type for all matrices; in others each tells its own.
    matrices = matrix_type(fields) if GGML in layout.magics else None
    for name, stored in found.items():
        tensor = wanted[name]
        if stored.shape != tensor.shape:
            raise LoadError(
                f"{_where(name, stored)} has the shape {_shown(stored.shape)}; "
                f"the head's numbers make it {_shown(tensor.shape)}"
            )
        type_id = matrices if tensor.kind == "matrix" else F32
        if type_id is not None and stored.type_id != type_id:
            raise LoadError(
                f"{_where(name, stored)} is of type {TYPES[stored.type_id].name}; "
                f"it must be {TYPES[type_id].name}"
            )


def _tell_shared_heads(fields: dict[str, int], found: dict[str, Stored]) -> None:
    """Only the shapes tell the model of 70B from that of 65B."""
    keys = found.get("layers.0.attention.wk.weight")
    if keys and keys.shape[-1] == fields["n_embd"] // _SHARED_HEADS:
        if fields["n_head"] % _SHARED_HEADS:
            raise LoadError(f"{fields['n_head']} heads cannot share keys by {_SHARED_HEADS}")
        fields["shared_heads"] = _SHARED_HEADS


def _types(kind: tuple[bytes, int]) -> frozenset[int]:
    """Types whose blocks the library reads as they were written."""
    magic, version = kind
    if magic == GGMF or (magic == GGJT and version == 1):
        return frozenset({F32, F16})
    if magic == GGJT and version == 2:  # noqa: PLR2004 (a version)
        return _KEPT
    return frozenset(TYPES)


def _where(name: str, stored: Stored) -> str:
    return f"the tensor {name[:64]!r} at byte {stored.at}"


def _shown(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
