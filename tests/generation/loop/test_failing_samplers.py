"""A sampler or format that fails or hangs ends its own request, and says its name."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral_kernel.errors import RemoteJobError, WorkerHungError

pytestmark = pytest.mark.asyncio(loop_scope="module")
LATE = r"it took over 0\.4 s \(CORRAL_SAMPLER_TIMEOUT\)"


def letters(**spec: Any) -> bytes:
    return json.dumps({"type": "letters", **spec}).encode()


async def failure(kernel: Any, prompt: str = "x", **options: Any) -> RemoteJobError:
    with pytest.raises(RemoteJobError) as caught:
        await kernel.raw("endless-tiny", prompt, **options)
    return caught.value


@pytest.mark.parametrize("where", ["apply", "accept", "start", "companions"])
@pytest.mark.parametrize(
    ("trouble", "words"),
    [("raises", "ValueError: no luck"), ("raises nothing said", "KeyError")],
    ids=["with words", "without words"],
)
async def test_a_sampler_that_raises_ends_its_request(
    plugin_kernel: Any, where: str, trouble: str, words: str
) -> None:
    error = await failure(
        plugin_kernel, samplers=["top_k", "trouble"], trouble=trouble, trouble_in=where
    )
    assert error.remote_code == "sampler_failed"
    assert str(error) == f"sampler 'trouble' failed: {words}"


@pytest.mark.parametrize("where", ["mask", "accept", "forced", "finished", "compile"])
async def test_a_format_that_raises_ends_its_request(plugin_kernel: Any, where: str) -> None:
    spec = {"trouble": "raises", "in": where}
    error = await failure(plugin_kernel, format=letters(**spec), temperature=1.5)
    assert error.remote_code == "constraint_failed"
    assert str(error) == "format 'letters' failed: ValueError: no luck"


async def test_a_format_that_raises_over_drafts_ends_its_request(plugin_kernel: Any) -> None:
    spec = letters(count=100, letters="x", trouble="raises", **{"in": "allows"})
    error = await failure(plugin_kernel, "xxxxxxxxxx", format=spec, draft_num_predict=4)
    assert str(error) == "format 'letters' failed: ValueError: no luck"


@pytest.mark.parametrize("trouble", ["loops", "swallows"])
@pytest.mark.parametrize("where", ["apply", "accept"])
async def test_a_sampler_over_its_time_is_interrupted_and_others_go_on(
    plugin_kernel: Any, where: str, trouble: str
) -> None:
    plain = await plugin_kernel.raw("endless-tiny", "one two", num_predict=60)
    options = {"samplers": ["trouble"], "trouble": trouble, "trouble_in": where, "trouble_at": 5}
    error, *others = await asyncio.gather(
        failure(plugin_kernel, **options),
        *(plugin_kernel.raw("endless-tiny", "one two", num_predict=60) for _ in range(3)),
    )
    assert error.remote_code == "sampler_failed"
    name = "sampler 'trouble'" if trouble == "loops" else "a sampler"
    assert str(error).startswith(f"{name} failed: it took over 0.4 s (CORRAL_SAMPLER_TIMEOUT)")
    assert {other.text for other in others} == {plain.text}


@pytest.mark.parametrize("where", ["mask", "accept", "forced", "finished"])
async def test_a_format_over_its_time_is_interrupted(plugin_kernel: Any, where: str) -> None:
    # What is asked on the way in is asked on a text thread, under the deadline of preparations.
    spec = {"trouble": "loops", "in": where, "at": 2, "count": 20}
    error = await failure(plugin_kernel, format=letters(**spec), temperature=1.5, seed=1)
    assert error.remote_code == "constraint_failed"
    assert str(error).startswith("format 'letters' failed: it took over 0.4 s")


async def test_a_slow_mask_over_its_time_on_its_own_thread_is_interrupted(
    plugin_kernel: Any,
) -> None:
    # From the fourth mask on they are made ahead: see test_masks_ahead.
    spec = {"trouble": "loops", "in": "mask", "at": 7, "count": 20, "mask_s": 0.001}
    error = await failure(plugin_kernel, format=letters(**spec), num_predict=100)
    assert error.remote_code == "constraint_failed"
    assert str(error).startswith("format 'letters' failed: it took over 0.4 s")


async def test_a_sampler_may_take_its_time_over_many_tokens(plugin_kernel: Any) -> None:
    options = {"samplers": ["trouble"], "trouble": "sleeps", "trouble_at": 1}
    answers = await asyncio.gather(
        *(plugin_kernel.raw("endless-tiny", "one", num_predict=40, **options) for _ in range(3))
    )
    assert {answer.done.output_tokens for answer in answers} == {40}


async def test_the_worker_is_the_same_after_all_that(plugin_kernel: Any) -> None:
    def pids() -> set[int]:
        return {each.worker.pid for each in plugin_kernel.corral._started.scheduler.running()}

    await plugin_kernel.raw("endless-tiny", "one two")
    before = pids()
    await failure(plugin_kernel, samplers=["trouble"], trouble="loops")
    await plugin_kernel.raw("endless-tiny", "one two")
    assert pids() == before


async def test_a_companion_of_a_failed_job_leaves_room(plugin_kernel: Any) -> None:
    options = {"samplers": ["cfg", "trouble"], "cfg_scale": 2.0}
    for _ in range(6):  # with eight slots, what is left behind would fill them
        error = await failure(plugin_kernel, trouble="raises", **options)
        assert error.remote_code == "sampler_failed"
    answer = await plugin_kernel.raw("endless-tiny", "one", **options)
    assert answer.done.output_tokens == 40


@pytest.mark.parametrize("company", [False, True], ids=["alone", "beside another"])
async def test_a_sampler_that_hangs_a_worker_alone_is_not_run_again(
    installed: None, start_kernel: Callable[..., Any], tmp_path: Path, *, company: bool
) -> None:
    kernel = await start_kernel(
        models=True, CORRAL_STEP_TIMEOUT="1500ms", CORRAL_SAMPLER_TIMEOUT="100ms"
    )
    attempts = tmp_path / "attempts"
    hanging = {"samplers": ["trouble"], "trouble": f"hangs:{attempts}", "trouble_at": 1}
    if company:
        other = asyncio.create_task(kernel.raw("endless-tiny", "x", num_predict=-1))
        await asyncio.sleep(0)
    with pytest.raises(WorkerHungError):
        await kernel.raw("endless-tiny", "x", **hanging)
    # Beside another request nobody knows whose fault it is: both are run once more.
    assert attempts.read_text().count("hung") == (2 if company else 1)
    if company:
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)
