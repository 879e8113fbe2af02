"""Loads damaged copies of a model, each in a process of its own, and tells how each ended.

python mutations.py FOLDER SCRATCH COUNT SEED LIMIT_SECONDS

Imports once and forks for each copy, so that hundreds take seconds. Writes one line of JSON each:
what was damaged, the status of the process, and what it said.
"""

import json
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import corral_onnx.loading  # noqa: F401 - so that forks need not import it
from corral_kernel.contracts import Claim, FileRef, Job, LoadRequest, TextPart, TokenEngine
from corral_kernel.errors import CorralError
from corral_onnx import corral_load
from corral_onnx.options import OnnxOptions

MEMORY_BYTES = 4 << 30
TOKENS = 12
PROMPT = "<|im_start|>user\ncapital of Italy?<|im_end|>\n<|im_start|>assistant\n"
WILD = (0, -1, 1, 2, 3, 255, 1 << 15, 1 << 31, (1 << 31) - 1, 1 << 40, 1 << 63, -(1 << 31), 1e300)
ODD: tuple[Any, ...] = (*WILD, None, True, "", "x", "../x", [], {}, [[]], {"": 1}, "\0", "é" * 99)
WEIGHTED = ("model.onnx",) * 4 + ("genai_config.json",) * 3 + ("tokenizer.json",) * 2


def main(folder: Path, scratch: Path, count: int, seed: int, limit_s: float) -> None:
    """Try `count` damaged copies."""
    for number in range(count):
        chance = random.Random(seed * 100_000 + number)
        copy = scratch / str(number)
        shutil.copytree(folder, copy)
        what = damage(copy, chance)
        status, words = tried(copy, limit_s)
        line = {"number": number, "what": what, "status": status, "words": words}
        sys.stdout.write(json.dumps(line) + "\n")
        shutil.rmtree(copy)


def tried(folder: Path, limit_s: float) -> tuple[int, str]:
    """Load and run in a fork; status -9 is a hang."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the library writes its errors there too
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.write(writer, run(folder).encode()[:4000])
        os._exit(0)
    os.close(writer)
    deadline = time.monotonic() + limit_s
    descriptor = os.pidfd_open(pid)
    ended = _readable(descriptor, deadline - time.monotonic())
    if not ended:
        os.kill(pid, signal.SIGKILL)
    os.close(descriptor)
    _, status = os.waitpid(pid, 0)
    words = os.read(reader, 5000).decode(errors="replace")
    os.close(reader)
    return os.waitstatus_to_exitcode(status), words


def _readable(descriptor: int, timeout_s: float) -> bool:
    import select

    return bool(select.select([descriptor], [], [], max(0.0, timeout_s))[0])


def run(folder: Path) -> str:
    """Answer a question; gives the text, or the error."""
    claim = Claim(backend="onnx", confidence=1.0, why="a test", capabilities=("completion",))
    files = tuple(
        FileRef(role="file", digest="", size_bytes=0, name=path.name, path=str(path))
        for path in folder.iterdir()
    )
    options = OnnxOptions(num_thread=1, num_ctx=128)
    request = LoadRequest(
        claim=claim, options=options, files=files, slots=2, report=lambda _share: True
    )
    try:
        engine = corral_load(request)
        assert isinstance(engine, TokenEngine)
        for number in range(2):
            answer(engine, number)
    except CorralError as error:
        return f"{type(error).__name__}: {error}"
    return "text"


def answer(engine: TokenEngine, number: int) -> None:
    prompt = engine.prepare([TextPart(PROMPT)])
    engine.admit(Job(id=number, prompt=prompt, max_tokens=TOKENS))
    for _ in range(TOKENS):
        (rows,) = engine.forward()
        if rows.error is not None:
            break
        if rows.logits is not None:
            token_id = int(rows.logits[0].argmax())
            if token_id < len(engine.tokenizer.pieces):
                engine.tokenizer.decode([token_id])
            engine.extend(number, [token_id])
    engine.release(number)


# ---------------------------------------------------------------------------------- damage


def damage(folder: Path, chance: random.Random) -> str:
    """Damage one file; tells how."""
    name = chance.choice((*WEIGHTED, "model.onnx.data"))
    path = folder / name
    kinds: list[Callable[[bytearray, random.Random], str]] = [_flip, _flip, _cut, _zero, _insert]
    if path.suffix == ".json" and chance.random() < 0.8:
        document = json.loads(path.read_text())
        how = _odd_value(document, chance)
        path.write_text(json.dumps(document))
        return f"{name}: {how}"
    data = bytearray(path.read_bytes())
    how = chance.choice(kinds)(data, chance)
    path.write_bytes(data)
    return f"{name}: {how}"


def _flip(data: bytearray, chance: random.Random) -> str:
    place, bit = chance.randrange(len(data)), chance.randrange(8)
    data[place] ^= 1 << bit
    return f"bit {bit} of byte {place}"


def _cut(data: bytearray, chance: random.Random) -> str:
    length = chance.randrange(len(data))
    del data[length:]
    return f"cut to {length}"


def _zero(data: bytearray, chance: random.Random) -> str:
    place = chance.randrange(len(data))
    length = min(chance.randrange(1, 64), len(data) - place)
    data[place : place + length] = bytes(chance.choice((0, 255)) for _ in range(length))
    return f"{length} bytes at {place}"


def _insert(data: bytearray, chance: random.Random) -> str:
    place = chance.randrange(len(data))
    data[place:place] = chance.randbytes(chance.randrange(1, 16))
    return f"inserted at {place}"


def _odd_value(document: Any, chance: random.Random) -> str:
    holder, key = chance.choice(list(_places(document)))
    if chance.random() < 0.2:
        del holder[key]
        return f"{key} gone"
    value = chance.choice(ODD)
    holder[key] = value
    return f"{key} = {str(value)[:20]}"


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Where values stand; of a long list or object a few, so that each part has its share."""
    pairs = list(document.items() if isinstance(document, dict) else enumerate(document))
    for key, value in pairs[:12]:
        yield document, key
        if isinstance(value, dict | list):
            yield from _places(value)


if __name__ == "__main__":
    _, source, target, *numbers = sys.argv
    main(Path(source), Path(target), int(numbers[0]), int(numbers[1]), float(numbers[2]))
