"""LoRA adapters on the tiny chat model, with a graph that declares weights for them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from corral_kernel.contracts import FileRef
from corral_kernel.errors import InvalidModelError, UnsupportedError

Loop = Callable[..., Any]
CHAT = "<|im_start|>user\nwho are you?<|im_end|>\n<|im_start|>assistant\n"
PLAIN = "I am a tiny model trained to test a server.<|im_end|>"
RANK = 2
DESCRIPTIONS = (
    "genai_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)


def adaptable(source: Path, target: Path) -> dict[str, tuple[int, int]]:
    """Add weights of rank 0 beside each projection of the attention; give names and shapes."""
    model = onnx.load(source / "model.onnx")
    graph, shapes = model.graph, {}
    for node in [node for node in graph.node if "o_proj" in node.name and node.op_type == "MatMul"]:
        (weight,) = [i for i in graph.initializer if i.name == node.input[1]]
        rows, columns = weight.dims
        wide, output = node.input[0], node.output[0]
        node.output[0] = output + "_base"
        for part, shape in (("A", (rows, RANK)), ("B", (RANK, columns))):
            name = f"{node.name}.lora_{part}"
            empty = [0 if size == RANK else size for size in shape]
            free = ["r" if size == RANK else size for size in shape]
            graph.initializer.append(numpy_helper.from_array(np.zeros(empty, np.float32), name))
            graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, free))
            shapes[name] = shape
        added = [
            helper.make_node("MatMul", [wide, f"{node.name}.lora_A"], [output + "_a"]),
            helper.make_node("MatMul", [output + "_a", f"{node.name}.lora_B"], [output + "_b"]),
            helper.make_node("Add", [output + "_base", output + "_b"], [output]),
        ]
        place = list(graph.node).index(node) + 1
        for offset, new in enumerate(added):
            graph.node.insert(place + offset, new)
    assert shapes
    target.mkdir()
    onnx.save(model, target / "model.onnx")
    for name in DESCRIPTIONS:
        (target / name).write_bytes((source / name).read_bytes())
    return shapes


def write_adapter(path: Path, weights: dict[str, NDArray[np.float32]]) -> FileRef:
    file = ort.AdapterFormat()
    file.set_adapter_version(1)
    file.set_model_version(1)
    values = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in weights.items()}
    file.set_parameters(values)
    file.export_adapter(str(path))
    return FileRef(role="adapter", digest=path.name, size_bytes=1, path=str(path))


class Adaptable:
    """A folder whose model takes adapters, and adapters for it."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.folder = folder / "model"
        self.shapes = adaptable(source, self.folder)
        self.one, self.other = (self.weights(seed) for seed in (1, 2))
        self.files = [
            write_adapter(folder / f"{name}.onnx_adapter", weights)
            for name, weights in (("one", self.one), ("other", self.other))
        ]

    def weights(self, seed: int) -> dict[str, NDArray[np.float32]]:
        random = np.random.default_rng(seed)
        return {n: random.normal(0, 0.4, s).astype(np.float32) for n, s in self.shapes.items()}

    def merged(self, target: Path, weights: dict[str, NDArray[np.float32]]) -> Path:
        """The same model with an adapter added into its own weights."""
        model = onnx.load(self.folder / "model.onnx")
        for node in model.graph.node:
            if f"{node.name}.lora_A" in weights:
                (own,) = [i for i in model.graph.initializer if i.name == node.input[1]]
                added = weights[f"{node.name}.lora_A"] @ weights[f"{node.name}.lora_B"]
                own.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(own) + added, own.name))
        target.mkdir()
        onnx.save(model, target / "model.onnx")
        for name in ("genai_config.json", "tokenizer.json"):
            (target / name).write_bytes((self.folder / name).read_bytes())
        return target


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory, tiny_chat_onnx: Path) -> Adaptable:
    return Adaptable(tiny_chat_onnx, tmp_path_factory.mktemp("lora"))


