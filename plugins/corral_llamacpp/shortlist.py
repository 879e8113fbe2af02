"""llama.cpp's own samplers, from a chain's `top_k` on: one call in place of many.

Measured right after a decode, when caches are cold, at a row of 49,152: the default chain in numpy
and a draw take 303 us; this and a draw 128; the library's own chain and draw 78.
"""

import ctypes
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from corral_kernel.contracts import SamplerSpec
from corral_llamacpp.binding import lib

MOST_CANDIDATES = 256
"""Beyond so many the kernel's own `top_k` is the faster one."""

_MAKERS: Mapping[str, Callable[[dict[str, Any]], Any]] = {
    "top_k": lambda o: lib.llama_sampler_init_top_k(o["top_k"]),
    "top_p": lambda o: lib.llama_sampler_init_top_p(o["top_p"], o["min_keep"]),
    "min_p": lambda o: lib.llama_sampler_init_min_p(o["min_p"], o["min_keep"]),
    "temperature": lambda o: lib.llama_sampler_init_temp(o["temperature"]),
}

_TOKEN = struct.Struct("if4x")  # llama_token_data: id, logit, and a p that is not used
_ARRAY = struct.Struct("PN")  # the beginning of llama_token_data_array: data, size
_SELECTED: int = lib.llama_token_data_array.selected.offset  # type: ignore[attr-defined] # a descriptor of ctypes

# Bound once more, to addresses: the binding's own argument types cost more than the sampling.
_sample = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32)(
    ctypes.cast(lib.llama_sampler_sample, ctypes.c_void_p).value or 0
)


def native_part(chain: Sequence[SamplerSpec]) -> Sequence[int]:
    """Which samplers of a chain the library applies, in a row; none where it is the slower one.

    Only from a `top_k` on: for the others alone the library sorts all tokens.
    """
    start = next((place for place, spec in enumerate(chain) if _keeps_few(spec)), len(chain))
    known = (place for place in range(start, len(chain)) if chain[place].name not in _MAKERS)
    return range(start, next(known, len(chain)))


def _keeps_few(spec: SamplerSpec) -> bool:
    return spec.name == "top_k" and spec.options["top_k"] <= MOST_CANDIDATES


class NativeChain:
    """What the library does of one job's chain; `free` it once.

    Args:
        chain: Samplers that the library has.
        context: Pointer of the context that holds the rows.
    """

    def __init__(self, chain: Sequence[SamplerSpec], context: Any) -> None:
        params = lib.llama_sampler_chain_default_params()
        params.no_perf = True
        self._pointer = lib.llama_sampler_chain_init(params)
        for spec in chain:
            lib.llama_sampler_chain_add(self._pointer, _MAKERS[spec.name](spec.options))
        # Last comes one of ours, which takes what is left and chooses nothing.
        lib.llama_sampler_chain_add(self._pointer, lib.llama_sampler_init(_catcher, None))
        self._address = ctypes.cast(self._pointer, ctypes.c_void_p).value
        self._context = ctypes.cast(context, ctypes.c_void_p).value

    def candidates(self, row: int) -> Sequence[tuple[int, float]]:
        """Apply the samplers to a row, which stays as it is.

        Args:
            row: Counted from the end: -1 is the last one.

        Returns:
            Ids and logits, likeliest first, equal ones by id; none: the row has no usable logits.
        """
        _sample(self._address, self._context, row)
        left = list(_TOKEN.iter_unpack(_caught.pop()))
        if not math.isfinite(left[0][1]):
            return ()
        if len({logit for _, logit in left}) < len(left):  # equal ones in no order
            left.sort(key=lambda item: (-item[1], item[0]))
        return left

    def free(self) -> None:
        """Free it and its samplers."""
        lib.llama_sampler_free(self._pointer)


_caught: list[bytes] = []


def _catch(_sampler: int, array: int) -> None:
    data, size = _ARRAY.unpack(ctypes.string_at(array, _ARRAY.size))
    _caught.append(ctypes.string_at(data, size * _TOKEN.size))
    ctypes.c_int64.from_address(array + _SELECTED).value = 0  # that one be chosen is asserted


_apply = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(_catch)
_interface = lib.llama_sampler_i()
_interface.name = lib.llama_sampler_i_name(lambda _sampler: b"catch")
_interface.apply = ctypes.cast(_apply, lib.llama_sampler_i_apply)
_catcher = ctypes.pointer(_interface)
