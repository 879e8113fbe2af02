"""Time of choosing a token: Corral's chain beside llama.cpp's own, on the same real logits.

    python benchmarks/sampling.py MODEL.gguf [MODEL.gguf ...]

For each setting: microseconds a token of both, and their ratio. llama.cpp's chain is driven through
its low-level binding, `llama_sampler_sample` on the context that computed the rows.
"""

import argparse
import ctypes
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import llama_cpp.llama_cpp as native
import numpy as np
from numpy.typing import NDArray

from corral_kernel.contracts import Tokenizer
from corral_kernel.fields import fields_of
from corral_kernel.samplers import standard_samplers
from corral_kernel.sampling import Chooser, HistoryView, RawProbs
from corral_kernel.testing.chains import chain_of, samplers_of
from corral_samplers import corral_samplers

TEXT = (
    "The keeper of the lighthouse wrote in his diary that the storm had lasted three days. On the"
    " fourth a ship without sails came into the bay, and he counted: 1, 2, 3, 5, 8 and then lost"
    ' his place. def main(argv: list[str]) -> dict: return {"name": "x", "values": [1, 2, 3]}'
)
ROUNDS = 15
HISTORY = 4096
"""Tokens that penalties and DRY look back on."""

PLAIN: dict[str, Any] = {"top_k": 0, "top_p": 1.0, "temperature": 1.0}
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "greedy": {"temperature": 0.0},
    "penalties": {"repeat_penalty": 1.1, "frequency_penalty": 0.1},
    "typical": {"typical_p": 0.9},
    "no top_k": {"top_k": 0},
    "min_p alone": {"top_k": 0, "top_p": 1.0, "min_p": 0.05},
    "softmax alone": {"top_k": 0, "top_p": 1.0, "temperature": 1.0},
    "hot softmax": {"top_k": 0, "top_p": 1.0, "temperature": 2.0},
    "+ logit_bias": {"logit_bias": {str(i): 1.0 for i in range(0, 2000, 100)}},
    "+ dry": {"dry_multiplier": 0.8},
    "+ top_n_sigma": {"top_n_sigma": 1.0},
    "+ xtc": {"xtc_probability": 0.5},
    "+ dynatemp": {"dynatemp_range": 0.5},
    "+ adaptive_p": {"adaptive_target": 0.5},
    # The others over the whole row, where nothing before them has made it short.
    "dry alone": {**PLAIN, "dry_multiplier": 0.8},
    "sigma alone": {**PLAIN, "top_n_sigma": 1.0},
    "xtc alone": {**PLAIN, "xtc_probability": 1.0},
    "dynatemp alone": {**PLAIN, "dynatemp_range": 0.5},
    "mirostat 1": {"temperature": 1.0, "mirostat": 1},
    "mirostat 2": {"temperature": 1.0, "mirostat": 2},
    "adaptive alone": {**PLAIN, "adaptive_target": 0.5},
}
TYPES = tuple(corral_samplers())
DEFAULTS: dict[str, Any] = {
    name: field.default
    for kind in (*standard_samplers().values(), *TYPES)
    for name, field in fields_of(kind.options).items()
}


