"""Failures before the first token: which are tried again, for how long, and what is told."""

import email.utils
import time
from typing import Any

import pytest

from corral_kernel.causes import retry_after
from corral_kernel.errors import (
    PromptTooLongError,
    RemoteBusyError,
    RemoteRefusedError,
    RemoteServerError,
)
from corral_remote.failures import AgainError, of_status, words
from corral_remote.places import Limits, Patience

FAST = Limits(retries=3, retries_s=0.0)


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504, 529])
async def test_a_passing_fault_is_not_noticed(lab: Any, code: int) -> None:
    fault = lab.status(code, {"error": "busy"}, "retry-after: 0")
    async with lab.serving(fault, fault, lab.HELLO) as server, lab.loaded(server.url) as engine:
        assert (await lab.answer(engine)).text == "Hello"
        assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("code", "error"), [(429, RemoteBusyError), (503, RemoteBusyError), (500, RemoteServerError)]
)
async def test_a_lasting_fault_is_told_after_the_last_try(
    lab: Any, code: int, error: type[Exception]
) -> None:
    fault = lab.status(code, {"error": {"message": "no room"}}, "retry-after: 0")
    async with lab.serving(fault) as server:
        async with lab.loaded(server.url, remote_retries=2) as engine:
            with pytest.raises(error, match=rf"{server.url} .*\({code}\): no room$"):
                await lab.answer(engine)
        assert len(server.asked) == 3


async def test_a_long_retry_after_is_told_instead_of_waited_for(lab: Any) -> None:
    fault = lab.status(429, {"error": {"message": "quota"}}, "retry-after: 3600")
    async with lab.serving(fault) as server, lab.loaded(server.url) as engine:
        with pytest.raises(RemoteBusyError, match=r"quota; try again in 3600 s$"):
            await lab.answer(engine)
        assert len(server.asked) == 1


def test_retry_after_is_seconds_or_a_date() -> None:
    assert retry_after("7") == 7
    assert retry_after("1.5") == 1.5
    in_a_minute = retry_after(email.utils.formatdate(time.time() + 60, usegmt=True))
    assert in_a_minute is not None
    assert 50 < in_a_minute <= 60
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    for none in ("", "soon", "-1", "1e9", "9" * 400):
        assert retry_after(none) is None


async def test_waiting_has_a_bound_in_tries_and_in_time() -> None:
    failure = AgainError(RemoteServerError("it failed"), 0.0)
    patience = Patience(FAST)
    for _ in range(3):
        await patience.wait(failure)
    with pytest.raises(RemoteServerError, match="it failed"):
        await patience.wait(failure)
    with pytest.raises(RemoteServerError, match="it failed"):
        await Patience(FAST).wait(AgainError(RemoteServerError("it failed")))


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 413, 422, 501])
async def test_what_stays_as_it_is_is_not_asked_again(lab: Any, code: int) -> None:
    async with lab.serving(lab.status(code, {"error": {"message": "no"}})) as server:
        async with lab.loaded(server.url) as engine:
            with pytest.raises((RemoteRefusedError, RemoteServerError)) as caught:
                await lab.answer(engine)
        assert len(server.asked) == 1
    assert server.url in str(caught.value)
    assert f"({code}): no" in str(caught.value)


async def test_a_model_that_is_not_there_is_named(lab: Any) -> None:
    missing = lab.status(404, {"error": {"message": "The model `tiny` does not exist."}})
    async with lab.serving(missing) as server, lab.loaded(server.url) as engine:
        with pytest.raises(RemoteRefusedError, match=r"has no model 'tiny'.*does not exist"):
            await lab.answer(engine)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(lab: Any, code: int) -> None:
    async with lab.serving(lab.HELLO) as other:
        away = lab.status(code, {}, f"location: {other.url}/chat/completions")
        async with lab.serving(away) as server, lab.loaded(server.url) as engine:
            with pytest.raises(RemoteServerError, match="redirects, which is not followed"):
                await lab.answer(engine)
        assert other.asked == []


async def test_a_connection_cut_before_the_first_token_is_tried_again(lab: Any) -> None:
    async def hang_up(asked: Any, writer: Any) -> None:
        writer.close()

    cuts = [hang_up, lab.then_cut(), lab.then_cut(b": ping\n\n")]
    for cut in cuts:
        async with lab.serving(cut, lab.HELLO) as server, lab.loaded(server.url) as engine:
            assert (await lab.answer(engine)).text == "Hello"
            assert len(server.asked) == 2


async def test_a_server_that_is_gone_is_told_at_once_and_used_when_it_is_back(lab: Any) -> None:
    async with lab.serving(lab.HELLO) as server, lab.loaded(server.url) as engine:
        assert (await lab.answer(engine)).text == "Hello"
        await server.stop()
        with pytest.raises(RemoteServerError, match="refused the connection"):
            await lab.answer(engine)
        await server.start()
        assert (await lab.answer(engine)).text == "Hello"


def test_a_prompt_over_the_context_is_told_as_such() -> None:
    body = b'{"error": {"message": "4096 tokens at most", "code": "context_length_exceeded"}}'
    assert isinstance(of_status("http://h/v1", 400, body), PromptTooLongError)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"error": {"message": "a"}}', "a"),
        (b'{"error": "a"}', "a"),
        (b'{"object": "error", "message": "a", "code": 400}', "a"),
        (b'{"detail": "a"}', "a"),
        (b'{"detail": [{"msg": "a"}]}', '[{"msg":"a"}]'),
        (b"plain\r\n\x1b[31mwords", "plain [31mwords"),
        (b"<html>502</html>", ""),
        (b"", ""),
        (b"[1]", ""),
        (b'{"error": null}', ""),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"x" * 1000, "x" * 300 + "…"),
        (b'{"error":' * 100_000, '{"error":' * 33 + '{"e…'),
    ],
)
def test_words_are_found_wherever_servers_put_them(body: bytes, found: str) -> None:
    said = words(body)
    assert said == found or (len(said) == 301 and said.startswith('{"error":'))
