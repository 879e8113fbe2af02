"""`corral serve`: the server, in this process."""

import os

from corral_cli.parser import Call
from corral_kernel.environment import Settings


def serve(_: Call) -> int:
    """Serve until told to stop; the log goes to standard error."""
    from corral_api.server import serve as serve_api

    return serve_api(Settings.from_environ(os.environ))
