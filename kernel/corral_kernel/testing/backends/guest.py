"""A plugin of a stranger's, for the suites of backends: its sampler writes any text on any model.

The suites lay it out as pip would, in a folder of their own, and the kernel finds it by its entry
point in the server and in the workers.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from corral_kernel.contracts import (
    Candidates,
    Constraint,
    ConstraintType,
    JobView,
    Sampler,
    SamplerOptions,
    SamplerType,
    Tokenizer,
)
from corral_kernel.errors import InvalidFormatError
from corral_kernel.plugins import hookimpl

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CORRAL_API_VERSION = 1
NAME = "suite_guest"
WRITE = "suite_write"
LETTERS = "suite_letters"
LONGEST = 1000


class WriteOptions(SamplerOptions, frozen=True, kw_only=True):
    """What to write, and how slowly."""

    suite_text: Annotated[str, Meta(description="the answer; empty: whatever the model says")] = ""
    suite_pause_ms: Annotated[int, Meta(ge=0, le=20, description="each token takes longer")] = 0


class WriteType(SamplerType):
    """Leaves those tokens alone that go on with a given text, and at its end those that end."""

    name = WRITE
    options = WriteOptions
    docs = "writes a given text, for tests of backends"
    default_place = 1.0  # before all that drops tokens

    def enabled(self, options: WriteOptions) -> bool:
        """Whether there is something to write."""
        return bool(options.suite_text)

    def start(self, options: WriteOptions, job: JobView) -> Sampler:
        """Make the sampler of one job."""
        return _Writer(options, job.tokenizer)


class _Writer(Sampler):
    def __init__(self, options: WriteOptions, tokenizer: Tokenizer) -> None:
        self._left = options.suite_text.encode()
        self._pause_s = options.suite_pause_ms / 1000
        self._pieces = tokenizer.pieces
        self._end_ids = sorted(tokenizer.end_ids)
        self._ids: dict[bytes, list[int]] = {}
        for token_id, piece in enumerate(tokenizer.pieces):
            if piece and token_id not in tokenizer.control_ids and piece in self._left:
                self._ids.setdefault(piece, []).append(token_id)
        self._longest = max(map(len, self._ids), default=0)

    def apply(self, candidates: Candidates) -> None:
        """Keep what goes on with the text; all, where nothing can."""
        import numpy as np

        time.sleep(self._pause_s)
        wanted = self._wanted()
        ids = candidates.ids
        have = np.arange(len(candidates)) if ids is None else ids
        possible = candidates.logits > -np.inf
        index = (np.isin(have, wanted) & possible).nonzero()[0]
        if len(index):
            candidates.keep(index)

    def accept(self, token_id: int) -> None:
        """A part of the text is written."""
        piece = self._pieces[token_id] if token_id < len(self._pieces) else b""
        self._left = self._left.removeprefix(piece)

    def _wanted(self) -> list[int]:
        if not self._left:
            return self._end_ids
        lengths = range(1, min(self._longest, len(self._left)) + 1)
        return [token_id for n in lengths for token_id in self._ids.get(self._left[:n], ())]


class LettersType(ConstraintType):
    """Holds answers to some letters: `{"type": "suite_letters", "letters": "ab", "length": 6}`."""

    name = LETTERS
    examples = ({"type": LETTERS, "letters": "ab", "length": 6},)

    def check(self, spec: Any) -> None:
        """Look at a format's shape.

        Raises:
            InvalidFormatError: What is wrong with it.
        """
        if not isinstance(spec, dict) or spec.keys() != {"type", "letters", "length"}:
            raise InvalidFormatError("format at #: wanted `type`, `letters` and `length`")
        letters, length = spec["letters"], spec["length"]
        if not isinstance(letters, str) or not re.fullmatch("[a-z]{1,26}", letters):
            raise InvalidFormatError("format at #/letters: wanted 1 to 26 letters from a to z")
        if type(length) is not int or not 0 < length <= LONGEST:
            raise InvalidFormatError(f"format at #/length: wanted a number from 1 to {LONGEST}")

    def compile(self, spec: Any, tokenizer: Tokenizer, vocab_size: int) -> Constraint:
        """Make the constraint of one job."""
        self.check(spec)
        return _Letters(spec["letters"].encode(), spec["length"], tokenizer, vocab_size)


class _Letters(Constraint):
    def __init__(self, letters: bytes, length: int, tokenizer: Tokenizer, vocab_size: int) -> None:
        import numpy as np

        wanted = frozenset(letters)
        # How many letters each token writes; 0: none, or others.
        self._written = np.zeros(-(-vocab_size // 32) * 32, np.int32)
        for token_id, piece in enumerate(tokenizer.pieces):
            if token_id not in tokenizer.control_ids and wanted.issuperset(piece):
                self._written[token_id] = len(piece)
        self._end_ids = sorted(tokenizer.end_ids)
        self._written[self._end_ids] = 0
        self._left = length
        self._begun = self._ended = False

    def mask(self, out: NDArray[np.uint32]) -> bool:
        """Set the bits of the tokens that may come next."""
        import numpy as np

        fits = (self._written > 0) & (self._written <= self._left)
        if self._ended:
            fits[:] = False
        elif self._begun:
            fits[self._end_ids] = True
        out[:] = np.packbits(fits, bitorder="little").view("<u4")
        return True

    def accept(self, token_id: int) -> bool:
        """Take a token; False: it is not allowed, and nothing has changed."""
        if self._ended:
            return False
        if token_id in self._end_ids:
            self._ended = self._begun
            return self._ended
        written = int(self._written[token_id])
        if not 0 < written <= self._left:
            return False
        self._left -= written
        self._begun = True
        return True

    def finished(self) -> bool:
        """Whether nothing may follow but the end."""
        return self._ended or not self._left


@hookimpl
def corral_samplers() -> Sequence[SamplerType]:
    """Give the sampler."""
    return [WriteType()]


@hookimpl
def corral_constraints() -> Sequence[ConstraintType]:
    """Give the constraint."""
    return [LettersType()]


def lay_out(folder: Path) -> None:
    """Write what pip writes of an installed distribution, for this plugin, into a folder."""
    info = folder / "corral_suite_guest-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: corral-suite-guest\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[corral]\n{NAME} = {__name__}\n")
