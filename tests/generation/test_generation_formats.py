"""Formats of every kind through the HTTP API, on a real model and under attack."""

import hashlib
import json
import re
import runpy
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

CORPUS = Path(__file__).parents[1] / "plugins" / "guidance" / "corpus"
HOT = {"temperature": 1.5, "num_thread": 1, "num_predict": 220, "num_ctx": 1024}
DATE = r"\d{4}-\d{2}-\d{2}"


class Asked:
    """A server, asked for answers in formats."""

    def __init__(self, server: Any, model: str) -> None:
        self.server = server
        self.model = model
        self.client = httpx.Client(base_url=server.url, timeout=90)

    def ask(self, spec: Any, **options: Any) -> httpx.Response:
        body = {"model": self.model, "prompt": "Tell me.", "stream": False, "format": spec,
                "options": {**HOT, **options}}  # fmt: skip
        return self.client.post("/api/generate", json=body)

    def answer(self, spec: Any, **options: Any) -> dict[str, Any]:
        answer = self.ask(spec, **options)
        assert answer.status_code == 200, answer.text
        got: dict[str, Any] = answer.json()
        return got

    def refusal(self, spec: Any) -> str:
        answer = self.ask(spec)
        assert answer.status_code == 400, answer.text
        assert [*answer.json()] == ["error"]
        return str(answer.json()["error"])

    def settled(self) -> None:
        """Wait until there are two workers: a spare one comes some time after a load."""
        end = time.monotonic() + 100
        while len(self.workers()) < 2:
            assert time.monotonic() < end
            time.sleep(0.01)

    def workers(self) -> set[int]:
        return {child.pid for child in psutil.Process(self.server.process.pid).children()}

    def resident(self) -> int:
        """Bytes of the server and all that it started."""
        me = psutil.Process(self.server.process.pid)
        return sum(each.memory_info().rss for each in (me, *me.children()))


@pytest.fixture(scope="module")
def tiny(start_server: Callable[..., Any]) -> Iterator[Asked]:
    asked = Asked(start_server(), "tiny")
    file = Path(__file__).parents[1] / "models" / "tiny-chat-f32.gguf"
    digest = f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    asked.client.post(f"/api/blobs/{digest}", content=file.read_bytes()).raise_for_status()
    made = {"model": "tiny", "files": {"tiny.gguf": digest}, "stream": False}
    asked.client.post("/api/create", json=made).raise_for_status()
    asked.answer({"const": 1})
    asked.settled()
    yield asked
    asked.client.close()


@pytest.fixture(scope="module")
def real(start_server: Callable[..., Any], smollm2: Path) -> Iterator[Asked]:
    asked = Asked(start_server(), "smollm2")
    yield asked
    asked.client.close()


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


# ------------------------------------------------------------------------- on a real model


@pytest.mark.real
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("spec", "right"),
    [
        ({"type": "regex", "pattern": DATE}, lambda text: re.fullmatch(DATE, text)),
        ({"type": "choice", "choices": ["red", "green", "light green"]},
         lambda text: text in ("red", "green", "light green")),
        ({"type": "gbnf", "grammar": "root ::= num (op num)+\nop ::= [-+]\nnum ::= [0-9]{1,3}"},
         lambda text: re.fullmatch(r"\d{1,3}([-+]\d{1,3})+", text)),
        ({"type": "lark", "grammar": 'start: "say: " %json {"type": "string", "maxLength": 30}'},
         lambda text: text.startswith('say: "') and isinstance(json.loads(text[5:]), str)),
        ({"type": "string", "format": "date"}, lambda text: re.fullmatch(f'"{DATE}"', text)),
        ("json", is_json),
    ],
    ids=["regex", "choice", "gbnf", "lark", "schema", "json"],
)  # fmt: skip
def test_a_hot_model_keeps_to_formats_of_every_kind(
    real: Asked, spec: Any, right: Callable[[str], Any], seed: int
) -> None:
    got = real.answer(spec, seed=seed)
    if got.get("done_reason") == "stop":  # not cut, nor ended for repeating itself
        assert right(got["response"]), got


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hot_model_keeps_to_schemas_of_the_corpus(real: Asked) -> None:
    complaint = runpy.run_path(str(CORPUS.parent / "conftest.py"))["complaint"]
    written = json.loads((CORPUS / "written.json").read_text())
    generated = json.loads((CORPUS / "generated.json").read_text())
    schemas = {**written, **dict([*generated.items()][::9])}
    finished = 0
    refused = []
    for seed, (name, schema) in enumerate(schemas.items()):
        answer = real.ask(schema, seed=seed, num_predict=120)
        assert answer.status_code in (200, 400), f"{name}: {answer.text}"
        got = answer.json()
        if answer.status_code == 400:
            assert got["error"].startswith("format at #"), name
            refused.append(name)
        elif got["done_reason"] == "stop":
            finished += 1
            wrong = complaint(schema, got["response"].encode())
            assert not wrong, f"{name}: {wrong}: {got['response']}"
    assert len(schemas) > 60
    assert len(refused) <= len(schemas) / 10, refused
    assert finished > len(schemas) / 3


