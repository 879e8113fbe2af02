"""The `corral` command: a client of the HTTP API, plus `serve`."""

import sys

# Where rich is installed, httpx imports a command line of its own: a third of all that a command
# takes to begin. With None in its place it is not there, which httpx bears.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type] # None means that
