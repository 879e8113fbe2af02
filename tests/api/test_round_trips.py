"""From safetensors to answers: converted, quantized, with adapters, each through the API."""

import hashlib
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

LIMIT_S = 90.0
MODELS = Path(__file__).parents[1] / "models"
HF = MODELS / "tiny-chat-hf"
WEIGHTS = "model.safetensors"
LAYERS, WIDTH, RANK = 2, 64, 4

Tensors = Mapping[str, "np.ndarray[Any, Any]"]


class Library:
    """A server, and what is made in it."""

    def __init__(self, url: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=LIMIT_S)

    def upload(self, data: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.client.post(f"/api/blobs/{digest}", content=data).raise_for_status()
        return digest

    def create(self, model: str, **fields: Any) -> list[str]:
        answer = self.client.post("/api/create", json={"model": model, **fields})
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert lines[-1] == {"status": "success"}, lines[-1]
        return [line["status"] for line in lines]

    def chat(self, model: str) -> str:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": "What is your name?"}],
            "stream": False,
            "options": {"temperature": 0, "num_predict": 12, "num_ctx": 256},
        }
        answer = self.client.post("/api/chat", json=body)
        assert answer.status_code == 200, answer.text
        content: str = answer.json()["message"]["content"]
        return content

    def level(self, model: str) -> str:
        shown = self.client.post("/api/show", json={"model": model}).json()
        level: str = shown["details"]["quantization_level"]
        return level


@pytest.fixture(scope="module")
def library(start_server: Callable[..., Any]) -> Iterator[Library]:
    library = Library(start_server().url)
    gguf = library.upload((MODELS / "tiny-chat-f32.gguf").read_bytes())
    library.create("reference", files={"tiny.gguf": gguf})
    yield library
    library.client.close()


def safetensors(tensors: Tensors) -> bytes:
    """Write float32 tensors in that format."""
    head: dict[str, Any] = {}
    data = b""
    for name, array in tensors.items():
        raw = array.astype("<f4").tobytes()
        offsets = [len(data), len(data) + len(raw)]
        head[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": offsets}
        data += raw
    encoded = json.dumps(head).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


def read_safetensors(raw: bytes) -> dict[str, Any]:
    (size,) = struct.unpack_from("<Q", raw)
    head = json.loads(raw[8 : 8 + size])
    data = raw[8 + size :]
    return {
        name: np.frombuffer(data[slice(*entry["data_offsets"])], "<f4").reshape(entry["shape"])
        for name, entry in head.items()
        if name != "__metadata__"
    }


def whole(library: Library) -> dict[str, str]:
    return {path.name: library.upload(path.read_bytes()) for path in HF.iterdir()}


def sharded(library: Library) -> dict[str, str]:
    tensors = read_safetensors((HF / WEIGHTS).read_bytes())
    names = sorted(tensors)
    halves = (names[: len(names) // 2], names[len(names) // 2 :])
    files = {name: digest for name, digest in whole(library).items() if name != WEIGHTS}
    index: dict[str, str] = {}
    for number, half in enumerate(halves, 1):
        name = f"model-{number:05}-of-00002.safetensors"
        files[name] = library.upload(safetensors({key: tensors[key] for key in half}))
        index |= dict.fromkeys(half, name)
    document = {"metadata": {"total_size": 1}, "weight_map": index}
    files["model.safetensors.index.json"] = library.upload(json.dumps(document).encode())
    return files


@pytest.fixture(scope="module")
def converted(library: Library) -> str:
    statuses = library.create("converted", files=whole(library))
    assert statuses[0] == "converting model"
    return "converted"


def test_a_converted_model_says_what_its_gguf_says(library: Library, converted: str) -> None:
    answer = library.chat(converted)
    assert answer
    assert answer == library.chat("reference")


def test_a_sharded_one_is_the_same_model(library: Library, converted: str) -> None:
    library.create("sharded", files=sharded(library))
    digests = {
        name: library.client.post("/api/show", json={"model": name}).json()["model_info"]
        for name in (converted, "sharded")
    }
    assert digests["sharded"] == digests[converted]
    assert library.chat("sharded") == library.chat(converted)


@pytest.mark.parametrize("level", ["Q8_0", "Q4_K_M"])
def test_it_is_quantized_and_chats(library: Library, converted: str, level: str) -> None:
    library.create(f"small-{level}", **{"from": converted}, quantize=level)
    assert library.level(f"small-{level}") == level
    assert library.chat(f"small-{level}")
    library.create(f"at-once-{level}", files=whole(library), quantize=level)
    assert library.chat(f"at-once-{level}") == library.chat(f"small-{level}")


def test_eight_bits_change_nothing_of_the_answer(library: Library, converted: str) -> None:
    library.create("eight", **{"from": converted}, quantize="q8_0")
    assert library.chat("eight") == library.chat("reference")


def peft(library: Library) -> dict[str, str]:
    """A LoRA adapter as PEFT saves it; loud enough to change answers."""
    random = np.random.default_rng(5)
    tensors: dict[str, Any] = {}
    for layer in range(LAYERS):
        stem = f"base_model.model.model.layers.{layer}.self_attn.o_proj"
        tensors[f"{stem}.lora_A.weight"] = random.standard_normal((RANK, WIDTH))
        tensors[f"{stem}.lora_B.weight"] = random.standard_normal((WIDTH, RANK))
    config = {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": 4 * RANK,
        "target_modules": ["o_proj"],
        "base_model_name_or_path": "tiny-chat",
        "bias": "none",
        "task_type": "CAUSAL_LM",
    }
    return {
        "adapter_config.json": library.upload(json.dumps(config).encode()),
        "adapter_model.safetensors": library.upload(safetensors(tensors)),
    }


def test_a_safetensors_adapter_changes_the_answer_and_its_removal_restores_it(
    library: Library, converted: str
) -> None:
    before = library.chat(converted)
    statuses = library.create("adapted", **{"from": converted}, adapters=peft(library))
    assert statuses[0] == "converting adapter"
    assert library.chat("adapted") != before
    assert library.chat(converted) == before
    library.create("adapted", **{"from": converted})
    assert library.chat("adapted") == before


def test_an_adapter_for_another_model_is_refused_in_words(library: Library) -> None:
    other = library.upload((MODELS / "gpt2byte-f16.gguf").read_bytes())
    library.create("gpt2", files={"gpt2.gguf": other})
    body = {"model": "m", "from": "gpt2", "adapters": peft(library), "stream": False}
    answer = library.client.post("/api/create", json=body)
    assert answer.status_code == 400
    assert "unsupported architecture" in answer.json()["error"]


def test_an_architecture_that_nobody_converts_is_refused_in_words(library: Library) -> None:
    files = whole(library)
    files["config.json"] = library.upload(b'{"architectures": ["NobodyForCausalLM"]}')
    for config, words in (
        (b'{"architectures": ["NobodyForCausalLM"]}', 'unsupported architecture "NobodyFor'),
        (b"{}", "unknown architecture"),
    ):
        files["config.json"] = library.upload(config)
        body = {"model": "m", "files": files, "stream": False}
        answer = library.client.post("/api/create", json=body)
        assert answer.status_code == 500
        assert words in answer.json()["error"]
