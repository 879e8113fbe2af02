"""Damaged copies of a model end in an error or in text, each in a process of its own."""

import collections
import json
import subprocess
import sys
from pathlib import Path

import pytest

MUTATIONS = Path(__file__).with_name("mutations.py")
COUNT = 250
LIMIT_S = 60.0


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["tiny-chat-onnx", "tiny-chat-onnx-int4"])
def test_damage_ends_in_an_error_or_in_text(
    tiny_chat_onnx: Path, tmp_path: Path, name: str
) -> None:
    folder = tiny_chat_onnx.with_name(name)
    count, seed = (COUNT, 1) if name == tiny_chat_onnx.name else (COUNT // 5, 2)
    numbers = [str(number) for number in (count, seed, LIMIT_S)]
    done = subprocess.run(
        [sys.executable, MUTATIONS, folder, tmp_path, *numbers],
        check=True,
        capture_output=True,
        text=True,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == count
    assert [each for each in found if each["status"]] == []
    kinds = collections.Counter(each["words"].partition(":")[0] for each in found)
    assert kinds.keys() <= {"text", "LoadError", "InvalidModelError", "InvalidRequestError"}
    assert kinds["text"] < count / 2  # most of it is noticed
    assert kinds["LoadError"] > count / 10
    assert kinds["InvalidModelError"] > count / 10
    assert all(each["words"] == "text" or len(each["words"]) > 30 for each in found)
