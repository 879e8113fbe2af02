"""New grammars are tried in short-lived processes, a few at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from corral_guidance.cache import SLICE_S
from corral_kernel.errors import InvalidFormatError

TRIAL_SECONDS = 2
"""Of processor time: what passes takes it once more in a thread that nothing can interrupt."""
TRIAL_BYTES = 512 << 20
"""Of addresses; some 50 MB are the interpreter's."""
TRIALS_AT_ONCE = max(1, min(4, (os.cpu_count() or 1) // 2))
"""Beside two on two cores running answers keep 0.48 of their pace, beside one 0.66."""
WAIT_S = 15.0
"""Of the clock: what a trial may take where processor time is scarce, and the wait for a place."""

_CRASHED = "it is too complex (compiling it crashed)"


class Trials:
    """The trials of a worker; called from several text threads, which may be interrupted.

    Args:
        limits: The parser's, by name.
    """

    def __init__(self, limits: Mapping[str, int]) -> None:
        self._limits = json.dumps(dict(limits))
        self._lock = threading.Lock()
        self._running: set[object] = set()

    def wrong(self, grammar: str) -> str:
        """Compile a grammar and walk through it in a process of its own.

        Returns:
            What is wrong with it; nothing: it may be compiled here.

        Raises:
            InvalidFormatError: If that could not be found out in time, for want of a processor.
        """
        place = object()
        try:
            self._enter(place)
            return self._run(grammar)
        finally:
            try:  # twice, since one interrupt may come in the midst of the first
                self._running.discard(place)
            finally:
                self._running.discard(place)

    def _enter(self, place: object) -> None:
        end = time.monotonic() + WAIT_S
        while True:
            with self._lock:
                if len(self._running) < TRIALS_AT_ONCE:
                    self._running.add(place)
                    return
            if time.monotonic() > end:
                raise InvalidFormatError("too many new formats are being tried: try again later")
            time.sleep(SLICE_S)

    def _run(self, grammar: str) -> str:
        library = find_spec("llguidance._lib")
        if library is None or library.origin is None:
            raise ImportError("llguidance has no native part: install it again")
        program = [sys.executable, "-I", "-S", str(Path(__file__).with_name("trial.py"))]
        arguments = [library.origin, str(TRIAL_SECONDS), str(TRIAL_BYTES), self._limits]
        with tempfile.TemporaryFile() as given:
            given.write(grammar.encode())
            given.seek(0)
            process = subprocess.Popen(  # noqa: S603 - our own program, by its path
                [*program, *arguments],
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            try:
                said = _await(process)
            finally:
                try:
                    _end(process)
                finally:
                    _end(process)
        if process.returncode == -signal.SIGXCPU:
            return f"it is too complex (compiling it took over {TRIAL_SECONDS} seconds)"
        return _CRASHED if process.returncode else said.decode("utf-8", "replace")


def _await(process: subprocess.Popen[bytes]) -> bytes:
    end = time.monotonic() + WAIT_S
    while True:
        try:
            said, _ = process.communicate(timeout=SLICE_S)
        except subprocess.TimeoutExpired:
            if time.monotonic() > end:
                raise InvalidFormatError(
                    f"the format could not be tried within {WAIT_S:g} seconds: try again later"
                ) from None
        else:
            return bytes(said)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is None:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
