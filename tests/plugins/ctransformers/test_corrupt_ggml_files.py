"""Damaged files: each ends in a refusal, or in text where it still is a model; none in a death."""

import random
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral_ctransformers.layouts import LAYOUTS

MUTATIONS = 300
ODD = (0, 1, 2, 3, 7, 31, 64, 127, 128, 255, 256, 1000, 2002, 65536, 1 << 20, 0x3F800000,
       0x7FFFFFFF, -1, -2, -0x80000000)  # fmt: skip


def put(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + struct.pack("<i", value) + data[at + 4 :]


# What the library does of itself is in the fourth column, where a test machine may bear to see it.
TABLE = [
    ("another magic", lambda data: b"GGML" + data[4:], "begins with b'GGML'", "refused"),
    ("a GGUF's magic", lambda data: b"GGUF" + data[4:], "begins with b'GGUF'", None),
    ("another n_vocab", lambda data: put(data, 4, 258), "counts 257 tokens", "refused"),
    ("a wild n_ctx", lambda data: put(data, 8, 1 << 30), "n_ctx is 1073741824", "died"),
    ("a negative n_ctx", lambda data: put(data, 8, -1), "n_ctx is -1", None),
    ("a wild n_embd", lambda data: put(data, 12, 1 << 28), "n_embd is 268435456", "died"),
    ("no heads", lambda data: put(data, 16, 0), "n_head is 0", "died"),
    ("one head", lambda data: put(data, 16, 1), "n_head is 1 ", "died"),
    ("wild heads", lambda data: put(data, 16, 1 << 20), "n_head is 1048576", None),
    ("wild layers", lambda data: put(data, 20, 1 << 24), "n_layer is 16777216", "died"),
    ("a wild ftype", lambda data: put(data, 24, 77), "ftype is 77", "died"),
    ("a wild token", lambda data: put(data, 32, 0x7FFFFFFF), "a token of 2147483647", None),
    ("a negative token", lambda data: put(data, 32, -1), "a token of -1 bytes", None),
    ("cut in the head", lambda data: data[:20], "are left", None),
    ("cut in the vocabulary", lambda data: data[:700], "are left", None),
    ("cut in the weights", lambda data: data[:100_000], "are left", "text"),
    ("cut by a byte", lambda data: data[:-1], "are left", "text"),
    ("more at the end", lambda data: data + b"\0" * 7, "are left", "text"),
    ("empty", lambda _: b"", "are left", None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words", "bare"), [case[1:] for case in TABLE], ids=[case[0] for case in TABLE]
)
def test_a_damaged_file_is_refused_with_its_reason(  # noqa: PLR0913, PLR0917 (fixtures and parameters)
    change: Callable[[bytes], bytes],
    words: str,
    bare: str | None,
    gpt2: Path,
    written: Callable[..., Path],
    load_apart: Callable[..., Any],
) -> None:
    path = written("gpt2", change(gpt2.read_bytes()))
    fate = load_apart(path, "gpt2")
    assert (fate.outcome, words in fate.words) == ("refused", True), fate
    if bare:
        assert load_apart(path, "gpt2", walk=False).outcome == bare


def test_other_weights_are_another_model(
    gpt2: Path, written: Callable[..., Path], load_apart: Callable[..., Any]
) -> None:
    data = bytearray(gpt2.read_bytes())
    data[200_000:200_064] = bytes(range(64))
    assert load_apart(written("gpt2", bytes(data)), "gpt2").outcome == "text"
    data[3_000:] = data[3_000:3_100] + b"\xff" * (len(data) - 3_100)
    assert load_apart(written("gpt2", bytes(data)), "gpt2").outcome == "refused"


def mutated(made: Any, chooser: random.Random) -> tuple[str, bytes]:
    """Change something somewhere; heads, which say more, more often."""
    data = bytearray(made.data)
    kind = chooser.choice(
        ["head", "head", "vocabulary", "tensor", "tensor", "weights", "cut", "less", "more"]
    )
    vocabulary, tensors = made.places["vocabulary"], made.places["tensors"]
    match kind:
        case "head":
            if chooser.random() < 0.6:
                struct.pack_into(
                    "<i", data, chooser.randrange(0, vocabulary, 4), chooser.choice(ODD)
                )
            else:
                data[chooser.randrange(vocabulary)] ^= 1 << chooser.randrange(8)
        case "vocabulary":
            data[chooser.randrange(vocabulary, tensors)] = chooser.randrange(256)
        case "tensor":
            start, end = chooser.choice(made.heads)
            place = chooser.randrange(start, end)
            if chooser.random() < 0.5:
                data[place] = chooser.randrange(256)
            else:
                struct.pack_into("<i", data, min(place, len(data) - 4), chooser.choice(ODD))
        case "weights":
            place = chooser.randrange(*chooser.choice(made.weights))
            data[place] = chooser.randrange(256)
        case "cut":
            del data[chooser.randrange(len(data)) :]
        case "less":
            place = chooser.randrange(len(data))
            del data[place : place + chooser.choice((1, 4, 8, 32, 100))]
        case "more":
            place = chooser.randrange(len(data))
            data[place:place] = chooser.randbytes(chooser.choice((1, 4, 8, 32)))
    return kind, bytes(data)


def test_random_damage_kills_no_worker_and_hangs_none(
    make: Callable[..., Any], tmp_path: Path, load_apart: Callable[..., Any]
) -> None:
    chooser = random.Random(20231)
    files = [(name, make(name)) for name in LAYOUTS]
    files += [(n, make(n, ftype=2 if n in ("llama", "falcon") else 2002)) for n in LAYOUTS]
    files += [("llama", make("llama", magic=b"fmgg")), ("llama", make("llama", version=1))]
    path = tmp_path / "damaged.bin"
    fates: Counter[tuple[str, str]] = Counter()
    for number in range(MUTATIONS):
        name, made = chooser.choice(files)
        kind, data = mutated(made, chooser)
        path.write_bytes(data)
        fate = load_apart(path, name)
        assert fate.outcome in ("refused", "text"), (number, name, kind, fate)
        fates[kind, fate.outcome] += 1
    assert fates["weights", "refused"] == 0
    assert fates["cut", "text"] == fates["less", "text"] == fates["more", "text"] == 0
    assert fates["weights", "text"] > 10
    assert fates["head", "refused"] > 10
