"""A task process does one task, and however it ends, it is gone and told of in words."""

import asyncio
import contextlib
import filecmp
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from corral_kernel.contracts import FileRef, MadeFile, Source, SourceFile
from corral_kernel.errors import CorralError, RemoteJobError, TaskDiedError, TaskError
from corral_kernel.supervisor import ChildProcess, SpareProcess
from corral_kernel.supervisor.spare import DELAY_S
from corral_kernel.tasks import process
from corral_kernel.tasks.messages import Convert, Made, Quantize, Working
from corral_kernel.tasks.process import Tasks

DOING = "converting m"


@pytest.fixture(autouse=True)
def _plugin(making_plugin: Path, monkeypatch: pytest.MonkeyPatch, nothing_left: None) -> None:
    monkeypatch.setenv("PYTHONPATH", str(making_plugin))


@pytest.fixture
def task(tmp_path: Path, wide: Path) -> Callable[..., Convert]:
    """Make a task of a recipe."""
    out = tmp_path / "out"
    out.mkdir()

    def make(how: str, **recipe: Any) -> Convert:
        size_bytes = wide.stat().st_size
        file = SourceFile(name="source.safetensors", size_bytes=size_bytes)
        return Convert(
            plugin="maker",
            maker="recipe",
            source=Source(
                kind="model",
                format="safetensors",
                files=(file,),
                documents={"recipe.json": {"how": how, **recipe}},
            ),
            private={"how": how},
            files=(
                FileRef(
                    role="file", digest="", size_bytes=size_bytes, name=file.name, path=str(wide)
                ),
            ),
            folder=str(out),
        )

    return make


@pytest.fixture
def endless(task: Callable[..., Convert], tmp_path: Path) -> Convert:
    """A task that ends when it is ended."""
    return task("wait", mark=str(tmp_path / "mark"))


async def outcome(tasks: Tasks, task: Convert | Quantize) -> list[Working | Made]:
    async with asyncio.timeout(60), contextlib.aclosing(tasks.run(task, DOING)) as steps:
        return [step async for step in steps]


async def test_a_task_tells_its_progress_and_what_it_made(
    tasks: Tasks, task: Callable[..., Convert], wide: Path, tmp_path: Path
) -> None:
    *working, made = await outcome(tasks, task("copy"))
    assert made == Made(files=(MadeFile(name="made.gguf", role="weights"),))
    assert filecmp.cmp(tmp_path / "out" / "made.gguf", wide, shallow=False)
    done = [step.completed for step in working if isinstance(step, Working)]
    assert done == sorted(set(done)), "it only grows"
    (file,) = task("copy").files
    assert done[-1] == file.size_bytes, "the last of it is told too"


async def test_a_quantizer_works_likewise(tasks: Tasks, wide: Path, tmp_path: Path) -> None:
    source = Source(
        kind="model", format="gguf", files=(SourceFile(name="model.gguf", size_bytes=1),)
    )
    file = FileRef(role="file", digest="", size_bytes=1, name="model.gguf", path=str(wide))
    quantize = Quantize(
        plugin="maker",
        maker="copier",
        source=source,
        private={"who": "copier"},
        files=(file,),
        folder=str(tmp_path),
        type_name="COPY",
    )
    assert (await outcome(tasks, quantize))[-1] == Made(files=(MadeFile(name="copy.gguf"),))


@pytest.mark.parametrize(
    ("how", "code", "words"),
    [
        ("fail", "invalid_model", "the numbers of the model make no sense"),
        ("raise_other", "task", "ValueError: something else"),
        ("leave", "task", "SystemExit: left early"),
        ("nothing_of_that_name", "task", "KeyError"),
    ],
    ids=["its own error", "another error", "exit", "a bug"],
)
async def test_what_it_raises_is_told(
    tasks: Tasks, task: Callable[..., Convert], how: str, code: str, words: str
) -> None:
    with pytest.raises(RemoteJobError, match=words) as caught:
        await outcome(tasks, task(how))
    assert caught.value.remote_code == code


async def test_a_task_that_dies_is_told_of_with_its_last_words(
    tasks: Tasks, task: Callable[..., Convert]
) -> None:
    with pytest.raises(
        TaskDiedError, match="converting m was killed by SIGKILL: my last"
    ) as caught:
        await outcome(tasks, task("die"))
    assert caught.value.exit_status == -signal.SIGKILL


