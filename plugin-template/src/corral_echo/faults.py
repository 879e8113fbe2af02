"""The faults of `EchoOptions`."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable

from corral_kernel.errors import LoadError

from corral_echo.options import EchoOptions

_REPORT_EVERY_S = 0.01
_FLOOD_LINE = b"echo floods its output, as a library that logs too much would\n"


def load_faults(options: EchoOptions, report: Callable[[float], bool]) -> None:
    """Do what the `echo_load_*` options say.

    Raises:
        LoadError: If loading is to fail, or was given up meanwhile.
    """
    if options.echo_ignore_signals:
        _ignore_signals()
    _wait_loading(options, report)
    if options.echo_load_dies:
        os.kill(os.getpid(), signal.SIGKILL)
    if options.echo_load_fails:
        raise LoadError("echo was told to fail: unset echo_load_fails")


def _wait_loading(options: EchoOptions, report: Callable[[float], bool]) -> None:
    begin, total_s = time.monotonic(), options.echo_load_ms / 1000
    while (passed_s := time.monotonic() - begin) < total_s:
        if not options.echo_load_silent and not report(passed_s / total_s):
            raise LoadError("loading was given up")
        time.sleep(min(_REPORT_EVERY_S, total_s - passed_s))


def _ignore_signals() -> None:
    # By the C function, because Python's own may be called in the main thread only.
    libc = ctypes.CDLL(None)
    libc.signal.argtypes, libc.signal.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        libc.signal(number, int(signal.SIG_IGN))


class StepFaults:
    """Does what the other options say, once at the start of each step."""

    def __init__(self, options: EchoOptions) -> None:
        self._options = options
        self._steps = 0
        self._deadly_steps = 0
        self._leaked: list[bytes] = []

    def step(self, prompts: Iterable[str]) -> None:
        """Begin a step.

        Args:
            prompts: Prompts of the jobs that it feeds.
        """
        options = self._options
        self._steps += 1
        if self._steps == 1 and options.echo_flood_bytes:
            _flood(options.echo_flood_bytes)
        if options.echo_leak_bytes:
            self._leaked.append(b"\1" * options.echo_leak_bytes)
        if options.echo_step_ms:
            time.sleep(options.echo_step_ms / 1000)
        if any(options.echo_die_prompt in prompt for prompt in prompts):
            self._deadly_steps += 1
        if self._deadly_steps == options.echo_die_at > 0:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._steps == options.echo_hang_at:
            threading.Event().wait()
        if self._steps == options.echo_fail_at:
            raise RuntimeError("echo was told to fail in this step: unset echo_fail_at")

    def error(self, prompt: str) -> str | None:
        """Why a job is to fail."""
        text = self._options.echo_error_prompt
        return f"echo was told to fail at {text!r}" if text and text in prompt else None


def _flood(size_bytes: int) -> None:
    # By the descriptors, as native code does behind Python's back.
    for descriptor in (1, 2):
        left = size_bytes
        while left > 0:
            left -= os.write(descriptor, (_FLOOD_LINE * 64)[:left])
