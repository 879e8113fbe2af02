"""How legacy GGML files begin, by architecture: pure facts, nothing is read here.

Read off the C++ of ctransformers 0.2.27: `models/llms/*.cc` for the files of the magic `ggml`,
`models/ggml/llama-ggml.cpp` and `models/ggml/libfalcon.cpp` for the others. All numbers are
little-endian and of 32 bits; a magic number stands backwards in its file.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

GGML: Final = b"lmgg"  # "ggml": no version follows
GGMF: Final = b"fmgg"  # "ggmf": version 1
GGJT: Final = b"tjgg"  # "ggjt": version 1 to 3
GGCC: Final = b"ccgg"  # "ggcc": falcon's own, version 10
VERSIONS: Final[Mapping[bytes, frozenset[int]]] = {
    GGML: frozenset(),
    GGMF: frozenset({1}),
    GGJT: frozenset({1, 2, 3}),
    GGCC: frozenset({10}),
}
QUANTIZATION_FACTOR: Final = 1000  # a file type over it tells the version of its blocks too
LIMITS: Final[Mapping[str, tuple[int, int]]] = {
    "n_vocab": (1, 1 << 20),
    "n_ctx": (1, 1 << 17),
    "n_embd": (1, 1 << 15),
    "n_head": (2, 1 << 10),  # the library copies what a single one says past its tensor's end
    "n_head_kv": (1, 1 << 10),
    "n_mult": (1, 1 << 15),
    "n_rot": (2, 1 << 12),
    "par_res": (0, 1),
    "n_merges": (0, 1 << 20),
}
"""From what to what the numbers of a head go; none of the known models comes near the upper end."""
FLOATS: Final = frozenset({"alibi_bias_max", "clip_qkv"})


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The head of one architecture's files.

    Attributes:
        name: What users and the library call it.
        magics: How its files may begin.
        fields: The numbers after magic and version, in order, by our names for them.
        counted: Whether the vocabulary begins with a second count of its tokens.
        scored: Whether each token has a score.
        most_layers: Layers whose operations fit the library's table of 4096.
        default_context: Positions where the file does not tell; 0: it does.
        fixed_context: The library allocates keys and values for what the file says, whatever is
            asked for.
        cache_bytes: Of one number in the cache of keys or values.
        caches: How many such caches there are.
        scratch: Intermediate results are kept in buffers that each layer uses anew.
        transposes: Bytes of one number in the copy of all values that each layer makes; 0: none.
        scores_kept: Copies of the attention's scores.
        narrow: Sizes of the cache are computed in 32 bits.
        rewinds: A sequence can be taken up again at any of its positions. Falcon's values are kept
            in an order that depends on how many there are: it goes on at the last, or anew.
    """

    name: str
    magics: frozenset[bytes] = frozenset({GGML})
    fields: tuple[str, ...]
    counted: bool = False
    scored: bool = False
    most_layers: int = 72
    default_context: int = 0
    fixed_context: bool = True
    cache_bytes: int = 2
    caches: int = 2
    scratch: bool = False
    transposes: int = 0
    scores_kept: int = 1
    narrow: bool = True
    rewinds: bool = True


_GPT2 = ("n_vocab", "n_ctx", "n_embd", "n_head", "n_layer", "ftype")
_GPTJ = ("n_vocab", "n_ctx", "n_embd", "n_head", "n_layer", "n_rot", "ftype")
_NEOX = ("n_vocab", "n_ctx", "n_embd", "n_head", "n_layer", "n_rot", "par_res", "ftype")
_MPT = ("n_embd", "n_ctx", "n_head", "n_layer", "n_vocab", "alibi_bias_max", "clip_qkv", "ftype")
_REPLIT = ("n_embd", "n_ctx", "n_head", "n_layer", "n_vocab", "ftype")
_LLAMA = ("n_vocab", "n_embd", "n_mult", "n_head", "n_layer", "n_rot", "ftype")
_FALCON = (
    "n_vocab", "n_embd", "n_head", "n_head_kv", "n_layer", "falcon_type", "ftype", "n_merges",
)  # fmt: skip

LAYOUTS: Final[Mapping[str, Layout]] = {
    layout.name: layout
    for layout in (
        Layout(name="gpt2", fields=_GPT2, counted=True, cache_bytes=4, transposes=4),
        Layout(name="gptj", fields=_GPTJ, counted=True),
        Layout(name="gpt_neox", fields=_NEOX, scratch=True, narrow=False),
        Layout(name="dolly-v2", fields=_NEOX),
        Layout(
            name="mpt", fields=_MPT, fixed_context=False, scratch=True, transposes=2,
            scores_kept=5, narrow=False,
        ),
        Layout(name="replit", fields=_REPLIT, scored=True, transposes=2, scores_kept=5),
        Layout(
            name="gpt_bigcode", fields=_GPT2, counted=True, cache_bytes=4, scratch=True,
            transposes=4,
        ),
        Layout(
            name="falcon", magics=frozenset({GGCC}), fields=_FALCON, scored=True,
            default_context=2048, fixed_context=False, cache_bytes=4, caches=3, narrow=False,
            rewinds=False,
        ),
        Layout(
            name="llama", magics=frozenset({GGMF, GGJT}), fields=_LLAMA, scored=True,
            most_layers=80, default_context=2048, fixed_context=False, narrow=False,
        ),
    )
}  # fmt: skip
_ALIASES: Final = {"starcoder": "gpt_bigcode", "dolly": "dolly-v2", "neox": "gpt_neox"}
_PLAIN: Final = {_.replace("_", "").replace("-", ""): _ for _ in LAYOUTS}
NAMES: Final = ", ".join(
    "gpt_bigcode (starcoder)" if name == "gpt_bigcode" else name for name in LAYOUTS
)


def find_layout(model_type: str) -> Layout | None:
    """The layout of an architecture as users write it: `gpt2`, `GPT-NeoX`, `starcoder`."""
    plain = "".join(filter(str.isalnum, model_type.lower()))
    name = _ALIASES.get(plain) or _PLAIN.get(plain)
    return LAYOUTS[name] if name else None


def limits(layout: Layout, name: str) -> tuple[int, int]:
    """The least and the most that a number of the head may be."""
    if name == "n_layer":
        return 1, layout.most_layers
    return LIMITS.get(name, (-(1 << 31), (1 << 31) - 1))


def told_by(magic: bytes) -> Layout | None:
    """The layout of the only architecture whose files begin so; None: there are several."""
    found = [layout for layout in LAYOUTS.values() if magic in layout.magics]
    return found[0] if len(found) == 1 else None


def head_fields(head: bytes, layout: Layout) -> dict[str, int]:
    """The whole numbers of a head, unchecked; empty if the bytes do not reach.

    Args:
        head: The first bytes of a file, 64 are enough for all layouts.
        layout: The file's.
    """
    start = 8 if VERSIONS.get(head[:4]) else 4
    if len(head) < start + 4 * len(layout.fields):
        return {}
    values = struct.unpack_from(f"<{len(layout.fields)}i", head, start)
    pairs = zip(layout.fields, values, strict=True)
    return {name: value for name, value in pairs if name not in FLOATS}
