"""`/api/chat`: where it differs from `/api/generate`."""

import json
from typing import Any

import pytest

METRICS = (
    '"total_duration":<ns>,"load_duration":<ns>,"prompt_eval_count":<count>,'
    '"prompt_eval_duration":<ns>,"eval_count":<count>,"eval_duration":<ns>'
)
QUESTION = [{"role": "user", "content": "capital of Italy?"}]


def test_a_stream_is_lines_of_one_object_each(api: Any, model: str) -> None:
    *chunks, last = api.lines("/api/chat", {"model": model, "messages": QUESTION})
    head = f'{{"model":"{model}","created_at":"<utc>","message":{{"role":"assistant","content":'
    for chunk in chunks:
        api.check(chunk, head + '"<text>"},"done":false}')
    api.check(last, head + f'""}},"done":true,"done_reason":"stop",{METRICS}}}')
    assert "".join(json.loads(chunk)["message"]["content"] for chunk in chunks) == "Rome."


def test_one_object_holds_the_whole_answer(api: Any, model: str) -> None:
    body = {"model": model, "messages": QUESTION, "stream": False}
    answer = api.post("/api/chat", body)
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    api.check(
        answer.text,
        f'{{"model":"{model}","created_at":"<utc>","message":{{"role":"assistant",'
        f'"content":"Rome."}},"done":true,"done_reason":"stop",{METRICS}}}',
    )


@pytest.mark.parametrize("stream", [True, False, None])
@pytest.mark.parametrize(
    ("fields", "reason"),
    [({}, "load"), ({"messages": []}, "load"), ({"messages": [], "keep_alive": 0}, "unload")],
    ids=str,
)
def test_without_messages_the_model_is_loaded_or_unloaded(
    api: Any, model: str, fields: dict[str, Any], reason: str, stream: object
) -> None:
    answer = api.post("/api/chat", {"model": model, "stream": stream, **fields})
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    api.check(
        answer.text,
        f'{{"model":"{model}","created_at":"<utc>","message":{{"role":"assistant","content":""}},'
        f'"done":true,"done_reason":"{reason}"}}',
    )


WANTED_FORMAT = 'expected "json" or a valid JSON Schema object'
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        (
            {"tools": [TOOL]},
            (400, "registry.ollama.ai/library/conformance-tiny:latest does not support tools"),
        ),
        ({"think": True}, (400, '"conformance-tiny" does not support thinking')),
        ({"top_logprobs": 21}, (400, "top_logprobs must be between 0 and 20")),
        ({"options": {"seed": "x"}}, (500, 'option "seed" must be of type integer')),
        (
            {"format": "xml"},
            (500, f'invalid format: "\\"xml\\""; {WANTED_FORMAT}'),
        ),
        (
            {"format": {"type": "potato"}},
            (500, f'invalid format: "{{\\"type\\": \\"potato\\"}}"; {WANTED_FORMAT}: <any>'),
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("stream", [True, False])
def test_what_is_refused(
    api: Any, model: str, fields: dict[str, Any], answer: tuple[int, str], stream: object
) -> None:
    body = {"model": model, "messages": QUESTION, "stream": stream, **fields}
    api.check_error(api.post("/api/chat", body), *answer)


@pytest.mark.ours
def test_images_are_refused_by_name(api: Any, model: str) -> None:
    messages = [{"role": "user", "content": "what is it?", "images": ["iVBORw0KGgo="]}]
    answer = api.post("/api/chat", {"model": model, "messages": messages})
    api.check_error(answer, 400, '"conformance-tiny" does not support images: <any>')


def rendered(api: Any, model: str, messages: list[dict[str, Any]]) -> str:
    body = {"model": model, "messages": messages, "_debug_render_only": True}
    answer = api.post("/api/chat", body)
    api.check(
        answer.text,
        f'{{"model":"{model}","created_at":"<utc>","message":{{"role":"","content":""}},'
        '"done":false,"_debug_info":{"rendered_template":"<text>"}}',
    )
    text: str = answer.json()["_debug_info"]["rendered_template"]
    return text


def test_roles_are_lower_cased_and_not_checked(api: Any, model: str) -> None:
    messages = [{"role": "USER", "content": "a"}, {"role": "Whoever", "content": "b"}]
    text = rendered(api, model, messages)
    assert text.startswith("<|im_start|>user\na<|im_end|>\n<|im_start|>whoever\nb<|im_end|>\n")


def test_the_models_own_system_and_messages_go_first(api: Any, make_model: Any) -> None:
    named = make_model(
        "conformance-primed",
        system="Be brief.",
        messages=[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}],
    )
    text = rendered(api, named, [{"role": "user", "content": "x"}])
    wanted = ["system\nBe brief.", "user\nhi", "assistant\nho", "user\nx"]
    assert text.startswith("".join(f"<|im_start|>{turn}<|im_end|>\n" for turn in wanted))
    text = rendered(api, named, [{"role": "system", "content": "S"}, {"role": "user"}])
    assert "Be brief." not in text


def test_a_conversation_goes_on(api: Any, model: str) -> None:
    messages = [*QUESTION, {"role": "assistant", "content": "Rome."}]
    body = {"model": model, "messages": [*messages, *QUESTION], "stream": False}
    answer = api.post("/api/chat", body).json()
    assert answer["prompt_eval_count"] > 40
    assert answer["message"]["content"]


def test_logprobs_stand_before_the_metrics(api: Any, model: str) -> None:
    body = {"model": model, "messages": QUESTION, "logprobs": True, "stream": False}
    answer = api.post("/api/chat", body).json()
    assert list(answer)[:6] == [
        "model",
        "created_at",
        "message",
        "done",
        "done_reason",
        "logprobs",
    ]
    assert "".join(token["token"] for token in answer["logprobs"]).startswith("Rome.")


def test_json_mode_gives_an_object(api: Any, model: str) -> None:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "give me json"}],
        "format": "json",
        "stream": False,
        "options": {"num_predict": 60},
    }
    content = api.post("/api/chat", body).json()["message"]["content"]
    assert isinstance(json.loads(content), dict)


@pytest.mark.ours
def test_a_last_message_that_is_too_long_is_told_its_length_and_what_fits(
    api: Any, model: str
) -> None:
    message = {"role": "user", "content": "capital of Italy? " * 60}
    body = {"model": model, "messages": [message], "options": {"num_ctx": 64}}
    error = (
        "the prompt is longer than the context length<any>: it has <count> tokens, and 64 fit<any>"
    )
    api.check_error(api.post("/api/chat", body), 400, error)
    message["content"] *= 100  # so long that nobody counts
    error = (
        "the prompt is longer than the context length<any>: it has over 64 tokens, and 64 fit<any>"
    )
    api.check_error(api.post("/api/chat", body), 400, error)
    api.post("/api/chat", {"model": model, "messages": [], "keep_alive": 0})  # others want more
