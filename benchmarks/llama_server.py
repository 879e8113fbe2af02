"""`python llama_server.py MODEL THREADS SLOTS CELLS PORT`: llama.cpp's own server until SIGTERM.

Runs in the peers' environment, which has `xllamacpp`.
"""

import signal
import sys

import xllamacpp  # type: ignore[import-not-found] # only in the peers' environment


def main() -> None:
    """Serve, with the arguments that the module's first line names."""
    model, *numbers = sys.argv[1:]
    threads, slots, cells, port = map(int, numbers)
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.n_parallel = slots
    params.n_ctx = cells
    params.port = port
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.pause()


if __name__ == "__main__":
    main()
