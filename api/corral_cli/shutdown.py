"""`corral shutdown`: ends the server that a command started in the background."""

import os
import signal
import sys
from typing import Final

from corral_cli.client import Client
from corral_cli.errors import CommandError
from corral_cli.parser import Call
from corral_cli.pidfile import PidFile
from corral_cli.progress import Progress
from corral_kernel.addresses import check_port, is_local, parse_host
from corral_kernel.environment import home_dir, variable

END_DEADLINE_S: Final = 30.0


def shutdown(_: Call) -> None:
    """End the background server at the address that the environment names, and wait for its end.

    Raises:
        CommandError: If the server there is none that was started so, or does not end.
        InvalidRequestError: If the address has no good port.
    """
    host = parse_host(variable(os.environ, "HOST"))
    check_port(host)
    home = home_dir(os.environ)
    with Client(host) as client:
        if not is_local(host):
            raise CommandError(f"{client.url} is on another machine: end the server there")
        file = PidFile(home, host)
        pid = _holder(file)
        if pid is None and client.answers():
            raise CommandError(
                f"the server at {client.url} was not started in the background with its files in "
                f"{home}: end it where it runs, with Ctrl+C or the service manager that runs it"
            )
    if pid is None:
        sys.stdout.write(f"no server is running at {client.url}\n")
        return
    _end(pid, file)
    sys.stdout.write(f"stopped the server at {client.url} (pid {pid})\n")


def _holder(file: PidFile) -> int | None:
    try:
        return file.holder()
    except OSError as error:
        raise CommandError(f"{file.path}: {error.strerror or error}") from None


def _end(pid: int, file: PidFile) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return  # it ended just now
    except PermissionError:
        raise CommandError(f"the server, pid {pid}, belongs to another user") from None
    with Progress(fleeting=True) as progress:
        progress.step("waiting for the server to end")
        ended = file.wait_free(END_DEADLINE_S)
    if not ended:
        raise CommandError(
            f"the server, pid {pid}, did not end within {END_DEADLINE_S:.0f} seconds; "
            f"its log is in {file.path.parent}"
        )
