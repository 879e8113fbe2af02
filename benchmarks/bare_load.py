"""What the library alone needs from nothing to a first token; prints JSON, times in seconds.

    python -m benchmarks.bare_load MODEL THREADS CONTEXT SLOTS PROMPT

The low-level binding with nothing around it, in a process of its own, asked for the very context
that Corral's worker makes. The import is not counted.
"""

import json
import sys
from time import perf_counter
from typing import Any

import llama_cpp.llama_cpp as lib
import numpy as np

_QUIET = lib.llama_log_callback(lambda *_: None)
_BATCH = 512
_CACHED_SEQUENCES = 24
_ROWS_BYTES = 64 << 20  # of logits of one step


def main() -> None:
    """Load, make a context, and feed the prompt once."""
    path, threads, context_tokens, slots, prompt = sys.argv[1:]
    lib.llama_log_set(_QUIET, None)
    started = perf_counter()
    lib.llama_backend_init()
    model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
    if not model:
        sys.exit(f"{path} is no model that llama.cpp loads")
    loaded = perf_counter()
    context = _context(model, int(threads), int(context_tokens), int(slots))
    made = perf_counter()
    _first_token(model, context, prompt.encode())
    ended = perf_counter()
    spent = {"load_s": loaded - started, "context_s": made - loaded, "first_token_s": ended - made}
    print(json.dumps(spent))


def _context(model: Any, threads: int, context_tokens: int, slots: int) -> Any:
    """Make one as `corral_llamacpp.loading` does: what it holds is what its making takes."""
    sequences = slots + _CACHED_SEQUENCES
    vocab_size = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    batch = max(_BATCH, sequences)
    params = lib.llama_context_default_params()
    params.n_ctx = max(min(context_tokens, lib.llama_model_n_ctx_train(model)) * slots, batch)
    params.n_batch = params.n_ubatch = batch
    params.n_seq_max = sequences
    params.n_outputs_max = min(batch, max(sequences, _ROWS_BYTES // (4 * vocab_size)))
    params.n_threads = params.n_threads_batch = threads
    params.kv_unified = True
    params.no_perf = True
    params.type_k = params.type_v = lib.GGML_TYPE_F16
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
