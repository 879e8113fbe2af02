"""What is reused changes no answer, whatever the model's memory can and cannot do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corral_llamacpp import loading
from corral_llamacpp.shared import SharedMemory
from corral_llamacpp.whole import WholeMemory

Loop = Callable[..., Any]
KINDS = ("tiny_chat", "tiny_windowed", "tiny_mamba", "tiny_hybrid")


@pytest.fixture(params=KINDS)
def path(request: pytest.FixtureRequest) -> Path:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Path)
    return found


@pytest.fixture
def pair(greedy: Loop, path: Path) -> tuple[Any, Any]:
    """An engine, and one that is used as if each prompt were its first; 32 bits a number."""
    exact = {"num_ctx": 256, "kv_cache_type": "f32", "flash_attention": False}
    return greedy(path, slots=2, **exact), greedy(path, **exact)


def ids_of(text: str) -> list[int]:
    return [byte + 3 for byte in text.encode()]


def last_rows(loop: Any, prompt: list[int], tokens: int, **more: Any) -> tuple[Any, Any]:
    job = loop.job(prompt, tokens, **more)
    loop.run(job)
    return loop.texts[job.id], loop.last_row[job.id]


def assert_like_a_fresh_one(
    loop: Any, fresh: Any, prompt: list[int], tokens: int = 12, atol: float = 1e-3
) -> int:
    """Run a prompt on both engines; give how much of it was cached on the first."""
    job = loop.job(prompt, tokens)
    loop.run(job)
    expected, row = last_rows(fresh, prompt, tokens, cache_scope=str(fresh.steps))
    assert loop.texts[job.id] == expected
    np.testing.assert_allclose(loop.last_row[job.id], row, atol=atol)
    return int(loop.cached[job.id])


def test_turns_of_a_chat_go_on_from_the_turn_before(pair: tuple[Any, Any]) -> None:
    loop, fresh = pair
    prompt = ids_of("the first question of a chat that goes on and on")
    reusable = 0
    for turn in range(4):
        cached = assert_like_a_fresh_one(loop, fresh, prompt)
        assert cached >= reusable
        reusable = len(prompt) + 11  # the last token chosen is never fed
        answer = next(reversed(loop.texts.values()))
        prompt = prompt + answer + ids_of(f" and then question {turn}?")


def test_the_same_prompt_again_is_not_fed_again(pair: tuple[Any, Any]) -> None:
    loop, fresh = pair
    prompt = ids_of("a question that is asked twice, and that is longer than the window is")
    assert assert_like_a_fresh_one(loop, fresh, prompt) == 0
    assert assert_like_a_fresh_one(loop, fresh, prompt) == len(prompt) - 1


def test_prompts_that_part_early_do_not_disturb_each_other(pair: tuple[Any, Any]) -> None:
    loop, fresh = pair
    common = "a common beginning of some sixty characters, all of them alike; "
    for end in ("one", "two", "three, which is longer than the others", "one", "two"):
        assert_like_a_fresh_one(loop, fresh, ids_of(common + end))


def test_jobs_at_once_answer_as_alone(greedy: Loop, path: Path) -> None:
    loop, fresh = greedy(path, num_ctx=256, slots=4), greedy(path, num_ctx=256)
    prompts = [ids_of("they all begin like this, then " + end) for end in ("a", "bc", "def", "g")]
    jobs = [loop.job(prompt, 20) for prompt in prompts]
    together = loop.run(*jobs)
    for prompt, ids in zip(prompts, together, strict=True):
        assert ids == last_rows(fresh, prompt, 20, cache_scope=str(fresh.steps))[0]


def test_random_chats_under_pressure_answer_as_fresh_ones(greedy: Loop, path: Path) -> None:
    loop, fresh = greedy(path, num_ctx=128, slots=2), greedy(path, num_ctx=128)
    dice = np.random.default_rng(3)
    stems = [dice.integers(3, 259, dice.integers(5, 70)).tolist() for _ in range(4)]
    for _ in range(25):
        jobs = []
        for _ in range(2):
            stem = stems[dice.integers(4)]
            cut = int(dice.integers(1, len(stem) + 1))
            prompt = stem[:cut] + dice.integers(3, 259, dice.integers(0, 9)).tolist()
            jobs.append(loop.job(prompt, 8))
        for job, ids in zip(jobs, loop.run(*jobs), strict=True):
            prompt = job.prompt.history()
            assert ids == last_rows(fresh, prompt, 8, cache_scope=str(fresh.steps))[0]


def test_a_window_that_forgets_is_not_reused_where_it_did(
    greedy: Loop, tiny_windowed: Path
) -> None:
    exact = {"num_ctx": 128, "kv_cache_type": "f32", "flash_attention": False}
    loop, fresh = greedy(tiny_windowed, **exact), greedy(tiny_windowed, **exact)
    long = ids_of("x" * 90)
    for round_ in range(6):  # 128 cells: the windowed layers' are written over again and again
        assert_like_a_fresh_one(loop, fresh, [*long, 10 + round_], tokens=30)
        assert_like_a_fresh_one(loop, fresh, [*long[: 20 + round_], 50], tokens=30)


def test_windows_too_small_to_share_hold_what_their_own_sequence_needs(
    greedy: Loop, tiny_windowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = greedy(tiny_windowed, num_ctx=512)
    monkeypatch.setattr(loading, "_WINDOWS_BYTES", 0)  # as for a context of many gigabytes
    loop = greedy(tiny_windowed, num_ctx=512, slots=4, num_batch=64)
    dice = np.random.default_rng(4)
    for _ in range(3):
        prompts = [dice.integers(3, 259, 400).tolist() for _ in range(4)]
        jobs = [loop.job(prompt, 20) for prompt in prompts]
        for prompt, ids in zip(prompts, loop.run(*jobs), strict=True):
            assert ids == last_rows(fresh, prompt, 20, cache_scope=str(fresh.steps))[0]
            turn = [*prompt, *ids, 7, 8]
            assert assert_like_a_fresh_one(loop, fresh, turn, 3, atol=0.05) == 419


def test_a_recurrent_model_takes_no_drafts_and_cannot_be_cut(
    greedy: Loop, tiny_mamba: Path
) -> None:
    engine = greedy(tiny_mamba, num_ctx=128).engine
    assert set(engine.info.capabilities) == {"completion", "adapters"}


class ForgetfulCells:
    """Cells of which nothing can be taken but everything, as of a recurrent state."""

    def __init__(self) -> None:
        self.held: dict[int, bool] = {}

    def remove(self, sequence: int, start: int, stop: int) -> bool:
        whole = start == 0 and stop < 0
        if whole:
            self.held.pop(sequence, None)
        return whole

    def share(self, source: int, target: int, start: int, stop: int) -> None:
        assert (start, stop) == (0, -1)
        self.held[target] = self.held[source]

    def move(self, sequence: int, start: int, stop: int, by: int) -> None:
        pytest.fail(f"{sequence}: {start} to {stop} moved by {by}")

    def first(self, sequence: int) -> int:
        return 0 if sequence in self.held else -1


@pytest.mark.parametrize("copies", [True, False], ids=["shared", "taken over"])
def test_a_whole_cached_sequence_serves_what_begins_with_all_of_it(*, copies: bool) -> None:
    cells = ForgetfulCells()
    memory = WholeMemory(cells, capacity=100, sequences=8, copies=copies)

    def run(keys: list[int]) -> int:
        lane = memory.open("scope", keys, len(keys) + 5)
        assert lane is not None
        found = lane.fed
        memory.make_room(len(keys) - found)
        cells.held[lane.sequence] = True
        memory.advance(lane, len(keys) - found)
        memory.close(lane)
        return found

    assert run([1, 2, 3]) == 0
    assert run([1, 2, 3, 4]) == 3
    assert run([1, 2, 9]) == 0
    assert run([1, 2, 3, 4, 5]) == 4
    assert run([1, 2, 3]) == 0
    assert run([1, 2, 9, 9]) == 3
    assert run([1, 2, 9, 8]) == (3 if copies else 0)  # what was taken over is gone


def test_drafts_that_were_never_judged_are_not_cached() -> None:
    cells = ForgetfulCells()
    memory = WholeMemory(cells, capacity=100, sequences=4, copies=False)
    lane = memory.open("scope", [1, 2, 3], 20)
    assert lane is not None
    cells.held[lane.sequence] = True
    memory.advance(lane, 5)  # two of them drafts, and these cells cannot go back
    memory.close(lane)
    again = memory.open("scope", [1, 2, 3, 4], 20)
    assert again is not None
    assert again.fed == 0


def test_a_window_that_slid_on_is_known_by_what_is_left_of_it() -> None:
    class Windowed(ForgetfulCells):
        first_kept = 0

        def first(self, sequence: int) -> int:
            return self.first_kept if sequence in self.held else -1

        def remove(self, sequence: int, start: int, stop: int) -> bool:
            super().remove(sequence, start, stop)
            return True

    cells = Windowed()
    memory = SharedMemory(cells, 100, 4, window=10)
    lane = memory.open("scope", list(range(50)), 60)
    assert lane is not None
    cells.held[lane.sequence] = True
    memory.advance(lane, 50)
    memory.close(lane)
    cells.first_kept = 35
    found = [memory.open("scope", [*range(length), 99], length + 1) for length in (40, 50)]
    assert [lane.fed for lane in found if lane] == [0, 50]
