"""Starting a server in the background, for a command that found none."""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from corral_cli.errors import UnreachableError
from corral_cli.pidfile import PidFile, write
from corral_kernel.environment import Settings

START_DEADLINE_S: Final = 30.0
END_DEADLINE_S: Final = 15.0
_LOST_RACE_S: Final = 5.0
_POLL_S: Final = 0.05
_LOG_LIMIT_BYTES: Final = 16 * 1024 * 1024
_TAIL_BYTES: Final = 2048
_PORT_TAKEN: Final = "address already in use"


def start_server(environ: Mapping[str, str], answers: Callable[[], bool]) -> None:
    """Start `corral serve` detached from this terminal, and wait until it answers.

    What was started, its pid and its log are said on standard error. Of two clients that start
    at once the second finds the first one's server; one that lost its port to another uses that.

    Args:
        environ: The environment the server gets.
        answers: Tells whether a server answers at the address.

    Raises:
        UnreachableError: If the server ends at once or does not answer in time (the message has
            the end of its log), or its files cannot be written.
    """
    settings = Settings.from_environ(environ)
    logs = settings.home / "logs"
    try:
        logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        _start(settings, environ, answers, logs)
    except OSError as error:
        raise UnreachableError(
            f"no server is running, and none can be started in the background: "
            f"{error.filename or logs}: {error.strerror or error}; set CORRAL_HOME to a folder "
            "that you can write, or run 'corral serve'"
        ) from None


def _start(
    settings: Settings, environ: Mapping[str, str], answers: Callable[[], bool], logs: Path
) -> None:
    with _one_at_a_time(logs / "start.lock"):
        if answers():
            return
        log = _Log(logs / "server.log")
        process = _spawn(settings, environ, log.path)
        _wait(process, answers, log)
        if process.poll() is None:
            sys.stderr.write(
                f"started a corral server in the background: pid {process.pid}, log {log.path}\n"
            )


class _Log:
    """The log of servers that were started in the background, one behind the other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and path.stat().st_size > _LOG_LIMIT_BYTES:
            path.replace(path.with_suffix(".log.1"))
        self._start = path.stat().st_size if path.exists() else 0

    def tail(self) -> str:
        """Give the end of what was written since this object was made."""
        with self.path.open("rb") as file:
            file.seek(max(self._start, self.path.stat().st_size - _TAIL_BYTES))
            return file.read(_TAIL_BYTES).decode("utf-8", "replace").strip()


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _spawn(settings: Settings, environ: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    # It runs in `/`, so as to hold no folder of the user's: relative paths become absolute.
    paths = [os.path.abspath(p) for p in environ.get("PYTHONPATH", "").split(os.pathsep) if p]  # noqa: PTH100 - `Path.absolute` keeps `..`
    absolute = {
        "CORRAL_HOME": str(settings.home),
        "CORRAL_MODELS": str(settings.models_dir),
        "PYTHONPATH": os.pathsep.join(paths),
    }
    with log.open("ab") as output, _held(PidFile(settings.home, settings.host)) as file:
        process = subprocess.Popen(
            # -P: the folder where a user happens to be lends no modules to the server.
            [sys.executable, "-P", "-m", "corral_cli", "serve"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env={**environ, **absolute},
            start_new_session=True,  # it outlives the terminal, and no Ctrl+C reaches it
            pass_fds=[file.fileno()],  # with it the lock, for as long as it lives
        )
        write(file, process.pid)
        return process


@contextmanager
def _held(file: PidFile) -> Iterator[IO[str]]:
    """Wait for one that is ending; one that lives and does not answer is in the way."""
    if not file.wait_free(END_DEADLINE_S):
        raise UnreachableError(
            f"a server that was started before, pid {file.holder()}, does not answer: "
            f"end it with 'corral shutdown'; its log is in {file.path.parent}"
        )
    with file.locked() as opened:
        yield opened


def _wait(process: subprocess.Popen[bytes], answers: Callable[[], bool], log: _Log) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    ended = False
    while time.monotonic() < deadline:
        if _answers_now(answers):
            return
        if not ended and process.poll() is not None:
            ended = True
            # Whoever took the port may need a moment before it answers.
            wait_s = _LOST_RACE_S if _PORT_TAKEN in log.tail() else 0.0
            deadline = time.monotonic() + wait_s
        time.sleep(_POLL_S)
    if ended:
        raise UnreachableError(
            f"the server that was started ended with status {process.returncode}; "
            f"the end of its log, {log.path}:\n{log.tail()}"
        )
    raise UnreachableError(
        f"the server that was started (pid {process.pid}) did not answer for "
        f"{START_DEADLINE_S:.0f} seconds; the end of its log, {log.path}:\n{log.tail()}"
    )


def _answers_now(answers: Callable[[], bool]) -> bool:
    try:
        return answers()
    except UnreachableError:  # it listened, and ended before it could answer
        return False
