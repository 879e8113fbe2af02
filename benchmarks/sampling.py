"""Time of choosing a token: Corral's chain beside llama.cpp's own, on the same real logits.

    python benchmarks/sampling.py MODEL.gguf [MODEL.gguf ...]

For each setting: microseconds a token of both, and their ratio. llama.cpp's chain is driven through
its low-level binding, `llama_sampler_sample` on the context that computed the rows.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import llama_cpp.llama_cpp as native
import numpy as np
from numpy.typing import NDArray

from corral_kernel.contracts import Tokenizer
from corral_kernel.options import RequestOptions
from corral_kernel.sampling import Chooser, HistoryView, RawProbs

TEXT = (
    "The keeper of the lighthouse wrote in his diary that the storm had lasted three days. On the"
    " fourth a ship without sails came into the bay, and he counted: 1, 2, 3, 5, 8 and then lost"
    ' his place. def main(argv: list[str]) -> dict: return {"name": "x", "values": [1, 2, 3]}'
)
ROUNDS = 15

SETTINGS = {
    "default": RequestOptions(seed=1),
    "greedy": RequestOptions(temperature=0.0),
    "penalties": RequestOptions(seed=1, repeat_penalty=1.1, frequency_penalty=0.1),
    "typical": RequestOptions(seed=1, typical_p=0.9),
    "no top_k": RequestOptions(seed=1, top_k=0),
    "min_p alone": RequestOptions(seed=1, top_k=0, top_p=1.0, min_p=0.05),
    "softmax alone": RequestOptions(seed=1, top_k=0, top_p=1.0, temperature=1.0),
    "hot softmax": RequestOptions(seed=1, top_k=0, top_p=1.0, temperature=2.0),
}


@dataclass
class Decoded:
    """A prompt that a model has run, with the logits of its last positions."""

    context: Any
    token_ids: list[int]
    places: list[int]
    rows: NDArray[np.float32]


@contextmanager
def decoded(path: str) -> Iterator[Decoded]:
    """Load a model and run the text through it."""
    model = native.llama_model_load_from_file(path.encode(), native.llama_model_default_params())
    if not model:
        raise SystemExit(f"{path} is no model that llama.cpp loads")
    params = native.llama_context_default_params()
    params.n_ctx = params.n_batch = 512
    context = native.llama_init_from_model(model, params)
    vocab = native.llama_model_get_vocab(model)
    ids = (native.llama_token * 512)()
    text = TEXT.encode()
    bos = marks = True
    count = native.llama_tokenize(vocab, text, len(text), ids, 512, bos, marks)
    batch = native.llama_batch_init(512, 0, 1)
    batch.n_tokens = count
    for i in range(count):
        batch.token[i], batch.pos[i], batch.n_seq_id[i] = ids[i], i, 1
        batch.seq_id[i][0], batch.logits[i] = 0, 1
    if native.llama_decode(context, batch):
        raise SystemExit(f"{path}: llama_decode failed")
    places = list(range(count // 2, count))
    width = native.llama_vocab_n_tokens(vocab)
    rows = np.array(
        [np.ctypeslib.as_array(native.llama_get_logits_ith(context, i), (width,)) for i in places]
    )
    yield Decoded(context, list(ids[:count]), places, rows)
    native.llama_batch_free(batch)
    native.llama_free(context)
    native.llama_model_free(model)


def native_choice(run: Decoded, options: RequestOptions) -> Callable[[int], int]:
    """Make llama.cpp's chain for the options; gives the choice after a place."""
    chain = native.llama_sampler_chain_init(native.llama_sampler_chain_default_params())
    steps: list[tuple[object, Callable[[], Any]]] = [
        (
            options.repeat_penalty != 1 or options.frequency_penalty or options.presence_penalty,
            lambda: native.llama_sampler_init_penalties(
                run.rows.shape[1],
                options.repeat_last_n,
                options.repeat_penalty,
                options.frequency_penalty,
                options.presence_penalty,
            ),
        ),
        (options.top_k > 0, lambda: native.llama_sampler_init_top_k(options.top_k)),
        (options.typical_p < 1, lambda: native.llama_sampler_init_typical(options.typical_p, 0)),
        (options.top_p < 1, lambda: native.llama_sampler_init_top_p(options.top_p, 0)),
        (options.min_p > 0, lambda: native.llama_sampler_init_min_p(options.min_p, 0)),
        (True, lambda: native.llama_sampler_init_temp(options.temperature)),
        (True, lambda: native.llama_sampler_init_dist(1)),
    ]
    if options.temperature == 0:
        steps = [(True, native.llama_sampler_init_greedy)]
    for wanted, make in steps:
        if wanted:
            native.llama_sampler_chain_add(chain, make())
    for token_id in run.token_ids:
        native.llama_sampler_accept(chain, token_id)
    return lambda n: int(native.llama_sampler_sample(chain, run.context, run.places[n]))


def own_choice(run: Decoded, options: RequestOptions) -> Callable[[int], int]:
    """Make Corral's chooser for the options; gives the choice after a place, once each."""
    width = run.rows.shape[1]
    view = HistoryView(Tokenizer(), run.token_ids, 4096, options.seed)
    chooser = Chooser(options, view, None, vocab_size=width, piece_count=width)
    rows = run.rows.copy()

    def choose(n: int) -> int:
        token_id = chooser.choose(rows[n])
        view.append([token_id])
        return token_id

    return choose


def microseconds(make: Callable[[], Callable[[int], int]], count: int) -> float:
    """Median over rounds of the time of one choice; each round has rows of its own."""
    times = []
    for _ in range(ROUNDS):
        choose = make()
        start = time.perf_counter()
        for n in range(count):
            choose(n)
        times.append((time.perf_counter() - start) / count * 1e6)
    return float(np.median(times))


def logprobs_microseconds(run: Decoded) -> float:
    """Time of reporting a token and the five likeliest."""
    tokenizer = Tokenizer()
    tokenizer.pieces = [b"x"] * run.rows.shape[1]
    start = time.perf_counter()
    for row in run.rows:
        RawProbs(row, len(row)).of(0, 5, tokenizer)
    return (time.perf_counter() - start) / len(run.rows) * 1e6


def main() -> None:
    """Print a table for each model."""
    parser = argparse.ArgumentParser(description="Time of choosing a token.")
    parser.add_argument("models", nargs="+", metavar="MODEL.gguf")
    silent = native.llama_log_callback(lambda _level, _text, _data: None)
    native.llama_log_set(silent, None)
    native.llama_backend_init()
    for path in parser.parse_args().models:
        with decoded(path) as run:
            count, width = run.rows.shape
            print(f"{path}: {count} rows of {width} logits; microseconds a token")
            print(f"{'':16}{'corral':>8}{'native':>8}{'ratio':>8}")
            for name, options in SETTINGS.items():
                own = microseconds(partial(own_choice, run, options), count)
                peer = microseconds(partial(native_choice, run, options), count)
                print(f"{name:16}{own:8.1f}{peer:8.1f}{own / peer:8.2f}")
            print(f"{'top 5 logprobs':16}{logprobs_microseconds(run):8.1f}")


if __name__ == "__main__":
    main()
