"""Tools and thoughts as Ollama's Python client and our own command show them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest

CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": 3}}\n</tool_call>'
SAID = "<think>Two and three.</think>Wait."


def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: The first.
        b: The second.
    """
    return a + b


@pytest.fixture
def client(server: Any, api: httpx.Client) -> Iterator[ollama.Client]:
    with ollama.Client(server.url) as client:
        yield client


def question(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_a_tool_that_is_a_function_is_called_and_its_result_sent_back(
    client: ollama.Client,
) -> None:
    answer = client.chat("says-both", question(SAID + CALL), tools=[add], think=True)
    assert (answer.message.thinking, answer.message.content) == ("Two and three.", "Wait.")
    assert answer.message.tool_calls
    (call,) = answer.message.tool_calls
    assert call.function.name == "add"
    result = add(**call.function.arguments)
    messages = [*question("?"), answer.message, {"role": "tool", "content": str(result)}]
    again = client.chat(
        "says-both", messages, tools=[add], options={"constrain_tools": False, "num_predict": 400}
    )
    assert again.message.content is not None
    assert again.message.content.endswith("5")  # the echo says what it was sent


def test_a_stream_brings_thought_text_and_call_in_turn(client: ollama.Client) -> None:
    stream = client.chat("says-both", question(SAID + CALL), tools=[add], stream=True)
    kinds = []
    for part in stream:
        message = part.message
        told = {"thought": message.thinking, "text": message.content, "call": message.tool_calls}
        kinds += [kind for kind, there in told.items() if there]
    assert [k for i, k in enumerate(kinds) if kinds[i - 1 : i] != [k]] == [
        "thought",
        "text",
        "call",
    ]


def test_generate_thinks_as_well(client: ollama.Client) -> None:
    answer = client.generate("says-thinks", SAID, think=True)
    assert (answer.thinking, answer.response) == ("Two and three.", "Wait.")
    parts = [*client.generate("says-thinks", SAID, stream=True)]
    assert "".join(part.thinking or "" for part in parts) == "Two and three."


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], "Thinking...\nTwo and three.\n...done thinking.\n\nWait.\n\n"),
        (["--hidethinking"], "Wait.\n\n"),
        (["--think=false"], f"{SAID}\n\n"),
    ],
    ids=["shown", "hidden", "off"],
)
def test_the_command_shows_thoughts_apart(
    server: Any, api: httpx.Client, flags: list[str], expected: str
) -> None:
    command = [str(Path(sys.executable).with_name("corral")), "run", "says-thinks", SAID, *flags]
    done = subprocess.run(
        command,
        env=os.environ | {"CORRAL_HOST": server.url},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == expected
