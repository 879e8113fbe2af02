"""New grammars are tried elsewhere and compiled once; nothing is left locked by an interrupt."""

import contextlib
import ctypes
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from corral_guidance import compiler, trying
from corral_guidance.cache import Cache
from corral_guidance.kinds import SchemaType
from corral_guidance.regex import RegexType
from corral_guidance.trying import Trials
from corral_kernel.contracts import Constraint, Tokenizer
from corral_kernel.errors import EngineError, InvalidFormatError

EXPLODING = {"type": "regex", "pattern": "[ab]*a[ab]{40}"}


class Interrupt(BaseException):
    """What a worker raises in a text thread from outside."""


@dataclass
class Thing:
    name: str
    size_bytes: int = 1
    stale: bool = False


def interrupt(thread: threading.Thread) -> None:
    assert thread.ident is not None
    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
    assert raise_in(ctypes.c_ulong(thread.ident), ctypes.py_object(Interrupt)) == 1


@pytest.fixture
def in_thread() -> Iterator[Callable[[Callable[[], Any]], threading.Thread]]:
    """Start functions in threads, which keep what they raise to themselves."""
    started = []

    def start(work: Callable[[], Any]) -> threading.Thread:
        def run() -> None:
            with contextlib.suppress(Interrupt, InvalidFormatError):
                work()

        started.append(threading.Thread(target=run, daemon=True))
        started[-1].start()
        return started[-1]

    yield start
    for thread in started:
        thread.join(60)
        assert not thread.is_alive()


# ------------------------------------------------------------------------------- the cache


def test_the_last_used_are_kept_by_count_and_by_size() -> None:
    made: list[str] = []
    cache: Cache[str, Thing] = Cache(3, 100)

    def get(name: str, size_bytes: int = 1) -> None:
        def make(_old: Thing | None) -> Thing:
            made.append(name)
            return Thing(name, size_bytes)

        assert cache.get(name, make).name == name

    for name in ("a", "b", "c", "a", "d", "a", "b"):
        get(name)
    assert made == ["a", "b", "c", "d", "b"]
    get("large", 98)  # beside which two more have room
    assert len(cache) == 3
    get("larger", 99)
    assert len(cache) == 1
    get("b")
    assert made[-3:] == ["large", "larger", "b"]


def test_what_is_too_large_alone_is_kept_until_the_next_comes() -> None:
    cache: Cache[str, Thing] = Cache(3, 10)
    huge = cache.get("huge", lambda _: Thing("huge", 1000))
    assert cache.get("huge", lambda _: Thing("other")) is huge
    cache.get("small", lambda _: Thing("small"))
    assert cache.get("huge", lambda _: Thing("other")) is not huge


def test_what_became_stale_is_made_anew_out_of_the_old() -> None:
    cache: Cache[str, Thing] = Cache(3, 10)
    first = cache.get("a", lambda _: Thing("a"))
    first.stale = True
    given: list[Thing | None] = []

    def make(old: Thing | None) -> Thing:
        given.append(old)
        return Thing("a")

    assert cache.get("a", make) is cache.get("a", make)
    assert given == [first]


def test_threads_that_want_the_same_make_it_once(in_thread: Any) -> None:
    cache: Cache[str, Thing] = Cache(3, 10)
    begun, go_on, made = threading.Event(), threading.Event(), []

    def make(_old: Thing | None) -> Thing:
        begun.set()
        go_on.wait(60)
        made.append(1)
        return Thing("a")

    threads = [in_thread(lambda: cache.get("a", make)) for _ in range(5)]
    assert begun.wait(60)
    assert cache.get("b", lambda _: Thing("b")).name == "b"  # nobody waits for another key
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert made == [1]


def test_what_raises_is_made_again_by_who_waits(in_thread: Any) -> None:
    cache: Cache[str, Thing] = Cache(3, 10)
    begun, go_on = threading.Event(), threading.Event()

    def fail(_old: Thing | None) -> Thing:
        begun.set()
        go_on.wait(60)
        raise InvalidFormatError("no")

    first = in_thread(lambda: cache.get("a", fail))
    assert begun.wait(60)
    got: list[Thing] = []
    second = in_thread(lambda: got.append(cache.get("a", lambda _: Thing("a"))))
    go_on.set()
    first.join(60)
    second.join(60)
    assert [thing.name for thing in got] == ["a"]


def test_an_interrupt_at_any_moment_leaves_nothing_locked(in_thread: Any) -> None:
    cache: Cache[int, Thing] = Cache(3, 10)
    draw = random.Random(5)
    for _ in range(300):
        running = threading.Event()

        def work(running: threading.Event = running) -> None:
            running.set()
            for key in range(10_000):
                cache.get(key % 5, lambda _: Thing("x", stale=True))

        thread = in_thread(work)
        assert running.wait(60)
        time.sleep(draw.random() * 0.002)
        interrupt(thread)
        thread.join(60)
        assert not thread.is_alive()
        began = time.monotonic()
        for key in range(5):
            cache.get(key, lambda _: Thing("y", stale=True))
        assert time.monotonic() - began < 60, "somebody waits for a thread that is gone"
    assert not cache._under_way


# ------------------------------------------------------------------------------ the trials


def trials_running() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children():
        try:
            if str(Path(trying.__file__).with_name("trial.py")) in child.cmdline():
                found.append(child)
        except psutil.Error:
            continue
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def slow(number: int) -> str:
    """A grammar that a trial takes seconds for."""
    return SchemaType().write({"multipleOf": 1_000_003 + 2 * number})[0]


