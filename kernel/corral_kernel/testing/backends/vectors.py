"""Vectors of texts: their length, their order, and what becomes of texts that are too long."""

from __future__ import annotations

import os
import signal
from typing import ClassVar

import numpy as np

from corral_kernel.errors import CorralError, MissingCapabilityError
from corral_kernel.testing.backends.asking import code_of
from corral_kernel.testing.backends.lifetimes import LoadingTests
from corral_kernel.testing.suites import ContractBrokenError, demand

_ROUNDING = 1e-4


class VectorTests(LoadingTests):
    """Tests of vectors.

    Attributes:
        tolerance: How far an element may be off where texts are computed together.
        window_tokens: More tokens than the model takes in one text; each word is one at least.
    """

    can: ClassVar[frozenset[str]] = frozenset({"embedding", "window"})
    tolerance: ClassVar[float] = 1e-2
    window_tokens: ClassVar[int] = 600

    def test_each_text_has_a_vector_of_length_one(self) -> None:
        """Unless it is asked for as it is."""
        vectors = self.kernel.embed(self.model, *self.prompts)
        demand(len(vectors) == len(self.prompts), f"{len(vectors)} of {len(self.prompts)} vectors")
        norms = np.linalg.norm(vectors, axis=1)
        demand(np.allclose(norms, 1, atol=_ROUNDING), f"the vectors have lengths {norms}")
        plain = self.kernel.embed(self.model, *self.prompts, normalize=False)
        scaled = plain / np.linalg.norm(plain, axis=1, keepdims=True)
        demand(np.allclose(scaled, vectors, atol=self.tolerance), "normalising turns vectors")

    def test_texts_together_have_the_vectors_that_each_has_alone(self) -> None:
        """In their order, however many there are."""
        texts = [f"{prompt} {'and ' * n}so on" for n in range(5) for prompt in self.prompts]
        together = self.kernel.embed(self.model, *texts)
        for text, vector in zip(texts, together, strict=True):
            alone = self.kernel.embed(self.model, text)[0]
            near = np.allclose(vector, alone, atol=self.tolerance)
            demand(near, f"{text!r} among others is {np.abs(vector - alone).max()} off")

    def test_different_texts_have_different_vectors(self) -> None:
        """And equal ones equal vectors."""
        one, other, again = self.kernel.embed(
            self.model, self.prompts[0], self.prompts[1], self.prompts[0]
        )
        demand(np.allclose(one, again, atol=self.tolerance), "a text has two vectors")
        off = float(np.abs(one - other).max())
        demand(off > 2 * self.tolerance, f"the vectors of two texts differ by {off} alone")

    def test_fewer_dimensions_are_the_first_ones(self) -> None:
        """Of length one again."""
        whole = self.kernel.embed(self.model, self.prompts[0], normalize=False)[0]
        width = len(whole) // 2
        found = self.kernel.embed(self.model, self.prompts[0], dimensions=width)[0]
        demand(len(found) == width, f"{len(found)} dimensions, asked for {width}")
        wanted = whole[:width] / np.linalg.norm(whole[:width])
        demand(np.allclose(found, wanted, atol=self.tolerance), "they are not the first ones")

    def test_a_text_that_is_too_long_is_cut_or_refused(self) -> None:
        """As the request says; where the window is another server's, as that one does."""
        long = "word " * self.window_tokens
        ours = "window" in self.can
        for truncate in (True, False):
            try:
                vectors = self.kernel.embed(self.model, self.prompts[0], long, truncate=truncate)
            except CorralError as error:
                refusal = code_of(error)
                fine = not truncate and refusal == "prompt_too_long"
                demand(fine or not ours, f"with truncate {truncate} it is refused: {error}")
            else:
                demand(len(vectors) == 2, "a text that is too long has no vector")  # noqa: PLR2004 - of two texts
                demand(truncate or not ours, "a text over the window was taken, truncate off")
        self.demand_it_works("a text that is too long")

    def test_an_empty_text_has_a_vector_or_an_error(self) -> None:
        """And no other text suffers."""
        try:
            vectors = self.kernel.embed(self.model, "", self.prompts[0])
        except CorralError as error:
            demand(str(error), "an empty text is refused without a word")
        else:
            demand(np.isfinite(vectors).all(), "the vector of an empty text is no number")
        self.demand_it_works("an empty text")

    def test_completions_are_refused_where_it_makes_none(self) -> None:
        """Before anything is loaded."""
        if "completion" in self.can:
            return  # it has a `BackendSuite` of its own
        try:
            self.kernel.ask(self.model, prompt="Hello", raw=True)
        except MissingCapabilityError as error:
            demand("completion" in error.missing, f"text is refused for lack of {error.missing}")
        else:
            raise ContractBrokenError("completion is not in `can`, yet it made text")

    def test_a_killed_worker_costs_no_vectors(self) -> None:
        """The next request loads the model again."""
        wanted = self.kernel.embed(self.model, self.prompts[0])
        loaded = self.loaded()
        os.kill(self.worker_id(), signal.SIGKILL)
        self.kernel.wait_gone(loaded)
        found = self.kernel.embed(self.model, self.prompts[0])
        demand(np.allclose(found, wanted, atol=self.tolerance), "after a death vectors differ")
