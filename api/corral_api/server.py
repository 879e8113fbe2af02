"""Runs the HTTP server until it is told to stop.

    serve(Settings.from_environ(os.environ))     # the process's exit status

The socket listens before anything slow is imported, so that clients which come early wait for
their answer instead of being refused.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Final

from corral_kernel.addresses import bind_address, check_port
from corral_kernel.environment import Settings
from corral_kernel.errors import CorralError

BACKLOG: Final = 2048

_LOG_LEVELS: Final = (logging.INFO, logging.DEBUG, logging.DEBUG)
_log = logging.getLogger(__name__)


def serve(settings: Settings) -> int:
    """Listen, answer until SIGINT or SIGTERM, and give the exit status.

    Must be called in the main thread; it runs an event loop of its own.
    """
    logging.basicConfig(
        level=_LOG_LEVELS[settings.debug],
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    for name in ("httpx", "httpcore"):  # their lines hold whole URLs, some of which are signed
        logging.getLogger(name).setLevel(logging.WARNING)
    for words in settings.unused:
        _log.warning("%s", words)
    address, port = bind_address(settings.host)
    try:
        check_port(settings.host)
        listener = listen(address, port)
    except OSError as error:
        return _fail(f"listen tcp {_join(address, port)}: {_reason(error)}")
    except CorralError as error:
        return _fail(str(error))
    failures: list[str] = []
    with listener:
        try:
            _run(settings, listener)
        except* CorralError as group:  # Litestar starts the application within a task group
            failures = [str(error) for error in _leaves(group)]
    return _fail("; ".join(failures)) if failures else 0


def listen(address: str, port: int) -> socket.socket:
    """Open the listening socket.

    Raises:
        OSError: If the address is unknown, not this machine's, or taken.
    """
    found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)  # `localhost` is often both
    family, kind, protocol, _, where = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # Without it a restart would have to wait until old connections are forgotten.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _run(settings: Settings, listener: socket.socket) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, listener))


async def _serve(settings: Settings, listener: socket.socket) -> None:
    # Late, so that the socket listens before: these imports are most of a server's start.
    from corral_api.app import close, create_app, surround
    from corral_api.http_server import Server
    from corral_kernel.service import Corral

    address, port = listener.getsockname()[:2]
    corral = Corral(settings)
    app = create_app(corral)
    server = Server(surround(app, corral, address), lambda: close(corral), BACKLOG)

    def stop(number: signal.Signals) -> None:
        again = "again, " if server.should_exit else ""
        _log.info(
            "%s: %sshutting down (requests open: %d)", number.name, again, server.open_requests
        )
        server.stop()

    with _signals_call(stop):
        async with app.lifespan():
            _log.info("Listening on %s", _join(address, port))
            await server.serve(sockets=[listener])
    _log.info("Shut down")


@contextlib.contextmanager
def _signals_call(stop: Callable[[signal.Signals], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _leaves(group: BaseExceptionGroup[CorralError]) -> Iterator[CorralError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _reason(error: OSError) -> str:
    """Say it in upstream's words, which scripts look for."""
    if isinstance(error, socket.gaierror):
        return "lookup: no such host"
    text = os.strerror(error.errno).lower() if error.errno else str(error)
    return f"bind: {text}"


def _join(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _fail(message: str) -> int:
    print(f"Error: {message}", file=sys.stderr)  # noqa: T201 - what a command says to its user
    return 1
