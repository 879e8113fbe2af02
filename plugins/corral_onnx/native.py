"""ONNX Runtime GenAI: opening a model, and the one sequence that a generator is."""

import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import onnxruntime_genai as og
from numpy.typing import NDArray

from corral_kernel.errors import EngineError, LoadError, OutOfMemoryError

_PARTS = ("decoder", "embedding", "encoder", "vision", "speech")
_SEARCH = {  # a folder may ask for beams, batches and minimal lengths; each sequence is one
    "batch_size": 1,
    "do_sample": False,
    "min_length": 0,
    "num_beams": 1,
    "num_return_sequences": 1,
}
_SHOWN = 300  # characters of a library's message


class Native:
    """A loaded model; `adapters` holds what `load_adapter` loaded.

    Args:
        path: Its folder, looked through.
        parts: Sections of its configuration that have sessions of their own.
        threads: Of the CPU; 0: the library's choice.
        providers: Where it runs, in the library's words; none: the CPU.

    Raises:
        OutOfMemoryError: If there is not enough memory.
        LoadError: With the library's own reason.
    """

    def __init__(
        self, path: Path, parts: Collection[str], threads: int, providers: Sequence[str]
    ) -> None:
        try:
            config = og.Config(os.fspath(path))
            if threads:
                options = {"session_options": {"intra_op_num_threads": threads}}
                config.overlay(json.dumps({"model": {p: options for p in _PARTS if p in parts}}))
            config.clear_providers()
            for provider in providers:
                config.append_provider(provider)
            self.model = og.Model(config)
            self._adapters = og.Adapters(self.model)
        except MemoryError:
            raise OutOfMemoryError("there is not enough memory for the model's weights") from None
        except Exception as error:
            raise LoadError(f"ONNX Runtime GenAI cannot load the model: {reason(error)}") from error

    def strand(self, capacity: int, adapter: str = "") -> "GeneratorStrand":
        """Allocate a sequence of at most `capacity` positions.

        Raises:
            OutOfMemoryError: If there is not enough memory.
            EngineError: With the library's own reason.
        """
        try:
            params = og.GeneratorParams(self.model)
            params.set_search_options(max_length=capacity, **_SEARCH)
            generator = og.Generator(self.model, params)
            if adapter:
                generator.set_active_adapter(self._adapters, adapter)
        except MemoryError:
            raise OutOfMemoryError(
                f"there is not enough memory for a sequence of {capacity} tokens"
            ) from None
        except Exception as error:
            raise EngineError(
                f"ONNX Runtime GenAI made no sequence of {capacity} tokens: {reason(error)}"
            ) from error
        return GeneratorStrand(generator, capacity)

    def load_adapter(self, path: str, name: str) -> None:
        """Load a `.onnx_adapter` file.

        Raises:
            EngineError: With the library's own reason.
        """
        try:
            self._adapters.load(path, name)
        except Exception as error:
            raise EngineError(reason(error)) from error

    def unload_adapter(self, name: str) -> None:
        """Free an adapter that no sequence uses."""
        self._adapters.unload(name)

    def close(self) -> None:
        """Free the model, once no sequence is left."""
        del self._adapters, self.model


class GeneratorStrand:
    """See `Strand`: its generator, and how much of it is fed."""

    def __init__(self, generator: og.Generator, capacity: int) -> None:
        self._generator = generator
        self.capacity = capacity
        self.length = 0

    def feed(self, token_ids: Sequence[int]) -> None:
        """See `Strand`: the library takes some tokens that are none."""
        try:
            self._generator.append_tokens(np.array(token_ids, np.int32))
        except Exception as error:
            raise EngineError(f"ONNX Runtime failed: {reason(error)}") from error
        self.length += len(token_ids)

    def row(self) -> NDArray[np.float32]:
        """See `Strand`: asked otherwise, the library would feed a token of its own."""
        try:
            logits: NDArray[np.float32] = self._generator.get_logits()
        except Exception as error:
            raise EngineError(f"ONNX Runtime failed: {reason(error)}") from error
        return logits.reshape(-1, logits.shape[-1])[-1:]

    def rewind(self, length: int) -> None:
        """See `Strand`."""
        if length == self.length:
            return
        try:
            self._generator.rewind_to(length)
        except Exception as error:
            raise EngineError(f"ONNX Runtime cannot go back: {reason(error)}") from error
        self.length = length

    def close(self) -> None:
        """See `Strand`."""
        del self._generator


def reason(error: Exception) -> str:
    """A library's message, on one line and not too long."""
    return " ".join(str(error).split())[:_SHOWN] or type(error).__name__
