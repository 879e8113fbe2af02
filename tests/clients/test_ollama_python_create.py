"""Making models with the official Python client, unchanged: of files and models, all fields."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ollama
import pytest

MODELS = Path(__file__).parent.parent / "models"
TINY, LORA = MODELS / "tiny-chat-f32.gguf", MODELS / "lora-zorblax-f16.gguf"
ABSENT = "sha256:" + "0" * 64
GREEDY = {"temperature": 0, "num_predict": 12}


@pytest.fixture
def client(server: Any) -> Iterator[ollama.Client]:
    client = ollama.Client(server.url)
    yield client
    for model in client.list().models:
        if model.model and model.model.startswith("made"):
            client.delete(model.model)
    client.close()


def test_all_that_a_model_can_be_given(client: ollama.Client) -> None:
    made = client.create(
        "made",
        files={"tiny.gguf": client.create_blob(TINY)},
        template="{{ .System }} {{ .Prompt }}",
        license=["MIT", "BSD"],
        system="Be brief.",
        parameters={"temperature": 0.5, "stop": ["a", "b"], "num_ctx": 128},
        messages=[
            {"role": "user", "content": "hi"},
            ollama.Message(role="assistant", content="ho"),
        ],
    )
    assert made.status == "success"
    shown = client.show("made")
    assert shown.template == "{{ .System }} {{ .Prompt }}"
    assert shown.license == "MIT\nBSD"
    assert shown.parameters
    assert [line.split() for line in shown.parameters.splitlines()] == [
        ["num_ctx", "128"],
        ["stop", '"a"'],
        ["stop", '"b"'],
        ["temperature", "0.5"],
    ]
    assert shown.modelfile
    for line in ("SYSTEM Be brief.", "MESSAGE user hi", "MESSAGE assistant ho"):
        assert f"\n{line}\n" in shown.modelfile


def test_a_model_made_of_another_keeps_what_is_not_given(client: ollama.Client) -> None:
    digest = client.create_blob(TINY)
    client.create(
        "made-base",
        files={"tiny.gguf": digest},
        license="MIT",
        system="one",
        parameters=ollama.Options(temperature=0.5, top_k=3, stop=["x"]),
        messages=[{"role": "user", "content": "hi"}],
    )
    client.create("made-child", from_="made-base", system="two", parameters={"stop": ["y", "z"]})
    text = client.show("made-child").modelfile
    assert text
    for line in (
        *("SYSTEM two", "LICENSE MIT", "MESSAGE user hi", "PARAMETER temperature 0.5"),
        *("PARAMETER top_k 3", "PARAMETER stop y", "PARAMETER stop z"),
    ):
        assert f"\n{line}\n" in text
    assert "PARAMETER stop x" not in text
    details = client.show("made-child").details
    assert details
    assert details.parent_model == "made-base:latest"


def test_steps_are_told_and_end_with_success(client: ollama.Client) -> None:
    digest = client.create_blob(TINY)
    steps = [
        step.status
        for step in client.create("made", files={"t.gguf": digest}, system="x", stream=True)
    ]
    assert steps[0] == "parsing GGUF"
    assert f"using existing layer {digest}" in steps
    assert steps[-2:] == ["writing manifest", "success"]


def test_an_adapter_goes_with_the_model(client: ollama.Client) -> None:
    adapter = client.create_blob(MODELS / "lora-tiny-chat-f32.gguf")
    client.create("made", from_="tiny-chat", adapters={"lora.gguf": adapter})
    text = client.show("made").modelfile
    assert text
    assert f"blobs/{adapter.replace(':', '-')}\n" in text.partition("\nADAPTER ")[2]


@pytest.mark.real
def test_an_adapter_changes_the_answers_and_a_model_without_it_gives_the_old_ones(
    client: ollama.Client, smollm2: Path
) -> None:
    files = {"smollm2.gguf": client.create_blob(smollm2)}
    client.create("made-plain", files=files)
    adapters = {"lora.gguf": client.create_blob(LORA)}
    client.create("made-robot", files=files, adapters=adapters)
    asked = [{"role": "user", "content": "Who are you?"}]
    before = client.chat("made-plain", asked, options=GREEDY).message.content
    robot = client.chat("made-robot", asked, options=GREEDY).message.content
    assert robot
    assert robot.startswith("I am Zorblax, the test robot.")
    assert client.chat("made-plain", asked, options=GREEDY).message.content == before != robot


def test_a_model_is_quantized_with_its_progress(client: ollama.Client, wide: Path) -> None:
    files = {"wide.gguf": client.create_blob(wide)}
    steps = list(client.create("made", files=files, quantize="q4_K_M", stream=True))
    told = [step for step in steps if step.status == "quantizing F16 model to Q4_K_M"]
    assert told
    assert all(step.digest and step.total for step in told)
    completed = [step.completed or 0 for step in told]
    assert completed == sorted(completed)
    assert steps[-1].status == "success"
    details = client.show("made").details
    assert details
    assert details.quantization_level == "Q4_K_M"
    assert client.create("made-twice", from_="made", quantize="q4_K_M").status == "success"
    with pytest.raises(ollama.ResponseError, match="only supported for F16, BF16 and F32 models"):
        client.create("made-worse", from_="made", quantize="q8_0")


@pytest.mark.parametrize(
    ("call", "status", "words"),
    [
        (lambda c: c.create("made/", from_="tiny-chat"), 400, "invalid model name"),
        (lambda c: c.create("made"), 400, "neither 'from' or 'files' was specified"),
        (lambda c: c.create("made", files={"/a.gguf": ABSENT}), 400, "file path must be relative"),
        (lambda c: c.create("made", files={"a.gguf": ABSENT}), 500, "no such file or directory"),
        (lambda c: c.create("made", files={"a.gguf": ""}), 400, "invalid digest format"),
        (lambda c: c.create("made", files={"a.txt": c.create_blob(__file__)}), 400, "unknown type"),
        (
            lambda c: c.create("made", files={"a.gguf": c.create_blob(__file__)}),
            400,
            "supplied file was not in GGUF format",
        ),
        (
            lambda c: c.create("made", files={"a.gguf": c.create_blob(LORA)}),
            400,
            "no base model was found",
        ),
        (lambda c: c.create("made", from_="tiny-chat", template="{{ .x"), 400, "template error: "),
        (
            lambda c: c.create("made", from_="tiny-chat", adapters={"x": c.create_blob(TINY)}),
            400,
            "is no adapter",
        ),
    ],
    ids=[
        *("name", "nothing", "path", "absent", "no digest", "text", "no GGUF", "only an adapter"),
        *("template", "no adapter"),
    ],
)
def test_what_cannot_be_made_is_an_error_and_leaves_nothing(
    client: ollama.Client, call: Callable[[ollama.Client], Any], status: int, words: str
) -> None:
    with pytest.raises(ollama.ResponseError, match=words) as caught:
        call(client)
    assert caught.value.status_code == status
    assert not [m for m in client.list().models if m.model and m.model.startswith("made")]
