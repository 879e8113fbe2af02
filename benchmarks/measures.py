"""What is measured: each function asks one server once and gives numbers, units in their names."""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psutil  # type: ignore[import-untyped] # it has no stubs here

from benchmarks import prompts, servers
from benchmarks.client import RequestFailedError, ask
from benchmarks.dialects import Answer, Dialect, Message, Ollama
from benchmarks.machine import Patience
from benchmarks.servers import Load, Server

Values = dict[str, float]

UNLOAD_S: Final = 10.0
_NOOP_ROUNDS: Final = 4  # as many as there are chains, so that each begins one
_ROOT: Final = Path(__file__).parent.parent
_POLL_S: Final = 0.01
_MB: Final = 1_000_000
_MS: Final = 1000


def first_token(server: Server, number: int) -> Values:
    """Time to the first token of a short prompt that the server has not seen."""
    answer = asyncio.run(server.dialect.complete(server.port, prompts.endless(number), 4))
    return {"first_token_s": answer.first_s, "prompt_tokens": answer.prompt_tokens}


def streams(server: Server, count: int, tokens: int, number: int) -> Values:
    """Answer `count` different prompts at once.

    Returns:
        Tokens a second in all, from sending to the last line; of a single stream also those after
        the first; and what the server's processes spent of the processors.
    """
    texts = [prompts.endless(number + place) for place in range(count)]
    before = _spent(server)
    answers = asyncio.run(_together(server, texts, tokens))
    after = _spent(server)
    written = sum(answer.tokens for answer in answers)
    values = {
        "tokens_per_s": written / max(answer.end_s for answer in answers),
        "first_token_s": statistics.median(answer.first_s for answer in answers),
        "tokens": written,
        "prompt_tokens": sum(answer.prompt_tokens for answer in answers),
        "server_cpu_ms_per_token": _MS * (after[0] - before[0]) / written,
        "workers_cpu_ms_per_token": _MS * (after[1] - before[1]) / written,
    }
    if count == 1 and answers[0].token_s > 0:  # an answer of one piece has no pace
        values["decode_tokens_per_s"] = 1 / answers[0].token_s
    return values


async def _together(server: Server, texts: Sequence[str], tokens: int) -> list[Answer]:
    asked = (server.dialect.complete(server.port, text, tokens) for text in texts)
    return list(await asyncio.gather(*asked))


def _spent(server: Server) -> tuple[float, float]:
    """Processor seconds so far: of the main process, and of those below it."""
    return _cpu_s(server.process), sum(map(_cpu_s, server.workers()))


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def second_turn(server: Server, characters: int, number: int) -> Values:
    """Ask about a long text, then go on with the conversation.

    Returns:
        Times to the first token of both turns, and the second's share of the first's.
    """
    talk: list[Message] = [{"role": "user", "content": prompts.history(number, characters)}]
    first = _chat(server, talk)
    talk.append({"role": "assistant", "content": first.text})
    talk.append({"role": "user", "content": "And what happened on the day after that?"})
    second = _chat(server, talk)
    return {
        "first_turn_s": first.first_s,
        "second_turn_s": second.first_s,
        "share": second.first_s / first.first_s,
        "prompt_tokens": first.prompt_tokens,
        "second_prompt_tokens": second.prompt_tokens,
    }


def _chat(server: Server, talk: Sequence[Message]) -> Answer:
    return asyncio.run(server.dialect.chat(server.port, talk, 24))


def structured(server: Server, tokens: int, number: int) -> Values:
    """Have an answer of ten fields written, and one as free text.

    Returns:
        Milliseconds a token of both after their first pieces, and the structured one's share.
    """
    talk = [{"role": "user", "content": f"{prompts.PERSON} {number + 1}."}]
    chat = server.dialect.chat
    free = asyncio.run(chat(server.port, talk, tokens))
    bound = asyncio.run(chat(server.port, talk, tokens, prompts.person_schema()))
    if not _is_person(bound.text):
        raise RequestFailedError(f"an answer that is not what its schema says: {bound.text[:200]}")
    if not free.token_s:
        raise RequestFailedError("an answer of one piece has no pace")
    # The first piece leaves with the first row of logits; tokens that are forced with it are still
    # to be decoded then, so both answers take the rest of their time for all tokens but one.
    return {
        "free_ms_per_token": _MS * free.token_s,
        "structured_ms_per_token": _MS * bound.token_s,
        "share": bound.token_s / free.token_s,
        "free_first_s": free.first_s,
        "structured_first_s": bound.first_s,
        "free_tokens": free.tokens,
        "structured_tokens": bound.tokens,
    }


