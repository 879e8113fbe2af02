"""Samplers and constraints: what stands between logits and a token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from corral_kernel.contracts.engine import Tokenizer


class Candidates:
    """The tokens still in the running for one position.

    They begin as the whole row and shrink, so that what stands after `top_k` is cheap.

    Attributes:
        ids: int32 `(n,)`; None while they are the whole row (`ids[i] == i`).
        logits: float32 `(n,)`, to be changed in place.
        ordered: Whether they stand likeliest first.
        companion_logits: For each companion prompt of the sampler that is applied just now, its
            whole row float32, read-only; as long as `logits` was at the beginning, so that
            `ids` are positions in it too.
    """

    __slots__ = ("companion_logits", "ids", "logits", "ordered")

    def __init__(
        self,
        logits: NDArray[np.float32],
        ids: NDArray[np.int32] | None = None,
        *,
        ordered: bool = False,
    ) -> None:
        self.logits = logits
        self.ids = ids
        self.ordered = ordered
        self.companion_logits: Sequence[NDArray[np.float32]] = ()

    def __len__(self) -> int:
        return len(self.logits)

    def keep(self, index: NDArray[Any], *, ordered: bool = False) -> None:
        """Keep some.

        Args:
            index: Positions into the arrays `(m,)`, or a boolean mask `(n,)`; never none of them.
            ordered: Whether those positions stand likeliest first.
        """
        masked = index.dtype == bool
        if masked:
            index = index.nonzero()[0]
        self.ids = index.astype("int32") if self.ids is None else self.ids[index]
        self.logits = self.logits[index]
        self.ordered = ordered or (self.ordered and masked)

    def head(self, count: int) -> None:
        """Keep the first `count`, of ordered ones."""
        self.logits = self.logits[:count]
        if self.ids is not None:
            self.ids = self.ids[:count]

    def sort(self) -> None:
        """Order them, likeliest first; equal ones by id."""
        if self.ordered:
            return
        if self.ids is not None:
            self.keep(self.ids.argsort(kind="stable"))
        self.keep((-self.logits).argsort(kind="stable"), ordered=True)


class JobView:
    """What a sampler may know of its job.

    Attributes:
        tokenizer: The model's.
        prompt_tokens: How many of `token_ids` are the prompt.
        context_tokens: The job's context length.
    """

    tokenizer: Tokenizer
    prompt_tokens: int
    context_tokens: int

    @property
    def token_ids(self) -> NDArray[np.int32]:
        """All positions so far `(n,)`, a view; media are -1."""
        raise NotImplementedError

    def random(self, index: int = 0) -> float:
        """A number in [0, 1) for the next position, the sampler's own at its place in the chain.

        A function of seed, position, place and index alone: the same under drafts, batching and
        retries, asked once or more.

        Args:
            index: Which of the numbers of this position, from 0 on.
        """
        raise NotImplementedError


class Sampler:
    """One step of a chain, one object a job.

    It runs in the midst of everybody's step. What it raises ends its own request, and so does the
    time that a server allows (`CORRAL_SAMPLER_TIMEOUT`, for all samplers and the constraint of a
    job in one step).

    Attributes:
        keeps_order: Whether `apply` leaves ordered candidates ordered. Only what changes no logits,
            or all by the same rising function, may say so.
        keeps_best: Whether the likeliest candidate is always the same after `apply`, whatever is
            dropped. At temperature 0 the end of a chain that says so is left out.
    """

    keeps_order: ClassVar[bool] = False
    keeps_best: ClassVar[bool] = False

    def apply(self, candidates: Candidates) -> None:
        """Change `candidates.logits` in place, or keep fewer."""
        raise NotImplementedError

    def accept(self, token_id: int) -> None:
        """A token joined the answer; forced ones too."""
        del token_id


class SamplerOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fields of a sampler; a sampler's own struct subclasses this one.

    Each field has a default. Its `Meta` (range, `description`) is what requests are checked by and
    what `GET /api/samplers` shows. Names are global: a request sets `top_p` for every sampler of
    the chain that has a field of that name, so give your own fields names of your own.
    """


