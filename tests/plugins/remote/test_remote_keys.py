"""Keys: where they may come from, and that nothing shows them."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral_kernel.errors import CorralError, InvalidRequestError, RemoteServerError
from corral_remote.keys import Secret, resolve


def test_a_key_comes_from_the_environment_or_a_file(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_KEY", f" {lab.KEY}\n")
    (tmp_path / "key").write_text(f"{lab.KEY}\n")
    assert resolve("env:THE_KEY").reveal() == lab.KEY
    assert resolve(f"file:{tmp_path / 'key'}").reveal() == lab.KEY
    assert not resolve("")


def test_what_is_no_reference_is_refused_without_repeating_it(lab: Any) -> None:
    for text in (lab.KEY, "env:", "file:", f"http:{lab.KEY}"):
        with pytest.raises(InvalidRequestError, match="write env:NAME or file:PATH") as caught:
            resolve(text)
        assert lab.KEY not in str(caught.value)


def test_what_is_no_key_is_refused_without_repeating_it(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_KEY", f"{lab.KEY}\r\nX-Evil: 1")
    with pytest.raises(InvalidRequestError, match="is no key: one line") as caught:
        resolve("env:THE_KEY")
    assert lab.KEY not in str(caught.value)
    with pytest.raises(InvalidRequestError, match="'env:NOT_SET_ANYWHERE': nothing is set"):
        resolve("env:NOT_SET_ANYWHERE")
    with pytest.raises(InvalidRequestError, match="No such file"):
        resolve(f"file:{tmp_path / 'none'}")
    (tmp_path / "big").write_bytes(b"k" * 20_000)
    with pytest.raises(InvalidRequestError, match="over 16384 bytes"):
        resolve(f"file:{tmp_path / 'big'}")


def test_a_secret_shows_itself_to_nobody(lab: Any) -> None:
    secret = Secret(lab.KEY, "env:X")
    shown = f"{secret} {secret!r} {[secret]} {secret:}"
    assert lab.KEY not in shown
    assert "***" in shown
    assert secret.scrub(f"bad key {lab.KEY}!") == "bad key ***!"
    for spelled in ("a%2Fb%3d", r"a\/b=", "a/b="):
        assert Secret("a/b=").scrub(f"x{spelled}y") == "x***y"
    assert Secret("a&b").scrub("xa&amp;by") == "x***y"
    assert Secret().scrub("as it is") == "as it is"


async def test_the_key_is_sent_and_shown_nowhere(
    lab: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("THE_KEY", lab.KEY)
    async with (
        lab.serving(lab.HELLO) as server,
        lab.loaded(server.url, api_key="env:THE_KEY") as engine,
    ):
        assert (await lab.answer(engine)).text == "Hello"
        shown = f"{engine!r} {engine.info!r} {vars(engine)!r} {vars(engine._client)!r}"
    assert server.asked[0].headers["authorization"] == f"Bearer {lab.KEY}"
    assert lab.KEY not in shown + caplog.text


async def test_without_a_key_no_header_is_sent(lab: Any) -> None:
    async with lab.serving(lab.HELLO) as server, lab.loaded(server.url) as engine:
        await lab.answer(engine)
        assert "authorization" not in server.asked[0].headers


@pytest.mark.parametrize("code", [401, 403])
async def test_a_refused_key_is_told_by_its_reference(
    lab: Any, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setenv("THE_KEY", lab.KEY)
    told = {"error": {"message": f"Incorrect API key provided: {lab.KEY}"}}
    async with (
        lab.serving(lab.status(code, told)) as server,
        lab.loaded(server.url, api_key="env:THE_KEY") as engine,
    ):
        with pytest.raises(RemoteServerError) as caught:
            await lab.answer(engine)
    words = f"{server.url} refused the key of env:THE_KEY ({code}): Incorrect API key provided: ***"
    assert str(caught.value) == words


async def test_errors_in_mid_stream_repeat_no_key(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_KEY", lab.KEY)
    told = [
        lab.event({"error": {"message": f"quota of {lab.KEY} is used up"}}),
        lab.event({"choices": f"{lab.KEY}"}),
        lab.said(reason="abort") + lab.event({"error": lab.KEY}),
    ]
    for broken in told:
        async with (
            lab.serving(lab.events(lab.said("a"), broken)) as server,
            lab.loaded(server.url, api_key="env:THE_KEY") as engine,
        ):
            with pytest.raises(CorralError) as caught:
                await lab.answer(engine)
        assert lab.KEY not in str(caught.value)


ODD_KEY = "sk-ab/cd+<very&secret>='9"
ESCAPES: dict[str, Callable[[str], str]] = {
    "a slash as PHP writes it": lambda text: text.replace("/", r"\/"),
    "marks as Go writes them": lambda text: (
        text.replace("<", r"\u003c").replace(">", r"\u003E").replace("&", r"\u0026")
    ),
    "all of it": lambda text: "".join(rf"\u{ord(letter):04x}" for letter in text),
}


@pytest.mark.parametrize("escape", ESCAPES)
@pytest.mark.parametrize("inner", ["{}", '{{"error": "bad key {}"}}'], ids=["plain", "JSON in it"])
@pytest.mark.parametrize("streamed", [False, True], ids=["a status", "in mid-stream"])
async def test_a_key_that_comes_back_escaped_is_shown_no_more_than_another(
    lab: Any, monkeypatch: pytest.MonkeyPatch, escape: str, inner: str, *, streamed: bool
) -> None:
    monkeypatch.setenv("ODD_KEY", ODD_KEY)
    said = json.dumps(inner.format(ESCAPES[escape](ODD_KEY)))[1:-1]
    if inner == "{}":  # what is escaped is the JSON's own text
        said = ESCAPES[escape](ODD_KEY)
    body = f'{{"error": {{"message": "no: {said}"}}}}'.encode()
    reply = lab.events(lab.said("a"), b"data: " + body + b"\n\n")
    async with (
        lab.serving(reply if streamed else lab.status(400, body)) as server,
        lab.loaded(server.url, api_key="env:ODD_KEY") as engine,
    ):
        with pytest.raises(CorralError) as caught:
            await lab.answer(engine)
    told = str(caught.value)
    assert "no: " in told
    assert "***" in told
    assert "ecret" not in told
    assert r"\u00" not in told


@pytest.mark.parametrize("place", [280, 290, 299])
async def test_no_half_of_a_key_is_left_where_words_are_cut(
    lab: Any, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    monkeypatch.setenv("THE_KEY", lab.KEY)
    message = "x" * place + lab.KEY
    told = [
        lab.status(400, {"error": {"message": message}}),
        lab.events(lab.event({"error": {"message": message}})),
        lab.events(lab.event({"object": "error", "message": message})),
    ]
    for reply in told:
        async with (
            lab.serving(reply) as server,
            lab.loaded(server.url, api_key="env:THE_KEY") as engine,
        ):
            with pytest.raises(CorralError, match="xxxx") as caught:
                await lab.answer(engine)
        assert "sk" not in str(caught.value)


@pytest.mark.parametrize("header", ["content-type: {}/x", "content-encoding: {}"])
async def test_errors_repeat_no_key_out_of_headers(
    lab: Any, monkeypatch: pytest.MonkeyPatch, header: str
) -> None:
    monkeypatch.setenv("LAB_KEY", "sk-Very-Secret")

    async def reply(asked: Any, writer: Any) -> None:
        said = header.format(asked.headers["authorization"].removeprefix("Bearer "))
        kinds = () if "type" in said else ("content-type: text/event-stream",)
        writer.write(lab.head(200, said, *kinds, "content-length: 0"))

    async with (
        lab.serving(reply) as server,
        lab.loaded(server.url, api_key="env:LAB_KEY") as engine,
    ):
        with pytest.raises(RemoteServerError, match=r"'\*\*\*") as caught:
            await lab.answer(engine)
    assert "secret" not in str(caught.value).lower()


async def test_a_server_that_wants_a_key_says_so_at_the_load(lab: Any) -> None:
    refusal = lab.status(401, {"error": "no key"})
    async with lab.serving(lab.HELLO, listing=refusal) as server:
        with pytest.raises(RemoteServerError, match=r"wants a key \(PARAMETER api_key\)"):
            async with lab.loaded(server.url):
                pass
