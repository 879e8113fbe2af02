"""A server started by a command that found none; a small one stands in for the real one."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from corral_cli.background import start_server
from corral_cli.errors import UnreachableError
from corral_cli.pidfile import PidFile, write
from corral_kernel.addresses import parse_host

STARTED = re.compile(r"started a corral server in the background: pid (\d+), log (.+)\n")
SERVER = """
import http.server, os, sys
from corral_kernel.addresses import bind_address

class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        text = b""
        self.send_response(200); self.send_header("Content-Length", str(len(text)))
        self.end_headers(); self.wfile.write(text)

def serve(settings):
    print("serving", settings.models_dir, os.getcwd(), file=sys.stderr, flush=True)
    http.server.HTTPServer(bind_address(settings.host), Handler).serve_forever()
"""
FAILING = """
import sys
def serve(settings):
    print("Error: the store is on fire", file=sys.stderr)
    return 3
"""


@pytest.fixture
def no_server(corral: Any, tmp_path: Path) -> Any:
    """The command, with an address where nothing listens and a stand-in for the server."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        corral.env["CORRAL_HOST"] = f"127.0.0.1:{taken.getsockname()[1]}"
    package = tmp_path / "stand-in" / "corral_api"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "server.py").write_text(SERVER)
    corral.env["PYTHONPATH"] = f"{package.parent}{os.pathsep}{corral.env['PYTHONPATH']}"
    corral.stand_in = package / "server.py"
    return corral


@pytest.fixture
def pids() -> Iterator[list[int]]:
    started: list[int] = []
    yield started
    for pid in started:
        os.kill(pid, signal.SIGKILL)


def test_a_command_starts_a_server_once(no_server: Any, pids: list[int], tmp_path: Path) -> None:
    no_server.env["CORRAL_MODELS"] = "my-models"

    first = no_server("cp", "a", "b", cwd=tmp_path)
    second = no_server("cp", "a", "b", cwd=tmp_path)

    found = STARTED.fullmatch(first.err)
    assert found, first.err
    pid, log = int(found[1]), Path(found[2])
    pids.append(pid)
    assert (first.status, second.status) == (0, 0)
    assert first.out == second.out == "copied 'a' to 'b'\n"
    assert second.err == ""
    assert log == Path(no_server.env["CORRAL_HOME"], "logs", "server.log")
    assert f"serving {tmp_path}/my-models /\n" in log.read_text()
    assert os.getsid(pid) == pid, "it would end with the terminal"


def test_of_two_commands_at_once_one_starts_the_server(no_server: Any, pids: list[int]) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "corral_cli", "cp", "a", "b"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=no_server.env,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=60) for process in processes]

    started = [found for _, err in outputs if (found := STARTED.fullmatch(err))]
    pids += [int(found[1]) for found in started]
    assert [process.returncode for process in processes] == [0, 0]
    assert [err for _, err in outputs if not STARTED.fullmatch(err)] == [""]
    assert len(started) == 1


def test_a_server_that_ends_at_once_is_an_error_with_the_end_of_its_log(no_server: Any) -> None:
    no_server.stand_in.write_text(FAILING)

    no_server("cp", "a", "b")
    result = no_server("cp", "a", "b")

    assert result.status == 1
    assert re.fullmatch(  # and nothing of the attempt before
        r"Error: the server that was started ended with status 3; the end of its log, .+:\n"
        r"Error: the store is on fire\n",
        result.err,
    )


def test_one_that_loses_its_port_to_another_uses_that(
    no_server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    no_server.stand_in.write_text(FAILING.replace("the store is on fire", "address already in use"))
    asked = iter([False] * 40)  # then the other one answers

    start_server(no_server.env, lambda: next(asked, True))

    assert capsys.readouterr().err == ""


def test_a_server_that_ends_without_another_is_told(no_server: Any) -> None:
    no_server.stand_in.write_text("raise SystemExit(4)")
    with pytest.raises(UnreachableError, match="ended with status 4"):
        start_server(no_server.env, lambda: False)


@pytest.mark.parametrize(
    "args",
    [["list"], ["ps"], ["show", "m"], ["stop", "m"]],
    ids=lambda args: args[0],
)
def test_a_command_that_only_looks_starts_one_too(no_server: Any, args: list[str]) -> None:
    result = no_server(*args)

    assert STARTED.match(result.err)
    assert no_server("shutdown").out.startswith("stopped the server at ")


def test_shutdown_ends_the_server_that_was_started_and_waits_for_its_end(no_server: Any) -> None:
    started = STARTED.fullmatch(no_server("cp", "a", "b").err)
    assert started
    pid, url = int(started[1]), f"http://{no_server.env['CORRAL_HOST']}"

    first, second = no_server("shutdown"), no_server("shutdown")

    assert (first.status, first.out) == (0, f"stopped the server at {url} (pid {pid})\n")
    assert (second.status, second.out) == (0, f"no server is running at {url}\n")
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    again = STARTED.fullmatch(no_server("cp", "a", "b").err)
    assert again
    assert no_server("shutdown").out == f"stopped the server at {url} (pid {again[1]})\n"


def test_shutdown_leaves_alone_what_nobody_started_in_the_background(corral: Any) -> None:
    logs = Path(corral.env["CORRAL_HOME"], "logs")
    logs.mkdir(parents=True)
    port = corral.env["CORRAL_HOST"].partition(":")[2]
    (logs / f"server-{port}.pid").write_text(f"{os.getpid()}\n")  # of one that is gone

    result = corral("shutdown")

    assert result.status == 1
    assert "was not started in the background" in result.err


def test_shutdown_is_for_this_machine(corral: Any) -> None:
    corral.env["CORRAL_HOST"] = "192.0.2.1:80"
    assert "is on another machine: end the server there" in corral("shutdown").err


def test_a_home_that_cannot_be_written_is_told_in_one_line(no_server: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    no_server.env["CORRAL_HOME"] = str(tmp_path / "file" / "home")

    result = no_server("cp", "a", "b")

    assert result.status == 1
    assert re.fullmatch(
        r"Error: no server is running, and none can be started in the background: .+: "
        r"Not a directory; set CORRAL_HOME to .+\n",
        result.err,
    )


def test_a_server_that_lives_and_does_not_answer_is_in_the_way_of_another(
    no_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corral_cli.background.END_DEADLINE_S", 0.1)
    home = Path(no_server.env["CORRAL_HOME"])
    (home / "logs").mkdir(parents=True)
    file = PidFile(home, parse_host(no_server.env["CORRAL_HOST"]))
    with file.locked() as held:
        write(held, 12345)
        with pytest.raises(UnreachableError, match="pid 12345, does not answer: end it with"):
            start_server(no_server.env, lambda: False)
        assert file.holder() == 12345
    assert file.holder() is None


def test_version_starts_nothing(no_server: Any) -> None:
    result = no_server("--version")

    assert result.status == 0
    assert result.out.startswith("Warning: could not connect to a running Corral instance\n")
    assert not Path(no_server.env["CORRAL_HOME"], "logs").exists()
