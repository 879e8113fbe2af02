"""Streams of other servers, well-formed and not, as pieces and endings."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral_kernel.contracts.text import Ending, PieceLogprob
from corral_kernel.errors import CorralError, RemoteServerError, RemoteTimeoutError
from corral_remote.failures import words
from corral_remote.hearing import Heard
from corral_remote.sse import EventReader

ODD = (
    ": a comment\r\n\r\n"
    "event: message\rid: 7\rretry: 10\r\r"
    'data: {"choices": [{"delta": {"content": "größer, 日本, 👩‍🚀"}}]}\n\n'
    'data:{"choices":\r\ndata: [{"delta": {"content": "!"}, "finish_reason": "stop"}]}\r\n\r\n'
    "data\n\n"
    "data: [DONE]\r\n\r\n"
).encode()


def test_events_are_the_same_wherever_the_stream_is_cut() -> None:
    whole = EventReader().feed(ODD)
    assert [json.loads(event)["choices"][0]["delta"] for event in whole[:2]] == [
        {"content": "größer, 日本, 👩‍🚀"},
        {"content": "!"},
    ]
    assert whole[2:] == [b"", b"[DONE]"]
    for place in range(len(ODD) + 1):
        reader = EventReader()
        assert reader.feed(ODD[:place]) + reader.feed(ODD[place:]) == whole, place
    reader = EventReader()
    assert [event for byte in ODD for event in reader.feed(bytes([byte]))] == whole


def test_a_byte_order_mark_and_a_missing_last_line_do_no_harm() -> None:
    reader = EventReader()
    assert reader.feed(b"\xef\xbb\xbfdata: a\n\ndata: b") == [b"a"]
    assert reader.finish() == [b"b"]


def test_lines_events_and_streams_are_bounded() -> None:
    with pytest.raises(RemoteServerError, match="a line of the answer has over 10 bytes"):
        EventReader(line_bytes=10).feed(b"data: 0123456789")
    with pytest.raises(RemoteServerError, match="an event of the answer has over 10 bytes"):
        EventReader(line_bytes=10).feed(b"data: abc\ndata: def\ndata: ghi\n")
    reader = EventReader(answer_bytes=10)
    reader.feed(b": 345678\n\n")
    with pytest.raises(RemoteServerError, match="over 10 bytes"):
        reader.feed(b"\n")


async def test_a_chat_comes_in_pieces_and_ends_with_its_usage(lab: Any) -> None:
    usage = {
        "prompt_tokens": 12,
        "completion_tokens": 3,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 8},
    }
    last = lab.event({"choices": [], "usage": usage})
    stream = lab.events(lab.event({"choices": [{"delta": {"role": "assistant"}}]}), lab.said("Hel"),
                        lab.said("lo"), lab.said(reason="length"), last, lab.DONE)  # fmt: skip
    async with lab.serving(stream) as server, lab.loaded(server.url) as engine:
        heard = await lab.answer(engine)

    assert [piece.content for piece in heard.pieces] == ["Hel", "lo"]
    assert heard.ending == Ending(
        reason="length", prompt_tokens=12, cached_tokens=8, output_tokens=3
    )


async def test_every_byte_of_a_stream_may_come_alone(lab: Any) -> None:
    data = b": ping\r\n\r\n" + lab.said("größer 👩‍🚀") + lab.STOP + lab.DONE
    alone = lab.events(*(bytes([byte]) for byte in data))
    async with lab.serving(alone) as server, lab.loaded(server.url) as engine:
        assert (await lab.answer(engine)).text == "größer 👩‍🚀"


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
async def test_reasoning_is_thinking(lab: Any, name: str) -> None:
    stream = lab.events(lab.said(**{name: "hm"}), lab.said("yes"), lab.STOP, lab.DONE)
    async with lab.serving(stream) as server, lab.loaded(server.url) as engine:
        heard = await lab.answer(engine)
    assert (heard.thinking, heard.text) == ("hm", "yes")


async def test_thinking_under_both_names_is_told_once(lab: Any) -> None:
    both = lab.said(reasoning="hm", reasoning_content="hm")
    stream = lab.events(both, lab.STOP, lab.DONE)
    async with lab.serving(stream) as server, lab.loaded(server.url) as engine:
        assert (await lab.answer(engine)).thinking == "hm"


@pytest.mark.parametrize(
    ("there", "here"),
    [("stop", "stop"), ("length", "length"), ("content_filter", "stop"), ("eos", "stop")],
)
async def test_finish_reasons_are_stop_or_length(lab: Any, there: str, here: str) -> None:
    stream = lab.events(lab.said("a"), lab.said(reason=there), lab.DONE)
    async with lab.serving(stream) as server, lab.loaded(server.url) as engine:
        assert (await lab.answer(engine)).ending.reason == here


@pytest.mark.parametrize("there", ["abort", "error"])
async def test_an_aborted_answer_is_an_error(lab: Any, there: str) -> None:
    stream = lab.events(lab.said("a"), lab.said(reason=there), lab.DONE)
    async with lab.serving(stream) as server, lab.loaded(server.url) as engine:
        with pytest.raises(RemoteServerError, match=there):
            await lab.answer(engine)


async def test_a_done_without_finish_reason_or_usage_will_do(lab: Any) -> None:
    stream = lab.events(lab.said("a"), lab.DONE)
    async with lab.serving(stream) as server, lab.loaded(server.url) as engine:
        assert (await lab.answer(engine)).ending == Ending()


async def test_a_finish_reason_without_done_will_do(lab: Any) -> None:
    async with (
        lab.serving(lab.events(lab.said("a"), lab.STOP)) as server,
        lab.loaded(server.url) as engine,
    ):
        assert (await lab.answer(engine)).text == "a"


async def test_a_server_that_hangs_after_its_finish_reason_is_not_waited_for_long(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corral_remote.engine._TAIL_S", 0.1)
    async with (
        lab.serving(lab.then_hang(lab.said("a"), lab.STOP)) as server,
        lab.loaded(server.url) as engine,
    ):
        assert (await lab.answer(engine)).ending.reason == "stop"


async def test_pings_after_the_finish_reason_do_not_prolong_an_answer(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ping_for_ever(asked: Any, writer: Any) -> None:
        await lab.then_hang(lab.said("a"), lab.STOP)(asked, writer)
        while not writer.is_closing():
            writer.write(lab.chunked(b": ping\n\n"))
            await lab.moment(0.02)

    monkeypatch.setattr("corral_remote.engine._TAIL_S", 0.2)
    async with lab.serving(ping_for_ever) as server, lab.loaded(server.url) as engine:
        assert (await lab.within(lab.answer(engine))).text == "a"


async def test_a_connection_cut_after_the_finish_reason_will_do(lab: Any) -> None:
    cut = lab.then_cut(lab.said("a"), lab.said(reason="length"))
    async with lab.serving(cut) as server, lab.loaded(server.url) as engine:
        assert (await lab.answer(engine)).ending == Ending(reason="length")


async def test_what_follows_done_is_not_read_as_answer(lab: Any) -> None:
    stream = lab.events(lab.said("a"), lab.STOP, lab.DONE + lab.said("b"))
    async with lab.serving(stream) as server, lab.loaded(server.url) as engine:
        assert (await lab.answer(engine)).text == "a"


async def test_a_server_that_does_not_stream_is_understood(lab: Any) -> None:
    whole = {
        "choices": [{"message": {"content": "Hello", "reasoning": "hm"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 4, "completion_tokens": 2},
    }
    async with lab.serving(lab.status(200, whole)) as server, lab.loaded(server.url) as engine:
        heard = await lab.answer(engine)
    assert (heard.text, heard.thinking) == ("Hello", "hm")
    assert heard.ending == Ending(prompt_tokens=4, output_tokens=2)


async def test_an_answer_that_does_not_stream_is_bounded(lab: Any) -> None:
    flood = lab.status(200, {"choices": [{"message": {"content": "x" * (9 << 20)}}]})
    async with lab.serving(flood) as server, lab.loaded(server.url) as engine:
        with pytest.raises(RemoteServerError, match=f"{server.url} has over {8 << 20} bytes"):
            await lab.answer(engine)


async def test_a_raw_prompt_is_completed(lab: Any) -> None:
    chunk = lab.event({"choices": [{"text": "lo", "finish_reason": None}], "usage": None})
    last = lab.event({"choices": [{"text": "", "finish_reason": "stop"}]})
    async with lab.serving(lab.events(chunk, last, lab.DONE)) as server:
        async with lab.loaded(server.url) as engine:
            heard = await lab.answer(engine, lab.prompt("Hel"))
        (asked,) = server.asked
    assert heard.text == "lo"
    assert (asked.path, asked.body["prompt"]) == ("/v1/completions", "Hel")


CHAT_FORM = {
    "content": [
        {
            "token": "é",
            "logprob": -0.5,
            "bytes": [195, 169],
            "top_logprobs": [
                {"token": "é", "logprob": -0.5, "bytes": [195, 169]},
                {"token": "e", "logprob": -1.5, "bytes": None},
                {"token": "x", "logprob": -2.5, "bytes": None},
            ],
        }
    ]
}
LIST_FORM = {
    "tokens": ["é"],
    "token_logprobs": [-0.5],
    "top_logprobs": [{"e": -1.5, "x": -2.5, "é": -0.5}],
    "text_offset": [0],
}


@pytest.mark.parametrize("form", [CHAT_FORM, LIST_FORM], ids=["chats", "completions"])
async def test_logprobs_are_read_in_both_forms(lab: Any, form: dict[str, Any]) -> None:
    choice = {"delta": {"content": "é"}, "logprobs": form}
    stream = lab.events(lab.event({"choices": [choice]}), lab.STOP, lab.DONE)
    async with lab.serving(stream) as server, lab.loaded(server.url) as engine:
        heard = await lab.answer(engine, lab.chat(logprobs=2))
        unasked = await lab.answer(engine)

    first = PieceLogprob(text="é", bytes="é".encode(), logprob=-0.5)
    second = PieceLogprob(text="e", bytes=b"e", logprob=-1.5)
    (piece,) = heard.pieces
    (told,) = piece.logprobs
    assert (told.text, told.bytes, told.logprob) == (first.text, first.bytes, -0.5)
    assert told.top == (first, second)
    assert unasked.pieces[0].logprobs == ()


async def test_an_error_in_mid_stream_ends_the_answer_with_its_words(lab: Any) -> None:
    broken = lab.event({"error": {"message": "CUDA out of memory", "code": 500}})
    async with lab.serving(lab.events(lab.said("a"), broken, lab.DONE)) as server:
        async with lab.loaded(server.url) as engine:
            answer = engine.generate(lab.chat())
            assert (await anext(answer)).content == "a"
            with pytest.raises(RemoteServerError, match="broke the answer off: CUDA out of memory"):
                await anext(answer)
        assert len(server.asked) == 1  # never asked again, once a token came


BAD = {
    "no JSON": b"data: {oops\n\n",
    "half of a JSON": b'data: {"choices": [{"delta"',
    "another shape": b'data: {"choices": [{"delta": {"content": 7}}]}\n\n',
    "a list": b"data: [1, 2]\n\n",
    "no UTF-8": b'data: {"choices": [{"delta": {"content": "\xff\xfe"}}]}\n\n',
    "half a surrogate": b'data: {"choices": [{"delta": {"content": "\\ud800"}}]}\n\n',
    "no finish": b": nothing more\n\n",
    "a deep nest": b"data: " + b'{"x":' * 100_000 + b"\n\n",
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
async def test_garbage_in_mid_stream_ends_the_answer_with_one_error(lab: Any, data: bytes) -> None:
    async with (
        lab.serving(lab.events(lab.said("a"), data)) as server,
        lab.loaded(server.url) as engine,
    ):
        with pytest.raises(RemoteServerError) as caught:
            await lab.answer(engine)
        assert server.url in str(caught.value)
        assert len(str(caught.value)) < 600


async def test_a_line_without_end_is_given_up(lab: Any) -> None:
    huge = [b"data: "] + [b"x" * (1 << 20)] * 5
    async with lab.serving(lab.events(*huge)) as server, lab.loaded(server.url) as engine:
        with pytest.raises(RemoteServerError, match="a line of the answer has over"):
            await lab.answer(engine)


async def test_a_connection_cut_in_mid_stream_is_an_error_not_an_end(lab: Any) -> None:
    async with lab.serving(lab.then_cut(lab.said("a"))) as server:
        async with lab.loaded(server.url) as engine:
            answer = engine.generate(lab.chat())
            assert (await anext(answer)).content == "a"
            with pytest.raises(RemoteServerError, match=server.url):
                await anext(answer)
        assert len(server.asked) == 1


async def test_another_content_type_is_refused_by_name(lab: Any) -> None:
    page = b"<html>Welcome to the router</html>"

    async def reply(asked: Any, writer: Any) -> None:
        length = f"content-length: {len(page)}"
        writer.write(lab.head(200, "content-type: text/html; charset=utf-8", length) + page)

    async with lab.serving(reply) as server, lab.loaded(server.url) as engine:
        with pytest.raises(RemoteServerError, match="'text/html', not with a stream of events"):
            await lab.answer(engine)


async def test_a_compressed_answer_is_refused(lab: Any) -> None:
    async def reply(asked: Any, writer: Any) -> None:
        assert asked.headers["accept-encoding"] == "identity"
        headers = ("content-type: text/event-stream", "content-encoding: gzip")
        writer.write(lab.head(200, *headers, "content-length: 0"))

    async with lab.serving(reply) as server, lab.loaded(server.url) as engine:
        with pytest.raises(RemoteServerError, match="'gzip', which nobody asked for"):
            await lab.answer(engine)


async def test_a_slow_first_token_is_given_up(lab: Any) -> None:
    pings = lab.then_hang(b": ping\n\n" * 3)
    for reply in (lab.never, pings):
        async with lab.serving(reply) as server:
            async with lab.loaded(server.url, remote_first_timeout=0.5) as engine:
                with pytest.raises(RemoteTimeoutError, match=r"no token within 0\.5 s"):
                    await lab.answer(engine)
                await server.left.wait()
            assert len(server.asked) == 1  # asking again would double the load


async def test_silence_in_mid_answer_is_given_up(lab: Any) -> None:
    reply = lab.then_hang(lab.said("a"), b": ping\n\n")
    async with (
        lab.serving(reply) as server,
        lab.loaded(server.url, remote_silence_timeout=0.2) as engine,
    ):
        answer = engine.generate(lab.chat())
        assert (await anext(answer)).content == "a"
        with pytest.raises(RemoteTimeoutError, match=r"fell silent in mid-answer for 0\.2 s"):
            await anext(answer)
        await server.left.wait()


async def test_a_reader_who_takes_his_time_is_no_silence(lab: Any) -> None:
    async with (
        lab.serving(lab.HELLO) as server,
        lab.loaded(server.url, remote_silence_timeout=1.0) as engine,
    ):
        pieces = engine.generate(lab.chat())
        await anext(pieces)
        await lab.moment(1.5)
        assert [piece async for piece in pieces][-1] == Ending()


async def test_closing_the_answer_hangs_up_at_once(lab: Any) -> None:
    async with (
        lab.serving(lab.then_hang(lab.said("a"))) as server,
        lab.loaded(server.url) as engine,
    ):
        answer = engine.generate(lab.chat())
        await anext(answer)
        await answer.aclose()
        await lab.within(server.left.wait())


async def test_a_cancelled_task_hangs_up_at_once(lab: Any) -> None:
    for reply in (lab.never, lab.then_hang(lab.said("a"))):
        async with lab.serving(reply) as server, lab.loaded(server.url) as engine:
            await lab.cancelled_once(server.was_asked, lab.answer(engine))
            await lab.within(server.left.wait())


async def test_a_cancelled_answer_leaves_the_engine_fit_for_others(lab: Any) -> None:
    async with (
        lab.serving(lab.then_hang(lab.said("a")), lab.HELLO) as server,
        lab.loaded(server.url) as engine,
    ):
        answer = engine.generate(lab.chat())
        await anext(answer)
        await answer.aclose()
        assert (await lab.answer(engine)).text == "Hello"


async def test_connections_are_kept_and_used_again(lab: Any) -> None:
    async with lab.serving(lab.HELLO) as server, lab.loaded(server.url) as engine:
        probes = server.connections
        for _ in range(5):
            assert (await lab.answer(engine)).text == "Hello"
        assert server.connections == probes + 1


async def test_many_answers_run_at_once(lab: Any) -> None:
    async with lab.serving(lab.HELLO) as server, lab.loaded(server.url) as engine:
        heard = await lab.together(lab.answer(engine) for _ in range(20))
    assert {answer.text for answer in heard} == {"Hello"}


async def test_no_error_of_any_kind_is_anything_but_ours(lab: Any) -> None:
    async def nonsense(asked: Any, writer: Any) -> None:
        writer.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        writer.close()

    async with (
        lab.serving(nonsense) as server,
        lab.loaded(server.url, remote_retries=0) as engine,
    ):
        with pytest.raises(CorralError, match="does not speak HTTP as it should"):
            await lab.answer(engine)


MUTATED = [
    (
        b'{"choices": [{"index": 0, "delta": {"content": "a", "reasoning": null}, "logprobs": '
        b'{"content": [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}]}}]}'
    ),
    (
        b'{"choices": [{"text": "a", "logprobs": {"tokens": ["a"], '
        b'"token_logprobs": [null], "top_logprobs": [{"a": -9}]}}], "usage": {"prompt_tokens": 3}}'
    ),
    b'{"error": {"message": "no", "code": 500}}',
]


@settings(derandomize=True, database=None, deadline=None, max_examples=500)
@given(
    data=st.one_of(
        st.binary(max_size=60),
        st.tuples(
            st.sampled_from(MUTATED), st.integers(0, 200), st.integers(0, 20), st.binary(max_size=9)
        ).map(lambda cut: cut[0][: cut[1]] + cut[3] + cut[0][cut[1] + cut[2] :]),
    )
)
def test_no_bytes_make_anything_but_a_piece_or_an_error_of_ours(data: bytes) -> None:
    heard = Heard("http://there/v1", 2, str)
    events = EventReader()
    with contextlib.suppress(CorralError):
        for found in [*events.feed(b"data: " + data + b"\n\n"), *events.finish()]:
            heard.take(found)
        heard.ending()
    said = words(data)
    assert len(said) <= 301
    assert said == " ".join(said.split())
