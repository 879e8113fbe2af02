"""A worker's life: loading, unloading, damaged files, and answers that end before their time."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from corral_kernel.errors import CorralError, MissingCapabilityError
from corral_kernel.testing.backends.asking import Answer, Started, code_of
from corral_kernel.testing.backends.files import cut_short, gguf_head, scrambled
from corral_kernel.testing.backends.kernels import LIMIT_S
from corral_kernel.testing.backends.suite import SLOTS, SLOW_TEXT, KernelSuite, Maker
from corral_kernel.testing.suites import ContractBrokenError, demand


class LoadingTests(KernelSuite):
    """Tests of a model's way into memory and out of it, whatever it makes.

    Attributes:
        vital: The file whose damage must be noticed; empty: the largest.
    """

    vital: ClassVar[str] = ""

    def test_the_backend_claims_the_model_and_runs_it(self) -> None:
        """Its claim tells what the model can."""
        loaded = self.loaded()
        backend = loaded.want.claim.backend
        demand(backend == (self.backend or backend), f"{backend} runs it, not {self.backend}")
        demand(loaded.slots >= 1, f"it has {loaded.slots} slots")
        model = self.kernel.run(self.kernel.corral.find(self.model))
        claimed = set(self.kernel.corral.capabilities(model)) & {"completion", "embedding"}
        wanted_here = self.can & {"completion", "embedding"}
        demand(claimed == wanted_here, f"its claim has {claimed}, `can` has {set(wanted_here)}")

    def test_an_unloaded_model_leaves_no_process(self) -> None:
        """Its memory is free with that, and it is loaded again when it is needed."""
        process_id = self.worker_id()
        self.kernel.unload(self.model)
        demand(not self.kernel.loaded(self.model), "it is listed as loaded after its unloading")
        try:
            os.kill(process_id, 0)
        except ProcessLookupError:
            self.demand_it_works("unloading")
        else:
            raise ContractBrokenError(f"process {process_id} is there after its unloading")

    def test_a_damaged_model_is_refused_and_harms_no_other(self) -> None:
        """By an error that says so, when it is made or when it is loaded."""
        for what, make in self.broken():
            try:
                self.request(make())
            except CorralError as error:
                demand(code_of(error) != "internal", f"{what}: an error of no kind: {error}")
                demand(str(error), f"{what} is refused without a word")
            else:
                raise ContractBrokenError(f"{what} is answered as if it were sound")
            self.demand_it_works(what)

    def broken(self) -> Iterator[tuple[str, Maker]]:
        """What is wrong, and how to make a model that this is wrong with: none may answer."""
        contents = {n: f if isinstance(f, bytes) else f.read_bytes() for n, f in self.files.items()}
        vital = self.vital or max(contents, key=lambda name: len(contents[name]))
        for what, damage in (("cut-short", cut_short), ("scrambled", scrambled)):
            damaged = {**contents, vital: damage(contents[vital])}
            yield f"a {what} {vital}", self.maker(what, damaged)


class LifetimeTests(LoadingTests):
    """Tests of answers that end before their time, and of what a model answers with.

    Attributes:
        at_once: Answers that certainly run at once, where the engine has as many slots.
        adapter: LoRA weights that change what the model says, if `adapters` is in `can`.
    """

    at_once: ClassVar[int] = SLOTS
    adapter: ClassVar[Path | bytes] = gguf_head(general__type="adapter", adapter__type="lora")

    def test_vectors_are_refused_where_it_makes_none(self) -> None:
        """Before anything is loaded."""
        if "embedding" in self.can:
            demand(self.kernel.embed(self.model, "a").size, "a vector is empty")
            return
        try:
            self.kernel.embed(self.model, "a")
        except MissingCapabilityError as error:
            demand("embedding" in error.missing, f"vectors are refused for lack of {error.missing}")
        else:
            raise ContractBrokenError("embedding is not in `can`, yet it made vectors")

    # --------------------------------------------------------------------------- cancelling

    def test_a_cancelled_answer_frees_its_slot_at_once(self) -> None:
        """For the next request, while the others go on."""
        wanted = self.ask(self.prompts[0], num_predict=4).text
        started = [self.slow() for _ in range(min(self.loaded().slots, self.at_once))]
        try:
            demand(all(one.next_text() for one in started), "an answer has but one piece")
            waiting = self.kernel.ask_later(
                self.model, **self.given(self.prompts[0], num_predict=4)
            )
            started[0].close()
            text = waiting.result(LIMIT_S).text
            demand(text == wanted, f"in a slot that was freed it says {text!r}, not {wanted!r}")
            for other in started[1:]:
                demand(other.next_text(), "an answer ended when another one was cancelled")
        finally:
            for one in started:
                one.close()
        demand(self.ask(self.prompts[0], num_predict=4).text == wanted, "it says something else")

    def test_a_killed_worker_costs_its_answer_alone(self) -> None:
        """One error for who was reading, and the next request loads the model again."""
        wanted = self.ask(self.prompts[0]).text
        process_id = self.worker_id()
        started = self.slow()
        try:
            demand(started.next_text(), "an answer has no text")
            os.kill(process_id, signal.SIGKILL)
            said = started.rest()
        except CorralError as error:
            demand(code_of(error) == "worker_died", f"the error is {code_of(error)}: {error}")
        else:
            raise ContractBrokenError(f"its worker was killed, yet it ended well: {said!r}")
        finally:
            started.close()
        demand(self.ask(self.prompts[0]).text == wanted, "after a death it says something else")

    def slow(self) -> Started:
        """Begin an answer that takes seconds; by a sampler, unless a subclass knows otherwise."""
        asked = {"suite_text": SLOW_TEXT, "suite_pause_ms": 20, "num_predict": -2}
        return self.kernel.start(self.model, **self.given(self.prompts[0], **asked))

    # ------------------------------------------------------------------------------ adapters

    def test_adapters_change_the_answer(self) -> None:
        """Each model's own, over weights that models share."""
        if "adapters" not in self.can:
            self.demand_refused("adapters", "adapter", self._adapted)
            return
        plain = self.ask(self.prompts[0]).text
        adapted = self._adapted().text
        demand(adapted != plain, f"with its adapter and without it says {plain!r}")
        demand(self.ask(self.prompts[0]).text == plain, "an adapter stayed when its model was gone")

    def _adapted(self) -> Answer:
        name = self.kernel.create(
            "adapted", {}, base=self.model, adapters={"adapter.gguf": self.adapter}
        )
        return self.kernel.ask(name, **self.given(self.prompts[0]))
