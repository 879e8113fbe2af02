"""What nothing obeys is told in the last object of an answer, and in the log."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

QUESTION = "capital of Italy?"
FIXED = {"temperature": 0, "num_thread": 1}
RETIRED = 'option "{}" is ignored: nothing here obeys it any more'
RELOADED = "the model was loaded anew for this request"

Ask = Callable[..., httpx.Response]


def test_an_answer_without_anything_to_warn_of_has_no_such_field(ask: Ask) -> None:
    ask(FIXED)
    assert "warnings" not in ask(FIXED).json()


def test_warnings_are_the_last_field_of_the_last_object(ask: Ask) -> None:
    ask(FIXED)
    options = {**FIXED, "numa": True, "top_kk": 1}
    wanted = [
        RETIRED.format("numa"),
        'option "top_kk" is unknown and ignored; did you mean "top_k"?',
    ]
    whole = ask(options)
    assert (list(whole.json())[-1], whole.json()["warnings"]) == ("warnings", wanted)
    assert whole.json()["response"] == "Rome."
    messages = [{"role": "user", "content": QUESTION}]
    for fields in ({"prompt": QUESTION}, {"path": "/api/chat", "messages": messages}):
        answer = ask(options, stream=True, **fields)
        *pieces, last = map(json.loads, answer.text.splitlines())
        assert not any("warnings" in piece for piece in pieces)
        assert (list(last)[-1], last["warnings"]) == ("warnings", wanted)


def test_an_answer_that_only_loads_has_them_too(ask: Ask) -> None:
    answer = ask({**FIXED, "numa": 1}, prompt="").json()
    assert (answer["done_reason"], answer["warnings"][0]) == ("load", RETIRED.format("numa"))
    answer = ask({**FIXED, "numa": 1}, "/api/chat", messages=[]).json()
    assert (answer["done_reason"], answer["warnings"]) == ("load", [RETIRED.format("numa")])


def test_a_rendered_prompt_has_them_too(ask: Ask) -> None:
    answer = ask({**FIXED, "numa": 1}, _debug_render_only=True).json()
    assert answer["warnings"] == [RETIRED.format("numa")]


def test_options_that_upstream_retired_only_warn(ask: Ask, strict: Ask, lenient: Ask) -> None:
    names = ["numa", "low_vram", "f16_kv", "logits_all", "vocab_only", "use_mlock", "tfs_z"]
    names += ["penalize_newline", "embedding_only", "num_gqa", "rope_frequency_base"]
    for server in (ask, strict, lenient):
        answer = server({**FIXED, **dict.fromkeys(names, 1)})
        assert answer.status_code == 200
        told = set(answer.json()["warnings"])
        assert {RETIRED.format(name) for name in names} <= told


def test_a_reload_is_told_to_the_one_who_caused_it(ask: Ask) -> None:
    ask({**FIXED, "num_ctx": 200})
    (words,) = ask({**FIXED, "num_ctx": 128}).json()["warnings"]
    assert words.startswith(RELOADED)
    assert "num_ctx 128 instead of 200" in words
    assert "warnings" not in ask({**FIXED, "num_ctx": 128}).json()


def test_a_context_over_the_trained_one_is_told_of(ask: Ask) -> None:
    words = 'option "num_ctx" is 4096; the model was trained for 256, which is used'
    assert words in ask({**FIXED, "num_ctx": 4096}).json()["warnings"]


def test_what_the_loaded_engine_cannot_follow_is_told_of(ask: Ask) -> None:
    llama_cpp = pytest.importorskip("llama_cpp.llama_cpp")
    if llama_cpp.llama_supports_gpu_offload():
        pytest.skip("this build follows them")
    options = {"main_gpu": 0, "num_gpu": 5, "split_mode": "row", "tensor_split": "1"}
    told = ask({**FIXED, **options, "num_batch": 3}).json()["warnings"]
    for name in options:
        assert f'option "{name}" is ignored: this build of llama.cpp uses no GPU' in told
    assert any(re.match(r'option "num_batch" is 3; \d+ is used: ', words) for words in told)


def test_drafts_that_an_engine_takes_none_of_are_told_of(ask: Ask) -> None:
    told = ask({"backend": "echo", "draft_num_predict": 2, "num_predict": 2}).json()["warnings"]
    assert 'option "draft_num_predict" is ignored: the engine takes no drafts' in told
    told = ask({**FIXED, "draft_num_predict": 2}).json()["warnings"]
    assert not any("draft_num_predict" in words and "ignored" in words for words in told)


def test_what_is_set_for_samplers_outside_the_chain_is_told_of(ask: Ask) -> None:
    options = {**FIXED, "samplers": ["top_k", {"name": "min_p", "min_p": 0.1}], "top_p": 0.5}
    answer = ask(options).json()
    assert answer["response"] == "Rome."
    assert 'option "top_p" is ignored: its sampler is not among "samplers"' in answer["warnings"]


def test_each_text_is_in_the_log_once(ask: Ask, own: Any) -> None:
    for _ in range(3):
        ask({**FIXED, "said_only_once": 1})
    lines = [line for line in own.log if "said_only_once" in line]
    assert len(lines) == 1
    assert "a client was warned" in lines[0]


@pytest.mark.real
def test_vectors_come_with_warnings(own: Any, tools: Any, ask: Ask, minilm_file: Path) -> None:
    tools.make_model(own.url, "options-encoder", minilm_file, parameters={"temperature": 0})
    options = {"num_thread": 1, "temperature": 1, "seed": 3, "numa": 1}
    wanted = {
        RETIRED.format("numa"),
        'option "temperature" is ignored: vectors are not sampled',
        'option "seed" is ignored: vectors are not sampled',
    }
    answer = ask(options, "/api/embed", model="options-encoder", input="a").json()
    assert (set(answer["warnings"]), list(answer)[-1]) == (wanted, "warnings")
    answer = ask(options, "/api/embeddings", model="options-encoder", prompt="a").json()
    assert (list(answer), set(answer["warnings"])) == (["embedding", "warnings"], wanted)
    plain = ask({"num_thread": 1}, "/api/embed", model="options-encoder", input="a").json()
    assert "warnings" not in plain
    for path, fields in (("/api/embed", {"input": []}), ("/api/embeddings", {"prompt": ""})):
        answer = ask({"num_thread": 1, "numa": 1}, path, model="options-encoder", **fields).json()
        assert answer["warnings"] == [RETIRED.format("numa")]
