"""When a real model is loaded, kept, shared, loaded anew and evicted."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from corral_kernel.durations import FOREVER
from corral_kernel.errors import OutOfMemoryError
from corral_kernel.scheduler import Scheduler

pytestmark = pytest.mark.asyncio(loop_scope="module")
S = 1_000_000_000
QUESTION, ANSWER = "capital of France?", "Paris."


def instances(kernel: Any) -> dict[str, Any]:
    """Loaded models by the name that loaded them."""
    return {i.want.model.name.model: i for i in kernel.corral._started.scheduler.running()}


def pid(kernel: Any, name: str) -> int:
    return int(instances(kernel)[name].worker.pid)


async def until_gone(kernel: Any, name: str) -> None:
    async with asyncio.timeout(60):
        while name in instances(kernel):  # noqa: ASYNC110 - a list sets no event
            await asyncio.sleep(0.005)


# ----------------------------------------------------------------------------- loading anew


@pytest.mark.parametrize(
    "more",
    [
        {"temperature": 1.0, "seed": 3, "top_k": 5, "top_p": 0.5, "min_p": 0.1, "typical_p": 0.5},
        {"repeat_penalty": 1.3, "presence_penalty": 1.0, "frequency_penalty": 1.0},
        {"num_predict": 2, "num_keep": 9, "repeat_last_n": 8, "stop": ["x"]},
        {"system": "be brief"},
        {"raw": True},
        {"format": b'"json"', "num_predict": 3},
        {"logprobs": 2},
        {"shift": False},
        {"truncate": False},
        {"num_ctx": 256},
        {"num_ctx": 100_000},
        {"num_gpu": -1},
        {"num_gpu": -7},
        {"num_batch": None, "use_mmap": None, "main_gpu": None},
        {"mirostat": 2},
    ],
    ids=",".join,
)
async def test_what_concerns_one_request_loads_nothing_anew(
    kernel: Any, more: dict[str, Any]
) -> None:
    await kernel.generate("tiny", QUESTION)
    before = pid(kernel, "tiny")
    await kernel.generate("tiny", QUESTION, **more)
    assert pid(kernel, "tiny") == before


@pytest.mark.parametrize(
    "option",
    [
        {"num_ctx": 64},
        {"num_batch": 64},
        {"num_gpu": 0},
        {"main_gpu": 0},
        {"use_mmap": False},
        {"num_thread": 2},
        {"draft_num_predict": 3},
        {"num_ubatch": 32},
        {"kv_cache_type": "f16"},
        {"flash_attention": True},
    ],
    ids=lambda option: next(iter(option)),
)
async def test_an_option_of_loading_loads_the_model_anew_once(
    kernel: Any, option: dict[str, Any]
) -> None:
    await kernel.chat("tiny", QUESTION)
    before = pid(kernel, "tiny")
    answers = [await kernel.chat("tiny", QUESTION, **option) for _ in range(2)]
    after = pid(kernel, "tiny")
    assert [answer.text for answer in answers] == [ANSWER] * 2
    assert after != before
    assert instances(kernel)["tiny"].want.options.items() >= option.items()


async def test_threads_and_batches_are_those_that_were_asked_for(kernel: Any) -> None:
    await kernel.chat("tiny", QUESTION, num_thread=2, num_batch=64)
    info = instances(kernel)["tiny"].info
    assert info.details["threads"] == 2
    assert info.batch_tokens == 64


async def test_layers_on_a_gpu_once_asked_for_stay_for_who_does_not_mind(kernel: Any) -> None:
    await kernel.chat("tiny", QUESTION, num_gpu=0)
    before = pid(kernel, "tiny")
    await kernel.chat("tiny", QUESTION)
    assert pid(kernel, "tiny") == before
    await kernel.chat("tiny", QUESTION, num_gpu=1)
    assert pid(kernel, "tiny") != before
    assert instances(kernel)["tiny"].info.vram_bytes == 0  # this build, or machine, has none


# ------------------------------------------------------------------------------ keeping, sharing


@pytest.mark.parametrize(
    ("first", "second", "left_s"),
    [(None, None, 300), (60, None, 60), (-1, None, None), (-1, 60, 60), (60, -5, None)],
    ids=["default", "kept", "for ever is kept", "no longer for ever", "negative"],
)
async def test_a_model_stays_as_long_as_the_last_request_that_minds_says(
    kernel: Any, first: int | None, second: int | None, left_s: int | None
) -> None:
    await kernel.chat("tiny", QUESTION, keep_alive_ns=0)
    await until_gone(kernel, "tiny")
    for seconds in (first, second):
        keep_alive_ns = None if seconds is None else seconds * S
        await kernel.chat("tiny", QUESTION, keep_alive_ns=keep_alive_ns)
    instance = instances(kernel)["tiny"]
    assert instance.keep_alive_ns == (FOREVER if left_s is None else left_s * S)


async def test_a_model_goes_when_its_time_is_over_and_comes_back(kernel: Any) -> None:
    await kernel.chat("tiny", QUESTION, keep_alive_ns=S // 10)
    before = pid(kernel, "tiny")
    await until_gone(kernel, "tiny")
    assert (await kernel.chat("tiny", QUESTION)).text == ANSWER
    assert pid(kernel, "tiny") != before


async def test_with_a_keep_alive_of_zero_a_model_answers_and_goes(kernel: Any) -> None:
    answers = await asyncio.gather(
        *(kernel.chat("tiny", QUESTION, keep_alive_ns=0) for _ in range(3))
    )
    assert {answer.text for answer in answers} == {ANSWER}
    await until_gone(kernel, "tiny")


async def test_names_of_the_same_weights_share_a_worker_that_has_the_first_ones_name(
    kernel: Any,
) -> None:
    kernel.create("alias", base="tiny", parameters={"num_predict": 3}, system="be brief")
    await kernel.corral.unload(await kernel.corral.find("tiny"))
    await until_gone(kernel, "tiny")
    await kernel.chat("alias", QUESTION)
    await asyncio.gather(*(kernel.chat(name, QUESTION) for name in ("tiny", "alias")))
    assert "alias" in instances(kernel)
    assert "tiny" not in instances(kernel)
    assert [model.model.name.model for model in kernel.corral.running()].count("alias") == 1
    await kernel.corral.unload(await kernel.corral.find("tiny"))
    await until_gone(kernel, "alias")


# ------------------------------------------------------------------------------------ eviction


@pytest.fixture(scope="module", name="loads")
def counted_loads() -> Iterator[list[str]]:
    """Names of the models whose loading begins."""
    names: list[str] = []
    begin = Scheduler._begin

    def noting(self: Scheduler, waiter: Any, slots: int) -> None:
        names.append(waiter.want.model.name.model)
        begin(self, waiter, slots)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Scheduler, "_begin", noting)
        yield names


async def crowded(start_kernel: Any, models: Path, **settings: str) -> Any:
    """A kernel of three models with weights of their own."""
    kernel = await start_kernel(**settings)
    data = (models / "tiny-chat-f32.gguf").read_bytes()
    for name in "abc":
        kernel.create(name, data + name.encode())  # bytes behind the tensors mean nothing
    return kernel


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_at_a_time(start_kernel: Any, models: Path, loads: list[str]) -> AsyncIterator[Any]:
    yield await crowded(start_kernel, models, CORRAL_MAX_LOADED_MODELS="1", CORRAL_NUM_PARALLEL="2")


async def test_the_shortest_keep_alive_goes_first_then_the_least_recently_used(
    start_kernel: Any, models: Path
) -> None:
    kernel = await crowded(start_kernel, models, CORRAL_MAX_LOADED_MODELS="2")
    for name, keep_alive_s, left in (
        ("a", 600, {"a"}),
        ("b", 300, {"a", "b"}),
        ("c", 600, {"a", "c"}),  # b has less time
        ("a", None, {"a", "c"}),
        ("b", 900, {"a", "b"}),  # c was used before a
    ):
        keep_alive_ns = None if keep_alive_s is None else keep_alive_s * S
        answer = await kernel.chat(name, QUESTION, keep_alive_ns=keep_alive_ns)
        assert answer.text == ANSWER
        assert set(instances(kernel)) == left


async def test_two_models_that_alternate_take_turns_and_all_are_answered(
    one_at_a_time: Any, loads: list[str]
) -> None:
    loads.clear()
    names = ["a", "b"] * 6
    answers = await asyncio.gather(*(one_at_a_time.chat(name, QUESTION) for name in names))
    assert {answer.text for answer in answers} == {ANSWER}
    assert loads in (["a", "b"], ["b", "a"])  # who waits for a model is served before it goes


async def test_a_victim_that_keeps_getting_requests_goes_all_the_same(
    one_at_a_time: Any, loads: list[str]
) -> None:
    served: Counter[str] = Counter()

    async def keep_asking() -> None:
        while not served["b"]:
            await one_at_a_time.chat("a", QUESTION)
            served["a"] += 1

    async def ask_once() -> None:
        while served["a"] < 4:  # noqa: ASYNC110 - a number sets no event
            await asyncio.sleep(0.001)
        assert (await one_at_a_time.chat("b", QUESTION)).text == ANSWER
        served["b"] += 1

    async with asyncio.timeout(200):
        await asyncio.gather(*(keep_asking() for _ in range(4)), ask_once())
    loads.clear()
    assert (await one_at_a_time.chat("a", QUESTION)).text == ANSWER


async def test_a_model_over_the_budget_fails_at_once_with_both_numbers(
    start_kernel: Any, models: Path, loads: list[str]
) -> None:
    kernel = await crowded(start_kernel, models, CORRAL_MEMORY_BUDGET="50MiB")
    loads.clear()
    with pytest.raises(OutOfMemoryError, match=r"\(10\d\.\d MiB\) than is available \(50\.0 MiB\)"):
        await kernel.chat("a", QUESTION)
    assert loads == []


async def test_what_a_model_takes_is_what_the_library_says(kernel: Any, models: Path) -> None:
    await kernel.chat("tiny", QUESTION)
    (running,) = [m for m in kernel.corral.running() if m.model.name.model == "tiny"]
    cache_bytes = 8 * 256 * 2 * 2 * 64 * 4  # slots, positions, layers, keys and values, width, f32
    assert running.size_bytes > (models / "tiny-chat-f32.gguf").stat().st_size * 0.9 + cache_bytes
    assert running.vram_bytes == 0
