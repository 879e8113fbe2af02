"""Quantizing while a model is created; the tests do the work that a task process would."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral_kernel.contracts import (
    MadeFile,
)
from corral_kernel.errors import (
    InvalidRequestError,
    StoreError,
    TaskError,
    UnsupportedError,
)
from corral_kernel.store.steps import Progress
from corral_kernel.tasks.messages import AnyTask, Quantize

Work = Callable[[AnyTask], tuple[MadeFile, ...]]


# ---------------------------------------------------------------------------------- quantizing


@pytest.fixture
def base(make: Any, upload: Any, wide: Path) -> str:
    make("base", files={"wide.gguf": upload(wide.read_bytes())}, system="Be brief.")
    return "base"


def test_a_model_is_quantized(
    make: Any, smaller: Any, base: str, wide: Path, tmp_path: Path
) -> None:
    made = quantized(wide, tmp_path / "q8.gguf", 7)

    def work(task: AnyTask) -> tuple[MadeFile, ...]:
        assert isinstance(task, Quantize)
        assert (task.type_name, task.imatrix) == ("Q8_0", "")
        (source,) = task.files
        assert Path(source.path).read_bytes() == wide.read_bytes()
        return make.copy_of(made)(task)

    told = make("m", work, base=base, quantize="q8_0")
    total = wide.stat().st_size
    assert told[0] == Progress(
        "quantizing F16 model to Q8_0", "0000000000000000000", total, total // 2
    )
    assert told[1].status == "verifying conversion"
    described = smaller.source
    assert (described.file_type, described.architecture) == ("F16", "llama")
    model = make.opened("m")
    assert (model.config.file_type, model.quantization_level) == ("Q8_0", "Q8_0")
    assert model.weights is not None
    assert model.weights.path.read_bytes() == made.read_bytes()
    assert model.system == "Be brief."
    assert make.opened("base").quantization_level == "F16"


def quantized(source: Path, target: Path, file_type: int) -> Path:
    """Only in name, which is what the store looks at."""
    raw = source.read_bytes()
    at = raw.index(b"general.file_type") + len(b"general.file_type") + 4
    target.write_bytes(raw[:at] + file_type.to_bytes(4, "little") + raw[at + 4 :])
    return target


def test_a_model_that_is_of_that_type_is_left_as_it_is(make: Any, base: str) -> None:
    make("m", base=base, quantize="f16")
    assert make.opened("m").files == tuple(
        file for file in make.opened("m").files if file.inherited_from == "base:latest"
    )


def test_short_names_of_types_are_known(make: Any, base: str, wide: Path) -> None:
    def work(task: AnyTask) -> tuple[MadeFile, ...]:
        assert isinstance(task, Quantize)
        assert task.type_name == "Q4_K_M"
        return make.copy_of(wide)(task)

    make("m", work, base=base, quantize="q4_k")


REFUSED = {
    "an unknown type": (
        {"quantize": "Q9_Z"},
        TaskError,
        "^unsupported quantization type Q9_Z - supported types are IQ1_S, INT4, Q4_K_M, Q8_0, F16$",
    ),
    "a matrix for nothing": (
        {"imatrix": "sha256:" + "0" * 64},
        InvalidRequestError,
        "'imatrix' is without 'quantize'",
    ),
    "a matrix that is no digest": (
        {"imatrix": "x", "quantize": "Q4_K_M"},
        InvalidRequestError,
        "digest",
    ),
    "a matrix that is not here": (
        {"imatrix": "sha256:" + "0" * 64, "quantize": "Q4_K_M"},
        StoreError,
        "no such file",
    ),
    "a type that needs a matrix": (
        {"quantize": "IQ1_S"},
        UnsupportedError,
        r"IQ1_S needs an importance matrix: send the digest of one as 'imatrix' \(--imatrix FILE\)",
    ),
    "a type that takes none": (
        {"imatrix": "sha256:" + "0" * 64, "quantize": "Q8_0"},
        UnsupportedError,
        "Q8_0 takes no importance matrix",
    ),
    "a type of other formats": (
        {"quantize": "INT4"},
        UnsupportedError,
        "a model of format gguf cannot be made into INT4; possible are: IQ1_S, Q4_K_M, Q8_0, F16",
    ),
    "a draft without drafts": (
        {"draft_quantize": "Q8_0"},
        InvalidRequestError,
        "^--draft-quantize requires a DRAFT model$",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_quantized_is_refused_and_changes_nothing(
    make: Any, base: str, case: str
) -> None:
    fields, kind, words = REFUSED[case]
    before = make.listed()
    with pytest.raises(kind, match=words):
        make("m", base=base, **fields)
    assert make.listed() == before


def test_what_is_quantized_already_is_not_quantized_again(
    make: Any, upload: Any, wide: Path, tmp_path: Path
) -> None:
    made = quantized(wide, tmp_path / "q4.gguf", 2)
    digest = upload(made.read_bytes())
    before = make.listed()
    with pytest.raises(
        TaskError, match=r"^quantization is only supported for F16, BF16 and F32 models$"
    ):
        make("m", files={"m.gguf": digest}, quantize="q8_0")
    with pytest.raises(TaskError, match="requires an unquantized draft model, got Q4_0"):
        make(
            "m",
            files={"m.gguf": upload(wide.read_bytes())},
            draft_files={"d.gguf": digest},
            draft_quantize="q8_0",
        )
    assert make.listed() - before == {f"blobs/sha256-{digest_of(wide)}"}


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_drafts_are_quantized_by_their_own_type(
    make: Any, base: str, wide: Path, tmp_path: Path
) -> None:
    made = quantized(wide, tmp_path / "q8.gguf", 7)
    draft = {"d.gguf": make.upload(wide.read_bytes())}
    make("m", make.copy_of(made), base=base, draft_files=draft, draft_quantize="q8_0")
    model = make.opened("m")
    assert model.quantization_level == "F16"
    (found,) = model.drafts
    assert found.path.read_bytes() == made.read_bytes()


def test_an_importance_matrix_goes_to_the_quantizer(
    make: Any, base: str, upload: Any, wide: Path
) -> None:
    matrix = upload(b"a matrix")

    def work(task: AnyTask) -> tuple[MadeFile, ...]:
        assert isinstance(task, Quantize)
        assert Path(task.imatrix).read_bytes() == b"a matrix"
        return make.copy_of(wide)(task)

    make("m", work, base=base, quantize="iq1_s", imatrix=matrix)


def test_a_folder_is_quantized_to_another_folder(make: Any, smaller: Any, upload: Any) -> None:
    config = b'{"model": {"type": "gemma", "decoder": {"filename": "model.onnx"}}}'
    uploaded = {"genai_config.json": upload(config), "model.onnx": upload(b"graph")}
    make("folder", files=uploaded)

    def work(task: AnyTask) -> tuple[MadeFile, ...]:
        assert sorted(file.name for file in task.files) == sorted(uploaded)
        out = Path(task.folder)
        (out / "genai_config.json").write_bytes(config)
        (out / "model.onnx").write_bytes(b"small")
        (out / "model.onnx.data").write_bytes(b"data")
        names = ("model.onnx", "genai_config.json", "model.onnx.data")
        return tuple(MadeFile(name=name, role="file") for name in names)

    make("m", work, base="folder", quantize="int4")
    model = make.opened("m")
    assert {file.name: file.path.read_bytes() for file in model.folder_files} == {
        "genai_config.json": config,
        "model.onnx": b"small",
        "model.onnx.data": b"data",
    }
    assert (model.format, model.quantization_level) == ("onnx", "INT4")
    assert smaller.source.documents["genai_config.json"]["model"]["type"] == "gemma"
    with pytest.raises(TaskError, match="quantization is only supported"):
        make("n", base="m", quantize="q8_0")


def test_a_model_on_another_server_is_not_quantized_here(make: Any) -> None:
    with pytest.raises(UnsupportedError, match="cannot be quantized here"):
        make("m", base="b", remote_host="https://example.org", quantize="q8_0")