@pytest.fixture
def loop(greedy: Loop, lora: Adaptable) -> Any:
    return greedy(lora.folder, slots=4)


def test_a_graph_that_declares_weights_takes_adapters(loop: Any) -> None:
    assert set(loop.engine.info.capabilities) == {"completion", "adapters"}
    assert loop.answer(CHAT) == PLAIN


def test_an_adapter_is_what_it_would_be_in_the_weights(
    loop: Any, greedy: Loop, lora: Adaptable, tmp_path: Path
) -> None:
    job = loop.job(CHAT, 20, adapters=(lora.files[0],))
    (text,) = loop.run(job)
    merged = greedy(lora.merged(tmp_path / "merged", lora.one))
    twin = merged.job(CHAT, 20)
    assert merged.run(twin) == [text]
    np.testing.assert_allclose(loop.last_row[job.id], merged.last_row[twin.id], atol=1e-3)


def test_jobs_with_different_adapters_run_at_once(loop: Any, lora: Adaptable) -> None:
    sets: list[tuple[FileRef, ...]] = [(), (lora.files[0],), (lora.files[1],), (lora.files[0],)]
    alone = [loop.run(loop.job(CHAT, 15, adapters=s, cache_scope="a"))[0] for s in sets]
    together = loop.run(*[loop.job(CHAT, 15, adapters=s, cache_scope="b") for s in sets])
    assert together == alone
    assert len({tuple(ids) for ids in alone}) == 3


def test_beginnings_are_shared_only_with_the_same_adapter(loop: Any, lora: Adaptable) -> None:
    jobs = [loop.job(CHAT, 2, adapters=a) for a in ((), lora.files[:1], lora.files[:1])]
    for job in jobs:
        loop.run(job)
    assert [loop.cached[job.id] for job in jobs] == [0, 0, jobs[0].prompt.length - 1]


def test_adapters_that_take_turns_keep_their_beginnings(loop: Any, lora: Adaptable) -> None:
    one, other = lora.files[:1], lora.files[1:]
    jobs = [loop.job(CHAT, 2, adapters=files) for files in (one, other, one, other, ())]
    for job in jobs:
        loop.run(job)
    again = jobs[0].prompt.length - 1
    assert [loop.cached[job.id] for job in jobs] == [0, 0, again, again, 0]


def test_an_adapter_that_a_job_runs_with_is_not_unloaded(
    loop: Any, lora: Adaptable, tmp_path: Path
) -> None:
    running = loop.job(CHAT, 15, adapters=lora.files[:1])
    assert loop.admit(running)
    for seed in range(9):
        file = write_adapter(tmp_path / f"{seed}.onnx_adapter", lora.weights(seed))
        brief = loop.job(CHAT, 1, adapters=(file,))
        assert loop.admit(brief)
        loop.release(brief.id)
    loaded = loop.engine._adapters._loaded
    assert len(loaded) == 8
    assert loaded[0] == lora.files[0].digest
    loop.run()
    assert loop.run(loop.job(CHAT, 15, adapters=lora.files[:1])) == [loop.texts[running.id]]


def test_adapters_that_nobody_uses_are_unloaded(loop: Any, lora: Adaptable, tmp_path: Path) -> None:
    files = [
        write_adapter(tmp_path / f"{seed}.onnx_adapter", lora.weights(seed)) for seed in range(12)
    ]
    first = [loop.run(loop.job(CHAT, 4, adapters=(file,)))[0] for file in files]
    assert len(loop.engine._adapters._loaded) <= 8
    again = [loop.run(loop.job(CHAT, 4, adapters=(file,)))[0] for file in files]
    assert again == first


def write_text(_lora: Adaptable, path: Path) -> FileRef:
    path.write_text("hello")
    return FileRef(role="adapter", digest="text", size_bytes=5, path=str(path))


