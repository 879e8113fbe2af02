"""What is measured of constraints and samplers; how fast they are is not asserted."""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from benchmarks import floods, formats, noop_sampler, overheads, prompts
from benchmarks.client import RequestFailedError
from benchmarks.dialects import Dialect, Ollama, OpenAi
from benchmarks.floods import _Flood
from benchmarks.noop_sampler import FIRST, KERNEL, LAST, PLAIN

from corral_guidance.kinds import SchemaType
from corral_kernel.frames import Generate, PromptSpec
from corral_kernel.options import RequestOptions
from corral_kernel.worker.preparing import Preparer
from corral_kernel.worker.running import Running

ROOT = Path(__file__).parents[2]
TINY_CHAT = ROOT / "tests" / "models" / "tiny-chat-f32.gguf"
OPENAI_LINE = b'data: {"choices":[{"delta":{"content":"{}"}}]}\n\n'
OLLAMA_LINE = b'{"message":{"content":"{}"},"eval_count":2}\n'


@contextlib.asynccontextmanager
async def listening(
    status: bytes, answer: bytes, heard: list[dict[str, Any]]
) -> AsyncIterator[int]:
    """Answer every request with the same bytes; gives the port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        heard.append(json.loads(await reader.readexactly(length)))
        writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status, len(answer)) + answer)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("dialect", "line", "where"),
    [
        (Ollama("bench", {}), OLLAMA_LINE, ("format",)),
        (OpenAi(), OPENAI_LINE, ("response_format", "json_schema", "schema")),
    ],
    ids=["ollama", "openai"],
)
def test_each_server_gets_the_same_schema_in_its_own_words(
    dialect: Dialect, line: bytes, where: tuple[str, ...]
) -> None:
    heard: list[dict[str, Any]] = []
    schema = prompts.person_schema()
    talk = [{"role": "user", "content": "Invent a person."}]

    async def ask() -> None:
        async with listening(b"200 OK", line, heard) as port:
            await dialect.chat(port, talk, 8)
            answer = await dialect.chat(port, talk, 8, schema)
            assert answer.text == "{}"

    asyncio.run(ask())

    free, bound = heard
    assert where[0] not in free
    found: Any = bound
    for name in where:
        found = found[name]
    assert found == schema


def flooded(status: bytes) -> _Flood:
    """What a flood of three attacks has counted, at a server that gives one answer to all."""

    async def run() -> _Flood:
        async with listening(status, b"{}", []) as port:
            water = _Flood(Ollama("bench", {}), port, iter(()))

            def bodies() -> Any:
                yield from (b"1", b"2", b"3")
                water.stop()
                while True:
                    yield b"4"

            water.bodies = bodies()
            await water.run()
            return water

    return asyncio.run(run())


def test_a_refused_format_is_counted_and_any_other_error_fails_the_measure() -> None:
    refused, answered = flooded(b"400 Bad Request"), flooded(b"200 OK")

    assert (refused.refused, refused.answered) == (floods.FLOODERS, 0)
    assert (answered.refused, answered.answered) == (0, floods.FLOODERS)
    with pytest.raises(RequestFailedError, match="500"):
        flooded(b"500 Internal Server Error")


@pytest.mark.parametrize("make", [make for _, make in floods.FLOODS.values()], ids=floods.FLOODS)
def test_no_two_formats_of_a_flood_are_alike(make: Callable[[int], bytes]) -> None:
    count = 40

    assert len({make(number) for number in range(count)}) == count


def test_the_new_schemas_are_taken_and_not_all_of_them_are_small() -> None:
    kind = SchemaType()
    trusted = set()
    for number in range(4):
        spec = json.loads(formats.new_schema(number))
        kind.check(spec)
        trusted.add(kind.write(spec)[1])

    assert trusted == {True, False}


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (PLAIN, ["top_k", "top_p", "temperature"]),
        (KERNEL, ["top_k", "top_p", "temperature"]),
        (LAST, ["top_k", "top_p", "temperature", "noop"]),
        (FIRST, ["noop", "top_k", "top_p", "temperature"]),
    ],
)
def test_the_sampler_stands_where_it_is_said_to(kind: str, names: list[str]) -> None:
    chain = noop_sampler.chain_with(kind)

    assert [spec.name for spec in chain.samplers] == names
    assert not chain.greedy


def test_the_sampler_is_watched_as_a_strangers_is() -> None:
    engine = overheads.open_engine(TINY_CHAT, 1, 256)
    preparer = Preparer(engine, noop_sampler.Strangers(("llamacpp",)), 0)

    def prepared(kind: str) -> Running:
        chain = noop_sampler.chain_with(kind)
        prompt = PromptSpec(text="one two")
        options = RequestOptions(num_predict=4)
        return preparer.prepare(Generate(job_id=1, prompt=prompt, options=options, chain=chain))

    guarded = {kind: prepared(kind).guarded for kind in noop_sampler.KINDS}
    engine.close()

    assert guarded == {PLAIN: False, KERNEL: False, LAST: True, FIRST: True}


def test_one_round_of_constraints_and_samplers_is_recorded(tmp_path: Path) -> None:
    out = tmp_path / "record.json"
    only = ("flood-schemas", "flood-attacks", "noop-sampler", "constraints")
    sizes = ("--context", "256", "--tokens", "32", "--every", "60", "--rounds", "1")
    words = ("--model", TINY_CHAT, "--threads", "1", *sizes, "--patience", "0", "--peers")
    command = [sys.executable, "-m", "benchmarks", *words, "--only", *only, "--out", out]
    subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=True)
    record = json.loads(out.read_text())

    assert [sample["failure"] for sample in record["samples"]] == [""] * len(only)
    measured = {sample["measure"]: sample["values"] for sample in record["samples"]}
    assert set(measured) == set(only)
    assert measured["flood-schemas"]["answered"] >= 1
    assert measured["flood-schemas"]["refused"] == 0
    assert measured["flood-attacks"]["refused"] >= 1
    assert measured["noop-sampler"]["vocab_size"] == 259
    assert measured["constraints"]["schemas"] >= 5
    barred = {
        (line["measure"], line["value"]) for line in record["summary"] if line["met"] is not None
    }
    assert barred == {
        ("flood-schemas", "share"),
        ("flood-attacks", "share"),
        ("noop-sampler", "last_adds_us"),
        ("noop-sampler", "first_adds_us"),
        ("constraints", "mask_p99_ms"),
        ("constraints", "compile_p95_ms"),
    }
