"""A real server: llama-cpp-python's, with tiny-chat and a small sentence encoder."""

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corral_kernel.contracts.chat import Message
from corral_kernel.errors import RemoteServerError

GREEDY = {"temperature": 0.0}


async def test_a_chat_is_the_same_twice_and_its_pieces_are_tokens(lab: Any, llama: str) -> None:
    request = lab.chat("hello", max_tokens=12, sampling=GREEDY)
    async with lab.loaded(llama) as engine:
        first = await lab.answer(engine, request)
        second = await lab.answer(engine, request)
    assert first.text
    assert first.text == second.text
    assert len(first.pieces) > 1


async def test_an_answer_ends_where_it_must(lab: Any, llama: str) -> None:
    async with lab.loaded(llama) as engine:
        cut = await lab.answer(engine, lab.prompt("hello", max_tokens=3, sampling=GREEDY))
        assert cut.ending.reason == "length"
        (letter, *_) = cut.text
        request = lab.prompt("hello", max_tokens=50, sampling=GREEDY, stop=(letter,))
        stopped = await lab.answer(engine, request)
    assert (stopped.text, stopped.ending.reason) == ("", "stop")


async def test_seeds_and_system_messages_arrive(lab: Any, llama: str) -> None:
    hot = {"temperature": 5.0, "top_k": 0, "top_p": 1.0}

    def ask(seed: int) -> Any:
        return lab.prompt("hello", max_tokens=20, seed=seed, sampling=hot)

    async with lab.loaded(llama) as engine:
        one, again, other = [(await lab.answer(engine, ask(seed))).text for seed in (1, 1, 2)]
        assert one == again
        assert one != other
        told = (Message(role="system", content="ab" * 30), Message(role="user", content="hello"))
        plain = await lab.answer(engine, lab.chat("hello", max_tokens=12, sampling=GREEDY))
        system = await lab.answer(engine, lab.chat(messages=told, max_tokens=12, sampling=GREEDY))
    assert plain.text != system.text


@pytest.mark.parametrize("make", ["chat", "prompt"])
async def test_logprobs_are_told_for_each_token(lab: Any, llama: str, make: str) -> None:
    request = getattr(lab, make)("hello", max_tokens=4, sampling=GREEDY, logprobs=3)
    async with lab.loaded(llama) as engine:
        heard = await lab.answer(engine, request)
    told = [logprob for piece in heard.pieces for logprob in piece.logprobs]
    assert len(told) == 4
    assert "".join(one.text for one in told) == heard.text
    for one in told:
        assert one.bytes == one.text.encode()
        assert len(one.top) == 3
        assert one.top[0].logprob == one.logprob  # greedy: the chosen one is the likeliest
        assert math.fsum(math.exp(other.logprob) for other in one.top) <= 1.001


async def test_a_schema_is_obeyed(lab: Any, llama: str) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    request = lab.chat("hello", max_tokens=60, sampling=GREEDY, format=json.dumps(schema).encode())
    async with lab.loaded(llama) as engine:
        heard = await lab.answer(engine, request)
    assert isinstance(json.loads(heard.text)["a"], bool)


async def test_many_requests_at_once_are_all_answered(lab: Any, llama: str) -> None:
    async with lab.loaded(llama) as engine:
        texts = ("hello", "who", "what", "hello")
        requests = [lab.chat(text, max_tokens=8, sampling=GREEDY) for text in texts]
        heard = await lab.together(lab.answer(engine, request) for request in requests)
    assert heard[0].text == heard[3].text
    assert all(answer.text for answer in heard)


async def test_a_cancelled_answer_frees_the_server(lab: Any, tmp_path: Path) -> None:
    model = {"model": str(lab.TINY), "model_alias": "tiny", "n_ctx": 4096}
    with lab.llama_server(tmp_path, model) as (_, url, log):
        async with lab.loaded(url) as engine:
            endless = lab.prompt("ab" * 20, max_tokens=4000, sampling={"temperature": 3.0}, seed=1)
            answer = engine.generate(endless)
            await anext(answer)
            await answer.aclose()
            await asyncio.to_thread(log.wait_for, "Disconnected from client")
            heard = await lab.answer(engine, lab.chat("hello", max_tokens=3))
    assert heard.text


async def test_vectors_are_the_encoder_s(lab: Any, llama: str) -> None:
    texts = ["a cat sat on the mat", "a kitten sat on a rug", "shares fell on Monday"]
    async with lab.loaded(llama) as engine:
        found = await engine.embed("minilm", texts, 0, truncate=True)
        few = await engine.embed("minilm", texts[:1], 16, truncate=True)
    assert found.rows.shape == (3, 384)
    assert found.prompt_tokens > 3
    unit = found.rows / np.linalg.norm(found.rows, axis=1, keepdims=True)
    near, far = unit[0] @ unit[1], unit[0] @ unit[2]
    assert near > far + 0.2
    assert np.allclose(few.rows, found.rows[:1, :16], atol=1e-3)


async def test_a_killed_server_ends_the_answer_and_serves_again_when_it_is_back(
    lab: Any, tmp_path: Path
) -> None:
    model = {"model": str(lab.TINY), "model_alias": "tiny", "n_ctx": 4096}
    endless = lab.prompt("ab" * 20, max_tokens=4000, sampling={"temperature": 3.0}, seed=1)
    with lab.llama_server(tmp_path, model) as (process, url, _):
        async with lab.loaded(url) as engine:
            answer = engine.generate(endless)
            await anext(answer)
            process.kill()
            with pytest.raises(RemoteServerError, match=url):
                await lab.within(lab.drained(answer))
            port = int(url.split(":")[2].partition("/")[0])
            with lab.llama_server(tmp_path, model, port=port):
                heard = await lab.answer(engine, lab.chat("hello", max_tokens=3))
                assert heard.text
