"""`corral create` of folders and of files of before GGUF."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

MODELS = Path(__file__).parents[1] / "models"
ONNX, LEGACY = MODELS / "tiny-chat-onnx", MODELS / "gpt2byte-f16.ggml.bin"
FOLDER = {"genai_config.json": b"{}", "model.onnx": b"graph", "sub/deep/x.bin": b"x"}
ENCODER = {"tokenizer.json": b"{}", "onnx/model.onnx": b"graph"}
TAKEN = "models are made of GGUF files, of folders of safetensors files or of an ONNX model, and"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


class Sent:
    """Creates with a server that takes everything.

    Attributes:
        err: What the command wrote to standard error.
    """

    def __init__(self, scripted: Any, answer: Any, corral: Any) -> None:
        self._scripted, self._answer, self._corral = scripted, answer, corral
        self.err = ""

    def __call__(self, *contents: bytes, cwd: Path) -> dict[str, bytes]:
        """Create what `cwd` says, of files with these contents; gives those sent, by name."""
        for data in contents:
            path = f"/api/blobs/{digest_of(data)}"
            self._scripted.on("POST", path, self._answer(status=201))
        self._scripted.on("POST", "/api/create", self._answer(lines=[{"status": "success"}]))
        result = self._corral("create", "mine", cwd=cwd)
        self.err = result.err
        assert result.status == 0, result.err
        uploads = [r for r in self._scripted.received if r.method == "POST" and "blobs" in r.path]
        held = {r.path.rpartition("/")[2]: r.body for r in uploads}
        (body,) = self._scripted.bodies("/api/create")
        return {name: held[digest] for name, digest in body["files"].items()}


@pytest.fixture
def sent(scripted: Any, answer: Any, corral: Any) -> Sent:
    return Sent(scripted, answer, corral)


@pytest.mark.parametrize("files", [FOLDER, ENCODER], ids=["genai", "encoder"])
def test_every_file_of_a_folder_is_sent_under_its_path(
    sent: Sent, tmp_path: Path, files: dict[str, bytes]
) -> None:
    write(tmp_path / "m", files)
    (tmp_path / "Modelfile").write_text("FROM ./m")
    assert sent(*files.values(), cwd=tmp_path) == files


def test_files_of_one_content_are_sent_once(
    sent: Sent, scripted: Any, answer: Any, tmp_path: Path
) -> None:
    path = f"/api/blobs/{digest_of(b'same')}"

    def head(_request: Any) -> Any:
        held = any(r.method == "POST" and r.path == path for r in scripted.received)
        return answer(status=200 if held else 404)

    scripted.on("HEAD", path, head)
    files = FOLDER | {"a": b"same", "b": b"same"}
    write(tmp_path, files)
    assert sent(*files.values(), cwd=tmp_path) == files
    uploads = [r.body for r in scripted.received if r.method == "POST" and "blobs" in r.path]
    assert sorted(uploads) == sorted(set(files.values()))


def test_what_is_hidden_is_left_out_and_said(sent: Sent, tmp_path: Path) -> None:
    hidden = {".git/config": b"g", ".cache/x": b"c", ".gitattributes": b"a", "sub/.DS_Store": b"d"}
    write(tmp_path, FOLDER | hidden | {"Modelfile": b"FROM .\nSYSTEM x"})
    assert sent(*FOLDER.values(), cwd=tmp_path) == FOLDER
    assert (
        "left out, no part of the model: .cache/, .git/, .gitattributes, Modelfile, sub/.DS_Store\n"
    ) in sent.err


def test_without_a_modelfile_this_folder_is_the_model(sent: Sent, tmp_path: Path) -> None:
    write(tmp_path, FOLDER)
    assert sent(*FOLDER.values(), cwd=tmp_path) == FOLDER
    assert "left out" not in sent.err


def test_a_link_inside_the_folder_is_the_file_that_it_leads_to(sent: Sent, tmp_path: Path) -> None:
    write(tmp_path, FOLDER)
    (tmp_path / "link.bin").symlink_to("model.onnx")
    assert sent(*FOLDER.values(), cwd=tmp_path) == FOLDER | {"link.bin": b"graph"}


def test_one_gguf_file_comes_before_an_encoder_beside_it(sent: Sent, tmp_path: Path) -> None:
    write(tmp_path, ENCODER | {"m.gguf": b"GGUF x"})
    assert sent(b"GGUF x", cwd=tmp_path) == {"m.gguf": b"GGUF x"}


@pytest.mark.parametrize("magic", [b"lmgg", b"fmgg", b"tjgg"])
@pytest.mark.parametrize("source", ["./m/old.bin", "./m"])
def test_a_file_of_before_gguf_is_sent(
    sent: Sent, tmp_path: Path, magic: bytes, source: str
) -> None:
    write(tmp_path, {"m/old.bin": magic + b"...", "m/readme.md": b"", "Modelfile": b""})
    (tmp_path / "Modelfile").write_text(f"FROM {source}")
    assert sent(magic + b"...", cwd=tmp_path) == {"old.bin": magic + b"..."}


def test_an_onnx_adapter_is_sent(sent: Sent, scripted: Any, tmp_path: Path) -> None:
    adapter = b"\x0c\0\0\0TORT..."
    write(tmp_path, {f"m/{name}": data for name, data in FOLDER.items()})
    write(tmp_path, {"a.onnx_adapter": adapter, "Modelfile": b"FROM ./m\nADAPTER a.onnx_adapter"})
    assert sent(adapter, *FOLDER.values(), cwd=tmp_path) == FOLDER
    (body,) = scripted.bodies("/api/create")
    assert body["adapters"] == {"a.onnx_adapter": digest_of(adapter)}


def link_out(folder: Path) -> None:
    write(folder.parent, {".cache/blob": b"x"})
    (folder / "weights").symlink_to("../.cache/blob")


def link_out_to_folder(folder: Path) -> None:
    write(folder.parent, {"other/x": b"x"})
    (folder / "sub" / "more").symlink_to("../../other")


def link_to_folder(folder: Path) -> None:
    write(folder, {"sub/x": b"x"})
    (folder / "again").symlink_to("sub")


def link_to_itself(folder: Path) -> None:
    (folder / "loop").symlink_to(".")


def dangling(folder: Path) -> None:
    (folder / "gone").symlink_to("nowhere")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


def device_name(folder: Path) -> None:
    write(folder, {"aux.json": b"{}"})


def two_of_a_case(folder: Path) -> None:
    write(folder, {"MODEL.onnx": b"x"})


def foreign_bytes(folder: Path) -> None:
    (folder / os.fsdecode(b"\xff.bin")).write_bytes(b"x")


def too_many(folder: Path) -> None:
    for number in range(1001):
        (folder / f"{number}.txt").touch()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (link_out, "insecure path: weights leads to "),
        (link_out_to_folder, "insecure path: more leads to "),
        (link_to_folder, "again is a link to a folder: put a copy in its place"),
        (link_to_itself, "loop is a link to a folder: put a copy in its place"),
        (dangling, "gone: No such file or directory"),
        (pipe, "pipe is no file: take it out of the folder"),
        (device_name, "'aux.json', which is a device on Windows: rename the file"),
        (two_of_a_case, "are the same to some systems: rename one of them"),
        (foreign_bytes, "holds a character that cannot be printed"),
        (too_many, "holds over 1000 files: that is no model"),
    ],
)
def test_a_folder_that_cannot_be_a_model_sends_nothing(
    corral: Any, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    folder = tmp_path / "m"
    write(folder, FOLDER)
    spoil(folder)
    result = corral("create", "mine", cwd=folder)
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith("Error: ")
    assert message in result.err
    assert corral.server.received == []


@pytest.mark.parametrize(
    ("modelfile", "message"),
    [
        ("FROM ./m\nFROM x.gguf", "FROM: a folder is a whole model, and takes no other file"),
        ("FROM ./m\nFROM ./m", "FROM: a folder is a whole model"),
        ("FROM ./bins", f"PyTorch models cannot be imported: {TAKEN}"),
        ("FROM x.bin", f"x.bin is no GGUF file: it is a text (it begins with 'ggml'); {TAKEN}"),
        (
            "FROM x.gguf\nADAPTER old.bin",
            "begins with 'lmgg'); adapters are GGUF, safetensors",
        ),
    ],
)
def test_what_is_no_model_is_told(
    corral: Any, tmp_path: Path, modelfile: str, message: str
) -> None:
    write(tmp_path / "m", FOLDER)
    write(tmp_path / "bins", {"a.bin": b"lmgg", "b.bin": b"lmgg"})
    write(tmp_path, {"x.gguf": b"GGUF", "x.bin": b"ggml", "old.bin": b"lmgg"})
    (tmp_path / "Modelfile").write_text(modelfile)
    result = corral("create", "mine", cwd=tmp_path)
    assert result.status == 1
    assert message in result.err
    assert corral.server.received == []


# ---------------------------------------------------------------------------- with a real server


@pytest.fixture(scope="module")
def server(start_server: Callable[..., Any]) -> Any:
    return start_server()


def run(server: Any, *args: str, cwd: Path) -> str:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CORRAL_", "OLLAMA_"))}
    done = subprocess.run(
        [sys.executable, "-m", "corral_cli", *args],
        env=kept | {"CORRAL_HOST": server.url, "CORRAL_HOME": str(cwd / "home")},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def layers(server: Any, model: str) -> list[tuple[str, str, str]]:
    path = server.home / f"models/manifests/registry.ollama.ai/library/{model}/latest"
    found = json.loads(path.read_bytes())["layers"]
    return [(layer["mediaType"], layer.get("name", ""), layer["digest"]) for layer in found]


def test_a_folder_s_modelfile_as_shown_makes_it_again(server: Any, tmp_path: Path) -> None:
    (tmp_path / "Modelfile").write_text(
        f"FROM {ONNX}\nSYSTEM Be brief.\nPARAMETER top_k 3\nLICENSE MIT\nMESSAGE user hi\n"
    )
    run(server, "create", "folder", cwd=tmp_path)
    shown = run(server, "show", "--modelfile", "folder", cwd=tmp_path)
    assert "FROM folder:latest\nSYSTEM Be brief.\nPARAMETER top_k 3\n" in shown
    (tmp_path / "Again").write_text(shown)
    run(server, "create", "again", "-f", "Again", cwd=tmp_path)
    assert sorted(layers(server, "again")) == sorted(layers(server, "folder"))
    assert "folder:latest" in run(server, "list", cwd=tmp_path)
    run(server, "cp", "folder", "copied", cwd=tmp_path)
    assert layers(server, "copied") == layers(server, "folder")
    for name in ("folder", "again", "copied"):
        run(server, "rm", name, cwd=tmp_path)
    assert not list((server.home / "models/blobs").iterdir())


def test_an_old_file_s_modelfile_as_shown_makes_it_again(server: Any, tmp_path: Path) -> None:
    with httpx.Client(base_url=server.url) as client:
        digest = digest_of(LEGACY.read_bytes())
        client.post(f"/api/blobs/{digest}", content=LEGACY.read_bytes()).raise_for_status()
        body = {"model": "old", "files": {"x.bin": digest}, "parameters": {"top_k": 3}}
        client.post("/api/create", json=body).raise_for_status()
    shown = run(server, "show", "--modelfile", "old", cwd=tmp_path)
    (tmp_path / "Again").write_text(shown)
    run(server, "create", "again", "-f", "Again", cwd=tmp_path)
    found = [layer for layer in layers(server, "again") if not layer[0].endswith("template")]
    assert found == layers(server, "old")
    for name in ("old", "again"):
        run(server, "rm", name, cwd=tmp_path)
