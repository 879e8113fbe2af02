"""`corral create` and `show` beside a real server: what is made, shown, and made again."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import pytest

from corral_kernel.gguf import read_header

ROOT = Path(__file__).parents[2]
MAKING = ROOT / "tests" / "plugins" / "safetensors" / "making.py"
MODELS = Path(__file__).parents[1] / "models"
LIMIT_S = 300
NASTY = '''\
FROM {models}/tiny-chat-f32.gguf
ADAPTER {models}/lora-tiny-chat-f32.gguf
TEMPLATE """{{{{ .System }}}}
"{{{{ .Prompt }}}}" """
SYSTEM """"Hi" is all that you say.\t"""
LICENSE MIT
LICENSE """
  BSD
"""
REQUIRES v0.14.0
RENDERER qwen3-coder
PARSER qwen3-coder
PARAMETER stop "
"
PARAMETER stop """"a" and "b\""""
PARAMETER stop #
PARAMETER num_ctx 1048576
PARAMETER temperature 0.3
PARAMETER use_mmap false
PARAMETER min_p 1e-5
PARAMETER seed -3
PARAMETER samplers top_k
PARAMETER samplers {{"name": "min_p", "min_p": 0.1}}
MESSAGE user \'\'\'x\'\'\'
MESSAGE assistant """"
two\r
lines """
MESSAGE system # no comment
'''


class Ended(NamedTuple):
    """How a command ended; line ends are as they were written."""

    status: int
    out: str
    err: str


@pytest.fixture(scope="module")
def server(start_server: Callable[..., Any]) -> Any:
    return start_server()


@pytest.fixture
def corral(server: Any, tmp_path: Path) -> Callable[..., Ended]:
    """Runs a command in an empty folder."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CORRAL_", "OLLAMA_"))}
    env = kept | {"CORRAL_HOST": server.url, "CORRAL_HOME": str(tmp_path / "home")}

    def run(*words: str) -> Ended:
        done = subprocess.run(
            [sys.executable, "-m", "corral_cli", *words],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            check=False,
            timeout=LIMIT_S,
        )
        return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


def made_of(server: Any, model: str) -> tuple[list[tuple[str, str]], Any]:
    """Types and digests of the layers of a model, sorted, and its config."""
    models = server.home / "models"
    path = models / f"manifests/registry.ollama.ai/library/{model}/latest"
    manifest = json.loads(path.read_bytes())
    config = models / "blobs" / manifest["config"]["digest"].replace(":", "-")
    layers = sorted((layer["mediaType"], layer["digest"]) for layer in manifest["layers"])
    return layers, json.loads(config.read_bytes())


def test_a_modelfile_as_shown_makes_the_same_model_again(
    server: Any, corral: Any, tmp_path: Path
) -> None:
    (tmp_path / "Modelfile").write_bytes(NASTY.format(models=MODELS).encode())
    assert corral("create", "nasty").err.endswith("success\n")
    shown = corral("show", "--modelfile", "nasty").out
    assert "# No Modelfile can say" not in shown
    (tmp_path / "Again").write_bytes(shown.encode())

    again = corral("create", "again", "-f", "Again")

    assert again.status == 0, again.err
    assert "copying file" not in again.err  # the server has every blob
    assert made_of(server, "again") == made_of(server, "nasty")
    assert made_of(server, "again")[1]["requires"] == "0.14.0"
    for part in ("--parameters", "--system", "--template", "--license"):
        assert corral("show", part, "again").out == corral("show", part, "nasty").out
    assert corral("rm", "nasty", "again").status == 0


TINY_ROWS = ["architecture llama", "context length 256", "embedding length 64"]
LORA = "ADAPTER {models}/lora-tiny-chat-f32.gguf\n"


@pytest.mark.parametrize(
    ("text", "rows", "backend"),
    [
        (
            "FROM {models}/tiny-chat-f32.gguf\n" + LORA,
            [TINY_ROWS[0], "parameters 91K", *TINY_ROWS[1:], "quantization unknown"],
            "llamacpp",
        ),
        ("FROM {models}/tiny-chat-onnx\n", [*TINY_ROWS, "quantization unknown"], "onnx"),
        (
            "FROM {models}/gpt2byte-f16.ggml.bin\nPARAMETER model_type gpt2\n",
            ["architecture gpt2", "quantization unknown"],
            "ctransformers",
        ),
    ],
    ids=["adapter", "ONNX", "before GGUF"],
)
def test_models_of_each_kind_are_shown(
    corral: Any, tmp_path: Path, text: str, rows: list[str], backend: str
) -> None:
    lines = 'SYSTEM """\n one\n\ntwo\nthree"""\nLICENSE MIT\nREQUIRES 0.1.0\n'
    (tmp_path / "Modelfile").write_text(text.format(models=MODELS) + lines)
    assert corral("create", "kind").status == 0
    shown = corral("show", "kind")
    sections = {
        title.strip(): [" ".join(row.split()) for row in body]
        for title, *body in (part.splitlines() for part in shown.out.split("\n\n") if part)
    }
    assert sections["Model"] == [*rows, "requires 0.1.0"]
    assert sections["Capabilities"] == ["completion"]
    assert sections["Backend"][0].split()[0] == backend
    assert sections["System"] == ["one", "two", "..."]
    assert sections["License"] == ["MIT"]
    assert corral("rm", "kind").status == 0


# ------------------------------------------------------------------------- made into something else


@pytest.fixture(scope="session")
def making(load_module: Callable[[Path, str], Any]) -> Any:
    """See tests/plugins/safetensors/making.py."""
    return load_module(MAKING, "cli_making")


@pytest.fixture
def shards(making: Any, tmp_path: Path) -> Path:
    """A small model in safetensors files, three of them."""
    config = making.MODELS["llama"]
    weights = making.random_weights(making.shapes_of(config), config)
    folder: Path = making.write_model(tmp_path / "shards", config, weights, shards=3)
    return folder


def imatrix(path: Path, model: Path) -> Path:
    """An importance matrix for a model, in which all columns matter alike."""
    writer = gguf.GGUFWriter(path, "unused")
    writer.add_type("imatrix")
    for tensor in read_header(model).tensors:
        if len(tensor.shape) == 2 and tensor.name != "token_embd.weight":
            ones = np.ones((1, tensor.shape[0]), np.float32)
            writer.add_tensor(f"{tensor.name}.in_sum2", ones)
            writer.add_tensor(f"{tensor.name}.counts", np.ones((1, 1), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def quantization(corral: Any, model: str) -> str:
    (line,) = [line for line in corral("show", model).out.splitlines() if "quantization" in line]
    return line.split()[1]


def test_a_folder_of_shards_is_converted_quantized_and_answers(
    corral: Any, shards: Path, tmp_path: Path
) -> None:
    (tmp_path / "Modelfile").write_text("FROM ./shards\nPARAMETER num_predict 4\n")
    made = corral("create", "converted")
    assert made.status == 0, made.err
    assert made.err.startswith(f"reading {len(list(shards.iterdir()))} files\n")
    assert "\nconverting model\n" in made.err
    assert quantization(corral, "converted") == "F16"
    smaller = corral("quantize", "converted", "q8_0", "smaller")
    assert smaller.status == 0, smaller.err
    assert "quantizing F16 model to Q8_0\n" in smaller.err
    assert smaller.err.endswith("writing manifest\nsuccess\n")
    assert quantization(corral, "smaller") == "Q8_0"
    at_once = corral("create", "at-once", "-q", "Q8_0")
    assert at_once.status == 0, at_once.err
    assert quantization(corral, "at-once") == "Q8_0"
    for model in ("converted", "smaller", "at-once"):
        assert corral("run", model, "abc").status == 0
    assert corral("rm", "converted", "smaller", "at-once").status == 0


def test_an_adapter_of_peft_is_converted_for_its_base(
    server: Any, corral: Any, making: Any, shards: Path, tmp_path: Path
) -> None:
    width = making.MODELS["llama"]["hidden_size"]
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    pair = {name.format("A"): np.ones((2, width)), name.format("B"): np.ones((width, 2))}
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    making.write_safetensors(adapter / "adapter_model.safetensors", pair)
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    (tmp_path / "Modelfile").write_text(
        f"FROM ./{shards.name}\nADAPTER ./adapter/adapter_model.safetensors\n"
        "PARAMETER num_predict 4\n"
    )

    made = corral("create", "adapted")

    assert made.status == 0, made.err
    assert "\nconverting model\n" in made.err
    assert "\nconverting adapter\n" in made.err
    kinds = [kind.rpartition(".")[2] for kind, _ in made_of(server, "adapted")[0]]
    assert kinds.count("adapter") == kinds.count("model") == 1
    assert corral("run", "adapted", "abc").status == 0
    assert corral("rm", "adapted").status == 0


def test_the_parts_of_a_model_are_one_again(corral: Any, make_wide: Any, tmp_path: Path) -> None:
    whole = make_wide(tmp_path / "whole.gguf")
    (tmp_path / "m").mkdir()
    make_wide(tmp_path / "m" / "part.gguf", split_max_tensors=4)
    parts = sorted((tmp_path / "m").glob("*.gguf"))
    assert len(parts) > 1
    (tmp_path / "Modelfile").write_text(f"FROM ./m/{parts[0].name}\n")
    made = corral("create", "joined")
    assert made.status == 0, made.err
    (tmp_path / "Whole").write_text(f"FROM {whole}\n")
    assert corral("create", "whole", "-f", "Whole").status == 0
    rows = [
        corral("show", "-v", name).out.partition("  Tensors\n")[2] for name in ("joined", "whole")
    ]
    assert sorted(rows[0].splitlines()) == sorted(rows[1].splitlines())
    assert corral("rm", "joined", "whole").status == 0


def test_an_importance_matrix_is_used_where_a_type_needs_one(
    corral: Any, wide: Path, tmp_path: Path
) -> None:
    shutil.copy(wide, tmp_path / "wide.gguf")
    imatrix(tmp_path / "matrix.gguf", wide)
    words = ("quantize", "./wide.gguf", "iq2_xs", "tiny")
    without = corral(*words)
    assert without.status == 1
    assert "importance matrix" in without.err
    made = corral(*words, "--imatrix", "matrix.gguf")
    assert made.status == 0, made.err
    assert quantization(corral, "tiny") == "IQ2_XS"
    again = corral("quantize", "tiny", "q4_0", "tinier")
    assert again.status == 1
    assert "quantization is only supported for F16, BF16 and F32 models" in again.err
    assert corral("rm", "tiny").status == 0
    assert corral("show", "tinier").status == 1


def test_a_draft_goes_with_the_model_and_has_a_type_of_its_own(
    server: Any, corral: Any, make_wide: Any, tmp_path: Path
) -> None:
    make_wide(tmp_path / "big.gguf", layers=2)
    make_wide(tmp_path / "small.gguf", seed=1)
    (tmp_path / "Modelfile").write_text("FROM ./big.gguf\nDRAFT ./small.gguf\n")
    made = corral("create", "drafted", "--draft-quantize", "q8_0")
    assert made.status == 0, made.err
    assert "Q8_0\n" in made.err
    (tmp_path / "Again").write_text(corral("show", "--modelfile", "drafted").out)
    assert corral("create", "again", "-f", "Again").status == 0
    layers = [
        [layer for layer in made_of(server, model)[0] if not layer[0].endswith(".template")]
        for model in ("drafted", "again")  # of the second, the template that is used anyway
    ]
    assert layers[0] == layers[1]
    assert {kind.rpartition(".")[2] for kind, _ in layers[0]} == {"model", "draft"}
    assert corral("rm", "drafted", "again").status == 0


def test_ctrl_c_leaves_nothing_of_a_model_that_was_being_made(
    server: Any, corral: Any, make_wide: Any, tmp_path: Path
) -> None:
    make_wide(tmp_path / "long.gguf", layers=60)
    (tmp_path / "Modelfile").write_text("FROM ./long.gguf\n")
    assert corral("create", "long").status == 0
    before = sorted((server.home / "models" / "blobs").iterdir())

    with subprocess.Popen(
        [sys.executable, "-m", "corral_cli", "quantize", "long", "q2_k", "short"],
        env=os.environ | {"CORRAL_HOST": server.url, "CORRAL_HOME": str(tmp_path / "home")},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "quantizing F16 model to Q2_K\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=LIMIT_S)

    assert (process.returncode, err) == (130, "")
    making = server.home / "models" / "making"
    for _ in range(100):
        if not making.is_dir() or not list(making.iterdir()):
            break
        corral("list")
    else:
        pytest.fail("the server goes on")
    assert sorted((server.home / "models" / "blobs").iterdir()) == before
    assert corral("show", "short").status == 1
    assert corral("rm", "long").status == 0


def test_the_types_that_there_are_can_be_listed(corral: Any) -> None:
    lines = corral("quantize", "--list").out.splitlines()
    header, *rows = [re.split(" {2,}", line)[:4] for line in lines]
    assert header == ["NAME", "BITS", "IMATRIX", "QUANTIZERS"]
    makers = {name: who for name, _, _, who in rows}
    assert len(makers) == len(rows), "each type once"
    assert (makers["Q4_K_M"], makers["INT8"]) == ("llamacpp", "onnxruntime")
    assert makers["Q8_0"] == "llamacpp, numpy"


def test_what_cannot_be_quantized_so_is_told(corral: Any, wide: Path, tmp_path: Path) -> None:
    shutil.copy(wide, tmp_path / "wide.gguf")
    found = corral("quantize", "./wide.gguf", "q9_9", "new")
    assert found.status == 1
    assert "unsupported quantization type Q9_9 - supported types are " in found.err


@pytest.mark.real
@pytest.mark.usefixtures("smollm2")
def test_the_modelfile_of_the_page_is_a_pirate(corral: Any, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "modelfile.md").read_text()
    (block,) = re.findall(r"```modelfile\n(.*?)```", page, re.DOTALL)
    (tmp_path / "Modelfile").write_text(block)
    assert corral("create", "pirate").err.endswith("success\n")
    shown = corral("show", "--modelfile", "pirate").out
    assert next(line for line in block.splitlines() if line.startswith("SYSTEM")) in shown
    assert corral("rm", "pirate").status == 0
