"""Which template a model's prompt is put into, and what it makes of it: TEMPLATE, Jinja or none."""

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

MODELS = Path(__file__).parents[1] / "models"
GO = "{{ if .System }}<{{ .System }}>{{ end }}[INST] {{ .Prompt }} [/INST]{{ .Response }}"
TURNS = (
    "{{ range .Messages }}{{ .Role }}:{{ .Content }}|{{ end }}"
    "{{ if .IsThinkSet }}T={{ .Think }}{{ end }}"
)
FILL = "{{ if .Suffix }}<PRE>{{ .Prompt }}<SUF>{{ .Suffix }}<MID>{{ else }}{{ .Prompt }}{{ end }}"
LOOP = "{{ range 99999999 }}{{ range 99999999 }}{{ end }}{{ end }}{{ .Prompt }}"
JINJA = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"


def without_template(data: bytes) -> bytes:
    """A GGUF whose Jinja template goes by a name that nobody asks for."""
    key = b"tokenizer.chat_template"
    at = data.index(struct.pack("<Q", len(key)) + key) + 8
    return data[:at] + b"tokenizer.chat_templatf" + data[at + len(key) :]


@pytest.fixture(scope="module")
def api(server: Any) -> Iterator[httpx.Client]:
    data = (MODELS / "tiny-chat-f32.gguf").read_bytes()
    bare = without_template(data)
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for name, weights, fields in (
            ("jinja", data, {}),
            ("both", data, {"template": GO}),
            ("go", bare, {"template": GO}),
            ("turns", bare, {"template": TURNS, "system": "be brief"}),
            ("fill", bare, {"template": FILL}),
            ("loop", bare, {"template": LOOP}),
            ("fails", bare, {"template": "{{ .Prompt }}\n {{ .Nope.Foo }}"}),
            ("none", bare, {}),
        ):
            digest = f"sha256:{hashlib.sha256(weights).hexdigest()}"
            client.post(f"/api/blobs/{digest}", content=weights).raise_for_status()
            body = {"model": name, "files": {"m.gguf": digest}, "stream": False, **fields}
            client.post("/api/create", json=body).raise_for_status()
        body = {"model": "heir", "from": "both", "system": "be brief", "stream": False}
        client.post("/api/create", json=body).raise_for_status()
        yield client


def chat(api: httpx.Client, model: str, *said: str, **more: Any) -> httpx.Response:
    roles = ("user", "assistant")
    messages = [
        {"role": roles[place % 2], "content": text} for place, text in enumerate(said or ("hi",))
    ]
    body = {"model": model, "messages": messages, "stream": False}
    options = {"num_predict": 2, "num_thread": 1}
    return api.post("/api/chat", json={**body, "options": options, **more})


def generate(api: httpx.Client, model: str, **more: Any) -> httpx.Response:
    body = {"model": model, "prompt": "hi", "stream": False}
    options = {"num_predict": 2, "num_thread": 1}
    return api.post("/api/generate", json={**body, "options": options, **more})


def text_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.json()["_debug_info"]["rendered_template"])


def rendered(api: httpx.Client, model: str, *said: str, **more: Any) -> str:
    return text_of(chat(api, model, *said, _debug_render_only=True, **more))


def filled(api: httpx.Client, model: str, **more: Any) -> str:
    return text_of(generate(api, model, _debug_render_only=True, **more))


def shown(api: httpx.Client, model: str) -> dict[str, Any]:
    told: dict[str, Any] = api.post("/api/show", json={"model": model}).json()
    return told


def test_the_template_inside_the_weights_is_rendered_and_shown(api: httpx.Client) -> None:
    assert rendered(api, "jinja") == JINJA
    assert "im_start" in shown(api, "jinja")["template"]


@pytest.mark.parametrize(("model", "system"), [("both", ""), ("heir", "<be brief>")])
def test_a_go_template_that_does_as_much_goes_before_it(
    api: httpx.Client, model: str, system: str
) -> None:
    assert rendered(api, model) == f"{system}[INST] hi [/INST]"
    assert shown(api, model)["template"] == GO


