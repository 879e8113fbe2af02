"""The engines: token ids in and logits out, or texts in and vectors out.

An engine lives in a worker. `Tokenizer` and `prepare` are called from text threads; everything
else from the engine thread, one call at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from corral_kernel.contracts.backend import EngineInfo, FileRef
from corral_kernel.contracts.chat import Part
from corral_kernel.contracts.sampling import SamplerSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Tokenizer:
    """Texts to token ids and back; re-entrant.

    Attributes:
        pieces: The bytes that each token id stands for; a control token's are its literal text.
        control_ids: Ids whose piece is never shown, such as `<|im_end|>`.
        end_ids: Ids that end an answer.
        bos_id: The id that begins a sequence; None: the vocabulary has none.
        eos_id: The id that templates write as `eos_token`; None: the vocabulary has none.
        adds_bos: Whether `encode_prompt` puts `bos_id` first.
    """

    pieces: Sequence[bytes]
    control_ids: frozenset[int]
    end_ids: frozenset[int]
    bos_id: int | None = None
    eos_id: int | None = None
    adds_bos: bool = False

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Token ids of a text, with nothing added.

        Args:
            text: Any text.
            special: Whether the text of a control token becomes that token.
        """
        raise NotImplementedError

    def decode(self, token_ids: Sequence[int]) -> bytes:
        """The bytes that the ids stand for, control tokens as their literal text."""
        return b"".join(self.pieces[i] for i in token_ids)


@dataclass(frozen=True, slots=True)
class TokenSegment:
    """Text of a prompt."""

    token_ids: Sequence[int]

    @property
    def length(self) -> int:
        """Positions that it occupies."""
        return len(self.token_ids)


@dataclass(frozen=True, slots=True)
class MediaSegment:
    """An image or a sound in a prompt, as the engine prepared it.

    Attributes:
        length: Positions that it occupies.
        key: Equal for equal media: a digest of the bytes.
        payload: The engine's own.
    """

    length: int
    key: bytes
    payload: object


