"""The engine over real legacy files: one sequence, nothing past its bounds, no thread beside it."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from corral_ctransformers import loading, native
from corral_ctransformers.claim import ENVIRONMENT
from corral_ctransformers.engine import GgmlEngine
from corral_ctransformers.layouts import LAYOUTS
from corral_ctransformers.room import find_room
from corral_kernel.contracts import FileRef, Job, MediaPart, Prompt, TextPart, TokenSegment
from corral_kernel.errors import (
    InvalidOptionError,
    InvalidRequestError,
    LoadError,
    OutOfMemoryError,
    PromptTooLongError,
    UnsupportedError,
)
from corral_kernel.testing import TokenEngineSuite

ANSWERS = {
    "one two": " three four five six seven eight nine ten.",
    "Q: capital of Italy?": " A: Rome.",
    "Hello": "! I am a tiny model trained to test a server.",
}
WIDE = {"n_embd": 256, "n_layer": 16, "n_ctx": 20480}
"""Of so many positions that the values alone fill the library's buffer."""


class TestGgmlEngine(TokenEngineSuite):
    """What Corral asks of every engine."""

    @pytest.fixture(autouse=True)
    def _opening(self, request_for: Callable[..., Any], gpt2: Path) -> None:
        self.request_for = lambda slots: msgspec.structs.replace(
            request_for(gpt2, model_type="gpt2"), slots=slots
        )

    def engine(self, slots: int) -> GgmlEngine:
        return loading.load(self.request_for(slots))


def test_it_says_what_it_loaded(gpt2: Path, open_engine: Callable[..., Any]) -> None:
    info = open_engine(gpt2, model_type="gpt2").info
    assert info.slots == 1
    assert info.capabilities == ("completion",)
    assert info.memory_bytes > gpt2.stat().st_size
    assert info.details["architecture"] == "gpt2"
    assert info.details["quantization"] == "F16"


@pytest.mark.parametrize("prompt", ANSWERS)
def test_the_byte_gpt2_answers(prompt: str, greedy: Callable[..., Any], gpt2: Path) -> None:
    assert greedy(gpt2, model_type="gpt2").answer(prompt, 60) == ANSWERS[prompt]


@pytest.mark.parametrize("architecture", LAYOUTS)
def test_each_architecture_runs_to_the_end_of_its_context(
    architecture: str, greedy: Callable[..., Any], written: Callable[..., Path]
) -> None:
    loop = greedy(written(architecture), model_type=architecture, num_ctx=96)
    loop.engine.tokenizer.end_ids = frozenset()
    assert loop.engine.info.context_tokens == 96
    prompt = [5] * 70
    assert len(loop.ids(prompt, 26)) == 26
    assert loop.steps == 2 + 25
    assert np.isfinite(loop.last_row).all()


