"""What the library alone needs from nothing to a first token; prints JSON, times in seconds.

    python -m benchmarks.bare_load MODEL THREADS CELLS SEQUENCES PROMPT

The low-level binding with nothing around it, in a process of its own. The import is not counted.
"""

import json
import sys
from time import perf_counter
from typing import Any

import llama_cpp.llama_cpp as lib
import numpy as np

_QUIET = lib.llama_log_callback(lambda *_: None)


def main() -> None:
    """Load, make a context, and feed the prompt once."""
    path, threads, cells, sequences, prompt = sys.argv[1:]
    lib.llama_log_set(_QUIET, None)
    started = perf_counter()
    lib.llama_backend_init()
    model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
    if not model:
        sys.exit(f"{path} is no model that llama.cpp loads")
    loaded = perf_counter()
    context = _context(model, int(threads), int(cells), int(sequences))
    made = perf_counter()
    _first_token(model, context, prompt.encode())
    ended = perf_counter()
    spent = {"load_s": loaded - started, "context_s": made - loaded, "first_token_s": ended - made}
    print(json.dumps(spent))


def _context(model: Any, threads: int, cells: int, sequences: int) -> Any:
    params = lib.llama_context_default_params()
    params.n_ctx = cells
    params.n_batch = params.n_ubatch = min(512, cells)
    params.n_seq_max = params.n_outputs_max = sequences
    params.n_threads = params.n_threads_batch = threads
    params.kv_unified = True
    context = lib.llama_init_from_model(model, params)
    if not context:
        sys.exit("llama.cpp could not make a context")
    return context


def _first_token(model: Any, context: Any, text: bytes) -> int:
    vocab = lib.llama_model_get_vocab(model)
    room = len(text) + 8
    ids = (lib.llama_token * room)()
    count = lib.llama_tokenize(vocab, text, len(text), ids, room, True, True)  # noqa: FBT003 - C's arguments have no names
    batch = lib.llama_batch_get_one(ids, count)
    if lib.llama_decode(context, batch):
        sys.exit("llama.cpp could not decode the prompt")
    logits = lib.llama_get_logits(context)
    return int(np.ctypeslib.as_array(logits, (lib.llama_vocab_n_tokens(vocab),)).argmax())


if __name__ == "__main__":
    main()