def test_an_interrupted_trial_ends_its_process_and_gives_its_place_back(in_thread: Any) -> None:
    trials = Trials(compiler.LIMITS)
    for number in range(3):
        thread = in_thread(partial(trials.wrong, slow(number)))
        wait_until(lambda: len(trials_running()) == 1)
        interrupt(thread)
        thread.join(60)
        assert not thread.is_alive()
        # One that was only just begun ends when it finds nothing more to read.
        wait_until(lambda: not trials_running())
    assert not trials._running
    assert trials.wrong(SchemaType().write({"type": "null"})[0]) == ""


def test_a_few_trials_run_at_once_and_the_rest_wait(in_thread: Any) -> None:
    trials = Trials(compiler.LIMITS)
    most = 0
    threads = [in_thread(partial(trials.wrong, slow(number))) for number in range(5)]
    wait_until(lambda: len(trials_running()) == trying.TRIALS_AT_ONCE)
    for _ in range(20):
        most = max(most, len(trials_running()))
        time.sleep(0.005)
    assert most == trying.TRIALS_AT_ONCE
    for thread in threads:
        interrupt(thread)
    for thread in threads:
        thread.join(60)
    wait_until(lambda: not trials_running())
    assert not trials._running


def test_a_trial_that_gets_no_time_is_not_held_against_its_grammar(
    pieces: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = SchemaType()
    schema = {"type": "string", "pattern": "^a+$"}
    with monkeypatch.context() as patch:
        patch.setattr(trying, "WAIT_S", 0.0)
        with pytest.raises(InvalidFormatError, match="could not be tried within 0 seconds"):
            kind.compile(schema, pieces, len(pieces.pieces))
    assert kind.compile(schema, pieces, len(pieces.pieces)).forced()


def test_a_grammar_is_tried_once_however_it_ends(
    pieces: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    original = Trials.wrong

    def counted(self: Trials, grammar: str) -> str:
        tried.append(grammar)
        return original(self, grammar)

    monkeypatch.setattr(Trials, "wrong", counted)
    kind = RegexType()
    for pattern in ("a+", "(", "a+", "("):
        try:
            kind.compile({"type": "regex", "pattern": pattern}, pieces, len(pieces.pieces))
        except InvalidFormatError:
            assert pattern == "("
    assert len(tried) == 2


def test_a_trial_reads_a_large_grammar_to_its_end() -> None:
    many = {"enum": [f"{index:060}" for index in range(1900)]}
    text, trusted = SchemaType().write(many)
    assert len(text) > 2**16
    assert not trusted
    assert Trials(compiler.LIMITS).wrong(text) == ""
    assert Trials(compiler.LIMITS).wrong(text[:-2])


# --------------------------------------------------------------------------- what explodes


def answer(constraint: Constraint, tokenizer: Tokenizer, seed: int, steps: int) -> None:
    """Draw tokens that the mask allows, but not the end."""
    draw = random.Random(seed)
    out = np.zeros((len(tokenizer.pieces) + 31) // 32, np.uint32)
    for _ in range(steps):
        constraint.mask(out)
        bits = np.unpackbits(out.view(np.uint8), bitorder="little")
        allowed = {int(i) for i in bits.nonzero()[0]} - tokenizer.end_ids
        assert constraint.accept(draw.choice(sorted(allowed)))


def test_a_lexer_that_explodes_ends_its_own_job_and_the_next_one_has_a_new_one(
    pieces: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(compiler.LIMITS, "max_lexer_states", 3_000)
    kind = RegexType()
    for seed in range(3):
        constraint = kind.compile(EXPLODING, pieces, len(pieces.pieces))
        answer(constraint, pieces, seed, 5)  # with the old lexer it would end at once
        with pytest.raises(EngineError, match="the answer cannot be held to its format"):
            answer(constraint, pieces, seed, 3_000)


def test_a_lexer_that_has_grown_is_not_used_for_further_jobs(
    pieces: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    original = compiler.compiled

    def counted(text: str, tokenizer: Any) -> Any:
        made.append(text)
        return original(text, tokenizer)

    monkeypatch.setattr(compiler, "compiled", counted)
    monkeypatch.setattr(compiler, "GRAMMAR_BYTES", 10_000_000)
    kind = RegexType()
    for _ in range(3):
        kind.compile(EXPLODING, pieces, len(pieces.pieces))
    assert len(made) == 1
    constraint: Any = kind.compile(EXPLODING, pieces, len(pieces.pieces))
    constraint._compiled.charge(0.1)  # as masks that take so long in all would
    kind.compile(EXPLODING, pieces, len(pieces.pieces))
    assert len(made) == 2


@pytest.mark.slow
def test_thousands_of_schemas_leave_memory_as_it_was(pieces: Tokenizer) -> None:
    kind = SchemaType()
    me = psutil.Process(os.getpid())

    def use(numbers: range) -> None:
        for number in numbers:
            properties = {f"key_{number}_{i}": {"type": "string"} for i in range(20)}
            schema = {"type": "object", "properties": properties}
            constraint = kind.compile(schema, pieces, len(pieces.pieces))
            constraint.mask(np.zeros((len(pieces.pieces) + 31) // 32, np.uint32))

    use(range(300))
    before = me.memory_info().rss
    use(range(300, 3300))
    assert me.memory_info().rss - before < 48 << 20


def test_the_trial_stands_on_the_standard_library_alone() -> None:
    source = Path(trying.__file__).with_name("trial.py").read_text()
    imports = {
        line.split()[1].partition(".")[0] for line in source.splitlines() if line[:7] == "import "
    }
    assert imports <= {*sys.stdlib_module_names}
