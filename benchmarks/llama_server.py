"""llama.cpp's own server until SIGTERM; runs in the peers' environment.

    python llama_server.py MODEL THREADS SLOTS CELLS PORT
"""

import signal
import sys

import xllamacpp


def main() -> None:
    """Serve; the arguments are those of the module's first lines."""
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
