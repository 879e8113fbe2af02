"""`corral quantize`: what is sent, what is shown."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

WEIGHTS = (Path(__file__).parents[1] / "models" / "tiny-chat-f32.gguf").read_bytes()
MATRIX = b"GGUF matrix"
STEPS = [
    {"status": "quantizing F16 model to Q4_K_M", "digest": "0" * 19, "total": 9, "completed": done}
    for done in (0, 4, 9)
]
DONE = [{"status": "verifying conversion"}, {"status": "writing manifest"}, {"status": "success"}]


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def makes(scripted: Any, answer: Any) -> Any:
    """A server that takes blobs and makes models."""
    for data in (WEIGHTS, MATRIX):
        scripted.on("POST", f"/api/blobs/{digest_of(data)}", answer(status=201))
    scripted.on("POST", "/api/create", answer(lines=[*STEPS, *DONE]))
    return scripted


def test_a_model_is_made_of_another(makes: Any, corral: Any) -> None:
    result = corral("quantize", "big", "q4_K_M", "small")
    assert (result.status, result.out) == (0, "")
    assert result.err.splitlines() == [
        "quantizing F16 model to Q4_K_M",
        "verifying conversion",
        "writing manifest",
        "success",
    ]
    assert makes.bodies("/api/create") == [
        {"model": "small", "quantize": "q4_K_M", "from": "big", "stream": True}
    ]


def test_a_folder_that_is_named_as_the_model_is_none_of_it(
    makes: Any, corral: Any, tmp_path: Path
) -> None:
    (tmp_path / "big").mkdir()
    assert corral("quantize", "big", "Q8_0", "small", cwd=tmp_path).status == 0
    assert makes.bodies("/api/create")[0]["from"] == "big"


def test_a_file_is_sent_and_an_importance_matrix_too(
    makes: Any, corral: Any, tmp_path: Path
) -> None:
    (tmp_path / "big.gguf").write_bytes(WEIGHTS)
    (tmp_path / "matrix.gguf").write_bytes(MATRIX)
    flags = ("--imatrix", "matrix.gguf")
    result = corral("quantize", "./big.gguf", "IQ2_XS", "small", *flags, cwd=tmp_path)
    assert result.status == 0, result.err
    assert makes.bodies("/api/create") == [
        {
            "model": "small",
            "quantize": "IQ2_XS",
            "files": {"big.gguf": digest_of(WEIGHTS)},
            "imatrix": digest_of(MATRIX),
            "stream": True,
        }
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "accepts 3 arg(s), received 0"),
        (["--list", "big"], "accepts 0 arg(s), received 1"),
        (["big"], "accepts 3 arg(s), received 1"),
        (["big", "q8_0", "new", "more"], "accepts at most 3 arg(s), received 4"),
        (["big", "q8_0", "new/"], "invalid model name: new/"),
        (["./none.gguf", "q8_0", "new"], "FROM ./none.gguf: no such file or directory"),
        (["big", "q8_0", "new", "--imatrix", "none"], "none: No such file or directory"),
    ],
)
def test_a_command_that_cannot_be_done_sends_nothing(
    corral: Any, words: list[str], message: str
) -> None:
    result = corral("quantize", *words)
    assert result.status == 1
    assert result.err.startswith("Error: ")
    assert result.err.endswith(f"{message}\n")
    assert corral.server.received == []


def test_why_it_cannot_be_done_is_the_server_s_to_say(makes: Any, corral: Any, answer: Any) -> None:
    words = "quantization is only supported for F16, BF16 and F32 models"
    makes.on("POST", "/api/create", answer({"error": words}, 500))
    result = corral("quantize", "small", "q4_0", "smaller")
    assert result.status == 1
    assert result.err == f"Error: 500 Internal Server Error: {words}\n"


TYPES: dict[str, Any] = {
    "types": [
        {
            "name": "IQ2_XS",
            "bits_per_weight": 2.31,
            "docs": "the smallest that makes sense",
            "imatrix": "needs",
            "quantizers": [{"name": "llama"}, {"name": "numpy"}, {"name": "no", "install": "x"}],
        },
        {
            "name": "Q8_0",
            "bits_per_weight": 8.5,
            "docs": "no loss",
            "imatrix": "none",
            "quantizers": [{"name": "ggml", "install": "corral[convert]"}],
        },
    ]
}


def test_the_types_are_a_table(scripted: Any, corral: Any, answer: Any) -> None:
    scripted.on("GET", "/api/quantizers", answer(TYPES))
    result = corral("quantize", "--list")
    assert (result.status, result.err) == (0, "")
    assert [line.rstrip() for line in result.out.splitlines()] == [
        "NAME      BITS    IMATRIX    QUANTIZERS      DESCRIPTION",
        "IQ2_XS    2.31    needs      llama, numpy    the smallest that makes sense",
        "Q8_0      8.5     -          ggml            needs pip install 'corral[convert]': no loss",
    ]
    scripted.on("GET", "/api/quantizers", answer({"types": None}))
    assert corral("quantize", "--list").out.splitlines()[1:] == []
