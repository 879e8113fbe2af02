"""Continuous batching over one llama.cpp context."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from corral_kernel.checking import check_ids, joined_texts, prompt_ids
from corral_kernel.contracts import (
    Admission,
    EngineInfo,
    Job,
    Part,
    Prompt,
    Rows,
    TokenEngine,
    TokenSegment,
)
from corral_kernel.errors import (
    EngineError,
    OutOfMemoryError,
)
from corral_llamacpp.adapters import Adapters, AdapterSet, Turns
from corral_llamacpp.batch import Batch, LogitsView
from corral_llamacpp.binding import lib
from corral_llamacpp.memory import Lane, Memory, common_length
from corral_llamacpp.native import NativeContext, NativeModel
from corral_llamacpp.pacing import Pacing
from corral_llamacpp.shortlist import NativeChain, native_part
from corral_llamacpp.tokenizer import LlamaTokenizer

_NO_SLOT = 1
_LARGE_PARAMETERS = 4_000_000_000
_WORTH_WAITING = 16
"""Tokens in common with a prompt under way from which on it is better to wait for them."""


@dataclass(slots=True, eq=False)
class _Run:
    """An admitted job.

    Attributes:
        ids: Prompt and what was chosen; `lane.keys` is this very list.
        lane: Its sequence.
        adapters: Its set.
        drafts: Fed or to be fed after `ids`.
        writing: Its prompt has been fed once.
        waiting: Its rows have been handed out, and nothing came back yet.
        leader: A run whose prompt begins alike and is being fed.
        shared: Where the two part.
        chain: The beginning of its samplers, where the library has them.
        rows_from: Its first row among those of the last decode, counted from the end.
    """

    id: int
    ids: list[int]
    lane: Lane
    adapters: AdapterSet
    drafts: list[int] = field(default_factory=list)
    writing: bool = False
    waiting: bool = False
    leader: "_Run | None" = None
    shared: int = 0
    chain: NativeChain | None = None
    rows_from: int = 0


@dataclass(slots=True)
class _Share:
    """What of a batch is a run's."""

    run: _Run
    fed: int
    rows: int


