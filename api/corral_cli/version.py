"""`corral --version`: of the server, and of this command where it differs."""

import os
import sys

from corral_kernel import __version__
from corral_kernel.addresses import parse_host
from corral_kernel.environment import variable


def version() -> None:
    """Print the server's version; starts none to ask it."""
    from corral_cli import wire
    from corral_cli.client import Client
    from corral_cli.errors import BrokenAnswerError, ServerError, UnreachableError

    try:
        with Client(parse_host(variable(os.environ, "HOST"))) as client:
            found = client.get("/api/version", wire.Version)
    except (UnreachableError, BrokenAnswerError, ServerError):
        sys.stdout.write("Warning: could not connect to a running Corral instance\n")
        sys.stdout.write(f"Warning: client version is {__version__}\n")
        return
    name = "corral" if found.corral_version else "ollama"
    sys.stdout.write(f"{name} version is {found.corral_version or found.version}\n")
    if found.corral_version != __version__:
        sys.stdout.write(f"Warning: client version is {__version__}\n")
