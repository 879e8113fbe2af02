"""ONNX Runtime's wheels write a device id and call home unless told not to: they are told."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from corral_onnx.claim import ENVIRONMENT

LOAD = """
import json, os, sys
from pathlib import Path
from corral_kernel.contracts import Claim, EncodeItem, FileRef, Job, LoadRequest, TextPart
from corral_onnx import corral_load
from corral_onnx.options import OnnxOptions

folder = Path(sys.argv[1])
claim = Claim(backend="onnx", confidence=1.0, why="a test", capabilities=("completion",))
files = tuple(
    FileRef(role="file", digest="", size_bytes=0, name=path.name, path=str(path))
    for path in folder.iterdir()
)
request = LoadRequest(
    claim=claim, options=OnnxOptions(num_thread=1), files=files, slots=1, report=lambda s: True
)
engine = corral_load(request)
"""
WRITE = """
prompt = engine.prepare([TextPart("one two")])
engine.admit(Job(id=1, prompt=prompt, max_tokens=5))
for _ in range(5):
    (rows,) = engine.forward()
    engine.extend(1, [int(rows.logits[0].argmax())]) if _ < 4 else None
"""
ENCODE = """
vectors = engine.encode([engine.tokenize(EncodeItem(text="one two"))])
assert vectors.shape == (1, 4)
"""
QUANTIZE = """
import json, sys
from pathlib import Path
from corral_kernel.contracts import FileRef, Source, SourceFile, Work
from corral_onnx.quantizer import OnnxQuantizer

found = sorted(Path(sys.argv[1]).iterdir())
files = tuple(SourceFile(name=f.name, size_bytes=f.stat().st_size) for f in found)
source = Source(kind="model", format="onnx", files=files,
                documents={f.name: json.loads(f.read_text()) for f in found if f.suffix == ".json"})
offer = OnnxQuantizer().offer(source, "INT4")
folder = Path(sys.argv[1]).with_name("made")
folder.mkdir()
refs = tuple(FileRef(role="file", digest="", size_bytes=0, name=f.name, path=str(f)) for f in found)
work = Work(source=source, private=offer.private, files=refs, folder=folder,
            report=lambda done, total: None)
OnnxQuantizer().quantize(work, "INT4")
import onnxruntime as ort
ort.InferenceSession(str(folder / "model.onnx"))  # whoever writes files does it by now
print("[]")
"""
LOOK = """
def target(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:  # the descriptor of the listing itself
        return ""
links = [target(fd) for fd in os.listdir("/proc/self/fd")]
engine.close()
print(json.dumps([link for link in links if link.startswith("socket:")]))
"""
# What the library does of itself, so that the test is known to see it.
CONTROL = """
import onnxruntime, onnxruntime_genai, sys
onnxruntime_genai.Model(onnxruntime_genai.Config(sys.argv[1]))
print("[]")
"""
CONTROL_ENCODER = """
import onnxruntime, sys
onnxruntime.InferenceSession(sys.argv[1] + "/model.onnx")
print("[]")
"""


@pytest.fixture
def encoder(tiny_chat_onnx: Path, tmp_path: Path) -> Path:
    """A folder with a graph that gives each token its row of a table."""
    folder = tmp_path / "encoder"
    folder.mkdir()
    (folder / "tokenizer.json").write_bytes((tiny_chat_onnx / "tokenizer.json").read_bytes())
    table = numpy_helper.from_array(np.ones((512, 4), np.float32), "table")
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])],
        "tiny",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", "tokens"])],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["n", "tokens", 4])],
        [table],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, folder / "model.onnx")
    return folder


def child(code: str, folder: Path, home: Path, variables: dict[str, str]) -> tuple[list[str], str]:
    """Run it as a user who has nothing yet; give the files that appeared, and its answer."""
    unset = ("CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
    kept = {key: value for key, value in os.environ.items() if key not in unset}
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        env={**kept, "HOME": str(home), "TMPDIR": str(home), **variables},
        cwd=home,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    files = [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()]
    return files, done.stdout


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at sockets in /proc")
def test_no_file_and_no_socket_appears(tiny_chat_onnx: Path, tmp_path: Path) -> None:
    code = LOAD + WRITE + LOOK
    files, sockets = child(code, tiny_chat_onnx, tmp_path / "home", {})
    assert files == []
    assert json.loads(sockets) == []


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at sockets in /proc")
def test_none_appears_of_an_encoder(encoder: Path, tmp_path: Path) -> None:
    """It runs on an `InferenceSession` of ONNX Runtime itself."""
    files, sockets = child(LOAD + ENCODE + LOOK, encoder, tmp_path / "home", {})
    assert files == []
    assert json.loads(sockets) == []


def test_no_file_appears_of_a_quantization(tiny_chat_onnx: Path, tmp_path: Path) -> None:
    """Its task process has no claim by which it is told: the quantizer says it by itself."""
    folder = tmp_path / "source"
    shutil.copytree(tiny_chat_onnx, folder)
    files, _ = child(QUANTIZE, folder, tmp_path / "home", {})
    assert files == []
    assert (tmp_path / "made" / "model.onnx").exists()


def test_a_worker_is_told_before_it_imports_anything(tiny_chat_onnx: Path, tmp_path: Path) -> None:
    """By the claim's environment: even what imports the libraries by itself is silent then."""
    files, _ = child(CONTROL, tiny_chat_onnx, tmp_path / "home", ENVIRONMENT)
    assert files == []


@pytest.mark.skipif(sys.platform != "linux", reason="where the files lie is known of Linux")
def test_this_is_not_because_the_library_has_stopped(
    tiny_chat_onnx: Path, encoder: Path, tmp_path: Path
) -> None:
    for number, (code, folder) in enumerate(
        ((CONTROL, tiny_chat_onnx), (CONTROL_ENCODER, encoder))
    ):
        files, _ = child(code, folder, tmp_path / f"home-{number}", {})
        assert any(".onnxruntime" in name for name in files), folder
