"""How requests become jobs, by the kind of the engine: on a text thread, before its loop."""

from collections.abc import Callable
from typing import Protocol

import msgspec

from corral_kernel.contracts import (
    AnswerSpec,
    ChatParser,
    Encoder,
    Engine,
    TextEngine,
    TextPart,
    TokenEngine,
)
from corral_kernel.errors import PluginError, UnsupportedError
from corral_kernel.forwarding import not_obeyed
from corral_kernel.frames import Accepted, Done, Encode, Generate, Load
from corral_kernel.plugins import Plugins
from corral_kernel.worker.answering import TextAnswer, text_request
from corral_kernel.worker.channel import Channel
from corral_kernel.worker.encoding import Encoding, tokenize
from corral_kernel.worker.loop import Loop
from corral_kernel.worker.preparing import Preparer
from corral_kernel.worker.prompting import conversation_of, render
from corral_kernel.worker.reading import Reader, answer_spec
from corral_kernel.worker.setup import Setup
from corral_kernel.worker.texting import TextLoop

AnyLoop = Loop | TextLoop


class Intake(Protocol):
    """Makes jobs for one loop; what it gives back is called when nothing interrupts any more."""

    @property
    def engine(self) -> Engine:
        """What runs the jobs."""

    @property
    def loop(self) -> AnyLoop:
        """What runs the engine."""

    def completion(self, spec: Generate) -> Callable[[], None]:
        """Prepare a completion.

        Raises:
            CorralError: What is wrong with the request.
        """

    def vectors(self, spec: Encode) -> Callable[[], None]:
        """Prepare a request for vectors; otherwise as `completion`."""


def intake_for(
    engine: Engine, load: Load, channel: Channel, plugins: Plugins, setup: Setup
) -> Intake:
    """Make the loop that an engine needs, and what prepares jobs for it.

    Raises:
        PluginError: If the engine is not what its claim said.
    """
    takes = engine.takes if isinstance(engine, TextEngine) else "tokens"
    if takes != load.claim.takes:
        raise PluginError(
            f"backend {load.claim.backend!r} breaks its contract: its claim takes "
            f"{load.claim.takes!r}, its engine {takes!r}"
        )
    if isinstance(engine, TextEngine):
        return TextIntake(engine, TextLoop(engine, channel, load.step_timeout_s), plugins)
    loop = Loop(engine, channel, load.step_timeout_s, setup.sampler_timeout_s, setup.interval_s)
    return TokenIntake(engine, loop, plugins, load.options.get("draft_num_predict") or 0)


class TokenIntake:
    """For a `TokenEngine`, an `Encoder`, or both.

    Args:
        engine: That runs the jobs.
        loop: That runs the engine.
        plugins: Whose renderers, samplers and constraints serve.
        drafts: Draft tokens a step that were asked for.
    """

    def __init__(self, engine: Engine, loop: Loop, plugins: Plugins, drafts: int) -> None:
        self.engine = engine
        self.loop = loop
        self._preparer: Preparer | None = None
        if isinstance(engine, TokenEngine):
            self._preparer = Preparer(engine, plugins, drafts)

    def completion(self, spec: Generate) -> Callable[[], None]:
        """Render, tokenize, truncate, compile."""
        if self._preparer is None:
            raise UnsupportedError("this model makes vectors, it does not complete text")
        if spec.render_only:
            events = self._preparer.render(spec)
            return lambda: self.loop.close_with(events)
        job = self._preparer.prepare(spec)
        return lambda: self.loop.take(job)

    def vectors(self, spec: Encode) -> Callable[[], None]:
        """Tokenize every text."""
        if not isinstance(self.engine, Encoder):
            raise UnsupportedError("this model completes text, it does not make embeddings")
        encoding = Encoding(spec, tokenize(self.engine, spec))
        return lambda: self.loop.take_encoding(encoding)


class TextIntake:
    """For a `TextEngine`.

    Args:
        engine: That answers.
        loop: That runs the engine.
        plugins: Whose renderers serve an engine that takes texts.
    """

    def __init__(self, engine: TextEngine, loop: TextLoop, plugins: Plugins) -> None:
        self.engine = engine
        self.loop = loop
        self._renderers = {name: renderer for name, (_, renderer) in plugins.renderers.items()}
        self._parsers = {name: parser for name, (_, parser) in plugins.parsers.items()}

    def completion(self, spec: Generate) -> Callable[[], None]:
        """Render, if the engine does not do that itself."""
        if spec.score is not None:
            raise UnsupportedError("the engine of this model gives no logits to measure")
        self._check(spec)
        raw = self.engine.takes == "chat" and spec.prompt.text is None
        prompt = None if raw else self._rendered(spec)
        if spec.render_only:
            accepted = Accepted(job_id=spec.job_id, prompt_tokens=0, rendered=prompt)
            return lambda: self.loop.close_with([accepted, Done(job_id=spec.job_id, reason="")])
        reader = Reader(spec.job_id, *self._read_by(spec, prompt or ""))
        answer = TextAnswer(text_request(spec, prompt), reader)
        return lambda: self.loop.take(answer)

    def vectors(self, spec: Encode) -> Callable[[], None]:
        """Hand the texts on: the engine tokenizes them."""
        if "embedding" not in self.engine.info.capabilities:
            raise UnsupportedError("this model completes text, it does not make embeddings")
        return lambda: self.loop.take_texts(spec)

    def _check(self, spec: Generate) -> None:
        """Refuse what this engine does not obey, and its claim did not tell."""
        where = "the engine of this model samples by itself"
        if refused := spec.sampling.keys() - self.engine.sampling:
            raise UnsupportedError(not_obeyed(refused, self.engine.sampling, where))
        if spec.constraint and spec.constraint not in self.engine.formats:
            does = ", ".join(sorted(self.engine.formats)) or "none"
            raise UnsupportedError(
                f"format {spec.constraint!r} cannot be enforced: {where}; it enforces {does}"
            )

    def _read_by(
        self, spec: Generate, rendered: str
    ) -> tuple[ChatParser | None, AnswerSpec | None]:
        if spec.reading is None:
            return None, None
        parser = self._parsers.get(spec.reading.parser)
        if parser is None:
            raise PluginError(f"no plugin gives the parser {spec.reading.parser!r} here")
        told = answer_spec(spec, rendered)
        # Nothing holds the text of such an engine to schemas.
        return parser, told and msgspec.structs.replace(told, constrain_tools=False)

    def _rendered(self, spec: Generate) -> str:
        parts = render(spec.prompt, conversation_of(spec.prompt, spec.now), self._renderers)
        return "".join(part.text for part in parts if isinstance(part, TextPart))
