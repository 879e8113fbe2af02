"""What a GGUF head must not say: native code would abort on it, or read beyond the file."""

import math
from collections.abc import Iterable, Mapping

from corral_kernel.errors import InvalidModelError
from corral_kernel.gguf.header import TensorInfo, Value
from corral_kernel.gguf.types import GGML_TYPES, INTEGERS, ValueType

_LARGEST = 1 << 62
_MAX_ALIGNMENT = 1 << 20

# Ends of keys (behind the architecture) that native code divides by, loops to or allocates with:
# the least and the most that makes sense. An array has one number for each layer.
_BOUNDS: dict[str, tuple[int, int]] = {
    "block_count": (1, 4096),
    "context_length": (1, 1 << 31),
    "embedding_length": (1, 1 << 24),
    "vocab_size": (1, 1 << 24),
    "rope.dimension_count": (0, 1 << 20),
    "expert_count": (0, 1 << 16),
    "expert_used_count": (0, 1 << 16),
    "attention.key_length": (0, 1 << 20),
    "attention.value_length": (0, 1 << 20),
    "attention.sliding_window": (0, 1 << 32),
    "pooling_type": (-1, 1 << 10),
}
# Zero stands for a layer, or a whole recurrent model, without attention or feed-forward part.
_PER_LAYER: dict[str, tuple[int, int]] = {
    "attention.head_count": (0, 1 << 16),
    "attention.head_count_kv": (0, 1 << 16),
    "feed_forward_length": (0, 1 << 26),
}
_KEYS_OF_ONE_TYPE: dict[str, tuple[frozenset[ValueType], str]] = {
    "general.architecture": (frozenset({ValueType.STRING}), "a text"),
    "general.type": (frozenset({ValueType.STRING}), "a text"),
    "general.file_type": (INTEGERS, "an integer"),
    "general.alignment": (frozenset({ValueType.UINT32}), "an unsigned 32-bit integer"),
    "tokenizer.ggml.model": (frozenset({ValueType.STRING}), "a text"),
    "tokenizer.chat_template": (frozenset({ValueType.STRING}), "a text"),
}
_TOKENS = "tokenizer.ggml.tokens"
# Arrays of a vocabulary: the item types they may have; whether there is one item for each token.
_VOCABULARY: dict[str, tuple[frozenset[ValueType], bool]] = {
    _TOKENS: (frozenset({ValueType.STRING}), True),
    "tokenizer.ggml.merges": (frozenset({ValueType.STRING}), False),
    "tokenizer.ggml.scores": (frozenset({ValueType.FLOAT32}), True),
    "tokenizer.ggml.token_type": (frozenset({ValueType.INT32, ValueType.UINT32}), True),
    "tokenizer.ggml.precompiled_charsmap": (frozenset({ValueType.INT8, ValueType.UINT8}), False),
}


def check_metadata(metadata: Mapping[str, Value]) -> int | None:
    """Check the keys that are known to bring native code down.

    Returns:
        The alignment of tensor data that the file asks for, if it does.

    Raises:
        InvalidModelError: If one of them is wrong.
    """
    for key, (types, wanted) in _KEYS_OF_ONE_TYPE.items():
        value = metadata.get(key)
        if value is not None and value.type not in types:
            raise InvalidModelError(f"metadata key {key!r} is {_what(value)}, not {wanted}")
    _check_architecture(metadata)
    _check_vocabulary(metadata)
    return _alignment(metadata)


def _what(value: Value) -> str:
    kind = value.type if value.item_type is None else value.item_type
    return ("an array of " if value.type is ValueType.ARRAY else "of type ") + kind.name.lower()


def _alignment(metadata: Mapping[str, Value]) -> int | None:
    value = metadata.get("general.alignment")
    if value is None:
        return None
    alignment = value.content
    if not isinstance(alignment, int) or not 0 < alignment <= _MAX_ALIGNMENT:
        raise InvalidModelError(f"general.alignment is {alignment}: it is damaged")
    if alignment & (alignment - 1):
        raise InvalidModelError(f"general.alignment is {alignment}, which is no power of two")
    return alignment


def _check_architecture(metadata: Mapping[str, Value]) -> None:
    named = metadata.get("general.architecture")
    if named is None:
        return
    for end, bounds in _BOUNDS.items():
        key = f"{named.content}.{end}"
        if (value := metadata.get(key)) is not None:
            _check_number(key, value, bounds)
    blocks = metadata.get(f"{named.content}.block_count")
    for end, bounds in _PER_LAYER.items():
        key = f"{named.content}.{end}"
        if (value := metadata.get(key)) is None:
            continue
        if value.type is ValueType.ARRAY:
            _check_layers(key, value, bounds[1], blocks)
        else:
            _check_number(key, value, bounds)
    _check_experts(metadata, str(named.content))


