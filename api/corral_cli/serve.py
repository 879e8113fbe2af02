"""`corral serve`: the server, in this process."""

import os
from pathlib import Path

import msgspec

from corral_cli.errors import UsageError
from corral_cli.parser import Call
from corral_kernel.environment import Settings


def serve(call: Call) -> int:
    """Serve until told to stop; the log goes to standard error.

    Raises:
        UsageError: If `--insecure` has nothing to say.
    """
    from corral_api.server import serve as serve_api

    settings = Settings.from_environ(os.environ)
    if file := call.text("locked"):
        settings = msgspec.structs.replace(settings, locked=Path(file).expanduser().absolute())
    if call.on("insecure"):
        if settings.locked is None:
            raise UsageError("--insecure goes with --locked FILE")
        settings = msgspec.structs.replace(settings, locked_insecure=True)
    return serve_api(settings)
