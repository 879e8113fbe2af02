"""A kernel and a model for the tests of one backend, and ways to ask it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from corral_kernel.errors import CorralError
from corral_kernel.testing.backends.asking import Answer, chat
from corral_kernel.testing.backends.kernels import RunningKernel
from corral_kernel.testing.suites import ContractBrokenError, demand

if TYPE_CHECKING:
    from corral_kernel.scheduler.instance import Instance

SLOTS = 4
SLOW_TEXT = "this answer takes its time, and goes on and on until somebody has had enough of it"

Maker = Callable[[], str]


class KernelSuite:
    """A kernel, a model in its store, and ways to ask it. One of both for all tests of a class.

    Attributes:
        files: The model: a name in it -> the file. Several are a folder.
        parameters: Its PARAMETERs, such as `num_thread` or `backend`.
        settings: Of the server: `CORRAL_…` variables.
        can: What works, of: `completion`, `embedding`; `chat` (the model has a template, or takes
            conversations as they are: prompts are put to it so), `raw` (a prompt is continued as
            it stands), `counts` (tokens of prompt and answer are told), `sampler` (samplers of
            others choose its tokens), `constraint` (and constraints of others hold them), `schema`
            (JSON Schemas do, where those of others do not), `seed`, `logprobs`, `window`
            (`num_ctx` is obeyed), `prefix` (a second turn computes only what is new), `drafts`,
            `adapters`.
        backend: Name of the backend that is to run the model; empty: whichever claims it.
        prompts: That it answers with several tokens each.
        kernel: Runs from the first test to the last.
        model: Name of the model in its store.
    """

    files: ClassVar[Mapping[str, Path | bytes]] = {}
    parameters: ClassVar[Mapping[str, Any]] = {}
    settings: ClassVar[Mapping[str, str]] = {}
    can: ClassVar[frozenset[str]] = frozenset()
    backend: ClassVar[str] = ""
    prompts: ClassVar[Sequence[str]] = ("Hello", "one two", "what is a llama, and who are you?")
    kernel: ClassVar[RunningKernel]
    model: ClassVar[str]

    @classmethod
    def setup_class(cls) -> None:
        """Start the kernel and make the model."""
        cls.kernel = RunningKernel({"CORRAL_NUM_PARALLEL": str(SLOTS), **cls.settings})
        with cls.kernel.until_close():
            cls.model = cls.make("suite", cls.files)

    @classmethod
    def teardown_class(cls) -> None:
        """End it and its workers."""
        cls.kernel.close()

    @classmethod
    def make(
        cls, name: str, files: Mapping[str, Path | bytes], parameters: Mapping[str, Any] = {}
    ) -> str:
        """Make the model in the store, of its files or otherwise.

        Args:
            name: To give it.
            files: `cls.files`, or damaged ones.
            parameters: Further ones.

        Returns:
            The name.
        """
        return cls.kernel.create(name, files, {**cls.parameters, **parameters})

    def maker(self, name: str, files: Mapping[str, Path | bytes], **parameters: Any) -> Maker:
        """A call that makes such a model."""
        return lambda: self.make(name, files, parameters)

    # -------------------------------------------------------------------- how it is tried

    def given(self, prompt: str, **more: Any) -> dict[str, Any]:
        """A request: greedy and short, unless told."""
        asked = (
            {"messages": chat(prompt)} if "chat" in self.can else {"prompt": prompt, "raw": True}
        )
        return {**asked, "temperature": 0, "num_predict": 24, **more}

    def ask(self, prompt: str, **more: Any) -> Answer:
        """Get an answer."""
        answer = self.kernel.ask(self.model, **self.given(prompt, **more))
        demand(answer.done.reason in ("stop", "length"), f"it ended by {answer.done.reason!r}")
        return answer

    def speech(self, **more: Any) -> Answer:
        """Get an answer of many tokens, always the same."""
        text = "It says this, and then that; and after that it ends."
        return self.ask(self.prompts[0], **{"num_predict": 99, **self.writing(text), **more})

    def writing(self, text: str) -> dict[str, Any]:
        """Options by which the answer is a text, where others' samplers choose the tokens."""
        return {"suite_text": text} if "sampler" in self.can else {}

    def loaded(self) -> Instance:
        """Where the model is loaded, which it is made to be."""
        self.demand_it_works("loading")
        found = self.kernel.loaded(self.model)
        demand(len(found) == 1, f"it is loaded {len(found)} times")
        return found[0]

    def worker_id(self) -> int:
        """Process id of the worker that has the model."""
        worker = self.loaded().worker
        assert worker is not None, "it is loaded"
        return worker.pid

    def request(self, model: str) -> None:
        """Have a model do what this one can."""
        if "completion" in self.can:
            answer = self.kernel.ask(model, **self.given(self.prompts[0], num_predict=2))
            demand(answer.text or answer.done.output_tokens, "an answer has no token")
        else:
            demand(self.kernel.embed(model, self.prompts[0]).size, "a vector is empty")

    def demand_it_works(self, after: str) -> None:
        """Demand that the model does what it can."""
        try:
            self.request(self.model)
        except CorralError as error:
            raise ContractBrokenError(f"after {after} it works no more: {error}") from error

    def demand_refused(self, what: str, names: str, call: Callable[[], Answer | object]) -> None:
        """Demand an error, or a warning beside the answer, that names what it cannot do.

        Args:
            what: Is missing among `can`.
            names: A word that must stand in what the client is told.
            call: Asks for it.
        """
        try:
            answer = call()
        except CorralError as error:
            told = str(error)
        else:
            told = " ".join(answer.warnings) if isinstance(answer, Answer) else ""
            demand(told, f"{what} is not in `can`, and who asks for it is told nothing")
        demand(
            names.lower() in told.lower(),
            f"{what} is not in `can`; who asks for it is told {told!r}, where {names!r} is no word",
        )
