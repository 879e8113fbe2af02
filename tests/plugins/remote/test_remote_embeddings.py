"""Vectors of other servers, well-formed and not."""

import base64
from typing import Any

import numpy as np
import pytest

from corral_kernel.errors import RemoteRefusedError, RemoteServerError, RemoteTimeoutError


def vectors(*rows: Any, usage: Any = None) -> dict[str, Any]:
    data = [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)]
    return {"object": "list", "data": data, "usage": usage}


async def test_texts_become_rows_in_their_order_with_their_tokens(lab: Any) -> None:
    told = vectors([1.0, 2.0], [3, 4.5], usage={"prompt_tokens": 7, "total_tokens": 7})
    told["data"].reverse()
    async with lab.serving(lab.status(200, told)) as server, lab.loaded(server.url) as engine:
        found = await engine.embed("m", ["a", "b"], 0, truncate=True)
        (asked,) = server.asked
    assert found.rows.dtype == np.float32
    assert found.rows.tolist() == [[1.0, 2.0], [3.0, 4.5]]
    assert found.prompt_tokens == 7
    assert asked.path == "/v1/embeddings"
    assert asked.body == {"model": "m", "input": ["a", "b"], "encoding_format": "float"}


async def test_the_first_few_numbers_are_kept_here(lab: Any) -> None:
    told = lab.status(200, vectors([1.0, 2.0, 3.0]))
    async with lab.serving(told) as server, lab.loaded(server.url) as engine:
        found = await engine.embed("m", ["a"], 2, truncate=True)
        assert found.rows.tolist() == [[1.0, 2.0]]
        assert "dimensions" not in server.asked[0].body


async def test_base64_is_understood_too(lab: Any) -> None:
    row = base64.b64encode(np.asarray([1.5, -2.0], "<f4").tobytes()).decode()
    async with (
        lab.serving(lab.status(200, vectors(row))) as server,
        lab.loaded(server.url) as engine,
    ):
        found = await engine.embed("m", ["a"], 0, truncate=True)
    assert found.rows.tolist() == [[1.5, -2.0]]


async def test_many_texts_go_in_several_requests(lab: Any) -> None:
    async def reply(asked: Any, writer: Any) -> None:
        rows = ([float(text)] for text in asked.body["input"])
        told = vectors(*rows, usage={"prompt_tokens": len(asked.body["input"])})
        await lab.status(200, told)(asked, writer)

    texts = [str(number) for number in range(300)]
    async with lab.serving(reply) as server, lab.loaded(server.url) as engine:
        found = await engine.embed("m", texts, 0, truncate=True)
        assert [len(request.body["input"]) for request in server.asked] == [128, 128, 44]
    assert found.rows[:, 0].tolist() == list(map(float, range(300)))
    assert found.prompt_tokens == 300


WRONG = {
    "too few": vectors([1.0]),
    "too many": vectors([1.0], [1.0], [1.0]),
    "unequal": vectors([1.0], [1.0, 2.0]),
    "empty": vectors([], []),
    "one index twice": {"data": [{"index": 0, "embedding": [1.0]}] * 2},
    "half base64": vectors("AAA", "AAA"),
    "three bytes": vectors("AAAA", "AAAA"),
    "no numbers": vectors([None], [None]),
    "a row for each token": vectors([[1.0], [2.0]], [[1.0]]),
    "no data": {"object": "list"},
    "an error": {"error": {"message": "no"}},
    "no JSON": b"<html></html>",
}


@pytest.mark.parametrize("told", WRONG.values(), ids=WRONG.keys())
async def test_anything_else_is_one_clear_error(lab: Any, told: Any) -> None:
    async with lab.serving(lab.status(200, told)) as server, lab.loaded(server.url) as engine:
        with pytest.raises(RemoteServerError, match=server.url):
            await engine.embed("m", ["a", "b"], 0, truncate=True)


async def test_a_flood_in_place_of_vectors_is_given_up(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corral_remote.embedding.ANSWER_BYTES", 100_000)
    flood = lab.events(*[b" " * 10_000] * 20)
    async with lab.serving(flood) as server, lab.loaded(server.url) as engine:
        with pytest.raises(RemoteServerError, match="over 100000 bytes"):
            await engine.embed("m", ["a"], 0, truncate=True)


async def test_passing_faults_are_not_noticed_and_refusals_are_told(lab: Any) -> None:
    busy = lab.status(503, {}, "retry-after: 0")
    refusal = lab.status(400, {"error": {"message": "input too long"}})
    replies = (busy, lab.status(200, vectors([1.0])), refusal)
    async with lab.serving(*replies) as server, lab.loaded(server.url) as engine:
        assert (await engine.embed("m", ["a"], 0, truncate=True)).rows.tolist() == [[1.0]]
        with pytest.raises(RemoteRefusedError, match=r"\(400\): input too long"):
            await engine.embed("m", ["a"], 0, truncate=False)


async def test_vectors_that_do_not_come_are_given_up(lab: Any) -> None:
    async with (
        lab.serving(lab.never) as server,
        lab.loaded(server.url, remote_first_timeout=0.5) as engine,
    ):
        with pytest.raises(RemoteTimeoutError, match=r"no vectors within 0\.5 s"):
            await engine.embed("m", ["a"], 0, truncate=True)
        await lab.within(server.left.wait())
