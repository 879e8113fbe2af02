"""`/api/create` where something is made: converted, quantized, put together, given an adapter."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import httpx
import numpy as np
import ollama
import psutil
import pytest

LIMIT_S = 90.0
CONFIG = {"architectures": ["LlamaForCausalLM"]}


class Kitchen:
    """A server with the plugin `maker`, and its folder of models."""

    def __init__(self, server: Any, models: Path) -> None:
        self.server = server
        self.models = models
        self.client = httpx.Client(base_url=server.url, timeout=LIMIT_S)

    def upload(self, data: bytes | Path) -> str:
        raw = data.read_bytes() if isinstance(data, Path) else data
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        self.client.post(f"/api/blobs/{digest}", content=raw).raise_for_status()
        return digest

    def recipe(self, how: str, weights: Path, **more: Any) -> dict[str, str]:
        """Upload a folder that the plugin converts; give its `files`."""
        document = json.dumps({"how": how, **more}).encode()
        return {
            "recipe.json": self.upload(document),
            "source.safetensors": self.upload(weights),
        }

    def create(self, model: str, **fields: Any) -> list[dict[str, Any]]:
        """Create a model; give the lines of the answer."""
        answer = self.client.post("/api/create", json={"model": model, **fields})
        assert answer.status_code == 200, answer.text
        return [json.loads(line) for line in answer.text.splitlines()]

    def refusal(self, model: str, **fields: Any) -> tuple[int, str]:
        """Status and words of a create that is refused, and leaves no blob behind."""
        before = self.blobs()
        body = {"model": model, "stream": False, **fields}
        answer = self.client.post("/api/create", json=body)
        assert self.blobs() == before
        self.is_tidy()
        return answer.status_code, answer.json()["error"]

    def blobs(self) -> set[str]:
        return {path.name for path in (self.models / "blobs").iterdir()}

    def is_tidy(self) -> None:
        """Nothing is left of any task."""
        making = self.models / "making"
        assert not making.exists() or not list(making.iterdir())
        server = psutil.Process(self.server.process.pid)
        own = server.nice()
        assert not [child for child in server.children() if child.nice() > own], "tasks are nicer"

    def shown(self, model: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.client.post("/api/show", json={"model": model}).json()
        return answer

    def answer(self, model: str) -> str:
        body = {
            "model": model,
            "prompt": "abc",
            "raw": True,
            "stream": False,
            "logprobs": True,
            "options": {"num_predict": 4, "temperature": 0, "num_ctx": 64},
        }
        answer = self.client.post("/api/generate", json=body)
        assert answer.status_code == 200, answer.text
        return json.dumps(answer.json()["logprobs"])


@pytest.fixture(scope="module")
def kitchen(
    start_server: Callable[..., Any],
    making_plugin: Path,
    tmp_path_factory: pytest.TempPathFactory,
    wide: Path,
) -> Iterator[Kitchen]:
    models = tmp_path_factory.mktemp("models")
    kitchen = Kitchen(
        start_server(CORRAL_MODELS=str(models), PYTHONPATH=str(making_plugin)), models
    )
    kitchen.create("wide", files={"wide.gguf": kitchen.upload(wide)})
    yield kitchen
    kitchen.client.close()


def statuses(lines: list[dict[str, Any]]) -> list[str]:
    """Each status once, in order."""
    return list(dict.fromkeys(line["status"] for line in lines))


# ------------------------------------------------------------------------------------ quantizing


def test_the_types_are_listed_with_who_makes_them(kitchen: Kitchen) -> None:
    types = kitchen.client.get("/api/quantizers").json()["types"]
    by_name = {entry["name"]: entry for entry in types}
    assert len(by_name) == len(types), "each type once"
    facts = {"bits_per_weight": 4.89, "docs": "the usual choice", "imatrix": "takes"}
    by = {"name": "llamacpp", "plugin": "llamacpp", **facts}
    assert by_name["Q4_K_M"] == {"name": "Q4_K_M", **facts, "quantizers": [by]}
    assert by_name["IQ1_S"]["imatrix"] == "needs"
    (copier,) = by_name["COPY"]["quantizers"]
    assert copier["name"] == "copier"
    both = by_name["Q4_0"]["quantizers"]
    assert [(maker["name"], maker["imatrix"]) for maker in both] == [
        ("llamacpp", "takes"),
        ("numpy", "none"),
    ]
    assert by_name["Q4_0"]["bits_per_weight"] == both[0]["bits_per_weight"]
    bits = [entry["bits_per_weight"] for entry in types]
    assert bits == sorted(bits)


@pytest.mark.parametrize(
    ("asked", "level"), [("q8_0", "Q8_0"), ("Q4_K_M", "Q4_K_M"), ("q4_K", "Q4_K_M")]
)
def test_a_quantized_model_answers(kitchen: Kitchen, asked: str, level: str) -> None:
    lines = kitchen.create(f"quantized-{asked}", **{"from": "wide"}, quantize=asked)
    quantizing = [line for line in lines if line["status"] == f"quantizing F16 model to {level}"]
    blobs = [path.stat().st_size for path in (kitchen.models / "blobs").iterdir()]
    assert quantizing[0]["total"] == max(blobs)
    assert {line["digest"] for line in quantizing} == {"0000000000000000000"}
    done = [line.get("completed", 0) for line in quantizing]
    assert done == sorted(done)
    assert statuses(lines)[1] == "verifying conversion"
    assert statuses(lines)[-2:] == ["writing manifest", "success"]
    shown = kitchen.shown(f"quantized-{asked}")
    assert shown["details"]["quantization_level"] == level
    assert shown["details"]["family"] == "llama"
    kitchen.answer(f"quantized-{asked}")
    kitchen.is_tidy()


def test_the_python_client_quantizes(kitchen: Kitchen) -> None:
    client = ollama.Client(host=kitchen.server.url)
    with contextlib.closing(client._client):
        steps = list(client.create(model="by-client", from_="wide", quantize="q5_K_M", stream=True))
        assert steps[0].status == "quantizing F16 model to Q5_K_M"
        assert steps[0].total
        assert steps[-1].status == "success"
        details = client.show("by-client").details
    assert details is not None
    assert details.quantization_level == "Q5_K_M"


def test_an_importance_matrix_changes_what_is_made(kitchen: Kitchen, tmp_path: Path) -> None:
    path = tmp_path / "imatrix.gguf"
    writer = gguf.GGUFWriter(path, "unused")
    writer.add_type("imatrix")
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        width = 512 if name == "ffn_down" else 256
        sums = np.linspace(0.01, 9, width, dtype=np.float32).reshape(1, -1)
        writer.add_tensor(f"blk.0.{name}.weight.in_sum2", sums)
        writer.add_tensor(f"blk.0.{name}.weight.counts", np.ones((1, 1), np.float32))
    writer.add_tensor("output.weight.in_sum2", np.ones((1, 256), np.float32))
    writer.add_tensor("output.weight.counts", np.ones((1, 1), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    digest = kitchen.upload(path)
    kitchen.create("plain", **{"from": "wide"}, quantize="q4_k_s")
    kitchen.create("weighed", **{"from": "wide"}, quantize="q4_k_s", imatrix=digest)
    assert kitchen.answer("plain") != kitchen.answer("weighed")
    kitchen.create("tiny-one", **{"from": "wide"}, quantize="iq2_xs", imatrix=digest)
    assert kitchen.shown("tiny-one")["details"]["quantization_level"] == "IQ2_XS"
    kitchen.answer("tiny-one")


def test_a_model_that_is_of_that_type_stays_as_it_is(kitchen: Kitchen) -> None:
    before = kitchen.blobs()
    lines = kitchen.create("same", **{"from": "wide"}, quantize="f16")
    assert "quantizing" not in json.dumps(lines)
    assert len(kitchen.blobs() - before) <= 1  # the config, if any
    assert kitchen.shown("same")["details"]["quantization_level"] == "F16"


def test_what_cannot_be_quantized_is_told_in_the_contract_s_words(kitchen: Kitchen) -> None:
    kitchen.create("small", **{"from": "wide"}, quantize="q8_0")
    status, words = kitchen.refusal("m", **{"from": "small"}, quantize="q4_k_m")
    assert (status, words) == (
        500,
        "quantization is only supported for F16, BF16 and F32 models",
    )
    status, words = kitchen.refusal("m", **{"from": "wide"}, quantize="q7_x")
    assert status == 500
    assert words.startswith("unsupported quantization type Q7_X - supported types are ")
    assert "Q4_K_M" in words
    status, words = kitchen.refusal("m", **{"from": "wide"}, quantize="iq1_m")
    assert (status, words) == (
        400,
        "IQ1_M needs an importance matrix: send the digest of one as 'imatrix' (--imatrix FILE)",
    )
    matrix = kitchen.upload(b"no matrix at all")
    status, words = kitchen.refusal("m", **{"from": "wide"}, quantize="q4_k_m", imatrix=matrix)
    assert status == 500
    assert words.startswith("the importance matrix is damaged")


# ------------------------------------------------------------------------------------ converting


def test_a_converted_model_answers(kitchen: Kitchen, wide: Path) -> None:
    lines = kitchen.create("converted", files=kitchen.recipe("copy", wide))
    assert statuses(lines)[:2] == ["converting model", "verifying conversion"]
    assert all(line["total"] for line in lines if line.get("digest"))
    assert kitchen.answer("converted") == kitchen.answer("wide")


def test_a_model_is_converted_and_quantized_in_one_go(kitchen: Kitchen, wide: Path) -> None:
    before = kitchen.blobs()
    files = kitchen.recipe("copy", wide, twice=True)
    lines = kitchen.create("both", files=files, quantize="q8_0")
    assert [s for s in statuses(lines) if s.startswith(("conv", "quant"))] == [
        "converting model",
        "quantizing F16 model to Q8_0",
    ]
    assert kitchen.shown("both")["details"]["quantization_level"] == "Q8_0"
    made = kitchen.blobs() - before
    sizes = sorted((kitchen.models / "blobs" / name).stat().st_size for name in made)
    assert sizes[-1] < wide.stat().st_size, "the F16 that was between is gone again"


WAYS = {
    "its own words": ("fail", "the numbers of the model make no sense"),
    "a bug": ("raise_other", "ValueError: something else"),
    "a crash": ("die", "the process converting m was killed by SIGKILL: my last words"),
    "an exit": ("leave", "SystemExit: left early"),
}


@pytest.mark.parametrize(("how", "words"), WAYS.values(), ids=WAYS)
def test_a_conversion_that_fails_is_told_of_and_leaves_the_store_as_it_was(
    kitchen: Kitchen, wide: Path, how: str, words: str
) -> None:
    files = kitchen.recipe(how, wide)
    assert kitchen.refusal("m", files=files) == (500, words)
    answer = kitchen.client.post("/api/create", json={"model": "m", "files": files})
    assert json.loads(answer.text.splitlines()[-1]) == {"error": words}
    assert kitchen.client.post("/api/show", json={"model": "m"}).status_code == 404
    kitchen.is_tidy()


def test_what_a_converter_refuses_is_told_in_its_words(kitchen: Kitchen, wide: Path) -> None:
    files = kitchen.recipe("copy", wide, refuse='unsupported architecture "Mamba"')
    assert kitchen.refusal("m", files=files) == (500, 'unsupported architecture "Mamba"')
    assert kitchen.refusal("m", files={"a.bin": kitchen.upload(b"x")}) == (400, "unknown type")


def test_whatever_else_a_task_leaves_is_removed(kitchen: Kitchen, wide: Path) -> None:
    kitchen.create("left", files=kitchen.recipe("leave_things", wide))
    kitchen.is_tidy()


# ---------------------------------------------------------------------------- split ones, adapters


def test_a_split_model_answers_as_the_whole_one(
    kitchen: Kitchen, make_wide: Callable[..., Path], tmp_path: Path
) -> None:
    make_wide(tmp_path / "wide.gguf", split_max_tensors=4)
    files = {path.name: kitchen.upload(path) for path in tmp_path.glob("wide-*.gguf")}
    assert len(files) > 2
    lines = kitchen.create("split", files=files)
    assert "merging GGUF" in statuses(lines)
    assert kitchen.answer("split") == kitchen.answer("wide")


def lora(path: Path, width: int = 256) -> Path:
    """An adapter that changes what a wide model says; of another width it fits none."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 8.0)
    random = np.random.default_rng(3)
    a, b = random.standard_normal((4, width)), random.standard_normal((width, 4))
    writer.add_tensor("blk.0.attn_output.weight.lora_a", a.astype(np.float32))
    writer.add_tensor("blk.0.attn_output.weight.lora_b", b.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_an_adapter_changes_the_answer_and_without_it_the_answer_is_as_before(
    kitchen: Kitchen, tmp_path: Path
) -> None:
    before = kitchen.answer("wide")
    adapters = {"lora.gguf": kitchen.upload(lora(tmp_path / "lora.gguf"))}
    kitchen.create("adapted", **{"from": "wide"}, adapters=adapters)
    assert kitchen.answer("adapted") != before
    assert kitchen.answer("wide") == before
    kitchen.create("adapted", **{"from": "wide"})
    assert kitchen.answer("adapted") == before


def test_a_quantized_model_keeps_its_adapter(kitchen: Kitchen, tmp_path: Path) -> None:
    adapters = {"lora.gguf": kitchen.upload(lora(tmp_path / "lora.gguf"))}
    kitchen.create("q", **{"from": "wide"}, quantize="q8_0")
    kitchen.create("q-adapted", **{"from": "wide"}, quantize="q8_0", adapters=adapters)
    assert kitchen.answer("q") != kitchen.answer("q-adapted")


def test_an_adapter_s_trouble_is_a_400(kitchen: Kitchen, wide: Path, tmp_path: Path) -> None:
    narrow = lora(tmp_path / "narrow.gguf", width=128)
    for adapters, words in (
        ({"a.gguf": kitchen.upload(narrow)}, "adapter 'a.gguf': it is for another model"),
        ({"a.gguf": kitchen.upload(wide)}, "adapter 'a.gguf' is no adapter"),
        (kitchen.recipe("fail", wide), "the numbers of the model make no sense"),
        ({"a.gguf": "sha256:" + "0" * 64}, "no such file or directory"),
    ):
        status, told = kitchen.refusal("m", **{"from": "wide"}, adapters=adapters)
        assert status == 400
        assert words in told
