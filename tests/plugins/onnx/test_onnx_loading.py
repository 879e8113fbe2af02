"""What is refused before a library opens anything, and what options do."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral_kernel.contracts import FileRef
from corral_kernel.errors import InvalidModelError, InvalidOptionError, LoadError
from corral_onnx.config import genai_config
from corral_onnx.graph import read_graph
from corral_onnx.memory import Growth

Opener = Callable[..., Any]
Copy = Callable[[Path], Path]
Edit = Callable[..., None]
CHAT = "<|im_start|>user\ncapital of Italy?<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture
def folder(copied: Copy, tiny_chat_onnx: Path) -> Path:
    return copied(tiny_chat_onnx)


# -------------------------------------------------------------------------- damaged folders


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1,]", b"[]", b'{"a": 1} x', b"\xff\xfe{\x00}\x00", b"[" * 100_000, b"// no\n{}"],
    ids=[
        "empty",
        "cut short",
        "a comma",
        "a list",
        "more after it",
        "UTF-16",
        "very deep",
        "a comment",
    ],
)
def test_json_that_two_parsers_may_read_differently_is_refused(
    open_model: Opener, folder: Path, content: bytes
) -> None:
    (folder / "genai_config.json").write_bytes(content)
    with pytest.raises(InvalidModelError, match=r"genai_config\.json"):
        open_model(folder)


CHANGES: dict[str, Callable[[Any], Any]] = {
    "no model": lambda c: c.pop("model"),
    "no decoder": lambda c: c["model"].pop("decoder"),
    "no context": lambda c: c["model"].pop("context_length"),
    "no room": lambda c: c["model"].update(context_length=0),
    "huge context": lambda c: c["model"].update(context_length=1 << 40),
    "huge heads": lambda c: c["model"]["decoder"].update(head_size=1 << 30),
    "negative layers": lambda c: c["model"]["decoder"].update(num_hidden_layers=-1),
    "a word for a number": lambda c: c["model"].update(vocab_size="many"),
    "a file elsewhere": lambda c: c["model"]["decoder"].update(filename="../model.onnx"),
    "a file that is not there": lambda c: c["model"]["decoder"].update(filename="other.onnx"),
    "no file": lambda c: c["model"]["decoder"].pop("filename"),
    "windows": lambda c: c["model"]["decoder"].update(sliding_window={"window_size": 64}),
    "an end that is no token": lambda c: c["model"].update(eos_token_id=999),
    "an unknown type": lambda c: c["model"].update(type="no-such-model"),
    "wider heads": lambda c: c["model"]["decoder"].update(head_size=32),
    "another input": lambda c: c["model"]["decoder"]["inputs"].update(input_ids="ids"),
    "another output": lambda c: c["model"]["decoder"]["outputs"].update(logits="x"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_damaged_configuration_is_told(
    open_model: Opener, folder: Path, edit_json: Edit, change: str
) -> None:
    edit_json(folder / "genai_config.json", CHANGES[change])
    with pytest.raises((InvalidModelError, LoadError)) as caught:
        open_model(folder)
    assert len(str(caught.value)) > 20


NOT_RUN: dict[str, tuple[dict[str, Any], str]] = {
    "whisper": ({"type": "whisper"}, "'whisper', which encodes"),
    "an encoder": ({"encoder": {"filename": "e.onnx"}}, "which encodes"),
    "pieces": ({"type": "decoder-pipeline"}, "'decoder-pipeline', which has .*several graphs"),
    "vision": ({"type": "phi3v"}, "'phi3v', which needs a graph in its section 'embedding'"),
    "vision without a decoder": (
        {"type": "gemma3", "decoder": {}},
        "'gemma3', which needs a graph in its section 'decoder'",
    ),
}


@pytest.mark.parametrize("kind", NOT_RUN)
def test_a_type_that_is_not_run_is_named_with_what_is(
    open_model: Opener, folder: Path, edit_json: Edit, kind: str
) -> None:
    more, words = NOT_RUN[kind]
    edit_json(folder / "genai_config.json", lambda c: c["model"].update(more))
    with pytest.raises(InvalidModelError, match=f"{words}.*: the ONNX backend runs models whose"):
        open_model(folder)


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["gone", "empty", "cut short", "text"])
def test_a_damaged_file_is_told(open_model: Opener, folder: Path, name: str, damage: str) -> None:
    path = folder / name
    data = path.read_bytes()
    changed = {"empty": b"", "cut short": data[: len(data) // 2], "text": b"hello " * 99}
    path.unlink()
    if damage != "gone":
        path.write_bytes(changed[damage])
    with pytest.raises((InvalidModelError, LoadError)):
        open_model(folder)


def test_beams_and_batches_of_the_folder_change_nothing(
    greedy: Callable[..., Any], folder: Path, edit_json: Edit
) -> None:
    search = {"num_beams": 4, "batch_size": 3, "min_length": 40, "do_sample": True}
    edit_json(folder / "genai_config.json", lambda c: c["search"].update(search))
    loop = greedy(folder)
    assert loop.answer(CHAT) == "Rome.<|im_end|>"


def test_where_a_window_forgets_nothing_is_reused(
    open_model: Opener, folder: Path, edit_json: Edit
) -> None:
    window = {"window_size": 64, "slide_inputs": False, "slide_key_value_cache": False}
    path = folder / "genai_config.json"
    edit_json(path, lambda c: c["model"]["decoder"].update(sliding_window=window))
    assert open_model(folder)._lanes.can_rewind
    forgetting = genai_config(
        json.loads(path.read_text().replace('"slide_key_value_cache": false', '"x": 1'))
    )
    assert forgetting.forgets


# --------------------------------------------------------------------------------- options


@pytest.mark.parametrize("name", ["cuda", "WebGPU", "dml,cpu", "CUDAExecutionProvider", "no-such"])
def test_a_provider_that_this_build_lacks_is_told(
    open_model: Opener, tiny_chat_onnx: Path, name: str
) -> None:
    with pytest.raises(InvalidOptionError, match=r"execution_provider.*has cpu"):
        open_model(tiny_chat_onnx, execution_provider=name)


def test_a_provider_that_this_build_has_is_used(open_model: Opener, tiny_chat_onnx: Path) -> None:
    engine = open_model(tiny_chat_onnx, execution_provider=" CPU ")
    assert engine.info.details["devices"] == "cpu"


def test_options_without_effect_are_told(open_model: Opener, tiny_chat_onnx: Path) -> None:
    plain = open_model(tiny_chat_onnx, num_batch=64)
    assert plain.info.warnings == {}
    assert plain.info.batch_tokens == 64
    asked = open_model(tiny_chat_onnx, num_gpu=3, main_gpu=0, use_mmap=False)
    assert set(asked.info.warnings) == {"num_gpu", "main_gpu", "use_mmap"}
    assert all(words.startswith("is ignored: ") for words in asked.info.warnings.values())


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads by /proc")
@pytest.mark.parametrize("threads", [1, 3])
def test_threads_are_as_many_as_asked_for(
    open_model: Opener, tiny_chat_onnx: Path, threads: int
) -> None:
    before = len(os.listdir("/proc/self/task"))  # noqa: PTH208 - one entry for each thread
    open_model(tiny_chat_onnx, num_thread=threads)
    more = len(os.listdir("/proc/self/task")) - before  # noqa: PTH208 - as above
    assert more == threads - 1  # the caller's is one of them


@pytest.mark.parametrize(("asked", "got"), [(0, 256), (100, 100), (10_000, 256)])
def test_the_context_is_what_was_asked_for_at_most_the_trained(
    open_model: Opener, tiny_chat_onnx: Path, asked: int, got: int
) -> None:
    assert open_model(tiny_chat_onnx, num_ctx=asked).info.context_tokens == got


# ---------------------------------------------------------------------------------- memory


def test_its_memory_is_its_weights_at_least_and_room_for_its_contexts(
    open_model: Opener, tiny_chat_onnx: Path
) -> None:
    weights = sum(path.stat().st_size for path in tiny_chat_onnx.glob("model.onnx*"))
    token_bytes = genai_config(
        json.loads((tiny_chat_onnx / "genai_config.json").read_text())
    ).token_bytes
    engine = open_model(tiny_chat_onnx, slots=3, num_ctx=100)
    assert engine.info.memory_bytes >= weights + token_bytes * 100 * 3


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="measured by /proc")
def test_what_a_process_has_come_to_hold_is_counted() -> None:
    weights = FileRef(role="file", digest="", size_bytes=5000, name="model.onnx.data")
    other = FileRef(role="file", digest="", size_bytes=1 << 40, name="readme.md")
    growth = Growth([weights, other])
    assert 5000 <= growth.bytes() < 1 << 25
    held = bytearray(os.urandom(1 << 26))
    assert len(held) <= growth.bytes() < 4 * len(held)


# ----------------------------------------------------------------------------------- graphs


def test_a_graphs_names_are_read_without_a_library(tiny_chat_onnx: Path) -> None:
    graph = read_graph(tiny_chat_onnx / "model.onnx")
    assert {"GroupQueryAttention", "MatMul", "Gather"} <= graph.operators
    assert graph.overridable == frozenset()


@pytest.mark.parametrize("content", [b"\xff" * 99, b"\x3a\x7f", b"\x3b", b"hello world"])
def test_what_is_no_graph_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="it "):
        read_graph(path)
