"""A model is data: no folder makes ONNX Runtime open a library, call an address or write a file."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral_kernel.errors import InvalidModelError

Opener = Callable[..., Any]
Copy = Callable[[Path], Path]
Edit = Callable[..., None]
CHAT = "<|im_start|>user\ncapital of Italy?<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture
def folder(copied: Copy, tiny_chat_onnx: Path) -> Path:
    return copied(tiny_chat_onnx)


@pytest.fixture
def library(tmp_path: Path) -> tuple[Path, Path]:
    """A shared library, and the file that it writes as soon as it is opened."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    trace, source, target = (tmp_path / name for name in ("trace", "ops.c", "ops.so"))
    source.write_text(
        "#include <stdio.h>\n__attribute__((constructor)) static void run(void)"
        f'{{ fclose(fopen("{trace}", "w")); }}\n'
    )
    subprocess.run(["cc", "-shared", "-fPIC", "-o", target, source], check=True)
    return target, trace


PLACES = {
    "the decoder's session": ("genai_config.json", ("model", "decoder", "session_options")),
    "another part": ("genai_config.json", ("model", "vision", "session_options")),
    "far down": ("genai_config.json", ("a", "b", "c", "d", "e", "f", "g")),
    "another file": ("processor_config.json", ("x",)),
    "a file in a folder": ("more/config.json", ("x",)),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_folder_that_names_a_library_is_refused(
    open_model: Opener, folder: Path, library: tuple[Path, Path], place: str
) -> None:
    name, keys = PLACES[place]
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    document = json.loads(path.read_text()) if path.exists() else {}
    section = document
    for key in keys:
        section = section.setdefault(key, {})
    section["custom_ops_library"] = str(library[0])
    path.write_text(json.dumps(document))
    with pytest.raises(InvalidModelError, match=r"custom_ops_library.*refused"):
        open_model(folder)
    assert not library[1].exists()


@pytest.mark.parametrize(
    "key", [r"custom\u005fops_library", "enable_profiling", "ep.context_file_path"]
)
def test_no_spelling_and_no_list_hides_a_key(
    open_model: Opener, folder: Path, tmp_path: Path, key: str
) -> None:
    path = folder / "genai_config.json"
    target = tmp_path / "written"
    text = path.read_text().replace(
        '"session_options": {', f'"session_options": {{"x": [[{{"{key}": "{target}"}}]], ', 1
    )
    path.write_text(text)
    with pytest.raises(InvalidModelError, match="refused"):
        open_model(folder)
    assert not target.exists()


def test_a_key_that_stands_twice_is_seen_twice(open_model: Opener, folder: Path) -> None:
    path = folder / "genai_config.json"
    hidden = '"session_options": {"custom_ops_library": "x.so"}, "session_options": {'
    path.write_text(path.read_text().replace('"session_options": {', hidden, 1))
    with pytest.raises(InvalidModelError, match="custom_ops_library"):
        open_model(folder)


PROVIDERS: dict[str, Any] = {
    "a backend's library": [{"qnn": {"backend_path": "libQnnHtp.so"}}],
    "packages of operators": [{"qnn": {"op_packages": "Add:x.so:init"}}],
    "plug-ins": [{"NvTensorRtRtx": {"trt_extra_plugin_lib_paths": "x.so"}}],
    "an address": [{"cuda": {"enable_cuda_graph": "0", "gpu_external_alloc": "4096"}}],
    "a cache": [{"dml": {}}, {"OpenVINO": {"cache_dir": "/tmp"}}],
    "one that nobody knows": [{"new": {"x": 1}}],
    "no list": {"qnn": {"backend_path": "x.so"}},
    "a list in it": [[{"qnn": {"backend_path": "x.so"}}]],
    "no settings": [{"qnn": ["backend_path", "x.so"]}],
}


@pytest.mark.parametrize("kind", PROVIDERS)
def test_a_folder_that_sets_more_of_providers_than_speed_is_refused(
    open_model: Opener, folder: Path, edit_json: Edit, kind: str
) -> None:
    more = {"provider_options": PROVIDERS[kind]}
    path = folder / "genai_config.json"
    edit_json(path, lambda c: c["model"]["decoder"]["session_options"].update(more))
    with pytest.raises(InvalidModelError, match=r"provider_options.*refused"):
        open_model(folder)


def test_what_genais_builder_writes_of_providers_is_taken(
    greedy: Callable[..., Any], folder: Path, edit_json: Edit
) -> None:
    more = {"provider_options": [{"cuda": {"enable_cuda_graph": "0"}}, {"cpu": {}}]}
    path = folder / "genai_config.json"
    edit_json(path, lambda c: c["model"]["decoder"]["session_options"].update(more))
    loop = greedy(folder)
    assert loop.engine.info.details["devices"] == "cpu"
    assert loop.answer(CHAT) == "Rome.<|im_end|>"


SESSIONS: dict[str, Any] = {
    "statistics": {"session.collect_node_memory_stats_to_file": "WRITTEN"},
    "partitions": {"session.node_partition_config_file": "WRITTEN"},
    "experts": {"session.moe.offload.derived_cache_dir": "WRITTEN"},
    "a compiled context": {"ep.context_enable": "1"},
    "one that nobody knows": {"session.of_next_year": "1"},
    "a list": ["session.node_partition_config_file"],
}


def session_with(folder: Path, edit_json: Edit, more: Any, target: Path) -> None:
    """Set more of the decoder's session; `target` is the file that it names."""
    given = json.loads(json.dumps(more).replace("WRITTEN", str(target)))
    edit_json(
        folder / "genai_config.json",
        lambda c: c["model"]["decoder"].update(
            session_options=given | c["model"]["decoder"]["session_options"]
            if isinstance(given, dict)
            else given
        ),
    )


@pytest.mark.parametrize("kind", SESSIONS)
def test_a_folder_that_sets_more_of_sessions_than_speed_is_refused(
    open_model: Opener, folder: Path, edit_json: Edit, tmp_path: Path, kind: str
) -> None:
    target = tmp_path / "written"
    session_with(folder, edit_json, SESSIONS[kind], target)
    with pytest.raises(InvalidModelError, match=r"session_options.*refused"):
        open_model(folder)
    assert not target.exists()


def test_because_the_library_would_write_that_file(
    folder: Path, edit_json: Edit, tmp_path: Path
) -> None:
    target = tmp_path / "written"
    session_with(folder, edit_json, SESSIONS["partitions"], target)
    code = "import onnxruntime_genai as og, sys; og.Model(og.Config(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, folder], check=True)
    assert target.exists()


def test_options_of_a_run_are_looked_at_too(
    open_model: Opener, folder: Path, edit_json: Edit
) -> None:
    run = {"run_options": {"qnn.lora_config": "x.txt"}}
    edit_json(folder / "genai_config.json", lambda c: c["model"]["decoder"].update(run))
    with pytest.raises(InvalidModelError, match=r"qnn\.lora_config.*run_options.*refused"):
        open_model(folder)


def test_what_genais_builder_writes_of_sessions_is_taken(
    greedy: Callable[..., Any], folder: Path, edit_json: Edit
) -> None:
    more = {
        "intra_op_num_threads": 1,
        "ep.cuda.fpa_intb_gemm": "0",
        "optimization.disable_specified_optimizers": "MatMulNBitsFusion",
        "session.use_device_allocator_for_initializers": "1",
    }
    path = folder / "genai_config.json"
    edit_json(path, lambda c: c["model"]["decoder"]["session_options"].update(more))
    assert greedy(folder).answer(CHAT) == "Rome.<|im_end|>"


def test_an_object_of_the_configuration_has_no_key_twice(open_model: Opener, folder: Path) -> None:
    path = folder / "genai_config.json"
    hidden = '"provider_options": [{"qnn": {"backend_path": "x.so"}, "qnn": {}}], '
    text = path.read_text().replace('"provider_options": []', hidden.rstrip(", "), 1)
    assert "x.so" in text
    path.write_text(text)
    with pytest.raises(InvalidModelError, match="key 'qnn' twice"):
        open_model(folder)
