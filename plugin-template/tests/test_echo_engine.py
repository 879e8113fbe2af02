"""What `echo` adds to the engine that it is: progress of loading, and faults."""

from collections.abc import Callable

import pytest
from corral_kernel.contracts import Claim, Job, LoadRequest, TextPart
from corral_kernel.errors import LoadError

from corral_echo.engine import EchoEngine, load
from corral_echo.options import EchoOptions


def engine(**options: object) -> EchoEngine:
    return EchoEngine(EchoOptions(**options), slots=2)  # type: ignore[arg-type]  # a table's values


def job(engine: EchoEngine, job_id: int, text: str) -> Job:
    return Job(id=job_id, prompt=engine.prepare([TextPart(text)]), max_tokens=9)


def request(report: Callable[[float], bool], **options: object) -> LoadRequest:
    return LoadRequest(
        claim=Claim(backend="echo", confidence=1.0, why="a test", capabilities=("completion",)),
        options=EchoOptions(**options),  # type: ignore[arg-type]  # a table's values
        files=(),
        slots=2,
        report=report,
    )


def noted(shares: list[float], share: float) -> bool:
    shares.append(share)
    return True


def test_loading_reports_progress() -> None:
    shares: list[float] = []
    loaded = load(request(lambda share: noted(shares, share), echo_load_ms=30))
    assert loaded.info.slots == 2
    assert shares == sorted(shares)
    assert len(shares) >= 2


def test_silent_loading_reports_nothing() -> None:
    shares: list[float] = []
    load(request(lambda share: noted(shares, share), echo_load_ms=5, echo_load_silent=True))
    assert shares == []


@pytest.mark.parametrize(
    ("options", "message"),
    [({"echo_load_ms": 60_000}, "given up"), ({"echo_load_fails": True}, "told to fail")],
    ids=["given up", "told to"],
)
def test_loading_fails(options: dict[str, object], message: str) -> None:
    with pytest.raises(LoadError, match=message):
        load(request(lambda _: False, **options))


def test_only_the_job_that_is_told_to_fail_fails() -> None:
    echo = engine(echo_error_prompt="poison")
    echo.admit(job(echo, 1, "fine"))
    echo.admit(job(echo, 2, "some poison"))
    fine, failed = echo.forward()
    assert fine.error is None
    assert failed.error == "echo was told to fail at 'poison'"


def test_the_step_that_is_told_to_fail_raises() -> None:
    echo = engine(echo_fail_at=2)
    echo.admit(job(echo, 1, "ab"))
    echo.forward()
    echo.extend(1, list(b"a"))
    with pytest.raises(RuntimeError, match="echo_fail_at"):
        echo.forward()