@pytest.mark.real
def test_chats_take_formats_too(real: Asked) -> None:
    body = {
        "model": "smollm2",
        "messages": [{"role": "user", "content": "Is the sky blue?"}],
        "format": {"type": "choice", "choices": ["yes", "no"]},
        "options": HOT,
    }
    with real.client.stream("POST", "/api/chat", json=body) as answer:
        lines = [json.loads(line) for line in answer.iter_lines()]
    assert "".join(line["message"]["content"] for line in lines) in ("yes", "no")
    assert lines[-1]["done_reason"] == "stop"


# ---------------------------------------------------------------------------- under attack


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"type": "regex", "pattern": "("}, "format at #/pattern: .*unclosed group"),
        ({"type": "regex"}, "format at #: it has no pattern"),
        ({"type": "regex", "pattern": "a", "x": 1}, "format at #: there is no key 'x'"),
        ({"type": "gbnf", "grammar": 'root ::= "a"\nx'}, "format at #/grammar: line 2: wanted ::="),
        ({"type": "lark", "grammar": "start: <x>"}, "format at #/grammar: line 1: <x> is a token"),
        ({"type": "lark", "grammar": "\n".join(
            ["start: r0", *(f"r{i}: r{i + 1}" for i in range(3000)), 'r3000: "a"'])},
         r"too complex \(compiling it crashed\)"),
        ({"type": "choice", "choices": []}, "format at #/choices: wanted an array of texts"),
        ({"type": "array", "uniqueItems": True}, "format at #/uniqueItems: uniqueItems cannot be"),
        ({"oneOf": [{}, {}]}, "format at #/oneOf: branches 0 and 1 may both hold"),
        ({"type": "string", "pattern": "(" * 2000}, "format at #/pattern: it has 2,000 characters"),
        ({"enum": list(range(3000))}, "format at #/enum: wanted an array of 1 to 2,000 values"),
        ({"description": "x" * 2_000_000}, "the format has 20000.. bytes"),
        ({"type": "gbnf", "grammar": "x" * 900_000}, "it has 900,000 bytes: at most 65,536"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)  # fmt: skip
def test_what_cannot_be_enforced_is_refused_before_a_token_and_the_worker_stays(
    tiny: Asked, spec: Any, words: str
) -> None:
    before = tiny.workers()
    assert re.search(words, tiny.refusal(spec))
    assert tiny.answer({"const": "well"})["response"] == '"well"'
    assert tiny.workers() == before


def test_a_type_that_nobody_gives_is_told_of_in_the_contracts_words(tiny: Asked) -> None:
    answer = tiny.ask({"type": "potato"})
    assert (answer.status_code, [*answer.json()]) == (500, ["error"])
    words, _, more = answer.json()["error"].partition(" object: ")
    given = r"{\"type\":\"potato\"}"
    assert words == f'invalid format: "{given}"; expected "json" or a valid JSON Schema'
    assert "choice, gbnf, json, lark, regex, schema (" in more


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            b'{"model": "tiny", "prompt": "x", "format": {"type": "regex", "pattern": "\xff\xfe"}}',
            "the format is no JSON that can be read: 'utf-8' codec can't decode byte 0xff .*",
        ),
        (
            b'{"model": "tiny", "prompt": "x", "format": {"const": "\xc3\x28"}, "options": {}}',
            "the format is no JSON that can be read: 'utf-8' codec can't decode byte 0xc3 .*",
        ),
        (
            b'{"model": "tiny", "format": ' + b'{"items":' * 50_000,
            "invalid character '{' exceeded max depth",
        ),
        (
            b'{"model": "tiny", "prompt": "x", "format": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            r"invalid character '\[' exceeded max depth",
        ),
        (
            b'{"model": "tiny", "prompt": "x", "format": {"const": "' + b"a" * 10_000_000 + b'"}}',
            "the format has 10000013 bytes, over 1048576",
        ),
    ],
    ids=["no UTF-8", "half a character", "50,000 deep and cut", "100,000 deep", "10 MB"],
)
def test_a_body_that_is_hardly_json_is_refused_and_the_server_stays(
    tiny: Asked, body: bytes, words: str
) -> None:
    before = tiny.workers()
    answer = tiny.client.post("/api/generate", content=body)
    assert answer.status_code == 400
    assert [*answer.json()] == ["error"]
    assert re.fullmatch(words, answer.json()["error"])
    assert tiny.answer({"const": "well"})["response"] == '"well"'
    assert tiny.workers() == before


