"""How many of an answer's tokens its format forced."""

import json
from typing import Any

import httpx
import pytest

FORMAT = {"type": "object", "properties": {"size": {"enum": [1, 2]}}, "required": ["size"]}


def ask(server: Any, route: str, **more: Any) -> list[dict[str, Any]]:
    body: dict[str, Any] = {"model": "tiny-chat", "keep_alive": 0, **more}
    body |= {"options": {"num_predict": 60, "num_thread": 1, "temperature": 0}}
    if route == "chat":
        body["messages"] = [{"role": "user", "content": "x"}]
    else:
        body["prompt"] = "x"
    answer = httpx.post(f"{server.url}/api/{route}", json=body, timeout=60)
    answer.raise_for_status()
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.mark.parametrize("route", ["chat", "generate"])
@pytest.mark.parametrize("stream", [False, True])
def test_the_last_object_tells_how_many_tokens_were_forced(
    server: Any, route: str, *, stream: bool
) -> None:
    *pieces, last = ask(server, route, stream=stream, format=FORMAT)
    assert 0 < last["forced_count"] < last["eval_count"]
    # A request that makes a loaded model load anew is told so, last of all.
    assert [name for name in last if name != "warnings"][-1] == "forced_count"
    assert not any("forced_count" in piece for piece in pieces)


@pytest.mark.parametrize("route", ["chat", "generate"])
def test_an_answer_without_a_format_does_not_mention_it(server: Any, route: str) -> None:
    (only,) = ask(server, route, stream=False)
    assert "forced_count" not in only
