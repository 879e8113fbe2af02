"""A library's own loop with nothing around it, in a process that waits between its turns.

    python -m benchmarks.bare_loops LIBRARY MODEL THREADS

Each line of its input is JSON: `{"prompts": [TEXT, …], "tokens": N}`. Each line that it prints is
`{"prompt_tokens", "prefill_s", "tokens", "decode_s"}`: with one prompt those of the library's plain
loop; several are answered together in the best way that the library has, and `way` names it.
"""

import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Final

LEGACY_TYPE: Final = "gpt2"
"""Architecture of the legacy files here, which do not tell it."""
SLICE: Final = 512
TOP_K: Final = 40
TEMPERATURE: Final = 2.0


class Loop(ABC):
    """One library with a loaded model."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""

    @abstractmethod
    def run(self, ids: Sequence[int], tokens: int) -> tuple[float, float]:
        """Feed a prompt and write tokens; seconds until the first, and for the others."""

    def together(self, prompts: Sequence[Sequence[int]], tokens: int) -> tuple[str, float]:
        """Write several answers in the best way there is; its name, and seconds in all."""
        raise NotImplementedError


class LlamaCpp(Loop):
    """The low-level binding of llama.cpp."""

    def __init__(self, model: str, threads: int) -> None:
        import llama_cpp.llama_cpp as lib

        self._lib = lib
        self._quiet = lib.llama_log_callback(lambda *_: None)
        lib.llama_log_set(self._quiet, None)
        lib.llama_backend_init()
        loaded = lib.llama_model_load_from_file(model.encode(), lib.llama_model_default_params())
        params = lib.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = 2048, SLICE, SLICE
        params.n_threads = params.n_threads_batch = threads
        params.no_perf = True
        self._context = lib.llama_init_from_model(loaded, params)
        self._vocab = lib.llama_model_get_vocab(loaded)
        self._greedy = lib.llama_sampler_init_greedy()

    def encode(self, text: str) -> list[int]:
        """See `Loop`."""
        raw = text.encode()
        ids = (self._lib.llama_token * (len(raw) + 8))()
        count = self._lib.llama_tokenize(self._vocab, raw, len(raw), ids, len(ids), True, False)  # noqa: FBT003 - C's arguments have no names
        return list(ids[:count])

    def run(self, ids: Sequence[int], tokens: int) -> tuple[float, float]:
        """See `Loop`."""
        lib = self._lib
        lib.llama_memory_clear(lib.llama_get_memory(self._context), True)  # noqa: FBT003 - as above
        began = perf_counter()
        for start in range(0, len(ids), SLICE):
            self._decode(ids[start : start + SLICE])
        token = self._sample()
        first = perf_counter()
        for _ in range(tokens - 1):
            self._decode([token])
            token = self._sample()
        return first - began, perf_counter() - first

    def _decode(self, ids: Sequence[int]) -> None:
        array = (self._lib.llama_token * len(ids))(*ids)
        if self._lib.llama_decode(self._context, self._lib.llama_batch_get_one(array, len(ids))):
            sys.exit("llama.cpp could not decode")

    def _sample(self) -> int:
        return int(self._lib.llama_sampler_sample(self._greedy, self._context, -1))


class Onnx(Loop):
    """The generator of onnxruntime-genai; for several answers also its engine, which batches."""

    def __init__(self, model: str, threads: int) -> None:
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        import onnxruntime_genai as og

        self._og = og
        config = og.Config(model)
        session = {"session_options": {"intra_op_num_threads": threads}}
        config.overlay(json.dumps({"model": {"decoder": session}}))
        config.clear_providers()
        self._model = og.Model(config)
        self._tokenizer = og.Tokenizer(self._model)

    def encode(self, text: str) -> list[int]:
        """See `Loop`."""
        return [int(i) for i in self._tokenizer.encode(text)]

    def run(self, ids: Sequence[int], tokens: int) -> tuple[float, float]:
        """See `Loop`."""
        began = perf_counter()
        generator = self._generator(ids, tokens)
        generator.generate_next_token()
        first = perf_counter()
        for _ in range(tokens - 1):
            generator.generate_next_token()
        return first - began, perf_counter() - first

    def _generator(self, ids: Sequence[int], tokens: int) -> Any:
        params = self._og.GeneratorParams(self._model)
        length = len(ids) + tokens
        params.set_search_options(max_length=length, min_length=length, do_sample=False)
        generator = self._og.Generator(self._model, params)
        generator.append_tokens(ids)
        return generator

    def together(self, prompts: Sequence[Sequence[int]], tokens: int) -> tuple[str, float]:
        """See `Loop`: in turns, one after the other, or by the engine."""
        ways: dict[str, Callable[[Sequence[Sequence[int]], int], None]] = {
            "in turns": self._in_turns,
            "one after the other": self._one_by_one,
            "engine": self._by_engine,
        }
        spent = {}
        for name, way in ways.items():
            began = perf_counter()
            way(prompts, tokens)
            spent[name] = perf_counter() - began
        return min(spent.items(), key=lambda item: item[1])

    def _in_turns(self, prompts: Sequence[Sequence[int]], tokens: int) -> None:
        generators = [self._generator(ids, tokens) for ids in prompts]
        for _ in range(tokens):
            for generator in generators:
                generator.generate_next_token()

    def _one_by_one(self, prompts: Sequence[Sequence[int]], tokens: int) -> None:
        for ids in prompts:
            self.run(ids, tokens)

    def _by_engine(self, prompts: Sequence[Sequence[int]], tokens: int) -> None:
        og = self._og
        engine = og.Engine(self._model)
        requests = []
        for ids in prompts:
            request = engine.create_request()
            options = og.TurnOptions(request)
            options.set_min_generated_tokens(tokens)
            options.set_max_generated_tokens(tokens)
            request.begin_turn(ids, options)
            requests.append(request)
        events = engine.create_event_buffer(64)
        left = len(requests)
        while left:
            engine.run(events)
            ended = og.EngineEventFlags.TURN_FINISHED
            left -= sum(bool(events[i].flags & ended) for i in range(len(events)))
        for request in requests:
            request.close()


class Ctransformers(Loop):
    """The `LLM` of ctransformers. Its answers are drawn: greedy ones of random weights repeat."""

    def __init__(self, model: str, threads: int) -> None:
        os.environ["HF_HUB_OFFLINE"] = "1"
        from ctransformers import LLM, Config

        config = Config(context_length=1024, threads=threads, batch_size=64)
        self._llm = LLM(model, LEGACY_TYPE, config=config)

    def encode(self, text: str) -> list[int]:
        """See `Loop`."""
        return list(self._llm.tokenize(text))

    def run(self, ids: Sequence[int], tokens: int) -> tuple[float, float]:
        """See `Loop`."""
        llm = self._llm
        began = perf_counter()
        llm.eval(llm.prepare_inputs_for_generation(ids, reset=True))
        token = self._sample()
        first = perf_counter()
        for _ in range(tokens - 1):
            llm.eval([token])
            token = self._sample()
        return first - began, perf_counter() - first

    def _sample(self) -> int:
        return int(
            self._llm.sample(
                top_k=TOP_K, top_p=1.0, temperature=TEMPERATURE, repetition_penalty=1.0, seed=-1
            )
        )


LOOPS: Final[dict[str, type[Any]]] = {
    "llamacpp": LlamaCpp,
    "onnx": Onnx,
    "ctransformers": Ctransformers,
}


def main() -> None:
    """Load, then answer line by line."""
    library, model, threads = sys.argv[1:]
    loop: Loop = LOOPS[library](str(Path(model).resolve()), int(threads))
    print(json.dumps({"loaded": library}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        prompts = [loop.encode(text) for text in order["prompts"]]
        print(json.dumps(_answer(loop, prompts, order["tokens"])), flush=True)


def _answer(loop: Loop, prompts: Sequence[Sequence[int]], tokens: int) -> dict[str, Any]:
    fed = sum(map(len, prompts))
    if len(prompts) == 1:
        prefill_s, decode_s = loop.run(prompts[0], tokens)
        return {
            "prompt_tokens": fed,
            "prefill_s": prefill_s,
            "tokens": tokens,
            "decode_s": decode_s,
        }
    way, spent_s = loop.together(prompts, tokens)
    return {"prompt_tokens": fed, "tokens": tokens * len(prompts), "all_s": spent_s, "way": way}


if __name__ == "__main__":
    main()
