"""Rules of the loop on models from the world: cancels in prefill, a sliding window that is full."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from corral_kernel.calls import CompletionCall
from corral_kernel.frames import Accepted, JobEvent
from corral_kernel.supervisor import JobStream

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]
MICRO_BATCH = 64
PROMPT = " ".join(f"Line {number} tells of the {number}th mill." for number in range(60))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def smol(kernel: Any, smollm2: Path) -> AsyncIterator[Any]:
    """The kernel, with SmolLM2 as `smol`, fed in small micro-batches."""
    parameters = {"num_ctx": 2048, "num_batch": MICRO_BATCH}
    kernel.create("smol", smollm2, parameters=parameters)
    await kernel.raw("smol", "Hello", num_predict=1)
    yield kernel


@pytest.fixture
def accepted(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set when a worker has taken a job: its prefill begins."""
    event = asyncio.Event()
    put = JobStream.put

    def noting(self: JobStream, got: JobEvent) -> None:
        if isinstance(got, Accepted):
            event.set()
        put(self, got)

    monkeypatch.setattr(JobStream, "put", noting)
    return event


async def test_a_request_cancelled_in_prefill_is_fed_no_more_than_what_is_under_way(
    smol: Any, accepted: asyncio.Event
) -> None:
    model = await smol.corral.find("smol")
    options = {"num_thread": 1, "temperature": 0, "num_predict": 1}
    call = CompletionCall(model=model, prompt=PROMPT, raw=True, options=options)
    asking = asyncio.create_task(smol.corral.complete(call))
    await accepted.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    again = await smol.raw("smol", PROMPT, num_predict=1)
    assert again.done.prompt_tokens > 8 * MICRO_BATCH
    # One micro-batch while the cancel was on its way, and one that had begun when it came; one more
    # for each that passes while a busy machine gives this process no turn.
    assert again.done.cached_tokens <= 4 * MICRO_BATCH


async def test_a_neighbour_goes_on_while_long_prompts_come_and_are_cancelled(
    smol: Any, accepted: asyncio.Event
) -> None:
    alone = await smol.raw("smol", "The quick brown fox", num_predict=24)
    writing = asyncio.create_task(smol.raw("smol", "The quick brown fox", num_predict=24))
    model = await smol.corral.find("smol")
    while not writing.done():
        accepted.clear()
        call = CompletionCall(model=model, prompt=f"x{PROMPT}", raw=True, options={"num_thread": 1})
        asking = asyncio.create_task(smol.corral.complete(call))
        await accepted.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    answer = await writing
    assert answer.done.output_tokens == 24
    assert answer.text[:20] == alone.text[:20]  # later they may part at a near tie


async def test_a_sliding_window_that_is_full_goes_on_as_from_a_fresh_prompt(
    kernel: Any, gemma3: Path, by_hand: Callable[..., Any]
) -> None:
    """Gemma 3 sees 512 positions in most layers; the context holds a few more, then half goes."""
    window, keep = 544, 5  # num_keep, and the BOS that the model begins with
    kernel.create("gemma", gemma3)
    text = " ".join(f"{number} is the number after {number - 1}." for number in range(2, 51))
    answer = await kernel.generate("gemma", text, num_ctx=window, num_predict=64)
    ids = answer.done.token_ids
    assert window - 60 < answer.done.prompt_tokens < window - 8
    assert len(ids) == answer.done.prompt_tokens + 64 > window + 8
    left = [*ids[:keep], *ids[keep + (window - keep) // 2 : window + 1]]
    expected = by_hand(gemma3, 1024).greedy(left, 8)
    assert list(ids[window + 1 : window + 9]) == expected