def write_half(lora: Adaptable, path: Path) -> FileRef:
    data = Path(lora.files[0].path).read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return FileRef(role="adapter", digest="cut", size_bytes=5, path=str(path))


BAD: dict[str, Callable[[Adaptable, Path], FileRef]] = {
    "text": write_text,
    "cut short": write_half,
    "of another model": lambda _, path: write_adapter(path, {"x": np.zeros((2, 2), np.float32)}),
    "of another shape": lambda lora, path: write_adapter(
        path, {name: np.zeros((7, 7), np.float32) for name in lora.shapes}
    ),
    "not there": lambda _, path: FileRef(role="adapter", digest="x", size_bytes=0, path=str(path)),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_adapter_fails_its_own_job_alone(
    loop: Any, lora: Adaptable, tmp_path: Path, kind: str
) -> None:
    bad = BAD[kind](lora, tmp_path / "bad.onnx_adapter")
    for _ in range(2):
        with pytest.raises(InvalidModelError, match="adapter"):
            loop.engine.admit(loop.job(CHAT, 5, adapters=(bad,)))
    assert loop.answer(CHAT) == PLAIN


def test_more_than_one_adapter_is_refused(loop: Any, lora: Adaptable) -> None:
    with pytest.raises(UnsupportedError, match="one at a time"):
        loop.engine.admit(loop.job(CHAT, 5, adapters=tuple(lora.files)))


def test_a_graph_that_declares_none_takes_no_adapter(
    greedy: Loop, tiny_chat_onnx: Path, lora: Adaptable
) -> None:
    loop = greedy(tiny_chat_onnx)
    with pytest.raises(UnsupportedError, match="declares no weights"):
        loop.engine.admit(loop.job(CHAT, 5, adapters=(lora.files[0],)))


def test_initializers_of_an_old_file_are_not_taken_for_adapters(
    greedy: Loop, lora: Adaptable, tmp_path: Path
) -> None:
    """Before version 4 of the format each of them was an input too."""
    model = onnx.load(lora.folder / "model.onnx")
    model.ir_version = 3
    folder = tmp_path / "old"
    folder.mkdir()
    onnx.save(model, folder / "model.onnx")
    from corral_onnx.graph import read_graph

    assert read_graph(folder / "model.onnx").overridable == frozenset()
    assert read_graph(lora.folder / "model.onnx").overridable == lora.shapes.keys()
    assert json.loads((lora.folder / "genai_config.json").read_text())


# ------------------------------------------------------------------------------ over HTTP


def create(server: Any, folder: Path, name: str, modelfile: str) -> None:
    """What `corral create` does with a Modelfile."""
    (folder / "Modelfile").write_text(modelfile)
    subprocess.run(
        [sys.executable, "-m", "corral_cli", "create", name],
        env={**os.environ, "CORRAL_HOST": server.url, "CORRAL_HOME": str(server.home)},
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=60,
    )


def said(server: Any, model: str) -> str:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "who are you?"}],
        "options": {"temperature": 0, "num_thread": 1, "num_ctx": 256, "num_predict": 50},
        "stream": False,
    }
    response = httpx.post(f"{server.url}/api/chat", json=body, timeout=60)
    assert response.status_code == 200, response.text
    return str(response.json()["message"]["content"])


def test_a_modelfile_adds_an_adapter_and_without_it_the_model_is_as_before(
    server: Any, lora: Adaptable, tmp_path: Path
) -> None:
    plain = f"FROM {lora.folder}\n"
    adapted = f"{plain}ADAPTER {lora.files[0].path}\n"
    create(server, tmp_path, "lora-base", plain)
    create(server, tmp_path, "lora", adapted)
    base = PLAIN.removesuffix("<|im_end|>")
    first = said(server, "lora")
    assert (said(server, "lora-base"), first != base) == (base, True)
    assert said(server, "lora") == first
    create(server, tmp_path, "lora", plain)
    assert said(server, "lora") == base