@pytest.mark.parametrize("architecture", LAYOUTS)
def test_a_prompt_in_slices_comes_to_the_same(
    architecture: str, greedy: Callable[..., Any], written: Callable[..., Path]
) -> None:
    path = written(architecture, ftype=0)
    prompt = [7, 9, 20, 5, 70, 33, 12, 64, 101] * 5
    whole = greedy(path, model_type=architecture)
    whole.ids(prompt, 1)
    sliced = greedy(path, model_type=architecture, num_batch=4)
    sliced.ids(prompt, 1)
    assert (whole.steps, sliced.steps) == (1, 12)
    np.testing.assert_allclose(whole.last_row, sliced.last_row, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("architecture", LAYOUTS)
def test_a_prefix_that_is_kept_changes_no_answer(
    architecture: str, greedy: Callable[..., Any], written: Callable[..., Path]
) -> None:
    loop = greedy(written(architecture, ftype=0), model_type=architecture)
    loop.engine.tokenizer.end_ids = frozenset()
    prompt = [7, 9, 20, 5, 70, 33, 12, 64]
    goes_back = architecture != "falcon"
    fresh = loop.ids(prompt, 6)
    row = loop.last_row
    assert loop.cached == 0
    loop.ids([*prompt, 8], 3)
    assert loop.cached == (8 if goes_back else 0)
    assert loop.ids(prompt, 6) == fresh
    assert loop.cached == (7 if goes_back else 0)  # one is always fed
    np.testing.assert_allclose(loop.last_row, row, rtol=1e-3, atol=1e-3)
    # What was said last has not been fed, and all before it is kept by every architecture.
    loop.ids([*prompt, *fresh], 1)
    assert loop.cached == len(prompt) + 5
    loop.ids([7, 9, 21], 1)
    assert loop.cached == (2 if goes_back else 0)


def test_a_prefix_is_kept_within_its_scope(greedy: Callable[..., Any], gpt2: Path) -> None:
    loop = greedy(gpt2, model_type="gpt2")
    assert loop.answer("one two", cache_scope="alice") == loop.answer("one two", cache_scope="bob")
    assert loop.cached == 0
    loop.answer("one two three", cache_scope="bob")
    assert loop.cached > len("one two")


def test_a_job_released_in_mid_prefill_leaves_the_engine_usable(
    greedy: Callable[..., Any], gpt2: Path
) -> None:
    loop = greedy(gpt2, model_type="gpt2")
    engine = loop.engine
    engine.admit(Job(id=99, prompt=engine.prepare([TextPart("x" * 100)]), max_tokens=1))
    assert engine.forward()[0].logits is None
    engine.release(99)
    assert loop.answer("one two", 60) == ANSWERS["one two"]


def test_what_is_longer_than_the_context_is_refused(
    open_engine: Callable[..., Any], gpt2: Path
) -> None:
    engine = open_engine(gpt2, model_type="gpt2")
    long = Prompt((TokenSegment([65] * 128),))
    with pytest.raises(OutOfMemoryError, match="needs 129 positions; the context has 128"):
        engine.admit(Job(id=1, prompt=long, max_tokens=1))
    longer = Prompt((TokenSegment([65] * 129),))
    with pytest.raises(PromptTooLongError, match="has 129 tokens; the context holds 128"):
        engine.admit(Job(id=1, prompt=longer, max_tokens=0))
    assert engine.admit(Job(id=1, prompt=long, max_tokens=0)) is not None
    while engine.forward()[0].logits is None:
        pass
    with pytest.raises(ValueError, match="outgrows the context"):
        engine.extend(1, [65])


@pytest.mark.parametrize("token_id", [-1, 257, 1 << 31, -(1 << 31)])
def test_an_id_that_is_no_token_never_reaches_the_library(
    token_id: int, open_engine: Callable[..., Any], gpt2: Path
) -> None:
    engine = open_engine(gpt2, model_type="gpt2")
    with pytest.raises(InvalidRequestError, match="they go from 0 to 256"):
        engine.admit(Job(id=1, prompt=Prompt((TokenSegment([65, token_id]),)), max_tokens=1))
    engine.admit(Job(id=1, prompt=Prompt((TokenSegment([65]),)), max_tokens=4))
    engine.forward()
    with pytest.raises(InvalidRequestError, match="they go from 0 to 256"):
        engine.extend(1, [token_id])
    with pytest.raises(ValueError, match="id out of range"):
        engine._native.feed([token_id], 0)
    with pytest.raises(ValueError, match="none of this context's"):
        engine._native.feed([65], 128)


def test_adapters_and_media_are_refused(open_engine: Callable[..., Any], gpt2: Path) -> None:
    engine = open_engine(gpt2, model_type="gpt2")
    adapter = FileRef(role="adapter", digest="sha256:1", size_bytes=1)
    prompt = engine.prepare([TextPart("a")])
    with pytest.raises(UnsupportedError, match="takes no adapters"):
        engine.admit(Job(id=1, prompt=prompt, max_tokens=1, adapters=(adapter,)))
    with pytest.raises(UnsupportedError, match="takes no image"):
        engine.prepare([MediaPart(kind="image", data=b"")])


def test_rows_are_ours_to_write_to(open_engine: Callable[..., Any], gpt2: Path) -> None:
    engine = open_engine(gpt2, model_type="gpt2")
    engine.admit(Job(id=1, prompt=engine.prepare([TextPart("one two")]), max_tokens=5))
    (rows,) = engine.forward()
    first = rows.logits.copy()
    rows.logits[:] = np.inf
    engine.extend(1, [int(first.argmax())])
    (rows,) = engine.forward()
    assert np.isfinite(rows.logits).all()


def test_threads_in_one_model_wait_for_each_other(
    open_engine: Callable[..., Any], gpt2: Path
) -> None:
    model = open_engine(gpt2, model_type="gpt2")._native
    done: list[int] = []

    def feed() -> None:
        row = np.empty(model.vocab_size, np.float32)
        for _ in range(100):
            model.feed([65] * 8, 0)
            model.read_logits(row)
        done.append(1)

    threads = [threading.Thread(target=feed) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 4


# ------------------------------------------------------------------------------- loading


def test_what_is_not_followed_is_told(
    open_engine: Callable[..., Any], gpt2: Path, written: Callable[..., Path]
) -> None:
    engine = open_engine(
        gpt2, model_type="gpt2", num_gpu=9, main_gpu=0, use_mmap=True, num_ctx=4096, num_batch=512
    )
    assert engine.info.context_tokens == 128
    told = engine.info.warnings
    assert set(told) == {"num_gpu", "main_gpu", "use_mmap", "num_ctx", "num_batch"}
    assert told["num_gpu"] == "is ignored: this backend runs on the CPU alone"
    assert told["num_batch"].startswith("is 512; 64 is used: ")
    assert open_engine(gpt2, model_type="gpt2", num_ctx=100, num_batch=8).info.warnings == {}
    assert open_engine(written("llama"), use_mmap=True, num_ctx=64).info.warnings == {}


def test_a_smaller_context_is_kept_to(greedy: Callable[..., Any], gpt2: Path) -> None:
    loop = greedy(gpt2, model_type="gpt2", num_ctx=32)
    assert loop.engine.info.context_tokens == 32
    with pytest.raises(OutOfMemoryError):
        loop.ids([65] * 30, 3)


@pytest.mark.parametrize("use_mmap", [True, False])
def test_weights_that_are_mapped_or_read_are_the_same(
    greedy: Callable[..., Any], written: Callable[..., Path], *, use_mmap: bool
) -> None:
    loop = greedy(written("llama"), use_mmap=use_mmap)
    assert loop.ids([1, 9, 40], 4) == greedy(written("llama")).ids([1, 9, 40], 4)


def test_an_architecture_that_nothing_tells_is_asked_for(
    request_for: Callable[..., Any], gpt2: Path, written: Callable[..., Path]
) -> None:
    with pytest.raises(LoadError, match=r"PARAMETER model_type .* those of gpt2 or gpt_bigcode$"):
        loading.load(request_for(gpt2))
    with pytest.raises(LoadError, match=r"those of mpt$"):
        loading.load(request_for(written("mpt")))
    with pytest.raises(LoadError, match="one of gpt2, gptj, gpt_neox, dolly-v2, mpt"):
        loading.load(request_for(written("gpt2", b"lmgg" + bytes(100))))
    with pytest.raises(LoadError, match="begins with b'GGUF', as no GGML file does"):
        loading.load(request_for(written("gpt2", b"GGUF" + bytes(100))))
    with pytest.raises(
        InvalidOptionError, match="\"model_type\" is 'gpt5'; it must be one of gpt2"
    ):
        loading.load(request_for(gpt2, model_type="gpt5"))


def test_a_llama_and_a_falcon_need_no_name(
    open_engine: Callable[..., Any], written: Callable[..., Path]
) -> None:
    assert open_engine(written("llama")).info.details["file"] == "ggjt version 3"
    assert open_engine(written("falcon")).info.details["file"] == "ggcc version 10"


def test_a_model_larger_than_the_machine_is_refused(
    request_for: Callable[..., Any], written: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sysconf", lambda _name: 64)
    with pytest.raises(OutOfMemoryError, match="bytes of memory; there are 4096"):
        loading.load(request_for(written("gpt2"), model_type="gpt2"))


def test_a_load_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_LOAD_S", 0.2)
    monkeypatch.setattr(native, "_REPORT_EVERY_S", 0.05)
    ended, shares = threading.Event(), []

    def hang() -> Any:
        ended.wait()

    def report(share: float) -> bool:
        shares.append(share)
        return True

    with pytest.raises(LoadError, match="did not load the file in 0 s"):
        native.load_within(hang, 0, report)
    assert shares == sorted(shares)
    with pytest.raises(LoadError, match="given up"):
        native.load_within(hang, 0, lambda _share: False)
    ended.set()


@pytest.mark.parametrize(
    ("architecture", "sizes"),
    [
        ("gpt2", WIDE),
        ("replit", WIDE),
        ("mpt", {"n_embd": 64, "n_head": 32, "n_layer": 1, "n_ctx": 6144}),
        ("gpt_bigcode", {"n_embd": 64, "n_head": 32, "n_layer": 1, "n_ctx": 32768}),
    ],
)
def test_a_step_never_outgrows_the_librarys_buffers(
    architecture: str,
    sizes: dict[str, int],
    open_engine: Callable[..., Any],
    written: Callable[..., Path],
) -> None:
    path = written(architecture, **sizes)
    engine = open_engine(path, model_type=architecture, num_ctx=sizes["n_ctx"])
    context, step = engine.info.context_tokens, engine.info.batch_tokens
    assert context == sizes["n_ctx"]
    row = np.empty(engine.info.vocab_size, np.float32)
    engine._native.feed([5] * step, 0)
    engine._native.feed([5] * step, context - step)
    engine._native.feed([5], context - 1)
    engine._native.read_logits(row)
    assert len(row) == engine.info.vocab_size


def test_without_making_room_the_library_dies_of_it(written: Callable[..., Path]) -> None:
    program = f"""
import ctransformers
model = ctransformers.LLM({str(written("gpt2", **WIDE))!r}, "gpt2",
                          config=ctransformers.Config(threads=1))
model._context = [5] * {WIDE["n_ctx"] - 1}
model.eval([5])
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGSEGV


@pytest.mark.parametrize(
    ("architecture", "sizes", "most_context"),
    [
        ("gptj", {"n_embd": 4096, "n_head": 16, "n_layer": 28, "n_vocab": 50400}, 2048),
        ("gpt2", {"n_embd": 1600, "n_head": 25, "n_layer": 48, "n_vocab": 50257}, 1024),
        ("gpt_neox", {"n_embd": 6144, "n_head": 64, "n_layer": 44, "n_vocab": 50432}, 2048),
        ("dolly-v2", {"n_embd": 5120, "n_head": 40, "n_layer": 36, "n_vocab": 50280}, 2048),
        ("mpt", {"n_embd": 4096, "n_head": 32, "n_layer": 32, "n_vocab": 50432}, 2048),
        ("replit", {"n_embd": 2560, "n_head": 32, "n_layer": 32, "n_vocab": 32768}, 2048),
        ("gpt_bigcode", {"n_embd": 6144, "n_head": 48, "n_layer": 40, "n_vocab": 49152}, 8192),
    ],
)
def test_the_known_models_get_their_whole_context(
    architecture: str, sizes: dict[str, int], most_context: int
) -> None:
    room = find_room(LAYOUTS[architecture], sizes, most_context)
    assert room.context_tokens == most_context
    assert room.step_tokens >= 1


def test_nothing_is_printed_or_asked_while_the_library_is_imported_and_loaded(
    gpt2: Path, tmp_path: Path
) -> None:
    program = f"""
import sys
opened = []
sys.addaudithook(lambda event, args: opened.append(event) if event in (
    "socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "subprocess.Popen",
    "os.posix_spawn", "os.fork", "os.exec") else None)
from pathlib import Path
from corral_ctransformers.loading import load
from corral_ctransformers.options import GgmlOptions
from corral_kernel.contracts import Claim, FileRef, LoadRequest
claim = Claim(backend="ctransformers", confidence=1.0, why="", capabilities=("completion",))
file = FileRef(role="weights", digest="", size_bytes=0, path={str(gpt2)!r})
load(LoadRequest(claim=claim, options=GgmlOptions(model_type="gpt2", num_thread=1), files=(file,),
     slots=1, report=lambda share: True))
assert not opened, opened
"""
    home = tmp_path / "home"
    home.mkdir()
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **ENVIRONMENT, "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert list(home.iterdir()) == []