def test_a_stream_goes_on_while_a_format_is_tried(tiny: Asked) -> None:
    pieces: list[str] = []
    began, over = threading.Event(), threading.Event()
    body = {"model": "tiny", "prompt": "x", "format": {"type": "regex", "pattern": "[a-z]{60000,}"},
            "options": {**HOT, "num_predict": -1}}  # fmt: skip

    def listen() -> None:
        with tiny.client.stream("POST", "/api/generate", json=body) as answer:
            for line in answer.iter_lines():
                pieces.append(json.loads(line)["response"])
                began.set()
                if over.is_set():
                    return

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        assert began.wait(90)
        before = len(pieces)
        assert "compiling it took over" in tiny.refusal({"multipleOf": 1_000_003})
        during = len(pieces) - before
    finally:
        over.set()
        listener.join(90)
    assert not listener.is_alive()
    # The trial takes two seconds of a processor; a stream that had waited for it would have sent
    # nothing in that time.
    assert during > 20
    assert re.fullmatch("[a-z]+", "".join(pieces))


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "regex", "pattern": "[ab]*a[ab]{60}"},
        {"type": "lark", "grammar": "start: s\ns: s s | s s s | /[a-z ]/"},
        {"type": "gbnf", "grammar": "root ::= [a-z ] root | [a-z ]"},
    ],
    ids=["states", "ambiguity", "recursion"],
)
def test_a_grammar_that_explodes_ends_its_own_answer_at_most(tiny: Asked, spec: Any) -> None:
    before = tiny.workers()
    answer = tiny.ask(spec, num_predict=200, num_ctx=512)
    assert answer.status_code in (200, 400, 500)
    if answer.status_code != 200:
        assert re.search("cannot be held to its format|format at #", answer.json()["error"])
    assert tiny.answer({"const": "well"})["response"] == '"well"'
    assert tiny.workers() == before


@pytest.mark.slow
def test_a_thousand_different_schemas_leave_the_workers_memory_as_it_was(tiny: Asked) -> None:
    def ask(numbers: range) -> None:
        for number in numbers:
            keys = {f"key {number} {i}": {"type": "boolean"} for i in range(12)}
            spec = {"type": "object", "properties": keys, "required": [*keys]}
            got = tiny.answer(spec, num_predict=4)
            assert got["response"].startswith('{"k')

    ask(range(200))
    before, workers = tiny.resident(), tiny.workers()
    ask(range(200, 1_200))
    assert tiny.resident() - before < 48 << 20
    assert tiny.workers() == workers


# --------------------------------------------------------------------------- as documented


@pytest.mark.real
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_each_documented_request_is_answered_in_its_format(real: Asked) -> None:
    page = (Path(__file__).parents[2] / "docs" / "plugins" / "guidance.md").read_text()
    commands = re.findall(r"```sh\n(curl .*?)```", page, re.DOTALL)
    assert len(commands) == 6
    finished = 0
    for command in commands:
        given = command[command.index("'") + 1 : command.rindex("'")]
        body = json.loads(given)
        short = json.dumps({**body, "options": {"num_predict": 80, "num_thread": 1, "seed": 1}})
        here = command.replace("http://127.0.0.1:11434", real.server.url)
        here = here.replace(f"'{given}'", shlex.quote(short))
        said = subprocess.run(["bash", "-c", here], capture_output=True, check=True, timeout=110)
        got = json.loads(said.stdout)
        assert "error" not in got, got
        text = got["response"] if "response" in got else got["message"]["content"]
        spec = body["format"]
        if got.get("done_reason") != "stop":  # it was cut, or repeated itself
            continue
        finished += 1
        kind = spec if isinstance(spec, str) else spec["type"]
        if kind in ("json", "object"):
            assert isinstance(json.loads(text), dict)
        if kind == "regex":
            assert re.fullmatch(spec["pattern"], text)
        if kind == "choice":
            assert text in spec["choices"]
        if kind == "gbnf":
            assert re.fullmatch(r"\d+ ?\+ ?\d+", text)
        if kind == "lark":
            assert re.fullmatch(r'(weather|time)\(".{0,20}"\)', text)
    assert finished >= 4
