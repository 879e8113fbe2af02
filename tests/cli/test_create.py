import hashlib
from pathlib import Path
from typing import Any

import pytest

STEPS = [{"status": "reading model metadata"}, {"status": "writing manifest"}]
GGUF = b"GGUF" + bytes(range(256)) * 10_000
DIGEST = f"sha256:{hashlib.sha256(GGUF).hexdigest()}"


@pytest.fixture
def creates(scripted: Any, answer: Any) -> Any:
    """A server that takes models, and holds the blobs with the digests given."""

    def script(*held: str, lines: Any = (*STEPS, {"status": "success"})) -> Any:
        for digest in held:
            scripted.on("HEAD", f"/api/blobs/{digest}", answer())
        scripted.on("POST", f"/api/blobs/{DIGEST}", answer(status=201))
        scripted.on("POST", "/api/create", answer(lines=list(lines)))
        return scripted

    return script


def test_everything_a_modelfile_says_is_sent(creates: Any, corral: Any, tmp_path: Path) -> None:
    script = creates()
    (tmp_path / "Modelfile").write_text(
        "FROM smollm2\nPARAMETER temperature 0.7\nPARAMETER stop a\nPARAMETER stop b\n"
        'PARAMETER mirostat 1\nTEMPLATE """{{ .Prompt }}\n"""\nSYSTEM Be terse.\nLICENSE MIT\n'
        "LICENSE BSD\nMESSAGE user hi\nMESSAGE assistant ho\nREQUIRES v0.14.0\nPARSER p\n"
    )

    result = corral("create", "mine", cwd=tmp_path)

    assert (result.status, result.out) == (0, "warning: parameter mirostat is deprecated\n")
    steps = result.err.splitlines()
    assert steps == ["reading model metadata", "writing manifest", "success"]
    assert script.bodies("/api/create") == [
        {
            "model": "mine",
            "from": "smollm2",
            "template": "{{ .Prompt }}\n",
            "system": "Be terse.",
            "license": ["MIT", "BSD"],
            "parameters": {"temperature": 0.7, "stop": ["a", "b"]},
            "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}],
            "parser": "p",
            "requires": "0.14.0",
            "stream": True,
        }
    ]


def test_files_are_sent_once_and_named_by_digest(creates: Any, corral: Any, tmp_path: Path) -> None:
    adapter = b"GGUF adapter"
    held = f"sha256:{hashlib.sha256(adapter).hexdigest()}"
    script = creates(held)
    (tmp_path / "tiny.gguf").write_bytes(GGUF)
    (tmp_path / "lora.gguf").write_bytes(adapter)
    modelfile = tmp_path / "deep" / "My.modelfile"
    modelfile.parent.mkdir()
    modelfile.write_text(f"FROM ../tiny.gguf\nADAPTER {tmp_path}/lora.gguf\n")

    result = corral("create", "mine", "-f", str(modelfile))

    assert (result.status, result.out) == (0, "")
    (upload,) = [r for r in script.received if r.method == "POST" and "blobs" in r.path]
    assert upload.body == GGUF
    assert upload.headers["Content-Length"] == str(len(GGUF))
    assert script.bodies("/api/create") == [
        {
            "model": "mine",
            "files": {"tiny.gguf": DIGEST},
            "adapters": {"lora.gguf": held},
            "stream": True,
        }
    ]
    assert result.err.splitlines()[:2] == ["reading 2 files", f"copying file {DIGEST[:19]}"]
    assert "\x1b" not in result.err


def test_a_folder_with_one_gguf_is_that_file(creates: Any, corral: Any, tmp_path: Path) -> None:
    script = creates(DIGEST)
    (tmp_path / "only.gguf").write_bytes(GGUF)

    assert corral("create", "mine", cwd=tmp_path).status == 0
    assert script.bodies("/api/create")[0]["files"] == {"only.gguf": DIGEST}