class LlamaEngine(TokenEngine):
    """See `TokenEngine`. Jobs share one unified memory, so that any of them may use all its cells.

    Args:
        model: Loaded; the engine's from now on, like the context.
        context: Over it.
        memory: Over the context's cells.
        info: What the engine is.
        drafts_limit: Draft tokens of a job that one step takes; 0: none.
    """

    def __init__(
        self,
        model: NativeModel,
        context: NativeContext,
        memory: Memory,
        info: EngineInfo,
        drafts_limit: int,
    ) -> None:
        self.info = info
        self.tokenizer: LlamaTokenizer = LlamaTokenizer(model)
        self._model = model
        self._context = context
        self._memory = memory
        # Billions of parameters on a CPU may take seconds for what others do in no time.
        large = lib.llama_model_n_params(model.pointer) > _LARGE_PARAMETERS
        self._pacing = Pacing(info.batch_tokens, cautious=large)
        self._batch = Batch(info.batch_tokens)
        self._logits = LogitsView(context, info.vocab_size)
        self._adapters = Adapters(model, context)
        self._turns = Turns()
        self._runs: dict[int, _Run] = {}
        self._drafts_limit = drafts_limit

    # ------------------------------------------------------------------ on text threads

    def prepare(self, parts: Sequence[Part]) -> Prompt:
        """See `TokenEngine`. Neighbouring parts of one kind are tokenized as one text."""
        tokenizer = self.tokenizer
        ids: list[int] = []
        for text, special in joined_texts(parts):
            begins = not ids or ids[-1] in tokenizer.control_ids
            encode = tokenizer.encode_beginning if begins else tokenizer.encode
            ids += encode(text, special=special)
        bos_id = tokenizer.bos_id
        if bos_id is not None and ids[:1] != [bos_id] and (tokenizer.adds_bos or not ids):
            ids.insert(0, bos_id)
        return Prompt((TokenSegment(ids),))

    # ------------------------------------------------------------------ on the engine thread

    def admit(self, job: Job) -> Admission | None:
        """See `TokenEngine`."""
        ids = prompt_ids(job.prompt, self.info)
        if len(self._runs) >= self.info.slots:
            return None
        running = (run.adapters for run in self._runs.values())
        adapters = self._adapters.load(job.adapters, running)
        total = len(ids) + max(0, job.max_tokens)
        lane = self._memory.open((job.cache_scope, adapters), ids, total)
        if lane is None:
            if self._runs:
                return None
            raise OutOfMemoryError(
                f"the job needs {total} positions; the context has {self._context.cells}"
            )
        run = _Run(job.id, ids, lane, adapters)
        if self._memory.shares:
            self._follow(run)
        self._runs[job.id] = run
        native = native_part(job.chain)
        if native:
            run.chain = NativeChain([job.chain[i] for i in native], self._context.pointer)
        return Admission(
            cached_tokens=max(lane.fed, run.shared),
            native_samplers=len(native),
            native_from=native[0] if native else 0,
        )

    def _follow(self, run: _Run) -> None:
        """Wait for the run whose prompt, still being fed, begins most alike."""
        last = len(run.ids) - 1  # one token is always fed
        for other in self._runs.values():
            if other.writing or other.lane.scope != run.lane.scope:
                continue
            alike = min(last, common_length(other.ids, run.ids))
            if alike >= max(run.shared, run.lane.fed) + _WORTH_WAITING:
                run.leader, run.shared = other, alike

    def forward(self) -> Sequence[Rows]:
        """See `TokenEngine`."""
        plan, prompt_tokens = self._plan()
        if not plan:
            return ()
        self._pacing.start()
        if not self._decode():
            return [Rows(plan[-1].run.id, 0, error="llama.cpp found no room for this request")]
        rows = self._hand_out(plan)
        self._pacing.stop(prompt_tokens, running=prompt_tokens < self._batch.length)
        return rows

    def _plan(self) -> tuple[list[_Share], int]:
        """Fill the batch, answers first; gives whose it is, and how many tokens are prompt."""
        batch = self._batch
        batch.clear()
        plan: list[_Share] = []
        ready = self._ready()
        writing = [run for run in ready if run.writing]
        for place, run in enumerate(writing, 1 - len(writing)):
            self._add(plan, run, batch.capacity - batch.length + place)  # one left for each other
        written = batch.length
        room = min(self._pacing.prompt_tokens(running=written > 0), batch.capacity - written)
        for run in ready:
            if room > 0 and not run.writing and not self._is_behind(run):
                room -= self._add(plan, run, room)
        return plan, batch.length - written

    def _ready(self) -> list[_Run]:
        """Runs with something to feed, of one set of adapters, which is applied."""
        ready = [run for run in self._runs.values() if not run.waiting]
        if ready:
            adapters = self._turns.choose([run.adapters for run in ready])
            self._adapters.apply(adapters)
            ready = [run for run in ready if run.adapters == adapters]
        return ready

    def _is_behind(self, run: _Run) -> bool:
        """Whether its leader still feeds what both begin with; takes that over when it is done."""
        leader = run.leader
        if leader is None:
            return False
        running = self._runs.get(leader.id) is leader
        if running and not leader.writing and leader.lane.fed < run.shared:
            return True
        run.leader = None
        self._memory.join(run.lane)
        return False

    def _add(self, plan: list[_Share], run: _Run, room: int) -> int:
        """Append what a run has to feed, as far as there is room."""
        start, end = run.lane.fed, len(run.ids)
        if not run.writing and self._memory.checkpoints and end - start > _WORTH_WAITING:
            end -= 1  # its state before the last token is worth keeping, see `_hand_out`
        count = min(end - start, room)
        ids = run.ids[start : start + count]
        rows = 0
        if start + count == len(run.ids):
            spare = min(self._drafts_limit, room - count, run.lane.total - len(run.ids))
            run.drafts = run.drafts[: max(0, spare)]
            ids += run.drafts
            rows = 1 + len(run.drafts)
        self._batch.add(ids, start, run.lane.sequence, rows)
        plan.append(_Share(run, len(ids), rows))
        return len(ids)

    def _decode(self) -> bool:
        """Run the batch; False: no room, and nothing has changed."""
        self._memory.make_room(self._batch.length)
        code = lib.llama_decode(self._context.pointer, self._batch.native)
        if code == _NO_SLOT:
            self._memory.drop_cached()
            code = lib.llama_decode(self._context.pointer, self._batch.native)
        if code not in (0, _NO_SLOT):
            raise EngineError(
                f"llama.cpp failed to decode {self._batch.length} tokens (code {code}): "
                + self._model.log.troubles()
            )
        return bool(code != _NO_SLOT)

    def _hand_out(self, plan: list[_Share]) -> list[Rows]:
        logits = self._logits.read(self._batch.rows)
        out: list[Rows] = []
        row = 0
        for share in plan:
            run = share.run
            self._memory.advance(run.lane, share.fed)
            if share.rows:
                run.writing = run.waiting = True
                run.rows_from = row - self._batch.rows
                out.append(Rows(run.id, share.fed, logits[row : row + share.rows]))
                row += share.rows
            else:
                if run.lane.fed == len(run.ids) - 1:  # only ever so where checkpoints are of use
                    self._memory.checkpoint(run.lane)
                out.append(Rows(run.id, share.fed))
        return out

    def extend(self, job_id: int, token_ids: Sequence[int], draft_ids: Sequence[int] = ()) -> None:
        """See `TokenEngine`."""
        run = self._runs[job_id]
        check_ids(token_ids, self.info.vocab_size)
        check_ids(draft_ids, self.info.vocab_size)
        if run.drafts:
            # One token is always fed, else there would be no rows to go on from.
            true = common_length(run.drafts, token_ids[:-1])
            self._memory.trim(run.lane, len(run.ids) + true)
        run.ids.extend(token_ids)
        run.drafts = list(draft_ids[: self._drafts_limit])
        run.waiting = False

    def shortlist(self, job_id: int, row: int) -> Sequence[tuple[int, float]]:
        """See `TokenEngine`."""
        run = self._runs[job_id]
        return run.chain.candidates(run.rows_from + row) if run.chain else ()

    def release(self, job_id: int) -> None:
        """See `TokenEngine`."""
        run = self._runs.pop(job_id)
        self._memory.close(run.lane)
        if run.chain is not None:
            run.chain.free()

    def cut(self, job_id: int, start: int, stop: int) -> bool:
        """See `TokenEngine`."""
        run = self._runs[job_id]
        if run.drafts:
            self._memory.trim(run.lane, len(run.ids))
            run.drafts = []
        if not self._memory.cut(run.lane, start, stop):
            return False
        del run.ids[start:stop]
        return True

    def close(self) -> None:
        """See `Engine`."""
        self._context.free()
        self._model.free()
