"""When a worker's frames are written."""

import pytest

from corral_kernel.frames import Accepted, Done, JobEvent, Step, Text
from corral_kernel.worker import outbox as module
from corral_kernel.worker.outbox import Outbox


class Bench:
    """An outbox, a clock that goes by itself, and the frames that came out."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)
        self.frames: list[list[JobEvent]] = []
        self.outbox = Outbox(self, heartbeat_s=1.0, interval_s=0.03)

    def send(self, message: Step) -> None:
        self.frames.append(list(message.events))

    def step(self, *events: JobEvent, took_s: float = 0.008, last: bool = False) -> int:
        """A step with these events; gives how many frames it brought."""
        before = len(self.frames)
        self.now += took_s
        self.outbox.add(events)
        self.outbox.write(open_jobs=not last, next_s=None if last else took_s)
        return len(self.frames) - before


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def text(job_id: int = 1) -> Text:
    return Text(job_id=job_id, content="a")


def begun(bench: Bench, *job_ids: int) -> None:
    for job_id in job_ids:
        assert bench.step(Accepted(job_id=job_id, prompt_tokens=3)) == 1
        assert bench.step(text(job_id)) == 1


def test_quick_pieces_go_together_and_none_waits_longer_than_the_interval(bench: Bench) -> None:
    begun(bench, 1)
    assert [bench.step(text()) for _ in range(9)] == [0, 0, 1] * 3
    assert [len(frame) for frame in bench.frames[2:]] == [3, 3, 3]


def test_pieces_of_slow_steps_go_at_once(bench: Bench) -> None:
    begun(bench, 1)
    assert [bench.step(text(), took_s=0.016) for _ in range(5)] == [1] * 5


@pytest.mark.parametrize(
    "event",
    [Accepted(job_id=2, prompt_tokens=3), Done(job_id=1, reason="stop")],
    ids=["another job", "an end"],
)
def test_what_is_no_text_takes_along_what_waited(bench: Bench, event: JobEvent) -> None:
    begun(bench, 1)
    assert bench.step(text()) == 0
    assert bench.step(event) == 1
    assert bench.frames[-1] == [text(), event]


def test_the_first_piece_of_an_answer_waits_for_nothing(bench: Bench) -> None:
    begun(bench, 1)
    assert bench.step(Accepted(job_id=2, prompt_tokens=3)) == 1
    assert bench.step(text(1)) == 0
    assert bench.step(text(1), text(2)) == 1
    assert bench.step(text(1), text(2)) == 0


def test_nothing_is_kept_where_no_step_follows(bench: Bench) -> None:
    begun(bench, 1)
    assert bench.step(text(), last=True) == 1


def test_heartbeats_go_on(bench: Bench) -> None:
    begun(bench, 1)
    assert [bench.step(took_s=0.2) for _ in range(6)] == [0, 0, 1, 0, 0, 1]
    assert bench.frames[-1] == []


def test_without_an_interval_each_step_has_a_frame(bench: Bench) -> None:
    bench.outbox = Outbox(bench, heartbeat_s=1.0, interval_s=0.0)
    begun(bench, 1)
    assert [bench.step(text(), took_s=0.0001) for _ in range(5)] == [1] * 5
