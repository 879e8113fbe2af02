"""From a request to a job for the loop; on a text thread."""

import secrets
from typing import Any

import msgspec

from corral_kernel.contracts import Constraint, TokenEngine
from corral_kernel.errors import InvalidFormatError
from corral_kernel.frames import Accepted, Done, Generate, JobEvent
from corral_kernel.plugins import Plugins
from corral_kernel.sampling import Chooser, HistoryView
from corral_kernel.worker.prompting import Built, PromptBuilder
from corral_kernel.worker.running import Running

RANDOM_SEED = -1
SEED_BITS = 63


class Preparer:
    """Prepares completions for one engine; used by several text threads at once.

    Args:
        engine: That will run them.
        plugins: Whose renderers and constraints serve.
        drafts: Draft tokens a step.
    """

    def __init__(self, engine: TokenEngine, plugins: Plugins, drafts: int) -> None:
        self._engine = engine
        self._drafts = drafts
        self._constraints = {name: kind for name, (_, kind) in plugins.constraints.items()}
        renderers = {name: renderer for name, (_, renderer) in plugins.renderers.items()}
        self._builder = PromptBuilder(engine, renderers)

    def render(self, spec: Generate) -> list[JobEvent]:
        """Render and tokenize alone: the job's events."""
        built = self._build(spec)
        accepted = _accepted(spec, built, rendered=built.text)
        return [accepted, Done(job_id=spec.job_id, reason="", prompt_tokens=built.prompt.length)]

    def prepare(self, spec: Generate) -> Running:
        """Render, tokenize, truncate, compile.

        Raises:
            CorralError: What is wrong with the request.
        """
        built = self._build(spec)
        tokenizer, info = self._engine.tokenizer, self._engine.info
        seed = spec.options.seed
        if seed == RANDOM_SEED:
            seed = secrets.randbits(SEED_BITS)
        view = HistoryView(tokenizer, built.prompt.history(), info.context_tokens, seed)
        chooser = Chooser(
            spec.options,
            view,
            self._constraint(spec),
            vocab_size=info.vocab_size,
            piece_count=len(tokenizer.pieces),
            end_ids=sorted(tokenizer.end_ids),
        )
        return Running(
            spec,
            prompt=built.prompt,
            accepted=_accepted(spec, built),
            chooser=chooser,
            view=view,
            tokenizer=tokenizer,
            context_tokens=info.context_tokens,
            drafts=self._drafts,
        )

    def _build(self, spec: Generate) -> Built:
        return self._builder.build(
            spec.prompt, now=spec.now, num_keep=spec.options.num_keep, shift=spec.shift
        )

    def _constraint(self, spec: Generate) -> Constraint | None:
        if not spec.constraint:
            return None
        kind = self._constraints.get(spec.constraint)
        if kind is None:
            raise InvalidFormatError(f"no plugin gives the format {spec.constraint!r} here")
        wanted: Any = msgspec.json.decode(spec.format)
        return kind.compile(wanted, self._engine.tokenizer, self._engine.info.vocab_size)


def _accepted(spec: Generate, built: Built, rendered: str | None = None) -> Accepted:
    return Accepted(
        job_id=spec.job_id,
        prompt_tokens=built.prompt.length,
        dropped_messages=built.dropped_messages,
        dropped_tokens=built.dropped_tokens,
        rendered=rendered,
    )
