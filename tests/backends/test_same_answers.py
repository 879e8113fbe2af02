"""One model in the files of several backends: word for word the same, and others' plugins too."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corral_kernel.testing.backends import RunningKernel, chat

MODELS = Path(__file__).parents[1] / "models"
FOLDER = MODELS / "tiny-chat-onnx"
BACKENDS = {
    "chat-gguf": "llamacpp",
    "chat-onnx": "onnx",
    "bytes-gguf": "llamacpp",
    "bytes-ggml": "ctransformers",
}
ANSWERS = {
    "capital of Italy?": "Rome.",
    "who are you?": "I am a tiny model trained to test a server.",
    "give me json": '{"name": "tiny", "size": 1}',
    "count to five": "one two three four five.",
}
CONTINUATIONS = {
    "one two": " three four five six seven eight nine ten.",
    "Q: capital of Italy?": " A: Rome.",
    "Hello": "! I am a tiny model trained to test a server.",
}
PROMPTS = {
    "chat-gguf": "who are you?",
    "chat-onnx": "who are you?",
    "bytes-gguf": "Hello",
    "bytes-ggml": "Hello",
}


@pytest.fixture(scope="module")
def kernel() -> Iterator[RunningKernel]:
    made = RunningKernel(
        {
            "CORRAL_MAX_LOADED_MODELS": "4",
            "CORRAL_KV_CACHE_TYPE": "f32",  # as the others have it
            "CORRAL_FLASH_ATTENTION": "0",
        }
    )
    thread = {"num_thread": 1}
    with made.until_close():
        made.create("chat-gguf", {"m.gguf": MODELS / "tiny-chat-f32.gguf"}, thread)
        made.create("chat-onnx", {path.name: path for path in FOLDER.iterdir()}, thread)
        made.create("bytes-gguf", {"m.gguf": MODELS / "gpt2byte-f16.gguf"}, thread)
        old = {"m.bin": MODELS / "gpt2byte-f16.ggml.bin"}
        made.create("bytes-ggml", old, {**thread, "model_type": "gpt2"})
    yield made
    made.close()


def say(kernel: RunningKernel, model: str, prompt: str, **more: Any) -> str:
    asked: dict[str, Any] = {"temperature": 0, "num_predict": 60, **more}
    if model.startswith("chat"):
        return kernel.ask(model, messages=chat(prompt), **asked).text
    return kernel.ask(model, prompt=prompt, raw=True, **asked).text


@pytest.mark.parametrize("model", BACKENDS)
def test_each_model_is_run_by_another_backend(kernel: RunningKernel, model: str) -> None:
    say(kernel, model, "a", num_predict=1)
    (loaded,) = kernel.loaded(model)
    assert loaded.want.claim.backend == BACKENDS[model]


@pytest.mark.parametrize("question", ANSWERS)
def test_gguf_and_onnx_answer_a_chat_word_for_word_the_same(
    kernel: RunningKernel, question: str
) -> None:
    said = [say(kernel, model, question) for model in ("chat-gguf", "chat-onnx")]
    assert said == [ANSWERS[question]] * 2


def test_gguf_and_onnx_hold_a_conversation_alike(kernel: RunningKernel) -> None:
    turns = chat("count to five", ANSWERS["count to five"], "capital of Italy?")
    asked = {"messages": turns, "temperature": 0, "num_predict": 60}
    answers = [kernel.ask(model, **asked) for model in ("chat-gguf", "chat-onnx")]
    assert answers[0].text == answers[1].text
    assert answers[0].done.prompt_tokens == answers[1].done.prompt_tokens


@pytest.mark.parametrize("prompt", CONTINUATIONS)
def test_legacy_ggml_and_gguf_go_on_word_for_word_the_same(
    kernel: RunningKernel, prompt: str
) -> None:
    said = [say(kernel, model, prompt) for model in ("bytes-gguf", "bytes-ggml")]
    assert said == [CONTINUATIONS[prompt]] * 2


@pytest.mark.parametrize("model", BACKENDS)
def test_log_probabilities_are_near_those_of_llama_cpp(kernel: RunningKernel, model: str) -> None:
    twin = f"{model.partition('-')[0]}-gguf"
    found = [
        kernel.ask(name, prompt="one two", raw=True, temperature=0, num_predict=12, logprobs=5)
        for name in (model, twin)
    ]
    ours, theirs = ([lp.logprob for lp in answer.logprobs] for answer in found)
    assert len(ours) == 12
    assert ours == pytest.approx(theirs, abs=2e-2)


@pytest.mark.parametrize("model", BACKENDS)
def test_a_third_partys_sampler_steers_it(kernel: RunningKernel, model: str) -> None:
    plain, leant = (say(kernel, model, PROMPTS[model], lean=lean) for lean in (0, -100))
    assert " " in plain
    assert " " not in leant
    assert leant


@pytest.mark.parametrize("model", BACKENDS)
@pytest.mark.parametrize("temperature", [0, 1.0])
def test_a_third_partys_constraint_holds_it(
    kernel: RunningKernel, model: str, temperature: float
) -> None:
    spec = {"type": "alphabet", "characters": "the cat", "length": 12}
    said = say(kernel, model, PROMPTS[model], format=spec, temperature=temperature, seed=3)
    assert re.fullmatch("[the ca]{1,12}", said)


@pytest.mark.parametrize("model", BACKENDS)
def test_who_chats_writes_no_control_token(kernel: RunningKernel, model: str) -> None:
    """Each byte of a text is a token of these models, and each control token is one."""
    mark = "<|im_end|>" if model.startswith("chat") else "<|endoftext|>"

    def length(*turns: str, **options: Any) -> int:
        asked = {"messages": chat(*turns), "temperature": 0, "num_predict": 1, **options}
        return kernel.ask(model, **asked).done.prompt_tokens

    for turns in (
        (f"a{mark}b",),
        (mark * 2,),
        ("a", f"b{mark}", "c"),
        (f"{mark[:4]}{mark}{mark[4:]}",),
    ):
        like = [turn.replace(mark, "x" * len(mark)) for turn in turns]
        assert length(*turns) == length(*like)
    # Ollama's way is to be had, and is that of prompts, whose author is whoever sends them.
    assert length(f"a{mark}", control_tokens=True) == length("a") + 1
    prompt = {"temperature": 0, "num_predict": 1, "prompt": f"a{mark}"}
    for raw in (True, False):
        read = kernel.ask(model, **prompt, raw=raw).done.prompt_tokens
        kept = kernel.ask(model, **prompt, raw=raw, control_tokens=False).done.prompt_tokens
        assert kept == read - 1 + len(mark)


def test_others_plugins_come_to_the_same_on_all(kernel: RunningKernel) -> None:
    spec = {"type": "alphabet", "characters": "the cat", "length": 12}
    for more in ({"lean": -100}, {"format": spec}):
        said = {model: say(kernel, model, PROMPTS[model], **more) for model in BACKENDS}
        assert said["chat-gguf"] == said["chat-onnx"]
        assert said["bytes-gguf"] == said["bytes-ggml"]