class SamplerSpec(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One sampler of a job's chain: its type's name and its fields, checked."""

    name: str
    options: dict[str, Any] = {}


class SamplerType:
    """A named sampler, as a plugin registers it.

    Attributes:
        name: What `options.samplers` names it by.
        options: Its fields.
        docs: One line for people.
        default_place: Where it stands in the chain of requests that name no `samplers`, for those
            whose fields switch it on: penalties stand at 10, top_k at 40, temperature at 90. None:
            only in chains that name it.
        replaces: Names of samplers that leave such a chain when this one is in it.
    """

    name: str
    options: type[SamplerOptions] = SamplerOptions
    docs: str = ""
    default_place: float | None = None
    replaces: tuple[str, ...] = ()

    def enabled(self, options: Any) -> bool:
        """Whether these options change anything; a sampler that is not is left out. In the server.

        Args:
            options: Of the type `options`.
        """
        del options
        return True

    def check(self, options: Any) -> None:
        """Refuse what ranges cannot say, in the server.

        Args:
            options: Of the type `options`, every field in its range.

        Raises:
            InvalidOptionError: What is wrong with them.
        """

    def companions(self, options: Any) -> Sequence[Companion]:
        """Further prompts whose logits the sampler wants to see, row by row. In a worker.

        Each is continued with the very tokens of the answer, in a slot of its own. A job with
        companions gets no drafts.

        Args:
            options: Of the type `options`.
        """
        del options
        return ()

    def start(self, options: Any, job: JobView) -> Sampler:
        """Make the sampler of one job, on a text thread of a worker.

        Args:
            options: Of the type `options`.
            job: The job; its `random` numbers are this sampler's own.
        """
        raise NotImplementedError


class Companion(msgspec.Struct, frozen=True, kw_only=True):
    """A second prompt that is continued with the same tokens as the job's own.

    Args:
        text: The prompt, as it is.
        last_message: In place of `text`: the job's own prompt with this as the content of its last
            message (of a chat), or as the prompt (of a completion), rendered as the job's own is.
    """

    text: str | None = None
    last_message: str | None = None


class Constraint:
    """What an answer may look like, one object a job."""

    def mask(self, out: NDArray[np.uint32]) -> bool:
        """Set bit `i % 32` of word `i // 32` for each token `i` that may come next.

        Where something is `forced`, only that token need be set, even if `accept` would take others
        that begin the same text.

        Slow ones are asked for on another thread, while the engine computes; never while another
        method runs.

        Args:
            out: `(ceil(vocab_size / 32),)`, whatever it held is overwritten.

        Returns:
            False where every token is allowed; `out` is then left alone.
        """
        raise NotImplementedError

    def accept(self, token_id: int) -> bool:
        """Take a token; False: it is not allowed, and nothing has changed.

        End ids are asked like any token: allowed where the answer may end.
        """
        raise NotImplementedError

    def forced(self) -> Sequence[int]:
        """Tokens that must come next, each still to be accepted."""
        return ()

    def allows(self, token_ids: Sequence[int]) -> int:
        """How many of these would be accepted in turn; nothing changes."""
        del token_ids
        return 0

    def finished(self) -> bool:
        """Whether nothing may follow but the end."""
        raise NotImplementedError


class ConstraintType:
    """A named kind of `format`.

    Attributes:
        name: `json`, `schema`, or a `type` of a typed format object.
        examples: Formats that it takes, as decoded from JSON; `corral plugins doctor` tries them.
    """

    name: str
    examples: tuple[Any, ...] = ()

    def check(self, spec: Any) -> None:
        """Look at a spec's shape and size, in the server: no native code.

        Args:
            spec: `"json"`, or the format object as decoded from JSON.

        Raises:
            InvalidFormatError: What is wrong, with a JSON pointer to where.
        """
        raise NotImplementedError

    def compile(self, spec: Any, tokenizer: Tokenizer, vocab_size: int) -> Constraint:
        """Make a fresh constraint, on a text thread of a worker.

        Compiled forms may be cached by content; the state is the job's own. What begins anew
        within an answer is made again on the engine thread, where a cache keeps others waiting
        for microseconds.

        Raises:
            InvalidFormatError: If it does not compile.
        """
        raise NotImplementedError


def format_key(spec: Any) -> bytes:
    """The content of a format spec, by which compiled forms are cached."""
    return msgspec.json.encode(spec)