def _is_person(text: str) -> bool:
    try:
        answer = json.loads(text)
    except ValueError:  # cut off, or no JSON at all
        return False
    return isinstance(answer, dict) and list(answer) == list(prompts.FIELDS)


def cold(server: Server, load: Load, patience: Patience, number: int) -> Values:
    """Time to a first token for which the model must be loaded, beside the library's own.

    Returns:
        Both, and what Corral takes beyond the library's load, context and first token.
    """
    dialect = _ollama(server.dialect)
    prompt = prompts.endless(number)
    _put_to_rest(server, dialect, patience)
    answer = asyncio.run(dialect.complete(server.port, prompt, 4))
    # The library must find what Corral found: nobody at work, and memory that a model has just
    # given back. A virtual machine's own is fetched from its host when it is first touched, which
    # for a context's cells takes up to five times as long as the loading itself.
    _put_to_rest(server, dialect, patience)
    library = bare_load(load, prompt)
    library_s = sum(library.values())
    return {
        "first_token_s": answer.first_s,
        "library_s": library_s,
        "beyond_s": answer.first_s - library_s,
        **{f"library_{name}": value for name, value in library.items()},
    }


def _put_to_rest(server: Server, dialect: Ollama, patience: Patience) -> None:
    """Unload the model and wait for the spare worker, as between two users' requests."""
    asyncio.run(_unload(server.port, dialect))
    deadline = time.monotonic() + UNLOAD_S
    while not server.workers():
        if time.monotonic() > deadline:
            raise RequestFailedError(f"there is no spare worker after {UNLOAD_S:g} s")
        time.sleep(_POLL_S)
    patience.wait()


async def _unload(port: int, dialect: Ollama) -> None:
    await dialect.unload(port)
    deadline = time.monotonic() + UNLOAD_S
    while json.loads((await ask(port, "/api/ps", None)).lines[0][1])["models"]:
        if time.monotonic() > deadline:
            raise RequestFailedError(f"the model is still loaded after {UNLOAD_S:g} s")
        await asyncio.sleep(_POLL_S)


def bare_load(load: Load, prompt: str) -> Values:
    """Measure the library alone, in a process of its own."""
    words = (load.model, load.threads, load.context_tokens, load.slots, prompt)
    values: Values = json.loads(_run_module("bare_load", *words))
    return values


def noop_sampler(load: Load, tokens: int) -> Values:
    """What a Python sampler that does nothing adds to a token, around the library alone."""
    words = ("--model", load.model, "--threads", load.threads, "--context", load.context_tokens)
    more = ("--tokens", tokens, "--rounds", _NOOP_ROUNDS)
    values: Values = json.loads(_run_module("noop_sampler", *words, *more))
    return values


def constraints(load: Load, every: int) -> Values:
    """Percentiles of masks and of compiling, over the corpus of schemas or each n-th of them."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "times.json"
        _run_module("constraints", "--model", load.model, "--every", every, "--out", out)
        found = json.loads(out.read_text())
    times: dict[str, dict[str, float]] = found["milliseconds"]
    named = {
        f"{what}_{percentile}_ms": value
        for what, percentiles in times.items()
        for percentile, value in percentiles.items()
    }
    return {"schemas": found["schemas"], "refused": found["refused"], **named}


def _run_module(name: str, *words: object) -> bytes:
    """Run a module of this package in a process of its own; gives what it prints.

    Raises:
        RequestFailedError: With the end of what it said, if it fails.
    """
    command = [sys.executable, "-m", f"benchmarks.{name}", *map(str, words)]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, check=False)
    if done.returncode:
        raise RequestFailedError(done.stderr.decode(errors="replace")[-500:])
    return done.stdout


def start(slots: int) -> Values:
    """Time from starting `corral serve` until it answers its first request; it has no models."""
    port = servers.free_port()
    with tempfile.TemporaryDirectory() as home:
        environment = servers.corral_environment(home, port, slots)
        began = time.perf_counter()
        with servers.started(servers.SERVE, port, "/api/tags", environment):
            return {"first_answer_s": time.perf_counter() - began}


def memory(server: Server) -> Values:
    """Resident memory of the main process, and of those below it."""
    return {
        "server_mb": server.process.memory_info().rss / _MB,
        "workers_mb": sum(worker.memory_info().rss for worker in server.workers()) / _MB,
    }


def _ollama(dialect: Dialect) -> Ollama:
    assert isinstance(dialect, Ollama), "measured of Corral alone"
    return dialect
