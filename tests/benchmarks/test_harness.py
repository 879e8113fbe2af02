"""The harness's own parts. What it measures is not asserted: other work on the machine decides."""

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks import llama_bench, machine, overheads, prompts, report
from benchmarks.client import Reply, RequestFailedError, parse
from benchmarks.dialects import Line, answer, read_ollama, read_openai
from benchmarks.llama_bench import BenchFailedError
from benchmarks.machine import Noise
from benchmarks.report import Comparison, Sample

from corral_kernel.chains import Chain
from corral_kernel.frames import Generate, PromptSpec
from corral_kernel.options import RequestOptions

ROOT = Path(__file__).parents[2]
TINY_CHAT = ROOT / "tests" / "models" / "tiny-chat-f32.gguf"
QUIET = Noise(cores=0.0, stolen=0.0)
LOUD = Noise(cores=1.0, stolen=0.0)
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SPEED = Comparison("speed", "streams-1", "tokens_per_s", "peer", at_least=1.0)


def test_each_line_has_the_moment_at_which_it_was_complete() -> None:
    pieces = [
        (1.0, HEAD + b"4\r\none\n\r\n"),
        (2.0, b"3\r\ntwo\r\n"),
        (3.0, b"1\r\n\n\r\n0\r\n\r\n"),
    ]

    reply = parse(0.5, pieces)

    assert reply == Reply(0.5, 200, [(1.0, b"one"), (3.0, b"two")])
    assert reply.ended_at == 3.0


@pytest.mark.parametrize(
    "data",
    [HEAD + b"4\r\none\n\r\n", b"", b"nonsense\r\n\r\n"],
    ids=["cut off", "nothing", "no HTTP"],
)
def test_an_answer_that_is_not_whole_is_refused(data: bytes) -> None:
    with pytest.raises(RequestFailedError):
        parse(0.0, [(1.0, data)])


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (b'{"response":"a","done":false}', Line("a")),
        (b'{"message":{"role":"assistant","content":"b"}}', Line("b")),
        (b'{"response":"","done":true,"eval_count":7,"prompt_eval_count":3}', Line("", 7, 3)),
    ],
    ids=["generate", "chat", "end"],
)
def test_lines_of_the_ollama_api_are_read(raw: bytes, line: Line) -> None:
    assert read_ollama(raw) == line


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (b'data: {"choices":[{"text":"a"}]}', Line("a")),
        (b'data: {"choices":[{"delta":{"content":"b"}}]}', Line("b")),
        (b'data: {"choices":[{"delta":{"content":null}}]}', Line()),
        (b'data: {"choices":[],"usage":{"completion_tokens":7,"prompt_tokens":3}}', Line("", 7, 3)),
        (b"data: [DONE]", None),
        (b": ping", None),
    ],
    ids=["completion", "chat", "role", "usage", "end", "comment"],
)
def test_events_of_the_openai_api_are_read(raw: bytes, line: Line | None) -> None:
    assert read_openai(raw) == line


def test_times_of_an_answer_count_from_its_sending() -> None:
    lines = [
        (10.5, b'{"response":""}'),
        (11.0, b'{"response":"a"}'),
        (13.0, b'{"response":"b","eval_count":5,"prompt_eval_count":2}'),
    ]

    made = answer(Reply(10.0, 200, lines), read_ollama)

    assert (made.text, made.first_s, made.end_s) == ("ab", 1.0, 3.0)
    assert made.token_s == 0.5


@pytest.mark.parametrize(
    "raw",
    [b'{"error":"out of order"}', b"no JSON", b"[]", b'{"response":""}'],
    ids=["error", "no JSON", "no object", "no text"],
)
def test_a_stream_that_is_no_answer_is_refused(raw: bytes) -> None:
    with pytest.raises(RequestFailedError):
        answer(Reply(0.0, 200, [(1.0, raw)]), read_ollama)


def test_the_decoding_speed_is_read_from_what_llama_bench_prints() -> None:
    tests = [{"n_gen": 0, "avg_ts": 456.0}, {"n_gen": 128, "avg_ts": 163.5}]

    assert llama_bench.read(json.dumps(tests).encode()) == 163.5


@pytest.mark.parametrize(
    "output", [b"", b"{}", b"[]", b'[{"n_gen":128}]'], ids=["nothing", "object", "none", "no speed"]
)
def test_other_output_of_llama_bench_is_refused(output: bytes) -> None:
    with pytest.raises(BenchFailedError):
        llama_bench.read(output)


def _speeds(server: str, *turns: tuple[float, Noise]) -> list[Sample]:
    return [
        Sample("streams-1", server, turn, noise, {"tokens_per_s": speed})
        for turn, (speed, noise) in enumerate(turns)
    ]