def test_a_go_template_alone_is_rendered_and_the_model_answers(api: httpx.Client) -> None:
    assert rendered(api, "go", "a", "b", "c") == "[INST] a [/INST]b[INST] c [/INST]"
    assert rendered(api, "go", "a", "b") == "[INST] a [/INST]b"
    assert filled(api, "go", system="S") == "<S>[INST] hi [/INST]"
    for answer in (chat(api, "go"), generate(api, "go")):
        assert answer.status_code == 200
        assert answer.json()["eval_count"] == 2
    assert shown(api, "go")["template"] == GO


def test_a_prompt_is_the_same_tokens_from_a_template_and_raw(api: httpx.Client) -> None:
    templated = generate(api, "go").json()
    raw = generate(api, "go", prompt="[INST] hi [/INST]", raw=True).json()
    assert templated["prompt_eval_count"] == raw["prompt_eval_count"]
    assert templated["response"] == raw["response"]


def test_messages_and_system_reach_a_template_that_ranges_over_them(api: httpx.Client) -> None:
    assert rendered(api, "turns", "a", "b", "c") == "system:be brief|user:a|assistant:b|user:c|"
    assert filled(api, "turns") == "system:be brief|user:hi|"


def test_a_template_is_told_that_no_thoughts_are_wanted(api: httpx.Client) -> None:
    assert rendered(api, "turns", think=False) == "system:be brief|user:hi|T=false"
    assert filled(api, "turns", think=False) == "system:be brief|user:hi|T=false"


def test_a_suffix_fills_the_gap_of_a_template_that_has_one(api: httpx.Client) -> None:
    assert shown(api, "fill")["capabilities"] == ["completion", "insert"]
    assert filled(api, "fill", suffix="after", system="S") == "<PRE>hi<SUF>after<MID>"
    assert generate(api, "fill", suffix="after").json()["eval_count"] >= 1
    answer = generate(api, "go", suffix="after")
    assert answer.status_code == 400
    assert answer.json()["error"].endswith("does not support insert")


@pytest.mark.parametrize("model", ["go", "jinja", "none"])
def test_a_request_brings_a_template_of_its_own(api: httpx.Client, model: str) -> None:
    template = "{{ .System }}/{{ .Prompt }}/"
    assert filled(api, model, template=template, system="S") == "S/hi/"
    answer = generate(api, model, template="a\n{{ foo }}")
    assert answer.status_code == 500
    assert answer.json()["error"] == 'template: :2: function "foo" not defined'


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ .Prompt", "template error: template: :1: unclosed action"),
        ("a\nb {{ if }}{{ end }}", "template error: template: :2: missing value for if"),
        ('{{ template "x" }}', "template error: undefined template specified"),
    ],
)
def test_a_template_that_does_not_parse_makes_no_model(
    api: httpx.Client, template: str, words: str
) -> None:
    body = {"model": "broken", "from": "none", "template": template, "stream": False}
    answer = api.post("/api/create", json=body)
    assert (answer.status_code, answer.json()["error"]) == (400, words)
    assert api.post("/api/show", json={"model": "broken"}).status_code == 404


@pytest.mark.parametrize("stream", [False, True])
def test_a_template_that_fails_is_an_error_with_its_place(
    api: httpx.Client, *, stream: bool
) -> None:
    answer = chat(api, "fails", stream=stream)
    assert answer.status_code == 500
    assert answer.json()["error"] == (
        'template: :2:9: executing "" at <.Nope.Foo>: nil pointer evaluating interface {}.Foo'
    )


def test_a_template_without_end_is_a_fault_of_the_request_and_of_no_other(
    api: httpx.Client,
) -> None:
    answer = chat(api, "loop")
    assert answer.status_code == 400
    assert "takes over" in answer.json()["error"]
    assert chat(api, "go").status_code == 200


def test_without_any_template_the_prompt_is_the_text(api: httpx.Client) -> None:
    assert rendered(api, "none") == "hi"
    assert shown(api, "none")["template"] == "{{ .Prompt }}"
