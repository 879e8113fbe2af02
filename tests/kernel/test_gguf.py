import math
import random
import resource
import struct
import time
from pathlib import Path
from typing import Any

import gguf
import pytest

from corral_kernel.errors import InvalidModelError, NotGgufError
from corral_kernel.gguf import (
    FILE_TYPES,
    GGML_TYPES,
    GgufHeader,
    ValueType,
    read_header,
    read_value,
)

MODELS = Path(__file__).parents[1] / "models"
FILES = sorted(MODELS.glob("*.gguf"))
U32, STRING, ARRAY, F32, I32 = 4, 8, 9, 6, 5


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def pair(key: str, kind: int, raw: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + raw


def named(architecture: str = "llama") -> bytes:
    return pair("general.architecture", STRING, text(architecture))


def number(key: str, value: int) -> bytes:
    return pair(key, U32, struct.pack("<I", value))


def array(key: str, item_type: int, count: int, raw: bytes) -> bytes:
    return pair(key, ARRAY, struct.pack("<IQ", item_type, count) + raw)


def tensor(name: str, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + dimensions + struct.pack("<IQ", kind, offset)


def file_of(
    pairs: list[bytes] | None = None, tensors: list[bytes] | None = None, data: bytes = b""
) -> bytes:
    pairs, tensors = [named()] if pairs is None else pairs, tensors or []
    counts = struct.pack("<IQQ", 3, len(tensors), len(pairs))
    head = b"GGUF" + counts + b"".join(pairs) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + data


def read(tmp_path: Path, raw: bytes) -> GgufHeader:
    path = tmp_path / "file.gguf"
    path.write_bytes(raw)
    return read_header(path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_real_files_read_as_the_reference_reader_reads_them(path: Path) -> None:
    ours, theirs = read_header(path), gguf.GGUFReader(path)
    keys = [key for key in theirs.fields if not key.startswith("GGUF.")]
    assert list(ours.metadata) == keys
    for key in keys:
        field = theirs.fields[key]
        value = ours.metadata[key]
        assert value.type == field.types[0]
        assert read_value(path, value) == field.contents()
        if value.type is ValueType.ARRAY:
            assert value.count == len(field.contents())
    for mine, tensor_ in zip(ours.tensors, theirs.tensors, strict=True):
        assert mine.name == tensor_.name
        assert list(mine.shape) == tensor_.shape.tolist()
        assert mine.type == tensor_.tensor_type
        assert mine.size_bytes == tensor_.n_bytes
        assert ours.data_offset + mine.offset == tensor_.data_offset


def test_every_tensor_type_of_the_reference_is_known() -> None:
    reference = {int(kind): (kind.name, *sizes) for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
    reference[42] = ("Q2_0", 64, 18)  # which the package of that release lacks
    assert {code: tuple(kind) for code, kind in GGML_TYPES.items()} == reference


def test_every_file_type_of_the_reference_is_known() -> None:
    # Marks that the type was guessed, and types that llama.cpp has given up.
    ignored = {gguf.LlamaFileType.GUESSED}
    codes = {int(kind) for kind in gguf.LlamaFileType if kind not in ignored}
    assert codes | {41} == set(FILE_TYPES)  # Q2_0, which the package of that release lacks


def test_the_facts_of_a_chat_model() -> None:
    header = read_header(MODELS / "tiny-chat-f32.gguf")
    assert (header.architecture, header.kind, header.is_projector) == ("llama", "model", False)
    assert (header.context_length, header.embedding_length, header.block_count) == (256, 64, 2)
    assert (header.head_counts, header.kv_head_counts) == ((4, 4), (2, 2))
    assert (header.key_length, header.value_length) == (16, 16)
    assert (header.file_type, header.file_type_name) == (0, "F32")
    assert header.parameter_count == 90624
    assert header.tensor_bytes == 4 * 90624
    assert (header.vocabulary_size, header.tokenizer_model) == (259, "gpt2")
    assert (header.special_token("bos"), header.special_token("eos")) == (256, 258)
    assert (header.adds_bos, header.adds_eos) == (False, None)
    assert header.pooling_type is None
    assert header.chat_template is not None
    assert "<|im_start|>" in header.chat_template


def test_an_adapter_tells_that_it_is_one() -> None:
    assert read_header(MODELS / "lora-zorblax-f16.gguf").kind == "adapter"


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([named("clip"), number("clip.vision.block_count", 2)], True),
        ([named("llama"), pair("general.type", STRING, text("mmproj"))], True),
        ([named("clip"), pair("clip.has_audio_encoder", 7, b"\1")], True),
        ([named("x"), number("x.vision.block_count", 2), number("x.block_count", 2)], False),
        ([named("llama"), number("llama.block_count", 2)], False),
    ],
)
def test_projectors_are_told_from_models(
    tmp_path: Path, pairs: list[bytes], *, expected: bool
) -> None:
    assert read(tmp_path, file_of(pairs)).is_projector is expected


def test_version_2_reads_like_version_3(tmp_path: Path) -> None:
    raw = bytearray((MODELS / "tiny-chat-f32.gguf").read_bytes())
    raw[4] = 2
    header = read(tmp_path, bytes(raw))
    assert header.version == 2
    assert header.parameter_count == 90624


def test_values_of_all_types_are_read(tmp_path: Path) -> None:
    forms = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 10: "Q", 11: "q", 12: "d"}
    pairs = [pair(f"k{kind}", kind, struct.pack(f"<{form}", 77)) for kind, form in forms.items()]
    pairs += [pair("k7", 7, b"\1"), pair("k8", STRING, text("grün"))]
    header = read(tmp_path, file_of(pairs))
    expected: dict[str, Any] = {f"k{kind}": 77 for kind in forms}
    assert {key: header.get(key) for key in header.metadata} == expected | {
        "k7": True,
        "k8": "grün",
    }


def test_long_arrays_and_texts_are_skipped_until_asked_for(tmp_path: Path) -> None:
    long_text = "x" * (2 << 20)
    numbers = list(range(5000))
    pairs = [
        pair("long", STRING, text(long_text)),
        array("numbers", I32, 5000, struct.pack("<5000i", *numbers)),
        array("bytes", 0, 3, b"\1\2\3"),
        array("words", STRING, 2, text("a") + text("b")),
        named(),
    ]
    header = read(tmp_path, file_of(pairs))
    path = tmp_path / "file.gguf"
    assert header.get("long") is None
    assert header.get("numbers") is None
    assert header.get("bytes") == (1, 2, 3)
    assert read_value(path, header.metadata["long"]) == long_text
    assert read_value(path, header.metadata["numbers"]) == numbers
    assert read_value(path, header.metadata["bytes"]) == b"\1\2\3"
    assert read_value(path, header.metadata["words"]) == ["a", "b"]
    assert header.architecture == "llama"


def test_a_model_without_attention_has_no_heads(tmp_path: Path) -> None:
    head = [named("mamba"), number("mamba.block_count", 2), number("mamba.attention.head_count", 0)]
    header = read(tmp_path, file_of([*head, number("mamba.embedding_length", 64)]))
    assert (header.head_counts, header.kv_head_counts, header.key_length) == ((0, 0), (0, 0), None)


def test_a_large_vocabulary_is_skipped_in_milliseconds(tmp_path: Path) -> None:
    count = 262_144
    words = b"".join(text(f"token{i}") for i in range(count))
    raw = file_of([named(), array("tokenizer.ggml.tokens", STRING, count, words)])
    path = tmp_path / "file.gguf"
    path.write_bytes(raw)
    best = math.inf
    for _ in range(3):
        start = time.process_time()
        header = read_header(path)
        best = min(best, time.process_time() - start)
    assert header.vocabulary_size == count
    assert best < 0.25  # some 20 ms on a quiet machine


def scalar_head(size: int) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<IQ", STRING, size)


HUGE = (1 << 63) + 5
DAMAGED: dict[str, tuple[bytes, str]] = {
    "tensor count": (b"GGUF" + struct.pack("<IQQ", 3, HUGE, 0) + bytes(64), "claims .* tensors"),
    "key count": (b"GGUF" + struct.pack("<IQQ", 3, 0, HUGE) + bytes(64), "claims .* metadata keys"),
    "no counts": (b"GGUF" + struct.pack("<I", 3), "truncated"),
    "version 1": (b"GGUF" + struct.pack("<III", 1, 0, 0), "GGUF version 1;"),
    "version 99": (b"GGUF" + struct.pack("<IQQ", 99, 0, 0), "GGUF version 99;"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "text size": (scalar_head(HUGE), "truncated"),
    "text size in reach": (scalar_head(200 << 20), "truncated"),
    "key size": (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, HUGE) + bytes(64), "metadata key of"),
    "empty key": (file_of([pair("", U32, bytes(4))]), "metadata key of 0 bytes"),
    "key no text": (file_of([text(b"\xff\xfe") + struct.pack("<II", U32, 1)]), "no UTF-8"),
    "value type": (file_of([pair("k", 13, bytes(8))]), "unknown type 13"),
    "array of arrays": (file_of([array("k", ARRAY, 1, bytes(32))]), "array of type 9"),
    "array item type": (file_of([array("k", 99, 1, bytes(32))]), "array of type 99"),
    "array count": (file_of([array("k", U32, HUGE, b"")]), "truncated"),
    "words count": (file_of([array("k", STRING, HUGE, b"")]), "claims .* texts"),
    "word size": (file_of([array("k", STRING, 1, struct.pack("<Q", HUGE))]), "truncated"),
    "key twice": (file_of([number("k", 1), number("k", 2)]), "'k' stands twice"),
    "tensor twice": (
        file_of(tensors=[tensor("t", (1,)), tensor("t", (1,))], data=bytes(64)),
        "tensor 't' stands twice",
    ),
    "dimensions": (file_of(tensors=[tensor("t", (1,) * 5)], data=bytes(64)), "5 dimensions"),
    "no dimensions": (file_of(tensors=[tensor("t", ())], data=bytes(64)), "0 dimensions"),
    "empty dimension": (file_of(tensors=[tensor("t", (4, 0))], data=bytes(64)), "impossible shape"),
    "overflowing shape": (
        file_of(tensors=[tensor("t", (1 << 32, 1 << 32))], data=bytes(64)),
        "impossible shape",
    ),
    "tensor type": (file_of(tensors=[tensor("t", (32,), 4)], data=bytes(64)), "type 4"),
    "half a block": (file_of(tensors=[tensor("t", (31,), 2)], data=bytes(64)), "multiples of 32"),
    "unaligned": (file_of(tensors=[tensor("t", (1,), 0, 8)], data=bytes(64)), "no multiple of 32"),
    "beyond the end": (
        file_of(tensors=[tensor("t", (17,))], data=bytes(64)),
        "4 bytes beyond the end",
    ),
    "far away": (
        file_of(tensors=[tensor("t", (1,), 0, 1 << 62)], data=bytes(64)),
        "beyond the end",
    ),
    "alignment": (file_of([number("general.alignment", 24)]), "no power of two"),
    "zero alignment": (file_of([number("general.alignment", 0)]), "general.alignment is 0"),
    "architecture": (file_of([number("general.architecture", 1)]), "uint32, not a text"),
    "no layers": (file_of([named(), number("llama.block_count", 0)]), "block_count' is 0"),
    "many layers": (
        file_of([named(), number("llama.block_count", 1 << 31)]),
        "block_count' is 2147483648",
    ),
    "no width": (file_of([named(), number("llama.embedding_length", 0)]), "embedding_length' is 0"),
    "many heads": (
        file_of([named(), number("llama.attention.head_count", 1 << 20)]),
        "head_count' is 1048576",
    ),
    "more experts used than there are": (
        file_of([named(), number("llama.expert_count", 4), number("llama.expert_used_count", 5)]),
        "5 of 4 experts",
    ),
    "no experts used": (file_of([named(), number("llama.expert_count", 4)]), "0 of 4 experts"),
    "heads are text": (
        file_of([named(), pair("llama.attention.head_count", STRING, text("4"))]),
        "string, not an integer",
    ),
    "heads of other layers": (
        file_of(
            [
                named(),
                number("llama.block_count", 3),
                array("llama.attention.head_count", U32, 2, bytes(8)),
            ]
        ),
        "2 numbers for 3 layers",
    ),
    "scores": (
        file_of(
            [
                array("tokenizer.ggml.tokens", STRING, 2, text("a") + text("b")),
                array("tokenizer.ggml.scores", F32, 1, bytes(4)),
            ]
        ),
        "1 items for 2 tokens",
    ),
    "types of no numbers": (
        file_of([array("tokenizer.ggml.token_type", STRING, 1, text("a"))]),
        "an array of string, not an array of int32 or uint32",
    ),
    "tokens no array": (file_of([number("tokenizer.ggml.tokens", 2)]), "uint32, not an array"),
}


@pytest.mark.parametrize(("raw", "message"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_head_is_refused_with_the_reason(
    tmp_path: Path, raw: bytes, message: str
) -> None:
    with pytest.raises(InvalidModelError, match=message):
        read(tmp_path, raw)


@pytest.mark.parametrize("raw", [b"", b"GGU", b"ggml" + bytes(60), b"\x7fELF" + bytes(60)])
def test_other_files_are_told_apart(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(NotGgufError, match=r"^invalid file magic$"):
        read(tmp_path, raw)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    raw = (MODELS / "tiny-chat-f32.gguf").read_bytes()
    data_offset = read_header(MODELS / "tiny-chat-f32.gguf").data_offset
    cuts = [*range(0, data_offset, 37), data_offset, data_offset + 1, len(raw) - 1]
    for cut in cuts:
        with pytest.raises(InvalidModelError):
            read(tmp_path, raw[:cut])


def test_random_damage_never_breaks_the_reader(tmp_path: Path) -> None:
    raw = (MODELS / "gpt2byte-f16.gguf").read_bytes()
    head_bytes = read_header(MODELS / "gpt2byte-f16.gguf").data_offset
    rng = random.Random(7)
    refused = 0
    for _ in range(300):
        damaged = bytearray(raw)
        for _ in range(rng.randint(1, 8)):
            at = rng.randrange(4, head_bytes)
            damaged[at : at + 8] = rng.randbytes(8)
        try:
            header = read(tmp_path, bytes(damaged))
        except InvalidModelError:
            refused += 1
        else:
            assert header.parameter_count > 0
    assert refused > 100


def test_a_vast_sparse_file_costs_neither_time_nor_memory(tmp_path: Path) -> None:
    path = tmp_path / "sparse.gguf"
    count = 1 << 40
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<II", ARRAY, STRING)
    path.write_bytes(head + struct.pack("<Q", count))
    with path.open("r+b") as stream:
        stream.truncate(1 << 43)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    with pytest.raises(InvalidModelError):
        read_header(path)
    assert time.process_time() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
