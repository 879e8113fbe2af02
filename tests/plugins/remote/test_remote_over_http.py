"""Remote models as a user has them: made by API and command, asked over HTTP, gone and back."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

LIMIT_S = 60.0
# Exactly what llama.cpp itself would choose, on either server.
GREEDY = {"temperature": 0, "num_predict": 12, "repeat_penalty": 1.0, "num_thread": 1}
HELLO = [{"role": "user", "content": "hello"}]


def create(client: httpx.Client, name: str, url: str, target: str = "tiny", **more: Any) -> None:
    body = {"model": name, "from": target, "remote_host": url, "stream": False} | more
    client.post("/api/create", json=body).raise_for_status()


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.fixture(scope="module")
def fronting(start_server: Callable[..., Any], lab: Any) -> Any:
    """A server that may ask others on this machine, and has the key for them."""
    return start_server(
        CORRAL_REMOTES="127.0.0.1,localhost",
        CORRAL_KEEP_ALIVE="20s",  # each scripted server has a worker of its own
        CORRAL_DEBUG="1",
        THE_KEY=lab.KEY,
    )


@pytest.fixture(scope="module")
def client(fronting: Any, llama: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=fronting.url, timeout=LIMIT_S) as client:
        create(client, "far", llama)
        create(client, "vectors", llama, "minilm", info={"capabilities": ["embedding"]})
        yield client


def test_a_chat_is_answered_streamed_or_whole(client: httpx.Client) -> None:
    body = {"model": "far", "messages": HELLO, "options": GREEDY}
    whole = client.post("/api/chat", json=body | {"stream": False}).json()
    streamed = lines(client.post("/api/chat", json=body))
    assert whole["done_reason"] == "length"
    assert (whole["remote_model"], whole["model"]) == ("tiny", "far")
    assert len(streamed) > 2
    assert "".join(line["message"]["content"] for line in streamed) == whole["message"]["content"]
    assert [line["done"] for line in streamed] == [False] * (len(streamed) - 1) + [True]


def test_a_raw_prompt_is_continued_word_for_word_as_the_model_would_here(
    client: httpx.Client, server: Any
) -> None:
    body = {"prompt": "hello", "raw": True, "stream": False, "options": GREEDY}
    there = client.post("/api/generate", json=body | {"model": "far"}).json()
    here = httpx.post(
        f"{server.url}/api/generate", json=body | {"model": "tiny-chat", "keep_alive": 0}
    ).json()
    assert there["response"] == here["response"]
    assert len(there["response"]) == 12


def test_a_prompt_with_system_is_a_chat(client: httpx.Client) -> None:
    options = {"options": GREEDY, "stream": False, "model": "far"}
    told = {"prompt": "hello", "system": "ab" * 20}
    asked = client.post("/api/generate", json=told | options).json()
    messages = [{"role": "system", "content": "ab" * 20}, *HELLO]
    chat = client.post("/api/chat", json={"messages": messages} | options).json()
    assert asked["response"] == chat["message"]["content"]


def test_a_schema_is_obeyed_there(client: httpx.Client) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"],
              "additionalProperties": False}  # fmt: skip
    body = {"model": "far", "messages": HELLO, "format": schema, "stream": False}
    answer = client.post("/api/chat", json=body | {"options": GREEDY | {"num_predict": 60}})
    assert isinstance(json.loads(answer.json()["message"]["content"])["a"], bool)


def test_vectors_are_made_and_normalised(client: httpx.Client) -> None:
    body = {"model": "vectors", "input": ["a cat", "a kitten"]}
    found = client.post("/api/embed", json=body).json()
    rows = np.asarray(found["embeddings"])
    assert rows.shape == (2, 384)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert found["prompt_eval_count"] > 2
    few = client.post("/api/embed", json=body | {"dimensions": 8}).json()["embeddings"]
    assert np.allclose(np.linalg.norm(few, axis=1), 1, atol=1e-5)
    assert len(few[0]) == 8


def test_models_of_one_server_share_a_worker(client: httpx.Client, fronting: Any) -> None:
    for model in ("far", "vectors"):
        client.post("/api/generate", json={"model": model, "keep_alive": 0})
    assert client.post(
        "/api/chat", json={"model": "far", "messages": HELLO, "options": GREEDY}
    ).is_success
    before = loaded_workers(fronting)
    assert before
    assert client.post("/api/embed", json={"model": "vectors", "input": "a"}).is_success
    assert loaded_workers(fronting) == before


def loaded_workers(server: Any) -> set[int]:
    """Processes that hold a connection to another server."""
    children = psutil.Process(server.process.pid).children(recursive=True)
    return {child.pid for child in children if child.net_connections("tcp")}


def test_what_the_other_server_cannot_do_is_refused_by_name(client: httpx.Client) -> None:
    body: dict[str, Any] = {"model": "far", "messages": HELLO, "stream": False}
    refusals: list[tuple[dict[str, Any], str]] = [
        ({"options": {"mirostat": 2}}, "mirostat"),
        ({"format": {"type": "regex", "pattern": "a"}}, "regex"),
        ({"options": {"samplers": ["top_k"]}}, "samplers"),
    ]
    for more, words in refusals:
        answer = client.post("/api/chat", json=body | more)
        assert answer.status_code == 400, answer.text
        assert words in answer.json()["error"]


def test_a_load_option_of_local_engines_is_told_and_reloads_nothing(client: httpx.Client) -> None:
    body = {"model": "far", "messages": HELLO, "stream": False}
    answer = client.post("/api/chat", json=body | {"options": GREEDY | {"num_ctx": 77}})
    assert any("num_ctx" in warning for warning in answer.json()["warnings"])


def test_a_modelfile_names_server_and_model(
    client: httpx.Client, fronting: Any, llama: str, tmp_path: Path
) -> None:
    modelfile = f"FROM {llama}#tiny\nPARAMETER temperature 0\nPARAMETER num_predict 5\n"
    (tmp_path / "Modelfile").write_text(modelfile)
    command = [str(Path(sys.executable).with_name("corral"))]
    environ = os.environ | {"CORRAL_HOST": fronting.url}
    made = subprocess.run(
        [*command, "create", "by-file"], cwd=tmp_path, env=environ, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    shown = client.post("/api/show", json={"model": "by-file"}).json()
    assert (shown["remote_host"], shown["remote_model"]) == (llama, "tiny")
    assert shown["backend"]["name"] == "remote"
    ran = subprocess.run(
        [*command, "run", "by-file", "hello"], env=environ, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout.strip()) in range(1, 7)


def test_a_server_that_is_not_listed_is_refused(
    start_server: Callable[..., Any], llama: str
) -> None:
    strict = start_server(CORRAL_REMOTES="gpu.example")
    with httpx.Client(base_url=strict.url, timeout=LIMIT_S) as client:
        body = {"model": "far", "from": "tiny", "remote_host": llama, "stream": False}
        answer = client.post("/api/create", json=body)
        assert answer.status_code == 400
        assert "cannot run this remote model" in answer.json()["error"]
        assert client.post("/api/chat", json={"model": "far", "messages": []}).status_code == 404


def test_a_stub_made_under_another_rule_does_not_run(
    start_server: Callable[..., Any], client: httpx.Client, fronting: Any
) -> None:
    strict = start_server(CORRAL_MODELS=str(fronting.home / "models"))
    body = {"model": "far", "messages": HELLO, "stream": False}
    answer = httpx.post(f"{strict.url}/api/chat", json=body, timeout=LIMIT_S)
    assert answer.status_code == 400
    assert "cannot run this remote model" in answer.json()["error"]


# --------------------------------------------------------------------------------------- faults


@pytest.fixture
async def front(client: httpx.Client, fronting: Any) -> Any:
    async with httpx.AsyncClient(base_url=fronting.url, timeout=LIMIT_S) as found:
        yield found


async def made(front: Any, url: str, **more: Any) -> dict[str, Any]:
    """Make a model of a scripted server, and the body of a request for it."""
    body = {"model": "odd", "from": "m", "remote_host": url} | more
    (await front.post("/api/create", json=body | {"stream": False})).raise_for_status()
    return {"model": "odd", "messages": HELLO}


async def test_usage_is_told_as_the_server_counts_it(lab: Any, front: Any) -> None:
    usage = {"prompt_tokens": 11, "completion_tokens": 2}
    last = lab.event({"choices": [], "usage": usage})
    async with lab.serving(lab.events(lab.said("Hi"), lab.STOP, last, lab.DONE)) as server:
        body = await made(front, server.url)
        answer = (await front.post("/api/chat", json=body | {"stream": False})).json()
    assert (answer["prompt_eval_count"], answer["eval_count"]) == (11, 2)


async def test_an_answer_that_breaks_off_ends_with_one_error_line(lab: Any, front: Any) -> None:
    async with lab.serving(lab.then_cut(lab.said("Hel")), lab.HELLO) as server:
        body = await made(front, server.url)
        told = lines(await front.post("/api/chat", json=body))
        assert told[0]["message"]["content"] == "Hel"
        assert [line for line in told if "error" in line] == [told[-1]]
        assert server.url in told[-1]["error"]
        again = await front.post("/api/chat", json=body | {"stream": False})
        assert again.json()["message"]["content"] == "Hello"


async def test_a_server_that_goes_and_comes_back_is_noticed_by_its_requests_alone(
    lab: Any, front: Any
) -> None:
    async with lab.serving(lab.HELLO) as server:
        body = await made(front, server.url) | {"stream": False}
        assert (await front.post("/api/chat", json=body)).is_success
        await server.stop()
        answer = await front.post("/api/chat", json=body)
        assert answer.status_code == 502
        assert "refused the connection" in answer.json()["error"]
        await server.start()
        assert (await front.post("/api/chat", json=body)).is_success


@pytest.mark.parametrize(
    ("code", "shown"), [(400, 400), (404, 400), (401, 502), (429, 503), (500, 502), (302, 502)]
)
async def test_refusals_have_a_status_of_their_own(
    lab: Any, front: Any, code: int, shown: int
) -> None:
    refusal = lab.status(code, {"error": {"message": "so it is"}}, "retry-after: 0")
    async with lab.serving(refusal) as server:
        body = await made(front, server.url)
        answer = await front.post("/api/chat", json=body)
    assert answer.status_code == shown, answer.text
    assert f"({code})" in answer.json()["error"]


async def test_a_client_that_leaves_frees_the_other_server(lab: Any, front: Any) -> None:
    async with lab.serving(lab.then_hang(lab.said("a"))) as server:
        body = await made(front, server.url)
        async with front.stream("POST", "/api/chat", json=body) as answer:
            await anext(answer.aiter_lines())
        await lab.within(server.left.wait())


async def test_a_client_that_leaves_before_the_first_token_frees_the_other_server(
    lab: Any, front: Any
) -> None:
    async with lab.serving(lab.never) as server:
        body = await made(front, server.url)
        asking = asyncio.create_task(front.post("/api/chat", json=body))
        await lab.within(server.was_asked.wait())
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await lab.within(server.left.wait())


async def test_a_stop_string_of_the_request_ends_the_answer_here_too(lab: Any, front: Any) -> None:
    deaf = lab.then_hang(lab.said("one"), lab.said(" two"), lab.said(" three"))
    async with lab.serving(deaf) as server:
        body = await made(front, server.url) | {"stream": False, "options": {"stop": [" th"]}}
        answer = (await front.post("/api/chat", json=body)).json()
        assert (answer["message"]["content"], answer["done_reason"]) == ("one two", "stop")
        await lab.within(server.left.wait())


@pytest.mark.parametrize("logprobs", [True, False])
async def test_where_a_stop_string_ends_it_here_the_tokens_that_came_are_counted_if_told(
    lab: Any,
    front: Any,
    logprobs: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    def said(text: str) -> bytes:
        told = {"content": [{"token": text, "logprob": -0.5}]}
        return bytes(lab.event({"choices": [{"delta": {"content": text}, "logprobs": told}]}))

    deaf = lab.then_hang(said("one"), said(" two"), said(" three"))
    async with lab.serving(deaf) as server:
        body = await made(front, server.url) | {"stream": False, "options": {"stop": [" th"]}}
        answer = (await front.post("/api/chat", json=body | {"logprobs": logprobs})).json()
    assert answer["message"]["content"] == "one two"
    assert answer.get("eval_count") == (3 if logprobs else None)


async def test_a_stated_context_length_is_shown(lab: Any, front: Any) -> None:
    async with lab.serving(lab.HELLO) as server:
        body = await made(front, server.url, info={"context_length": 32768})
        assert (await front.post("/api/chat", json=body)).is_success
        running = (await front.get("/api/ps")).json()["models"]
    (found,) = [m for m in running if m["engine"]["details"] == {"server": server.url}]
    assert found["context_length"] == 32768


async def test_thinking_is_told_apart(lab: Any, front: Any) -> None:
    thought = lab.events(lab.said(reasoning_content="hm"), lab.said("yes"), lab.STOP, lab.DONE)
    async with lab.serving(thought) as server:
        body = await made(front, server.url) | {"stream": False}
        message = (await front.post("/api/chat", json=body)).json()["message"]
    assert (message["thinking"], message["content"]) == ("hm", "yes")


async def test_calls_of_another_server_reach_the_client(lab: Any, front: Any) -> None:
    def called(arguments: str) -> Any:
        function = {"name": "f", "arguments": arguments}
        choice = {"index": 0, "delta": {"tool_calls": [{"index": 0, "function": function}]}}
        return lab.events(lab.event({"choices": [choice]}), lab.said(reason="tool_calls"), lab.DONE)

    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    async with lab.serving(called('{"a": 1}'), called("{")) as server:
        body = await made(front, server.url) | {"stream": False, "tools": [tool]}
        (call,) = (await front.post("/api/chat", json=body)).json()["message"]["tool_calls"]
        answer = await front.post("/api/chat", json=body)
    assert call["function"] == {"index": 0, "name": "f", "arguments": {"a": 1}}
    assert call["id"].startswith("call_")
    assert answer.status_code == 500
    assert answer.json()["error"].startswith("error parsing tool call: raw='{', err=")


async def test_the_key_is_sent_and_in_nothing_that_anybody_sees(
    lab: Any, front: Any, fronting: Any
) -> None:
    told = {"error": {"message": f"no such key: {lab.KEY}"}}
    in_stream = lab.event({"error": f"quota of {lab.KEY}"})
    replies = (lab.HELLO, lab.status(401, told), lab.events(lab.said("a"), in_stream))
    async with lab.serving(*replies) as server:
        body = await made(front, server.url, parameters={"api_key": "env:THE_KEY"})
        seen = [(await front.post("/api/chat", json=body)).text for _ in range(3)]
        assert server.asked[0].headers["authorization"] == f"Bearer {lab.KEY}"
    seen.append((await front.post("/api/show", json={"model": "odd"})).text)
    seen.extend([(await front.get(path)).text for path in ("/api/ps", "/api/tags")])
    arguments = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
    seen.extend((str(arguments), "".join(fronting.log)))
    assert "refused the key of env:THE_KEY" in "".join(seen)
    assert "env:THE_KEY" in seen[3]  # what `show` says is where the key is
    for place, text in enumerate(seen):
        assert lab.KEY not in text, place
    for path in (fronting.home / "models").rglob("*"):
        assert path.is_dir() or lab.KEY.encode() not in path.read_bytes(), path


async def test_a_key_is_neither_stored_nor_taken_from_a_request(lab: Any, front: Any) -> None:
    async with lab.serving(lab.HELLO) as server:
        literal = {"model": "odd", "from": "m", "remote_host": server.url, "stream": False,
                   "parameters": {"api_key": lab.KEY}}  # fmt: skip
        refused = [await front.post("/api/create", json=literal)]
        body = await made(front, server.url)
        for value in (lab.KEY, "env:HOME"):
            asked = body | {"options": {"api_key": value}}
            refused.append(await front.post("/api/chat", json=asked))
        for answer in refused:
            assert answer.status_code == 400, answer.text
            assert lab.KEY not in answer.text
        assert server.asked == []


def test_what_the_page_shows_works(
    client: httpx.Client, fronting: Any, llama: str, tmp_path: Path
) -> None:
    page = (Path(__file__).parents[3] / "docs" / "plugins" / "remote.md").read_text()
    for there, real in {
        "http://127.0.0.1:8000/v1": llama,
        "Qwen/Qwen3-8B": "tiny",
        "intfloat/e5-base": "minilm",
    }.items():
        assert there in page
        page = page.replace(there, real)
    blocks = re.findall(r"^```\w*\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (modelfile,) = [block for block in blocks if block.startswith("FROM http://")]
    bodies = [found for block in blocks for found in re.findall(r"-d '(.*?)'", block, re.DOTALL)]
    assert len(bodies) == 2
    for body in bodies:
        told = lines(client.post("/api/create", content=body))
        assert told[-1] == {"status": "success"}
    for model, can in {"qwen": ["completion", "tools"], "e5": ["embedding"]}.items():
        assert client.post("/api/show", json={"model": model}).json()["capabilities"] == can
    assert client.post("/api/embed", json={"model": "e5", "input": "a"}).json()["embeddings"]

    corral = str(Path(sys.executable).with_name("corral"))
    environ = os.environ | {"CORRAL_HOST": fronting.url}
    (tmp_path / "Modelfile").write_text(modelfile)
    for arguments in (["create", "qwen"], ["run", "qwen", "Why is the sky blue?"]):
        done = subprocess.run(
            [corral, *arguments], cwd=tmp_path, env=environ, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
    shown = client.post("/api/show", json={"model": "qwen"}).json()
    assert shown["system"] == "You answer in one sentence."
