"""What another server is asked: fields, formats, options, and what is refused instead."""

from typing import Any

import pytest

from corral_kernel.errors import InvalidFormatError, RemoteRefusedError, UnsupportedError

SAMPLING = {
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 20,
    "min_p": 0.05,
    "repeat_penalty": 1.1,
    "frequency_penalty": 0.1,
    "presence_penalty": 0.2,
}
SCHEMA = b'{"type": "object", "properties": {"a": {"type": "integer"}}}'


async def asked(lab: Any, request: Any, listing: Any = None) -> dict[str, Any]:
    """Give the body that a request becomes."""
    async with lab.serving(lab.HELLO, listing=listing) as server:
        async with lab.loaded(server.url) as engine:
            await lab.answer(engine, request)
        (found,) = server.asked
        return found.body


async def test_a_plain_chat_sends_nothing_that_was_not_set(lab: Any) -> None:
    assert await asked(lab, lab.chat("hello")) == {
        "model": "tiny",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": "hello"}],
    }


async def test_a_plain_prompt_asks_for_more_than_sixteen_tokens(lab: Any) -> None:
    assert await asked(lab, lab.prompt("hello")) == {
        "model": "tiny",
        "stream": True,
        "stream_options": {"include_usage": True},
        "prompt": "hello",
        "max_tokens": None,
    }


@pytest.mark.parametrize("make", ["chat", "prompt"])
async def test_options_are_forwarded(lab: Any, make: str) -> None:
    request = getattr(lab, make)("hi", max_tokens=5, seed=7, stop=("a", "b"), sampling=SAMPLING)
    body = await asked(lab, request)
    given = {name: value for name, value in SAMPLING.items() if name != "repeat_penalty"}
    assert body.items() >= given.items()
    assert (body["max_tokens"], body["seed"], body["stop"]) == (5, 7, ["a", "b"])
    # vLLM and SGLang have the one name, llama.cpp's servers the other; each skips what it has not.
    assert body["repetition_penalty"] == body["repeat_penalty"] == 1.1


async def test_all_tokens_have_two_spellings(lab: Any) -> None:
    request = lab.chat(sampling={"top_k": 0})
    models = {"data": [{"id": "m", "owned_by": "me", "permissions": []}]}
    assert (await asked(lab, request))["top_k"] == -1
    assert (await asked(lab, request, lab.status(200, models)))["top_k"] == 0


async def test_logprobs_are_asked_for_in_each_route_s_words(lab: Any) -> None:
    body = await asked(lab, lab.chat(logprobs=3))
    assert (body["logprobs"], body["top_logprobs"]) == (True, 3)
    body = await asked(lab, lab.prompt("hi", logprobs=0))
    assert (body["logprobs"], "top_logprobs" in body) == (0, False)


async def test_json_and_schemas_become_response_formats(lab: Any) -> None:
    body = await asked(lab, lab.chat(format=b'"json"'))
    assert body["response_format"] == {"type": "json_object"}
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    body = await asked(lab, lab.chat(format=SCHEMA))
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, "strict": True},
    }
    models = {"data": [{"id": "m", "owned_by": "me", "permissions": []}]}
    body = await asked(lab, lab.chat(format=SCHEMA), lab.status(200, models))
    assert body["response_format"] == {"type": "json_object", "schema": schema}


async def test_what_cannot_be_forwarded_is_refused_by_name(lab: Any) -> None:
    async with lab.serving(lab.HELLO) as server, lab.loaded(server.url) as engine:
        refused = [
            (lab.chat(sampling={"mirostat": 2}), UnsupportedError, "mirostat"),
            (lab.chat(format=b'{"type": "regex", "pattern": "a"}'), InvalidFormatError, "regex"),
            (lab.prompt("hi", format=b'"json"'), UnsupportedError, "leave out raw"),
        ]
        for request, error, words in refused:
            with pytest.raises(error, match=words):
                await lab.answer(engine, request)
        assert server.asked == []
        claim = lab.corral_claim(lab.stub(server.url))
        assert engine.sampling == set(claim.sampling)
        assert engine.formats == set(claim.formats)


@pytest.mark.parametrize("code", [400, 422])
async def test_a_server_without_stream_options_is_asked_again_without(lab: Any, code: int) -> None:
    refusal = lab.status(code, {"error": {"message": "Unrecognized argument: stream_options"}})
    async with lab.serving(refusal, lab.HELLO) as server, lab.loaded(server.url) as engine:
        assert (await lab.answer(engine)).text == "Hello"
        assert (await lab.answer(engine)).text == "Hello"
        bodies = ["stream_options" in request.body for request in server.asked]
    assert bodies == [True, False, False]


async def test_another_refusal_is_told_in_the_server_s_words(lab: Any) -> None:
    refusal = lab.status(400, {"error": {"message": "temperature:\n must be below 2"}})
    async with lab.serving(refusal) as server, lab.loaded(server.url) as engine:
        with pytest.raises(RemoteRefusedError) as caught:
            await lab.answer(engine)
    words = f"{server.url} refused the request (400): temperature: must be below 2"
    assert str(caught.value) == words
