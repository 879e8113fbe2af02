"""`/api/options` and `/api/samplers`, and what Ollama's own Python client makes of options."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import ollama
import pytest

QUESTION = "capital of Italy?"
FIXED = {"temperature": 0, "num_thread": 1}

Ask = Callable[..., httpx.Response]


def contract() -> dict[str, Any]:
    """The options that Ollama has, with the type and default that clients know."""
    integers = "num_ctx num_batch num_gpu main_gpu num_thread draft_num_predict num_keep seed"
    integers += " num_predict top_k repeat_last_n"
    floats = "top_p min_p typical_p temperature repeat_penalty presence_penalty frequency_penalty"
    types = dict.fromkeys(integers.split(), "integer") | dict.fromkeys(floats.split(), "float32")
    return types | {"use_mmap": "boolean", "stop": "array"}


LOAD_TIME = {"num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread", "backend"}
LOAD_TIME |= {"draft_num_predict", "flash_attention", "kv_cache_type", "num_ubatch", "cache_ram"}


def test_every_option_of_ollama_is_listed_with_its_type(own: Any) -> None:
    answer = httpx.get(f"{own.url}/api/options")
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    options = {option["name"]: option for option in answer.json()["options"]}
    assert {name: options[name]["type"] for name in contract()} == contract()
    load_time = {name for name in LOAD_TIME | {*contract()} if options[name]["load_time"]}
    assert load_time == LOAD_TIME
    assert options["num_thread"] == {
        "name": "num_thread",
        "type": "integer",
        "minimum": 0,
        "maximum": 512,
        "default": 0,
        "description": "CPU threads; 0: automatic",
        "load_time": True,
        "owners": ["corral"],
    }
    assert options["repeat_penalty"]["exclusive_minimum"] == 0
    assert options["stop"]["items"] == ["string"]
    assert options["samplers"]["items"] == ["string", "object"]
    assert options["flash_attention"]["owners"] == ["llamacpp"]


def test_every_listed_option_is_known_to_requests(own: Any, strict: Ask) -> None:
    options = httpx.get(f"{own.url}/api/options").json()["options"]
    given = {
        option["name"]: option["default"]
        for option in options
        if option["default"] is not None and not option["load_time"]
    }
    assert len(given) > 12
    answer = strict({**given, **FIXED})
    assert (answer.status_code, answer.json()["response"]) == (200, "Rome.")


def test_every_sampler_is_listed_with_its_fields(own: Any) -> None:
    samplers = httpx.get(f"{own.url}/api/samplers").json()["samplers"]
    places = [s["default_place"] for s in samplers if s["default_place"] is not None]
    assert places == sorted(places)
    used = [sampler["name"] for sampler in samplers if sampler["in_default_chain"]]
    assert used == ["top_k", "top_p", "temperature"]
    top_k = next(sampler for sampler in samplers if sampler["name"] == "top_k")
    fields = top_k.pop("fields")
    assert top_k.pop("version")
    assert top_k == {
        "name": "top_k",
        "docs": "keeps the k likeliest tokens",
        "plugin": "corral",
        "distribution": "corral",
        "default_place": 40,
        "in_default_chain": True,
        "replaces": [],
    }
    assert fields == [
        {
            "name": "top_k",
            "type": "integer",
            "default": 40,
            "description": "keep the k likeliest tokens; 0 or less: all",
        }
    ]


@pytest.mark.parametrize("path", ["/api/options", "/api/samplers"])
def test_the_lists_have_the_methods_of_other_routes(own: Any, path: str) -> None:
    answer = httpx.post(own.url + path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert httpx.head(own.url + path).status_code == 405
    assert httpx.get(f"{own.url}{path}/").status_code == 301


@pytest.fixture
def client(own: Any, ask: Ask) -> Iterator[ollama.Client]:
    assert ask(FIXED).status_code == 200
    with ollama.Client(own.url) as client:
        yield client


def test_the_client_chooses_samplers_and_minds_no_warnings(client: ollama.Client) -> None:
    options = {
        **FIXED,
        "samplers": ["penalties", {"name": "top_k", "top_k": 5}, "temperature"],
        "penalties": {"repeat_penalty": 1.1},
        "top_p": 0.5,
        "numa": True,
    }
    answer = client.generate("options", QUESTION, options=options)
    assert (answer.response, answer.done_reason) == ("Rome.", "stop")
    messages = [{"role": "user", "content": QUESTION}]
    *_, last = client.chat("options", messages, options=options, stream=True)
    assert (last.done, last.message.content) == (True, "")


def test_the_client_is_told_of_an_unknown_sampler(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match='no sampler "no_such"') as caught:
        client.generate("options", QUESTION, options={"samplers": ["no_such"]})
    assert caught.value.status_code == 400


def test_a_model_s_parameters_may_name_samplers(client: ollama.Client, ask: Ask) -> None:
    samplers = ["top_k", {"name": "temperature", "temperature": 0}]
    client.create("chained", from_="options", parameters={"samplers": samplers, "num_thread": 1})
    assert client.generate("chained", QUESTION).response == "Rome."
    shown = client.show("chained")
    assert 'samplers {"name":"temperature","temperature":0}' in (shown.modelfile or "")
    answer = ask({"top_p": 0.5}, model="chained").json()
    assert 'option "top_p" is ignored: its sampler is not among "samplers"' in answer["warnings"]
    client.delete("chained")
