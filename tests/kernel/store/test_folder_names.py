"""Names of files in folders: whatever a client sends, nothing leads out or means two files."""

import os
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from corral_kernel.errors import InvalidRequestError
from corral_kernel.foldernames import (
    MAX_DEPTH,
    MAX_FILES,
    MAX_NAME_BYTES,
    check_folder_names,
    is_encoder,
    is_generator,
)

USUAL = [
    "genai_config.json",
    "model.onnx",
    "model.onnx.data",
    "onnx/model_quantized.onnx",
    "1_Pooling/config.json",
    "tokenizer_config.json",
    ".gitattributes",
    "a b/ünïcode - 文件.txt",
    "console.log",
    "com10.txt",
    "nullable.json",
]


def test_the_names_of_usual_models_pass() -> None:
    check_folder_names(USUAL)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["../x"], "is no relative path"),
        (["a/../../x"], "is no relative path"),
        (["/etc/passwd"], "is no relative path"),
        (["a//b"], "is no relative path"),
        (["a/"], "is no relative path"),
        (["./a"], "is no relative path"),
        ([""], "is no relative path"),
        ([".."], "is no relative path"),
        (["a\0b"], "cannot be printed"),
        (["a\nb"], "cannot be printed"),
        (["a\u202egnp.exe"], "cannot be printed"),
        (["a\ud800"], "cannot be printed"),
        (["a\\b"], "some systems do not take"),
        (["C:/x"], "holds ':'"),
        (["a:stream"], "holds ':'"),
        (["what?"], "holds '?'"),
        (["nul"], "a device on Windows"),
        (["a/CON.json"], "a device on Windows"),
        (["com¹.txt"], "a device on Windows"),
        (["lpt1"], "a device on Windows"),
        (["a."], "ends with a blank or a dot"),
        (["a /b"], "ends with a blank or a dot"),
        ([" a"], "begins with a blank"),
        (["x" * 201], "has a part of over 200 bytes"),
        (["é" * 101], "has a part of over 200 bytes"),
        (["/".join(["abcdefgh"] * 60)], "is too long"),
        (["/".join(["a"] * (MAX_DEPTH + 1))], "is too long"),
        (["A", "a"], "are the same to some systems"),
        (["straße", "STRASSE"], "are the same to some systems"),
        (["\u00e9", "e\u0301"], "are the same to some systems"),
        (["a", "a"], "are the same to some systems"),
        (["x/A", "X/a"], "are the same to some systems"),
        (["a", "a/b"], "is also the folder of"),
        (["a/b/c", "A"], "is also the folder of"),
        ([str(number) for number in range(MAX_FILES + 1)], "1001 files are too many"),
    ],
)
def test_a_hostile_name_is_refused_with_its_reason(names: list[str], message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        check_folder_names(names)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


PARTS = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        ["", ".", "..", "a", "A", "con", "Nul.txt", "a.", "ﬁ", "fi", "…", "\u212a", "k"]
    ),
)
NAMES = st.lists(st.lists(PARTS, max_size=4).map("/".join), max_size=5)


@given(NAMES)
@example(["\u2024\u2024/x"])  # dots to those who normalize
@example(["\uff0fetc/passwd"])  # a slash to them
@example(["K", "\u212a"])
def test_whatever_passes_lies_inside_the_folder_and_apart(names: list[str]) -> None:
    try:
        check_folder_names(names)
    except InvalidRequestError:
        return
    assert len({name.casefold() for name in names}) == len(names)
    for name in names:
        path = PurePosixPath(name)
        assert str(path) == name
        assert not path.is_absolute()
        assert ".." not in path.parts
        assert len(os.fsencode(name)) <= MAX_NAME_BYTES
        windows = PureWindowsPath(name)
        assert windows.parts == path.parts
        assert not windows.drive
        stems = {part.partition(".")[0].upper() for part in path.parts}
        assert not stems & {"CON", "PRN", "AUX", "NUL", "COM1", "LPT9"}


@given(NAMES)
def test_whatever_passes_can_be_laid_out(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    try:
        check_folder_names(names)
    except InvalidRequestError:
        return
    folder = tmp_path_factory.mktemp("folder")
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("x") as file:
            file.write(name)
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert found == set(names)


@pytest.mark.parametrize(
    ("names", "generator", "encoder"),
    [
        (["genai_config.json", "model.onnx"], True, False),
        (["a/genai_config.json"], False, False),
        (["model.onnx", "tokenizer.json"], False, True),
        (["onnx/model.onnx", "onnx/model_q4.onnx", "tokenizer.json"], False, True),
        (["model_int8.onnx", "tokenizer.json"], False, True),
        (["a.onnx", "b.onnx", "tokenizer.json"], False, False),
        (["model.onnx"], False, False),
        (["tokenizer.json", "model.safetensors"], False, False),
    ],
)
def test_names_tell_what_a_folder_is(names: list[str], generator: bool, encoder: bool) -> None:  # noqa: FBT001 - a row of a table
    assert is_generator(names) is generator
    assert is_encoder(names) is encoder


def test_a_name_of_the_models_folder_passes() -> None:
    folder = Path(__file__).parents[2] / "models" / "tiny-chat-onnx"
    check_folder_names([path.name for path in folder.iterdir()])