def _write(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


@pytest.mark.parametrize(
    ("modelfile", "files", "message"),
    [
        ("SYSTEM x", {}, "no FROM line"),
        ("FROM a\nBAD x", {}, "(line 2): command must be one of"),
        ("FROM ./missing.gguf", {}, "FROM ./missing.gguf: no such file or directory"),
        ("FROM a\nADAPTER lora", {}, "ADAPTER lora: no such file or directory"),
        ("FROM a\nDRAFT d.gguf", {}, "DRAFT d.gguf: no such file or directory"),
        ("FROM d.gguf\nDRAFT ./d.gguf", {"d.gguf": GGUF}, "the same local path as FROM: ./d.gguf"),
        ("FROM ~nobody-here/x", {}, "failed to find user 'nobody-here'"),
        ("FROM ./m", {"m/readme.md": b"x"}, "no Modelfile or safetensors files found"),
        ("FROM x.bin", {"x.bin": b"PK\x03\x04"}, "an archive, perhaps a PyTorch model; models"),
        ("FROM x.bin", {"x.bin": b"\x7fELF\2\1"}, "it begins with the bytes 7f 45 4c 46; models"),
        ("FROM x.bin", {"x.bin": b"%c%s" % (9, bytes(7)) + b'{"a": 1}'}, "perhaps a safetensors"),
        ("FROM x.bin", {"x.bin": b""}, "x.bin is no GGUF file: it is empty; models are"),
        ("FROM ./n", {"n": b"hello\nyou"}, "it is a text (it begins with 'hello'); models are"),
        (
            "FROM ./Other",
            {"Other": b"FROM smollm2\nSYSTEM x"},
            "it is a text, perhaps a Modelfile (it begins with 'FROM smollm2'); models are",
        ),
        (
            "FROM other",
            {"other": b"FROM smollm2"},
            "; for the model of that name write FROM other:latest",
        ),
        ("FROM a\nPARAMETER top_p inf", {}, "PARAMETER top_p: inf cannot be sent"),
    ],
)
def test_a_modelfile_that_cannot_be_used_sends_nothing(
    modelfile: str,
    files: dict[str, bytes],
    message: str,
    corral: Any,
    tmp_path: Path,
) -> None:
    _write(tmp_path, files | {"Modelfile": modelfile.encode()})

    result = corral("create", "mine", cwd=tmp_path)

    assert (result.status, result.out) == (1, "")
    assert result.err.startswith("Error: ")
    assert message in result.err
    assert corral.server.received == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-f", "none"], "open none: no such file or directory"),
        (["--draft-quantize", "q8_0"], "--draft-quantize requires a DRAFT model"),
        (["--imatrix", "x.dat"], "--imatrix is for quantizing: say to which type with --quantize"),
        (["-q", "q4_0", "--imatrix", "none.dat"], "none.dat: No such file or directory"),
    ],
)
def test_what_create_cannot_do_is_said_first(
    args: list[str], message: str, creates: Any, corral: Any, tmp_path: Path
) -> None:
    script = creates()
    _write(tmp_path, {"Modelfile": b"FROM a"})

    result = corral("create", "mine", *args, cwd=tmp_path)

    assert result.status == 1
    assert message in result.err
    assert script.received == []


def test_a_link_out_of_the_folder_is_refused(creates: Any, corral: Any, tmp_path: Path) -> None:
    creates()
    _write(tmp_path, {".cache/blob": GGUF, "m/Modelfile": b"FROM ."})
    (tmp_path / "m" / "x.gguf").symlink_to(tmp_path / ".cache" / "blob")

    result = corral("create", "mine", "-f", "m/Modelfile", cwd=tmp_path)

    assert result.err.startswith("Error: insecure path: x.gguf leads to")
    assert "--local-dir" in result.err


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([*STEPS, {"error": "template error: unclosed action"}], "template error: unclosed action"),
        (STEPS, "the server ended its answer without reporting success"),
    ],
    ids=["error", "no success"],
)
def test_a_create_that_fails_half_way_says_why(
    lines: list[Any], message: str, creates: Any, corral: Any, tmp_path: Path
) -> None:
    creates(lines=lines)
    (tmp_path / "Modelfile").write_text("FROM a")

    result = corral("create", "mine", cwd=tmp_path)

    assert result.status == 1
    assert result.err.endswith(f"Error: {message}\n")


def test_a_refused_upload_is_the_error(
    creates: Any, corral: Any, answer: Any, tmp_path: Path
) -> None:
    full = answer({"error": "no space left on device"}, 500)
    creates().on("POST", f"/api/blobs/{DIGEST}", full)
    _write(tmp_path, {"x.gguf": GGUF, "Modelfile": b"FROM x.gguf"})

    result = corral("create", "mine", cwd=tmp_path)

    assert result.err.endswith("Error: no space left on device\n")
