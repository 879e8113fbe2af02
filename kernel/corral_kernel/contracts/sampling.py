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
    """

    __slots__ = ("ids", "logits", "ordered")

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

    def random(self, place: int = 0) -> float:
        """A number in [0, 1): a function of seed, position and place, the same under batching."""
        raise NotImplementedError


class Sampler:
    """One step of a chain, one object a job.

    Attributes:
        keeps_order: Whether `apply` leaves ordered candidates ordered. Only what changes no logits,
            or all by the same rising function, may say so.
    """

    keeps_order: ClassVar[bool] = False

    def apply(self, candidates: Candidates) -> None:
        """Change `candidates.logits` in place, or keep fewer."""
        raise NotImplementedError

    def accept(self, token_id: int) -> None:
        """A token joined the answer; forced ones too."""
        del token_id


class Constraint:
    """What an answer may look like, one object a job."""

    def mask(self, out: NDArray[np.uint32]) -> bool:
        """Set bit `i % 32` of word `i // 32` for each token `i` that may come next.

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
    """

    name: str

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

        Compiled forms may be cached by content; the state is the job's own.

        Raises:
            InvalidFormatError: If it does not compile.
        """
        raise NotImplementedError


def format_key(spec: Any) -> bytes:
    """The content of a format spec, by which compiled forms are cached."""
    return msgspec.json.encode(spec)