@dataclass
class Decoded:
    """A prompt that a model has run, with the logits of its last positions."""

    context: Any
    vocab: Any
    tokenizer: Tokenizer
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
    tokenizer = Tokenizer()
    tokenizer.pieces = [piece_of(vocab, token_id) for token_id in range(width)]
    # DRY looks back on a history as long as its window: the text over and over.
    history = (list(ids[:count]) * (HISTORY // count + 1))[: HISTORY - count]
    yield Decoded(context, vocab, tokenizer, history, places, rows)
    native.llama_batch_free(batch)
    native.llama_free(context)
    native.llama_model_free(model)


def piece_of(vocab: Any, token_id: int) -> bytes:
    """The bytes of a token."""
    room = ctypes.create_string_buffer(256)
    special = True
    length = native.llama_token_to_piece(vocab, token_id, room, len(room), 0, special)
    return bytes(room.raw[: max(0, int(length))])


def native_choice(run: Decoded, fields: dict[str, Any]) -> Callable[[int], int]:
    """Make llama.cpp's chain for the options; gives the choice after a place."""
    options = SimpleNamespace(**{**DEFAULTS, **fields})
    chain = native.llama_sampler_chain_init(native.llama_sampler_chain_default_params())
    steps = native_steps(run, options)
    if options.temperature == 0:
        steps = [(True, native.llama_sampler_init_greedy)]
    for wanted, make in steps:
        if wanted:
            native.llama_sampler_chain_add(chain, make())
    for token_id in run.token_ids:
        native.llama_sampler_accept(chain, token_id)
    return lambda n: int(native.llama_sampler_sample(chain, run.context, run.places[n]))


def native_steps(run: Decoded, options: Any) -> list[tuple[Any, Callable[[], Any]]]:
    """llama.cpp's samplers in its own order, and whether each of them is on."""
    o, width = options, run.rows.shape[1]
    free = not o.mirostat  # llama.cpp leaves out everything else then
    adaptive = free and o.adaptive_target >= 0
    biases = [native.llama_logit_bias(int(token), bias) for token, bias in o.logit_bias.items()]
    items = (native.llama_logit_bias * len(biases))(*biases)
    texts = [text.encode() for text in o.dry_sequence_breakers]
    breakers = (ctypes.c_char_p * len(texts))(*texts)
    return [
        (biases, lambda: native.llama_sampler_init_logit_bias(width, len(biases), items)),
        (
            free and (o.repeat_penalty != 1 or o.frequency_penalty or o.presence_penalty),
            lambda: native.llama_sampler_init_penalties(
                width, o.repeat_last_n, o.repeat_penalty, o.frequency_penalty, o.presence_penalty
            ),
        ),
        (
            free and o.dry_multiplier > 0,
            lambda: native.llama_sampler_init_dry(
                run.vocab,
                o.dry_multiplier,
                o.dry_base,
                o.dry_allowed_length,
                HISTORY,
                breakers,
                len(texts),
            ),
        ),
        (
            free and o.top_n_sigma > 0,
            lambda: native.llama_sampler_init_top_n_sigma(o.top_n_sigma),
        ),
        (free and o.top_k > 0, lambda: native.llama_sampler_init_top_k(o.top_k)),
        (free and o.typical_p < 1, lambda: native.llama_sampler_init_typical(o.typical_p, 0)),
        (free and o.top_p < 1, lambda: native.llama_sampler_init_top_p(o.top_p, 0)),
        (free and o.min_p > 0, lambda: native.llama_sampler_init_min_p(o.min_p, 0)),
        (
            free and o.xtc_probability > 0,
            lambda: native.llama_sampler_init_xtc(o.xtc_probability, o.xtc_threshold, 0, 1),
        ),
        (
            True,
            lambda: native.llama_sampler_init_temp_ext(
                o.temperature, o.dynatemp_range, o.dynatemp_exponent
            ),
        ),
        (
            o.mirostat == 1,
            lambda: native.llama_sampler_init_mirostat(
                width, 1, o.mirostat_tau, o.mirostat_eta, 100
            ),
        ),
        (
            o.mirostat == 2,  # noqa: PLR2004 - the second version of it
            lambda: native.llama_sampler_init_mirostat_v2(1, o.mirostat_tau, o.mirostat_eta),
        ),
        (
            adaptive,
            lambda: native.llama_sampler_init_adaptive_p(o.adaptive_target, o.adaptive_decay, 1),
        ),
        (free and not adaptive, lambda: native.llama_sampler_init_dist(1)),
    ]


def own_choice(run: Decoded, fields: dict[str, Any]) -> Callable[[int], int]:
    """Make Corral's chooser for the options; gives the choice after a place, once each."""
    width = run.rows.shape[1]
    view = HistoryView(run.tokenizer, run.token_ids, HISTORY, seed=1)
    chooser = Chooser(
        samplers_of(fields, view, TYPES),
        view,
        None,
        greedy=chain_of(fields, TYPES).greedy,
        vocab_size=width,
        piece_count=width,
    )
    rows = run.rows.copy()

    def choose(n: int) -> int:
        token_id = chooser.choose(rows[n])
        view.append([token_id])
        return token_id

    return choose


def microseconds(make: Callable[[], Callable[[int], int]], count: int) -> float:
    """Time of one choice in the quickest of all rounds; each has rows of its own."""
    times = []
    for _ in range(ROUNDS):
        choose = make()
        start = time.perf_counter()
        for n in range(count):
            choose(n)
        times.append((time.perf_counter() - start) / count * 1e6)
    return min(times)


def logprobs_microseconds(run: Decoded) -> float:
    """Time of reporting a token and the five likeliest."""
    start = time.perf_counter()
    for row in run.rows:
        RawProbs(row, len(row)).of(0, 5, run.tokenizer)
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
            for name, fields in SETTINGS.items():
                own = microseconds(partial(own_choice, run, fields), count)
                peer = microseconds(partial(native_choice, run, fields), count)
                print(f"{name:16}{own:8.1f}{peer:8.1f}{own / peer:8.2f}")
            print(f"{'top 5 logprobs':16}{logprobs_microseconds(run):8.1f}")


if __name__ == "__main__":
    main()
