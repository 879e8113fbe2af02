"""Faults that end or deafen a process, each in a process of its own."""

import signal
import subprocess
import sys

import pytest

PROGRAM = """
from corral_echo.engine import EchoEngine, load
from corral_echo.options import EchoOptions
from corral_kernel.contracts import Claim, Job, LoadRequest, TextPart
import os, resource, signal, sys

def run(text, **options):
    claim = Claim(backend="echo", confidence=1.0, why="a test", capabilities=("completion",))
    engine = load(LoadRequest(claim=claim, options=EchoOptions(**options), files=(), slots=1,
                              report=lambda share: True))
    engine.admit(Job(id=1, prompt=engine.prepare([TextPart(text)]), max_tokens=20))
    for _ in range(3):
        rows = engine.forward()
        engine.extend(1, [int(rows[0].logits.argmax())])
"""


def run(code: str, timeout_s: float = 30) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", PROGRAM + code]
    return subprocess.run(command, capture_output=True, timeout=timeout_s, check=False)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("run('x', echo_die_at=2)", -signal.SIGKILL),
        ("run('x', echo_load_dies=True)", -signal.SIGKILL),
        ("run('x', echo_die_at=4)", 0),
        ("run('some poison', echo_die_at=1, echo_die_prompt='poison')", -signal.SIGKILL),
        ("run('food', echo_die_at=1, echo_die_prompt='poison')", 0),
    ],
    ids=["in a step", "in loading", "not yet", "by its prompt", "not by its prompt"],
)
def test_the_process_dies_when_told(code: str, status: int) -> None:
    assert run(code).returncode == status


def test_it_floods_both_outputs() -> None:
    result = run("run('x', echo_flood_bytes=300_000)")
    assert (len(result.stdout), len(result.stderr)) == (300_000, 300_000)


def test_it_outlives_the_signals_that_it_ignores() -> None:
    numbers = "[signal.SIGTERM, signal.SIGINT, signal.SIGHUP]"
    code = f"run('x', echo_ignore_signals=True)\nfor n in {numbers}: os.kill(os.getpid(), n)\n"
    result = run(code + "print('alive')")
    assert (result.stdout, result.returncode) == (b"alive\n", 0)


def test_each_step_keeps_the_memory_that_it_is_told_to() -> None:
    code = (
        "import tracemalloc; tracemalloc.start(); from corral_echo import faults\n"
        "faults_of = faults.StepFaults(EchoOptions(echo_leak_bytes=1 << 20))\n"
        "for _ in range(5): faults_of.step([])\n"
        "print(tracemalloc.get_traced_memory()[0] >> 20)"
    )
    assert run(code).stdout == b"5\n"


def test_a_step_hangs_when_told() -> None:
    command = [sys.executable, "-c", PROGRAM + "print('up', flush=True); run('x', echo_hang_at=2)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=1.0)
        process.kill()


def test_a_step_takes_the_time_that_it_is_told_to() -> None:
    code = "import time; t = time.monotonic(); run('x', echo_step_ms=40)\n"
    result = run(code + "print(time.monotonic() - t)")
    assert float(result.stdout) >= 0.12