def _check_experts(metadata: Mapping[str, Value], architecture: str) -> None:
    """Check the choice of experts, which llama.cpp asserts instead of refusing."""
    counts = [metadata.get(f"{architecture}.expert_{end}count") for end in ("", "used_")]
    experts, used = (value.content if value else 0 for value in counts)
    if not isinstance(experts, int) or not isinstance(used, int):
        return
    if used > experts or (experts and not used):
        raise InvalidModelError(f"{used} of {experts} experts are used: the file is damaged")


def _check_number(key: str, value: Value, bounds: tuple[int, int]) -> None:
    least, most = bounds
    number = value.content
    if isinstance(number, bool) or not isinstance(number, int):
        # Some architectures list by layer what others state once (a window, a rope width).
        if value.type is ValueType.ARRAY and value.item_type != ValueType.STRING:
            return
        raise InvalidModelError(f"metadata key {key!r} is {_what(value)}, not an integer")
    if not least <= number <= most:
        raise InvalidModelError(
            f"metadata key {key!r} is {number}; {least} to {most} makes sense: it is damaged"
        )


def _check_layers(key: str, value: Value, most: int, blocks: Value | None) -> None:
    if value.item_type not in INTEGERS or not isinstance(value.content, tuple):
        raise InvalidModelError(
            f"metadata key {key!r} is {_what(value)} of {value.count}, not one integer a layer"
        )
    if blocks is not None and value.count != blocks.content:
        raise InvalidModelError(
            f"metadata key {key!r} has {value.count} numbers for {blocks.content} layers"
        )
    if any(not isinstance(number, int) or not 0 <= number <= most for number in value.content):
        raise InvalidModelError(f"metadata key {key!r} holds a number outside 0 to {most}")


def _check_vocabulary(metadata: Mapping[str, Value]) -> None:
    tokens = metadata.get(_TOKENS)
    for key, (item_types, per_token) in _VOCABULARY.items():
        value = metadata.get(key)
        if value is None:
            continue
        if value.type is not ValueType.ARRAY or value.item_type not in item_types:
            names = " or ".join(sorted(kind.name.lower() for kind in item_types))
            raise InvalidModelError(
                f"metadata key {key!r} is {_what(value)}, not an array of {names}"
            )
        if per_token and tokens is not None and value.count != tokens.count:
            raise InvalidModelError(
                f"metadata key {key!r} has {value.count} items for {tokens.count} tokens"
            )


def check_tensors(tensors: Iterable[TensorInfo], alignment: int, data_bytes: int) -> None:
    """Make sure that every tensor has a known type and lies inside the file.

    Args:
        tensors: What the head says of them.
        alignment: What each offset must be a multiple of, in bytes.
        data_bytes: Bytes of the file behind its head.

    Raises:
        InvalidModelError: If one does not, or two have one name.
    """
    names: set[str] = set()
    for tensor in tensors:
        if tensor.name in names:
            raise InvalidModelError(f"tensor {tensor.name!r} stands twice")
        names.add(tensor.name)
        _check_shape(tensor)
        if tensor.offset % alignment:
            raise InvalidModelError(
                f"tensor {tensor.name!r} begins at {tensor.offset}, no multiple of {alignment}"
            )
        end = tensor.offset + tensor.size_bytes
        if end > data_bytes:
            raise InvalidModelError(
                f"tensor {tensor.name!r} ends {end - data_bytes} bytes beyond the end of the file: "
                "the file is truncated; fetch it again"
            )


def _check_shape(tensor: TensorInfo) -> None:
    kind = GGML_TYPES.get(tensor.type)
    if kind is None:
        raise InvalidModelError(
            f"tensor {tensor.name!r} has the type {tensor.type}, which is unknown here: "
            "the file is damaged, or newer than this release"
        )
    if not all(tensor.shape) or math.prod(tensor.shape) > _LARGEST:
        raise InvalidModelError(f"tensor {tensor.name!r} has the impossible shape {tensor.shape}")
    if tensor.shape[0] % kind.block_elements:
        raise InvalidModelError(
            f"tensor {tensor.name!r} has rows of {tensor.shape[0]}; "
            f"{kind.name} stores multiples of {kind.block_elements}"
        )