Segment = TokenSegment | MediaSegment


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as segments: what the engine feeds, and what its prefix cache is keyed by."""

    segments: tuple[Segment, ...]

    @property
    def length(self) -> int:
        """Positions that the prompt occupies."""
        return sum(segment.length for segment in self.segments)

    def history(self) -> list[int]:
        """One id for each position, -1 where media stand: what samplers see."""
        ids: list[int] = []
        for segment in self.segments:
            if isinstance(segment, TokenSegment):
                ids.extend(segment.token_ids)
            else:
                ids.extend([-1] * segment.length)
        return ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One sequence to run.

    Attributes:
        id: Unique in this worker.
        prompt: At least one position.
        max_tokens: New tokens that may be fed; with the prompt's length never over the context.
        adapters: Weights added for this job, in order, each at scale 1.
        cache_scope: Cached prefixes are shared only between jobs of equal scope.
        chain: The samplers that its rows will go through.
    """

    id: int
    prompt: Prompt
    max_tokens: int
    adapters: tuple[FileRef, ...] = ()
    cache_scope: str = ""
    chain: tuple[SamplerSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class Admission:
    """A job has room.

    Attributes:
        cached_tokens: Leading positions that need no feeding.
        native_samplers: How many samplers of the job's chain `shortlist` applies, in a row.
        native_from: The place of the first of them. What stands before it is the kernel's to
            apply, and may write to the row.
    """

    cached_tokens: int = 0
    native_samplers: int = 0
    native_from: int = 0


@dataclass(slots=True)
class Rows:
    """What one step did for one job.

    Attributes:
        job_id: The job.
        fed: Positions that this step fed.
        logits: float32, shape `(1 + drafts, vocab_size)`, writable, valid until the next
            `forward`; row `i` follows draft `i - 1`. None in mid-prefill.
        error: This job failed, the others did not.
    """

    job_id: int
    fed: int
    logits: NDArray[np.float32] | None = None
    error: str | None = None


class Engine:
    """A loaded model."""

    info: EngineInfo

    def close(self) -> None:
        """Free what it holds; called once, after the last job, where a program goes on without it.

        Suites are such programs. A worker is none: its process is killed as a whole when its model
        is to go, so that nothing may depend on this.
        """


class TokenEngine(Engine):
    """Token ids in, logits out; the worker's loop chooses the tokens.

    What raises in `prepare` or `admit` fails its job. What raises in `forward` or `extend` fails
    the worker: the engine can no longer be trusted.
    """

    tokenizer: Tokenizer

    def prepare(self, parts: Sequence[Part]) -> Prompt:
        """Tokenize a prompt, a leading BOS included where the model wants one (and only one).

        Raises:
            UnsupportedError: If a part is a medium that this engine cannot take.
        """
        raise NotImplementedError

    def admit(self, job: Job) -> Admission | None:
        """Make room for a job that keeps its room until released; None: no room just now.

        With no job running it admits or raises.

        Raises:
            InvalidRequestError: If the prompt holds ids that are no tokens.
            OutOfMemoryError: If the job can never fit.
        """
        raise NotImplementedError

    def forward(self) -> Sequence[Rows]:
        """Run one bounded iteration over all admitted jobs that have something to feed.

        At most `info.batch_tokens` are fed, running jobs first. One `Rows` for each job fed.
        """
        raise NotImplementedError

    def extend(self, job_id: int, token_ids: Sequence[int], draft_ids: Sequence[int] = ()) -> None:
        """Append what was chosen after the last rows, and drafts that may follow.

        Args:
            job_id: A job whose last rows had logits.
            token_ids: One or more ids. They begin with the fed drafts that came true; what else
                was drafted is forgotten.
            draft_ids: Guesses to feed after them; only if `drafts` is among the capabilities.
        """
        raise NotImplementedError

    def release(self, job_id: int) -> None:
        """End a job, at any time after `admit`; its prefix may stay cached."""
        raise NotImplementedError

    def cut(self, job_id: int, start: int, stop: int) -> bool:
        """Forget positions `start` to `stop` and move what follows down; False: cannot.

        Called between rows with logits and `extend`. After False nothing has changed, and the
        loop admits the shortened job anew.
        """
        del job_id, start, stop
        return False

    def shortlist(self, job_id: int, row: int) -> Sequence[tuple[int, float]]:
        """Apply the job's native samplers to one of its last rows, which stays as it is.

        Asked where `admit` gave a number of them, for rows that no constraint masks, and that
        only samplers before the native ones have written to. What is left must be what the
        kernel's own samplers would leave.

        Args:
            job_id: A job whose last rows had logits.
            row: Of those, from 0.

        Returns:
            Ids and logits, likeliest first, equal ones by id; none: the kernel's samplers shall
            look at the row themselves.
        """
        del job_id, row
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeItem:
    """One text to encode.

    Attributes:
        text: Any text, may be empty.
        pair: A second text (a passage to a query), for models that score pairs.
        limit: Keep this many tokens at most, special ones counted; None: all.
    """

    text: str
    pair: str | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Encodable:
    """A tokenized item. `token_ids` is what is encoded; `full_length` what the whole text has."""

    token_ids: Sequence[int]
    full_length: int
    payload: object = field(default=None, repr=False)

    @property
    def length(self) -> int:
        """Tokens that are encoded."""
        return len(self.token_ids)


class Encoder(Engine):
    """Texts in, vectors or scores out, one bounded batch a call."""

    def tokenize(self, item: EncodeItem) -> Encodable:
        """Tokenize one item and cut it to its limit; special tokens stay at both ends."""
        raise NotImplementedError

    def encode(self, batch: Sequence[Encodable]) -> NDArray[np.float32]:
        """Pooled vectors `(n, dim)`, not normalised, or scores `(n, 1)`.

        Args:
            batch: At least one item, together at most `info.batch_tokens` tokens, at most
                `info.slots` items.
        """
        raise NotImplementedError