async def test_a_task_without_progress_is_ended_however_often_it_reports(
    spare: SpareProcess, task: Callable[..., Convert]
) -> None:
    tasks = Tasks(spare, timeout_s=1.0)
    with pytest.raises(TaskError, match=r"showed no progress for 1 s .* CORRAL_TASK_TIMEOUT"):
        await outcome(tasks, task("hang"))


async def test_a_task_that_prints_much_is_not_held_up(
    tasks: Tasks, task: Callable[..., Convert]
) -> None:
    assert isinstance((await outcome(tasks, task("flood")))[-1], Made)


async def test_a_plugin_that_gives_no_files_is_told_of(
    tasks: Tasks, task: Callable[..., Convert]
) -> None:
    with pytest.raises(RemoteJobError, match="it gave no MadeFile") as caught:
        await outcome(tasks, task("copy", role="wights"))
    assert caught.value.remote_code == "plugin"


async def test_a_maker_that_is_gone_is_told_of(tasks: Tasks, task: Callable[..., Convert]) -> None:
    with pytest.raises(RemoteJobError, match="'recipe' is not installed here any more"):
        await outcome(tasks, msgspec.structs.replace(task("copy"), plugin="echo"))


async def begun(tasks: Tasks, task: Convert) -> AsyncIterator[Working | Made]:
    steps = tasks.run(task, DOING)
    await anext(steps)
    return steps


async def test_giving_a_task_up_ends_its_process(
    tasks: Tasks, task: Callable[..., Convert], tmp_path: Path, wait_gone: Callable[[int], None]
) -> None:
    mark = tmp_path / "mark"
    async with asyncio.timeout(60):
        steps = await begun(tasks, task("wait", mark=str(mark)))
        pid = int(mark.read_text())
        await steps.aclose()  # type: ignore[attr-defined]
    wait_gone(pid)


async def test_a_task_that_is_killed_from_outside_is_told_of(
    tasks: Tasks, task: Callable[..., Convert], tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    async with asyncio.timeout(60):
        steps = await begun(tasks, task("wait", mark=str(mark)))
        os.kill(int(mark.read_text()), signal.SIGKILL)
        with pytest.raises(TaskDiedError):
            async for _ in steps:
                pass


async def test_a_task_is_done_by_the_process_that_waits(
    spare: SpareProcess, tasks: Tasks, endless: Convert, tmp_path: Path, tools: Any
) -> None:
    spare.prepare()
    await tools.until(lambda: spare._process is not None)
    waiting = spare._process
    assert waiting is not None
    async with asyncio.timeout(60):
        steps = await begun(tasks, endless)
        assert int((tmp_path / "mark").read_text()) == waiting.pid
        assert spare._process is None
        await steps.aclose()  # type: ignore[attr-defined]
    assert waiting.gone.done()


async def test_the_next_process_waits_for_the_end_of_a_short_task(
    spare: SpareProcess,
    tasks: Tasks,
    endless: Convert,
    tools: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "SPARE_DELAY_S", 60.0)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(60):
        steps = await begun(tasks, endless)
        assert spare._due > loop.time() + DELAY_S, "to start it would take from the task"
        await steps.aclose()  # type: ignore[attr-defined]
    assert spare._due <= loop.time() + DELAY_S
    await tools.until(lambda: spare._process is not None)


async def test_beside_a_long_task_another_process_waits(
    spare: SpareProcess,
    tasks: Tasks,
    endless: Convert,
    tools: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "SPARE_DELAY_S", 0.0)
    async with asyncio.timeout(60):
        steps = await begun(tasks, endless)
        await tools.until(lambda: spare._process is not None)
        beside = spare._process
        await steps.aclose()  # type: ignore[attr-defined]
        await tools.until(lambda: spare._timer is None)
    assert spare._process is beside


async def test_a_process_that_died_while_it_was_handed_over_fails_the_task(
    spare: SpareProcess,
    tasks: Tasks,
    task: Callable[..., Convert],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = await spare.take()

    async def take() -> ChildProcess:
        await taken.stop()
        return taken

    monkeypatch.setattr(spare, "take", take)
    with pytest.raises(TaskDiedError, match="converting m was killed by SIGKILL"):
        await outcome(tasks, task("copy"))


async def test_a_process_that_cannot_be_started_is_told_of(
    tasks: Tasks, task: Callable[..., Convert], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    with pytest.raises(CorralError, match="no process for converting m can be started"):
        await outcome(tasks, task("copy"))
