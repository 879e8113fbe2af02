"""The numbers of a head, and what the library relies upon in them."""

import math

from corral_ctransformers.layouts import FLOATS, GGML, QUANTIZATION_FACTOR, Layout, limits
from corral_ctransformers.reader import Reader
from corral_ctransformers.tensors import F16, FILE_TYPES, TYPES
from corral_kernel.errors import LoadError

_INT32 = 1 << 31
_QUANTIZATION = 2  # the version of blocks that the library computes with
# It says nothing of a llama's tensors, each of which has a type; but other types there are none.
_LLAMA_FILE_TYPES = frozenset({0, 1, 2, 3, 4, *range(7, 19)})
# Of older files it refuses these, whose blocks changed later.
_CHANGED_SECOND = frozenset({2, 3, 4, 8, 9})
_CHANGED_THIRD = frozenset({2, 3, 7})
# The library has buffers for these two of falcon: of how many layers by itself, and how wide.
_FALCONS = {7: (32, 4544, 128), 40: (60, 8192, 128)}
_FALCON_END, _LLAMA_END = 11, 2
_LLAMA_LAYERS = frozenset({*range(1, 32), 32, 40, 60, 80})


def checked_fields(reader: Reader, layout: Layout, kind: tuple[bytes, int]) -> dict[str, int]:
    """Read and check the head's numbers.

    Args:
        reader: After magic and version.
        layout: Tells which come.
        kind: Magic and version.

    Raises:
        LoadError: Names the number that is wrong.
    """
    fields: dict[str, int] = {}
    for name in layout.fields:
        at = reader.position
        if name in FLOATS:
            _check_float(name, reader.float32(name), at)
            continue
        (value,) = reader.integers(1, name)
        least, most = limits(layout, name)
        if not least <= value <= most:
            raise LoadError(f"{name} is {value} at byte {at}; it must be from {least} to {most}")
        fields[name] = value
    _check_heads(fields)
    _check_products(fields, layout)
    if layout.name == "llama":
        _check_llama(fields, kind)
    elif layout.name == "falcon":
        _check_falcon(fields)
    else:
        _check_file_type(fields)
    return fields


def matrix_type(fields: dict[str, int]) -> int:
    """The type of all matrices of a file of the magic `ggml`."""
    return FILE_TYPES[fields["ftype"] % QUANTIZATION_FACTOR]


def _check_float(name: str, value: float, at: int) -> None:
    most = 1e4
    if not (math.isfinite(value) and 0 <= value <= most):
        raise LoadError(f"{name} is {value} at byte {at}; it must be from 0 to {most:g}")


def _check_heads(fields: dict[str, int]) -> None:
    width, heads = fields["n_embd"], fields["n_head"]
    if width % heads:
        raise LoadError(f"n_embd is {width}, which {heads} heads cannot share")
    if "n_rot" in fields and (fields["n_rot"] % 2 or fields["n_rot"] > width // heads):
        raise LoadError(
            f"n_rot is {fields['n_rot']}; it must be even, and {width // heads} at most"
        )


def _check_products(fields: dict[str, int], layout: Layout) -> None:
    """The library multiplies these in 32 bits."""
    width = fields["n_embd"]
    products = {
        "n_embd squared, four times": 4 * width * width,
        "n_vocab times n_embd": fields["n_vocab"] * width,
    }
    if layout.narrow:
        cells = fields["n_ctx"] * fields["n_layer"]
        products["n_ctx times n_layer times n_embd"] = cells * width
    for words, product in products.items():
        if product >= _INT32:
            raise LoadError(f"{words} is {product}, over what the library counts to")


def _check_file_type(fields: dict[str, int]) -> None:
    version, file_type = divmod(fields["ftype"], QUANTIZATION_FACTOR)
    if file_type not in FILE_TYPES or version < 0:
        raise LoadError(f"ftype is {fields['ftype']}, which the library does not know")
    if FILE_TYPES[file_type] > F16 and version != _QUANTIZATION:
        name = TYPES[FILE_TYPES[file_type]].name
        raise LoadError(
            f"its {name} blocks are of version {version}; the library computes with "
            f"version {_QUANTIZATION} alone, of files made after May 2023"
        )


def _check_llama(fields: dict[str, int], kind: tuple[bytes, int]) -> None:
    version = kind[1] if kind[0] != GGML else 0
    older = 1 if kind[0].startswith(b"f") else version
    file_type = fields["ftype"]
    if file_type not in _LLAMA_FILE_TYPES:
        raise LoadError(f"ftype is {file_type}, which the library does not know")
    changed: frozenset[int] = frozenset()
    if older < 3:  # noqa: PLR2004 (a version)
        changed |= _CHANGED_THIRD
    if older < 2:  # noqa: PLR2004 (a version)
        changed |= _CHANGED_SECOND | frozenset(range(10, 19))
    if file_type in changed:
        raise LoadError(
            f"ftype {file_type} of version {version}: its blocks changed later, and the library "
            "computes with the new ones alone"
        )
    if fields["n_layer"] not in _LLAMA_LAYERS:
        raise LoadError(f"n_layer is {fields['n_layer']}, as of no llama of 2023")
    if fields["n_rot"] != fields["n_embd"] // fields["n_head"]:
        raise LoadError(
            f"n_rot is {fields['n_rot']}; a head is {fields['n_embd'] // fields['n_head']} wide"
        )
    if fields["n_vocab"] <= _LLAMA_END:
        raise LoadError(f"n_vocab is {fields['n_vocab']}; token {_LLAMA_END} ends an answer")


def _check_falcon(fields: dict[str, int]) -> None:
    kind, layers = fields["falcon_type"], fields["n_layer"]
    if kind not in _FALCONS:
        raise LoadError(f"falcon_type is {kind}; it must be 7 or 40")
    own, widest, most_heads = _FALCONS[kind]
    if layers != own and any(layers == other for other, _, _ in _FALCONS.values()):
        raise LoadError(f"{layers} layers are not those of a falcon of type {kind}")
    if fields["n_embd"] > widest or fields["n_head"] > most_heads:
        raise LoadError(f"n_embd or n_head is over what the library has buffers for, type {kind}")
    if fields["n_head"] % fields["n_head_kv"] or fields["n_embd"] // fields["n_head"] % 2:
        raise LoadError("n_head is no multiple of n_head_kv, or a head is of odd width")
    if fields["n_vocab"] <= _FALCON_END or fields["n_vocab"] == 65025:  # noqa: PLR2004 (see below)
        # Of 65025 tokens the library drops the last, and reads the tensors of two widths only.
        raise LoadError(f"a vocabulary of {fields['n_vocab']} tokens cannot be read")
    if fields["ftype"] not in _LLAMA_FILE_TYPES:
        raise LoadError(f"ftype is {fields['ftype']}, which the library does not know")
