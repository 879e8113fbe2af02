"""A legacy GGML file of the size of GPT-2, with random weights: what ctransformers is timed on.

    python -m benchmarks.legacy_model FILE

There is no such file in any package, and how long a token takes does not hang on the weights.
"""

import struct
import sys
from pathlib import Path
from typing import IO, Final

import numpy as np

VOCABULARY: Final = 50257
CONTEXT: Final = 1024
WIDTH: Final = 768
HEADS: Final = 12
LAYERS: Final = 12
_MAGIC: Final = 0x67676D6C
_F32, _F16 = 0, 1


def write(path: Path) -> None:
    """Write the file, some 330 MB; always the same."""
    generator = np.random.default_rng(1)
    with path.open("wb") as file:
        file.write(struct.pack("<I6i", _MAGIC, VOCABULARY, CONTEXT, WIDTH, HEADS, LAYERS, _F16))
        file.write(struct.pack("<i", VOCABULARY))
        for token_id in range(VOCABULARY):
            piece = bytes([token_id]) if token_id < 256 else f" {token_id:x}".encode()  # noqa: PLR2004 - single bytes come first
            file.write(struct.pack("<i", len(piece)) + piece)
        for name, shape, half in _tensors():
            _tensor(file, generator, name, shape, half=half)


def _tensors() -> list[tuple[str, tuple[int, ...], bool]]:
    """Name, shape as numpy has it, and whether it is kept in half precision."""
    found: list[tuple[str, tuple[int, ...], bool]] = [
        ("model/wte", (VOCABULARY, WIDTH), True),
        ("model/wpe", (CONTEXT, WIDTH), False),
        ("model/ln_f/g", (WIDTH,), False),
        ("model/ln_f/b", (WIDTH,), False),
    ]
    for layer in range(LAYERS):
        place = f"model/h{layer}/"
        for norm in ("ln_1", "ln_2"):
            found += [(f"{place}{norm}/{part}", (WIDTH,), False) for part in "gb"]
        for name, rows, columns in (
            ("attn/c_attn", 3 * WIDTH, WIDTH),
            ("attn/c_proj", WIDTH, WIDTH),
            ("mlp/c_fc", 4 * WIDTH, WIDTH),
            ("mlp/c_proj", WIDTH, 4 * WIDTH),
        ):
            found.append((f"{place}{name}/w", (rows, columns), True))
            found.append((f"{place}{name}/b", (rows,), False))
    return found


def _tensor(
    file: IO[bytes],
    generator: np.random.Generator,
    name: str,
    shape: tuple[int, ...],
    *,
    half: bool,
) -> None:
    values = generator.normal(0, 0.02, shape).astype(np.float32)
    if name.endswith("/g"):
        values += 1
    kind = _F16 if half else _F32
    file.write(struct.pack("<3i", len(shape), len(name), kind))
    file.write(struct.pack(f"<{len(shape)}i", *shape[::-1]) + name.encode())
    file.write(values.astype(np.float16 if half else np.float32).tobytes())


if __name__ == "__main__":
    write(Path(sys.argv[1]))