def test_ratios_are_of_samples_of_the_same_turn() -> None:
    ours = _speeds("corral", (90.0, QUIET), (40.0, QUIET), (110.0, QUIET))
    theirs = _speeds("peer", (100.0, QUIET), (50.0, QUIET), (100.0, QUIET))

    (row,) = report.rows([*ours, *theirs], [SPEED])

    assert (row.ours, row.theirs, row.number) == (90.0, 100.0, 0.9)
    assert (row.lowest, row.highest, row.met) == (0.8, 1.1, False)


def test_pairs_with_noise_are_left_out_where_there_are_enough_others() -> None:
    ours = _speeds("corral", (100.0, QUIET), (10.0, LOUD), (100.0, QUIET))
    theirs = _speeds("peer", (80.0, QUIET), (100.0, QUIET), (80.0, QUIET))
    samples = [*ours, *theirs]

    (row,) = report.rows(samples, [SPEED])

    assert (row.number, row.quiet, row.samples, row.met) == (1.25, 2, 3, True)
    assert "1 of 6" in report.troubles(samples)[0]


def test_a_verdict_without_a_quiet_sample_is_marked_as_doubtful() -> None:
    samples = [*_speeds("corral", (100.0, LOUD)), *_speeds("peer", (80.0, QUIET))]

    printed = report.table(report.rows(samples, [SPEED]))

    assert ">= 1  met?" in printed


def test_lines_without_samples_are_left_out_and_failures_are_told() -> None:
    failed = Sample("streams-1", "corral", 0, QUIET, {}, "refused")

    assert report.rows([failed], report.comparisons((1,), ["peer"])) == []
    assert report.troubles([failed]) == ["streams-1 of corral: refused"]


def test_work_of_processes_that_have_ended_counts_as_ours() -> None:
    spin = "import time\nwhile time.process_time() < 0.3: pass"
    before = machine._our_s()

    subprocess.run([sys.executable, "-c", spin], check=True)

    assert machine._our_s() - before >= 0.25


def test_no_two_prompts_begin_alike() -> None:
    texts = [prompts.endless(number) for number in range(64)]

    assert len({text.partition(".")[0] for text in texts}) == len(texts)


def test_the_schema_asks_for_ten_fields() -> None:
    schema = prompts.person_schema()

    assert list(schema["properties"]) == schema["required"] == list(prompts.FIELDS)
    assert len(prompts.FIELDS) == 10


def test_the_time_around_the_library_is_measured_step_by_step() -> None:
    engine = overheads.open_engine(TINY_CHAT, 1, 256)
    options = RequestOptions(num_predict=40)
    prompt = PromptSpec(text="one two three")

    spec = Generate(job_id=1, prompt=prompt, options=options, chain=Chain(greedy=True))
    clock = overheads.run(engine, [spec])
    engine.close()

    assert clock.steps
    assert all(begin < end for begin, end in clock.steps)
    assert min(clock.outside_us()) > 0.0


def test_one_round_against_our_own_server_is_recorded(tmp_path: Path) -> None:
    out = tmp_path / "record.json"
    record, printed = _run_harness(out)

    measured = {sample["measure"]: sample["values"] for sample in record["samples"]}
    assert [sample["failure"] for sample in record["samples"]] == [""] * len(record["samples"])
    assert set(measured) == {"first-token", "streams-1", "second-turn", "cold", "start", "memory"}
    assert (
        measured["second-turn"]["second_prompt_tokens"] > measured["second-turn"]["prompt_tokens"]
    )
    assert measured["cold"]["first_token_s"] > 0
    assert {line["measure"] for line in record["summary"] if line["met"] is not None} == {
        "second-turn",
        "cold",
        "start",
        "memory",
    }
    assert "server process resident, MB" in printed
    assert record["libraries"]["llama-cpp-python"]


def test_a_record_names_neither_the_machine_nor_its_folders(tmp_path: Path) -> None:
    out = tmp_path / "record.json"
    _run_harness(out, "--only", "start")

    text = out.read_text()
    assert str(TINY_CHAT.parent) not in text
    assert platform.node() not in text


def _run_harness(out: Path, *more: str) -> tuple[dict[str, Any], str]:
    only = ("first-token", "streams-1", "second-turn", "cold", "start", "memory")
    sizes = ("--context", "256", "--tokens", "8", "--history-characters", "60", "--rounds", "1")
    words = ("--model", TINY_CHAT, "--threads", "1", *sizes, "--patience", "0", "--peers")
    command = [sys.executable, "-m", "benchmarks", *words, "--only", *only, "--out", out, *more]
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=True
    )
    return json.loads(out.read_text()), done.stdout
