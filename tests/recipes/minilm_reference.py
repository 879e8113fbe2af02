"""Vectors of all-MiniLM-L6-v2 in single precision, computed by numpy alone from its weights.

python tests/recipes/minilm_reference.py PACKAGE_FOLDER/model tests/models/minilm-reference.json

What the tests hold every engine to that runs this encoder. Source of the network: Devlin et al.,
"BERT", arXiv:1810.04805; pooling and normalising as the model's own `1_Pooling` says: the mean.
"""

import json
import math
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

SENTENCES = (
    "The cat sits on the mat.",
    "A kitten rests on a rug.",
    "Stock prices fell sharply on Monday.",
    "Die Würde des Menschen ist unantastbar.",
    "x",
    "How do I boil an egg so that the yolk stays soft? " * 6,
)
HEADS = 12
EPSILON = 1e-12
DIGITS = 6


def read_weights(path: Path) -> dict[str, Array]:
    """Read the tensors of a safetensors file of single precision."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    head = json.loads(data[8 : 8 + length])
    found = {}
    for name, entry in head.items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        start, stop = (8 + length + offset for offset in entry["data_offsets"])
        found[name] = np.frombuffer(data[start:stop], "<f4").reshape(entry["shape"])
    return found


def encode(weights: dict[str, Array], ids: list[int]) -> Array:
    """The vector of one text, of length 1."""

    def linear(name: str, rows: Array) -> Array:
        result: Array = rows @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
        return result

    def norm(name: str, rows: Array) -> Array:
        centred = rows - rows.mean(-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON)
        result: Array = centred / scale * weights[f"{name}.weight"] + weights[f"{name}.bias"]
        return result

    word, place, kind = (
        weights[f"embeddings.{name}_embeddings.weight"]
        for name in ("word", "position", "token_type")
    )
    rows = norm("embeddings.LayerNorm", word[ids] + place[: len(ids)] + kind[0])
    erf = np.vectorize(math.erf)
    for layer in range(6):
        base = f"encoder.layer.{layer}."
        query, key, value = (
            linear(f"{base}attention.self.{name}", rows).reshape(len(ids), HEADS, -1)
            for name in ("query", "key", "value")
        )
        scores = np.einsum("qhd,khd->hqk", query, key) / math.sqrt(query.shape[-1])
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", shares, value).reshape(len(ids), -1)
        rows = norm(
            f"{base}attention.output.LayerNorm",
            linear(f"{base}attention.output.dense", mixed) + rows,
        )
        wide = linear(f"{base}intermediate.dense", rows)
        wide = (wide * 0.5 * (1 + erf(wide / math.sqrt(2)))).astype(np.float32)
        rows = norm(f"{base}output.LayerNorm", linear(f"{base}output.dense", wide) + rows)
    mean = rows.mean(0)
    vector: Array = mean / np.linalg.norm(mean)
    return vector


def main() -> None:
    """Write the sentences and their vectors."""
    from tokenizers import Tokenizer

    folder, target = Path(sys.argv[1]), Path(sys.argv[2])
    weights = read_weights(folder / "model.safetensors")
    tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    vectors = [encode(weights, tokenizer.encode(text).ids) for text in SENTENCES]
    rows = [[round(float(value), DIGITS) for value in vector] for vector in vectors]
    record = {"sentences": SENTENCES, "vectors": rows}
    target.write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
