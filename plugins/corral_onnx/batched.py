"""A decoder whose sequences go on together: one run of ONNX Runtime feeds a token of each.

GenAI's generators run one after the other, and each run reads all weights; its engine batches, and
gives no logits. Graphs whose attention is the operator `GroupQueryAttention` take a batch of
sequences of any lengths: each row of the mask tells how long its sequence is, and keys and values
are written in place. So the sequences are rows of one block of memory, and those that go on
together lie side by side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from corral_kernel.errors import EngineError, LoadError, OutOfMemoryError
from corral_onnx.config import GenaiConfig
from corral_onnx.graph import Graph
from corral_onnx.native import reason
from corral_onnx.session import MIXES_ROWS, open_session

_ATTENTION: Final = "GroupQueryAttention"
_OTHER_ATTENTION: Final = frozenset(
    {"Attention", "LinearAttention", "MultiHeadAttention", "PagedAttention", "SparseAttention"}
)
_IDS, _MASK, _POSITIONS = "input_ids", "attention_mask", "position_ids"
_HARMLESS_OPTIONS: Final = frozenset({"log_id"})
_INTEGERS: Final = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
_FLOATS: Final = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_CPU: Final = "cpu"
_PREPARED: Final = 64
MOST_TOKENS: Final = 64
"""Of one sequence in one run."""

Floats = NDArray[np.float32 | np.float16]


def takes_batches(config: GenaiConfig, graph: Graph) -> bool:
    """Whether a decoder on the CPU can run as one batch, by its configuration and graph."""
    decoder = config.model.decoder
    caches = {name for names in _cache_names(decoder.num_hidden_layers) for name in names[:1]}
    return (
        _ATTENTION in graph.operators
        and graph.operators.isdisjoint(_OTHER_ATTENTION | MIXES_ROWS)
        and {_IDS, _MASK} | caches <= graph.inputs <= {_IDS, _MASK, _POSITIONS} | caches
        and not graph.overridable
        and not config.other_parts
        and decoder.sliding_window is None
        and {k for k, v in decoder.session_options.items() if v} <= _HARMLESS_OPTIONS
        and not decoder.run_options
    )


def _cache_names(layers: int) -> list[tuple[str, str]]:
    """Inputs and outputs of keys and values."""
    return [
        (f"past_key_values.{layer}.{kind}", f"present.{layer}.{kind}")
        for layer in range(layers)
        for kind in ("key", "value")
    ]


@dataclass(slots=True)
class _Run:
    """How so many neighbouring rows are fed so many tokens.

    Attributes:
        binding: ONNX Runtime's, with everything bound but the mask.
        ids: Shape `(rows, tokens)`.
        positions: Of the same shape.
        logits: Shape `(rows, tokens, vocab_size)`.
    """

    binding: Any
    ids: NDArray[np.int64 | np.int32]
    positions: NDArray[np.int64 | np.int32]
    logits: Floats


class BatchedModel:
    """A loaded graph, and the memory of all its sequences.

    Args:
        path: Of the graph.
        config: Of the model.
        threads: Of the CPU; 0: the library's choice.
        rows: Sequences at once, cached ones too.
        positions: Of each.

    Attributes:
        positions: As above.

    Raises:
        OutOfMemoryError: If there is not enough memory.
        LoadError: With the library's own reason, or if the graph is of another kind.
    """

    def __init__(
        self, path: Path, config: GenaiConfig, threads: int, rows: int, positions: int
    ) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self._session = open_session(path, options, ["CPUExecutionProvider"])
            self._read_types(config)
            decoder = config.model.decoder
            shape = (rows, decoder.num_key_value_heads, positions, decoder.head_size)
            names = _cache_names(decoder.num_hidden_layers)
            self._caches = {pair: np.zeros(shape, self._cache_type) for pair in names}
        except MemoryError:
            raise OutOfMemoryError(
                f"there is not enough memory for {rows} sequences of {positions} tokens"
            ) from None
        except LoadError:
            raise
        except Exception as error:
            raise LoadError(f"ONNX Runtime cannot load {path.name}: {reason(error)}") from error
        self.positions = positions
        self._owners: list[BatchedStrand | None] = [None] * rows
        self._runs: dict[tuple[int, int, int], _Run] = {}
        # One for all: a run's logits are copied before the next one.
        self._logits = np.zeros(max(rows, MOST_TOKENS) * self._width, self._logits_type)

    def _read_types(self, config: GenaiConfig) -> None:
        kinds = {each.name: each.type for each in self._session.get_inputs()}
        logits = self._session.get_outputs()[0]
        caches = {kinds[name] for name, _ in _cache_names(config.model.decoder.num_hidden_layers)}
        integers = {kinds[name] for name in (_IDS, _MASK, _POSITIONS) if name in kinds}
        if len(caches) != 1 or not caches | {logits.type} <= {*_FLOATS} or len(integers) != 1:
            raise LoadError("the decoder's inputs and outputs are of other types than usual")
        (cache_type,), (integer_type,) = caches, integers
        if integer_type not in _INTEGERS:
            raise LoadError(f"the decoder takes ids of type {integer_type}")
        self._integer, self._cache_type = _INTEGERS[integer_type], _FLOATS[cache_type]
        self._logits_name, self._logits_type = logits.name, _FLOATS[logits.type]
        width = logits.shape[-1]
        self._width = width if isinstance(width, int) else config.model.vocab_size
        self._takes_positions = _POSITIONS in kinds

    # -------------------------------------------------------------------------- sequences

    def strand(self, capacity: int, adapter: str = "") -> "BatchedStrand":
        """Give a row that is free; whatever it is asked for, it has all `positions`.

        Raises:
            OutOfMemoryError: If no row is free, or rows are shorter.
        """
        assert not adapter, "a graph that takes adapters takes no batches"
        if None not in self._owners or capacity > self.positions:
            raise OutOfMemoryError(f"there is no room for a sequence of {capacity} tokens")
        row = self._owners.index(None)
        self._owners[row] = made = BatchedStrand(self, row)
        return made

    def load_adapter(self, path: str, name: str) -> None:
        """See `Native`: these graphs take none."""
        raise EngineError(f"the graph takes no adapters: {name} ({path})")

    def unload_adapter(self, name: str) -> None:
        """See `Native`."""

    def free(self, row: int) -> None:
        """Let others have a row."""
        self._owners[row] = None

    def close(self) -> None:
        """Free the model and all its memory."""
        del self._session
        self._runs.clear()
        self._caches.clear()
        self._owners.clear()

    # ------------------------------------------------------------------------------- runs

    def go_on(
        self, strands: "Sequence[BatchedStrand]", token_ids: Sequence[int]
    ) -> list[NDArray[np.float32]]:
        """Feed each sequence a token of its own; give a row of logits of each, as `row` does.

        Raises:
            EngineError: With the library's own reason; the sequences are of no more use.
        """
        first = self._gather(strands)
        lengths = np.array([strand.length for strand in self._beside(first, len(strands))])
        by_row = sorted(zip(strands, token_ids, strict=True), key=lambda pair: pair[0].place)
        logits = self._run(first, lengths, [[token_id] for _, token_id in by_row])
        for strand in strands:
            strand.length += 1
        return [logits[strand.place - first][None] for strand in strands]

    def feed(self, strand: "BatchedStrand", token_ids: Sequence[int]) -> NDArray[np.float32]:
        """Feed one sequence; give the logits after the last token, shape `(1, vocab_size)`.

        Raises:
            EngineError: With the library's own reason; the sequence is of no more use.
        """
        logits = self._run(strand.place, np.array([strand.length]), [token_ids])
        strand.length += len(token_ids)
        return logits

    def _run(
        self, first: int, lengths: NDArray[np.int64], token_ids: Sequence[Sequence[int]]
    ) -> NDArray[np.float32]:
        rows, count = len(token_ids), len(token_ids[0])
        fed = lengths + count
        if fed.max() > self.positions:
            raise EngineError(f"a sequence of {fed.max()} tokens, and room for {self.positions}")
        mask = (np.arange(fed.max()) < fed[:, None]).astype(self._integer)
        try:
            run = self._prepared(first, rows, count)
            run.ids[:] = token_ids
            run.positions[:] = lengths[:, None] + np.arange(count)
            self._bind(run.binding, _MASK, mask)
            self._session.run_with_iobinding(run.binding)
        except Exception as error:
            raise EngineError(f"ONNX Runtime failed: {reason(error)}") from error
        return run.logits[:, -1].astype(np.float32)  # a copy, also of what is of that type

    def _prepared(self, first: int, rows: int, count: int) -> _Run:
        """Bound once: there are some hundred names to bind, and few ways to run."""
        key = first, rows, count
        if key not in self._runs:
            if len(self._runs) >= _PREPARED:
                self._runs.clear()
            shape = rows, count
            run = _Run(
                binding=self._session.io_binding(),
                ids=np.zeros(shape, self._integer),
                positions=np.zeros(shape, self._integer),
                logits=self._logits[: rows * count * self._width].reshape(*shape, self._width),
            )
            self._bind(run.binding, _IDS, run.ids)
            if self._takes_positions:
                self._bind(run.binding, _POSITIONS, run.positions)
            for (past, present), cache in self._caches.items():
                self._bind(run.binding, past, cache[first : first + rows])
                self._bind(run.binding, present, cache[first : first + rows], output=True)
            self._bind(run.binding, self._logits_name, run.logits, output=True)
            self._runs[key] = run
        return self._runs[key]

    @staticmethod
    def _bind(binding: Any, name: str, array: NDArray[Any], *, output: bool = False) -> None:
        """Bind memory, which must stay where it is."""
        bind = binding.bind_output if output else binding.bind_input
        bind(name, _CPU, 0, array.dtype, array.shape, array.ctypes.data)

    # ------------------------------------------------------------------------------- rows

    def _beside(self, first: int, count: int) -> "list[BatchedStrand]":
        return [owner for owner in self._owners[first : first + count] if owner is not None]

    def _gather(self, strands: "Sequence[BatchedStrand]") -> int:
        """Have sequences lie side by side; gives the first one's row."""
        rows = {strand.place for strand in strands}
        first, count = min(rows), len(rows)
        if max(rows) - first + 1 == count:
            return first
        targets = [row for row in range(count) if row not in rows]
        for strand in strands:
            if strand.place >= count:
                self._swap(strand.place, targets.pop())
        return 0

    def _swap(self, one: int, other: int) -> None:
        owners = self._owners
        lengths = [owner.length if owner else 0 for owner in (owners[one], owners[other])]
        for cache in self._caches.values():
            moved = cache[one, :, : lengths[0]].copy()
            cache[one, :, : lengths[1]] = cache[other, :, : lengths[1]]
            cache[other, :, : lengths[0]] = moved
        owners[one], owners[other] = owners[other], owners[one]
        for row in (one, other):
            if (owner := owners[row]) is not None:
                owner.place = row


class BatchedStrand:
    """One sequence, see `native.Strand`.

    Args:
        model: Whose.
        place: Its row of the model's memory; changes as others come and go.
    """

    def __init__(self, model: BatchedModel, place: int) -> None:
        self.model = model
        self.place = place
        self.capacity = model.positions
        self.length = 0
        self._logits: NDArray[np.float32] | None = None

    def feed(self, token_ids: Sequence[int]) -> None:
        """See `native.Strand`."""
        self._logits = self.model.feed(self, token_ids)

    def row(self) -> NDArray[np.float32]:
        """See `native.Strand`."""
        if self._logits is None:
            raise EngineError("nothing was fed")
        logits, self._logits = self._logits, None
        return logits

    def rewind(self, length: int) -> None:
        """See `native.Strand`: what lies behind is written over."""
        self.length = length

    def close(self) -> None:
        """Give the row back."""
        self.model.free(self.place)
