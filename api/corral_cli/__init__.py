"""The `corral` command: a client of the HTTP API, plus `serve`."""
