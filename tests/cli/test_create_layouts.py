"""Which files a Modelfile names: what is looked for in folders, and what each is sent as."""

import os
import struct
from pathlib import Path
from typing import Any

import pytest

from corral_cli.errors import CommandError
from corral_cli.modelfiles import Files, gather
from corral_kernel.modelfile import parse

ZIP = b"PK\x03\x04rest"
PROTOBUF = b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02"
TEXT = b'{"a": "\xc3\xb6"}\n'
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
MODELS = Path(__file__).parents[1] / "models"


def safetensors() -> bytes:
    head = b'{"__metadata__":{}}'
    return struct.pack("<Q", len(head)) + head


def gguf(**metadata: str | int) -> bytes:
    """Build a GGUF file without tensors; `__` in a key stands for a dot."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    pairs = b""
    for key, value in metadata.items():
        pairs += text(key.replace("__", "."))
        if isinstance(value, int):
            pairs += struct.pack("<II", 4, value)
        else:
            pairs += struct.pack("<I", 8) + text(value)
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(metadata)) + pairs


WEIGHTS = gguf(general__architecture="llama", llama__block_count=1)
PROJECTOR = gguf(general__architecture="clip", general__type="mmproj")
LORA = gguf(general__architecture="llama", general__type="adapter")
IMATRIX = gguf(general__type="imatrix")


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def gathered(text: str, folder: Path) -> Files:
    return gather(parse(text), folder)


def weights(text: str, folder: Path) -> list[str]:
    return sorted(gathered(text, folder).weights)


def refusal(text: str, folder: Path) -> str:
    with pytest.raises(CommandError) as caught:
        gather(parse(text), folder)
    return str(caught.value)


# ------------------------------------------------------------------------------------- safetensors

SHARDS: dict[str, bytes] = {
    "model-00001-of-00002.safetensors": safetensors(),
    "model-00002-of-00002.safetensors": safetensors(),
    "model.safetensors.index.json": TEXT,
    "config.json": TEXT,
    "tokenizer.json": TEXT,
    "tokenizer.model": PROTOBUF,
    "chat_template.jinja": b"{{ messages }}",
    "vocab.txt": b"[PAD]\n",
    "merges.txt": b"#version: 0.2\n",
    "1_Pooling/config.json": TEXT,
}


def test_a_folder_of_safetensors_is_sent_with_what_describes_it(tmp_path: Path) -> None:
    beside = {
        "README.md": b"# x",
        "model.onnx": b"x",
        "x.gguf": WEIGHTS,
        "consolidated.safetensors": safetensors(),
        "pytorch_model.bin": ZIP,
        "deep/er/config.json": TEXT,
        ".hidden.json": TEXT,
        ".cache/x.json": TEXT,
    }
    write(tmp_path, SHARDS | beside)
    assert weights("FROM .", tmp_path) == sorted(SHARDS)


@pytest.mark.parametrize(
    ("files", "sent"),
    [
        (
            {"unet/model.safetensors": safetensors(), "unet/config.json": TEXT},
            ["config.json", "model.safetensors"],
        ),
        (
            {"sub/model.safetensors": safetensors(), "config.json": TEXT},
            ["config.json", "sub/model.safetensors"],
        ),
        (
            {"consolidated.00.safetensors": safetensors(), "params.json": TEXT},
            ["consolidated.00.safetensors", "params.json"],
        ),
        (
            {
                "model.safetensors": safetensors(),
                "a/tokenizer.model": PROTOBUF,
                "tokenizer.model": PROTOBUF,
            },
            ["model.safetensors", "tokenizer.model"],
        ),
        (
            {"model.safetensors": safetensors(), "a/tokenizer.model": PROTOBUF},
            ["a/tokenizer.model", "model.safetensors"],
        ),
        ({"model.safetensors": safetensors()}, ["model.safetensors"]),
    ],
    ids=["one below", "weights below", "consolidated", "vocabulary", "vocabulary below", "alone"],
)
def test_names_are_relative_to_the_folder_that_all_share(
    tmp_path: Path, files: dict[str, bytes], sent: list[str]
) -> None:
    write(tmp_path, files)
    assert weights("FROM .", tmp_path) == sent


def test_an_encoder_s_safetensors_come_before_its_graphs(tmp_path: Path) -> None:
    texts = {"config.json": TEXT, "tokenizer.json": TEXT}
    write(tmp_path, texts | {"model.safetensors": safetensors(), "onnx/model.onnx": b"graph"})
    assert weights("FROM .", tmp_path) == ["config.json", "model.safetensors", "tokenizer.json"]


def test_a_folder_of_onnx_runtime_genai_comes_before_all(tmp_path: Path) -> None:
    files = {"genai_config.json": TEXT, "model.onnx": b"x", "model.safetensors": safetensors()}
    write(tmp_path, files)
    assert weights("FROM .", tmp_path) == sorted(files)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"model.safetensors": safetensors(), "config.json": b"\x00\x01"},
            (
                "invalid content type: expected text/plain for {0}/config.json, "
                "found application/octet-stream"
            ),
        ),
        (
            {"model.safetensors": safetensors(), "tokenizer.json": b"<!DOCTYPE html><title>404"},
            "invalid content type: expected text/plain for {0}/tokenizer.json, found text/html",
        ),
        (
            {"model.safetensors": LFS, "config.json": TEXT},
            (
                "{0}/model.safetensors is no safetensors file: it is what Git LFS puts in a file's "
                "place: run 'git lfs pull' in that folder"
            ),
        ),
        ({"m.gguf": LFS}, "{0}/m.gguf is no GGUF file: it is what Git LFS puts"),
        ({"pytorch_model.bin": ZIP, "config.json": TEXT}, "{0}: PyTorch models cannot be imported"),
        ({"consolidated.00.pth": ZIP}, "{0}: PyTorch models cannot be imported"),
        ({"adapter_model.safetensors": safetensors()}, "no Modelfile or safetensors files found"),
        ({}, "no Modelfile or safetensors files found"),
    ],
    ids=[
        *("binary config", "web page", "LFS safetensors", "LFS GGUF"),
        *("PyTorch", "old PyTorch", "adapter", "empty"),
    ],
)
def test_a_folder_that_is_no_model_is_told(
    tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    write(tmp_path, {"m/x.md": b"", **{f"m/{name}": data for name, data in files.items()}})
    assert refusal("FROM ./m", tmp_path).startswith(message.format(tmp_path / "m"))


def test_a_single_safetensors_file_is_not_enough(tmp_path: Path) -> None:
    write(tmp_path, {"model.safetensors": safetensors()})
    assert "name the folder that it lies in" in refusal("FROM ./model.safetensors", tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.model"])
def test_no_link_of_a_folder_may_lead_out_of_it(tmp_path: Path, name: str) -> None:
    write(tmp_path, {f"blobs/{name}": safetensors()})
    write(tmp_path, {f"m/{key}": SHARDS[key] for key in list(SHARDS)[:4] if key != name})
    (tmp_path / "m" / name).symlink_to(f"../blobs/{name}")
    assert refusal("FROM ./m", tmp_path).startswith(f"insecure path: {name} leads to ")


# -------------------------------------------------------------------------------------------- GGUF

PARTS = [f"big-0000{number}-of-00003.gguf" for number in (1, 2, 3)]


@pytest.mark.parametrize(
    ("files", "source", "sent"),
    [
        ({"m.gguf": WEIGHTS, "x.md": b""}, ".", ["m.gguf"]),
        ({"m.gguf": WEIGHTS, "mmproj-F16.gguf": PROJECTOR}, ".", ["m.gguf", "mmproj-F16.gguf"]),
        ({"m.gguf": WEIGHTS, "lora.gguf": LORA}, ".", ["lora.gguf", "m.gguf"]),
        ({"m.gguf": WEIGHTS, "i.gguf": IMATRIX}, ".", ["m.gguf"]),
        (dict.fromkeys(PARTS, WEIGHTS), ".", PARTS),
        (
            dict.fromkeys(PARTS, WEIGHTS) | {"mmproj.gguf": PROJECTOR},
            ".",
            sorted([*PARTS, "mmproj.gguf"]),
        ),
        (dict.fromkeys([*PARTS, "other.gguf"], WEIGHTS), f"./{PARTS[0]}", PARTS),
        (dict.fromkeys(PARTS, WEIGHTS), f"./{PARTS[2]}", PARTS),
        ({"a-00002-of-00001.gguf": WEIGHTS}, ".", ["a-00002-of-00001.gguf"]),
        ({"x.bin": WEIGHTS}, "x.bin", ["x.bin"]),
        ({"m.gguf": gguf()}, ".", ["m.gguf"]),
    ],
    ids=[
        *("one", "projector", "adapter", "matrix", "parts", "parts and projector", "first part"),
        *("last part", "no part", "any name", "says nothing"),
    ],
)
def test_the_gguf_files_of_one_model_are_sent(
    tmp_path: Path, files: dict[str, bytes], source: str, sent: list[str]
) -> None:
    write(tmp_path, files)
    assert weights(f"FROM {source}", tmp_path) == sent


def test_several_froms_are_one_model(tmp_path: Path) -> None:
    write(tmp_path, {"a/m.gguf": WEIGHTS, "b/mmproj.gguf": PROJECTOR})
    text = "FROM ./a/m.gguf\nFROM ./b/mmproj.gguf\nFROM b/../a/m.gguf"
    assert weights(text, tmp_path) == ["a/m.gguf", "b/mmproj.gguf"]


@pytest.mark.parametrize(
    ("files", "source", "message"),
    [
        (
            {"b.gguf": WEIGHTS, "a.gguf": WEIGHTS},
            "./m",
            "{0} holds 2 GGUF models, name one of them: a.gguf, b.gguf",
        ),
        (
            dict.fromkeys([*PARTS, "a.gguf"], WEIGHTS),
            "./m",
            "{0} holds 2 GGUF models, name one of them: a.gguf, big-00001-of-00003.gguf",
        ),
        (
            {PARTS[0]: WEIGHTS, PARTS[2]: WEIGHTS},
            f"./m/{PARTS[0]}",
            (
                "big-00001-of-00003.gguf is one of 3 parts of a split GGUF file, and of the others "
                "1 are not in {0}: big-00002-of-00003.gguf"
            ),
        ),
        ({PARTS[1]: WEIGHTS}, "./m", "big-00002-of-00003.gguf is one of 3 parts"),
        (
            {"a.gguf": PROJECTOR, "b.gguf": LORA},
            "./m",
            "{0} holds GGUF files, and none of them is a model",
        ),
        ({"a.gguf": WEIGHTS, "b.gguf": WEIGHTS[:-1]}, "./m", "{0}/b.gguf: "),
    ],
    ids=["two", "two and parts", "missing part", "only part", "no model", "damaged"],
)
def test_gguf_files_of_no_one_model_are_told(
    tmp_path: Path, files: dict[str, bytes], source: str, message: str
) -> None:
    write(tmp_path, {f"m/{name}": data for name, data in files.items()})
    assert refusal(f"FROM {source}", tmp_path).startswith(message.format(tmp_path / "m"))


# ------------------------------------------------------------------------------ adapters and drafts


@pytest.mark.parametrize(
    ("files", "adapter", "sent"),
    [
        ({"lora.gguf": LORA}, "./lora.gguf", ["lora.gguf"]),
        ({"l/lora.gguf": LORA, "l/x.md": b""}, "./l", ["lora.gguf"]),
        (
            {"l/adapter_model.safetensors": safetensors(), "l/adapter_config.json": TEXT},
            "./l",
            ["adapter_config.json", "adapter_model.safetensors"],
        ),
        (
            {"l/adapter_model.safetensors": safetensors(), "l/adapter_config.json": TEXT},
            "./l/adapter_model.safetensors",
            ["adapter_config.json", "adapter_model.safetensors"],
        ),
        (
            {"l/model.safetensors": safetensors(), "l/adapter_config.json": TEXT},
            "./l",
            ["adapter_config.json", "model.safetensors"],
        ),
        ({"x.safetensors": safetensors()}, "./x.safetensors", ["x.safetensors"]),
    ],
    ids=["GGUF", "folder of GGUF", "PEFT", "PEFT's file", "named model", "file alone"],
)
def test_an_adapter_is_a_file_or_a_folder(
    tmp_path: Path, files: dict[str, bytes], adapter: str, sent: list[str]
) -> None:
    write(tmp_path, files)
    found = gathered(f"FROM base\nADAPTER {adapter}", tmp_path)
    assert (found.source, sorted(found.adapters)) == ("base", sent)


def test_drafts_are_files_of_their_own(tmp_path: Path) -> None:
    write(tmp_path, {"big.gguf": WEIGHTS, "small.gguf": WEIGHTS, "s/tiny.gguf": WEIGHTS})
    one = gathered("FROM ./big.gguf\nDRAFT ./small.gguf", tmp_path)
    assert (list(one.weights), list(one.drafts)) == (["big.gguf"], ["small.gguf"])
    two = gathered("FROM base\nDRAFT ./small.gguf\nDRAFT ./s", tmp_path)
    assert sorted(two.drafts) == ["s/tiny.gguf", "small.gguf"]
    assert refusal("FROM ./s/../big.gguf\nDRAFT big.gguf", tmp_path) == (
        "DRAFT must not reference the same local path as FROM: big.gguf"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM a\nADAPTER ./none", "ADAPTER ./none: no such file or directory"),
        ("FROM a\nADAPTER ./two", "{0}/two holds 2 adapters, name one of them: a.gguf, b.gguf"),
        ("FROM a\nADAPTER ./empty", "no Modelfile or safetensors files found"),
        ("FROM a\nADAPTER x.md", "{0}/x.md is no adapter: it is a text (it begins with 'x')"),
        ("FROM a\nDRAFT ./none", "DRAFT ./none: no such file or directory"),
        ("FROM a\nDRAFT x.md", "{0}/x.md is no GGUF file: it is a text"),
        ("FROM ~no-such-user/x", "failed to find user 'no-such-user'"),
    ],
)
def test_what_is_no_adapter_and_no_draft_is_told(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, {"two/a.gguf": LORA, "two/b.gguf": LORA, "empty/x": b"", "x.md": b"x"})
    assert refusal(text, tmp_path).startswith(message.format(tmp_path))


# -------------------------------------------------------------------------------------- what it is


def test_homes_and_absolute_paths_are_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write(tmp_path, {"home/m.gguf": WEIGHTS, "other/x": b""})
    for source in ("~/m.gguf", str(tmp_path / "home/m.gguf"), "../home/m.gguf", "~"):
        found = gathered(f"FROM {source}", tmp_path / "other")
        assert found.weights == {"m.gguf": tmp_path / "home/m.gguf"}


def pipe(path: Path) -> None:
    os.mkfifo(path)


def zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def memory(path: Path) -> None:
    path.symlink_to("/proc/self/mem")


@pytest.mark.parametrize("make", [pipe, zero, memory])
@pytest.mark.parametrize(
    "text", ["FROM ./x.gguf", "FROM a\nADAPTER ./x.gguf", "FROM a\nDRAFT ./x.gguf"]
)
def test_what_is_no_plain_file_is_refused_at_once(tmp_path: Path, make: Any, text: str) -> None:
    make(tmp_path / "x.gguf")
    assert refusal(text, tmp_path).startswith(f"{tmp_path / 'x.gguf'}")


def test_pipes_in_a_folder_are_refused_at_once(tmp_path: Path) -> None:
    write(tmp_path, {"model.safetensors": safetensors()})
    os.mkfifo(tmp_path / "config.json")
    assert refusal("FROM .", tmp_path) == f"{tmp_path / 'config.json'} is no file"


def test_a_name_that_no_file_can_have_is_no_file(tmp_path: Path) -> None:
    name = "x" * 5000
    assert gathered(f"FROM {name}", tmp_path).source == name
    assert refusal(f"FROM ./{name}", tmp_path) == f"FROM ./{name}: no such file or directory"
    assert refusal(f"FROM a\nADAPTER {name}", tmp_path).endswith(": no such file or directory")


def test_a_name_that_no_json_can_say_is_refused(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.gguf")).write_bytes(WEIGHTS)
    assert "holds a character that cannot be printed: rename the file" in refusal(
        "FROM .", tmp_path
    )


def test_a_real_model_and_its_adapter_are_told_apart(tmp_path: Path) -> None:
    for name in ("tiny-chat-f32.gguf", "lora-zorblax-f16.gguf"):
        (tmp_path / name).write_bytes((MODELS / name).read_bytes())
    assert weights("FROM .", tmp_path) == ["lora-zorblax-f16.gguf", "tiny-chat-f32.gguf"]
