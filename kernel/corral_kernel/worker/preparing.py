"""From a request to a job for the loop; on a text thread."""

import itertools
import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from corral_kernel.contracts import (
    AnswerSpec,
    ChatParser,
    Companion,
    Constrained,
    Constraint,
    Plan,
    TokenEngine,
)
from corral_kernel.errors import (
    InvalidFormatError,
    InvalidOptionError,
    PluginError,
    UnsupportedError,
)
from corral_kernel.frames import Accepted, Done, Generate, JobEvent, PromptSpec
from corral_kernel.plugins import KERNEL, Plugins
from corral_kernel.sampling import Chooser, HistoryView, build_chain
from corral_kernel.sampling.chain import companions_of
from corral_kernel.sampling.failures import ANYTHING, constraint_failed, parser_failed
from corral_kernel.tasks.scoring import Scored
from corral_kernel.worker.course import Course
from corral_kernel.worker.prompting import Built, PromptBuilder
from corral_kernel.worker.reading import Reader, answer_spec
from corral_kernel.worker.running import Running
from corral_kernel.worker.track import Track

RANDOM_SEED = -1
SEED_BITS = 63


class Preparer:
    """Prepares completions for one engine; used by several text threads at once.

    Args:
        engine: That will run them.
        plugins: Whose renderers, samplers and constraints serve.
        drafts: Draft tokens a step that were asked for.
    """

    def __init__(self, engine: TokenEngine, plugins: Plugins, drafts: int) -> None:
        self._engine = engine
        self._drafts = drafts
        self._constraints = {name: kind for name, (_, kind) in plugins.constraints.items()}
        self._samplers = {name: kind for name, (_, kind) in plugins.samplers.items()}
        self._own = {name for name, (plugin, _) in plugins.samplers.items() if plugin is KERNEL}
        renderers = {name: renderer for name, (_, renderer) in plugins.renderers.items()}
        self._builder = PromptBuilder(engine, renderers)
        self._parsers = {name: parser for name, (_, parser) in plugins.parsers.items()}
        self._kept_ids: dict[frozenset[str], frozenset[int]] = {}
        self._companion_ids = itertools.count(-1, -1)  # none of the server's

    def render(self, spec: Generate) -> list[JobEvent]:
        """Render and tokenize alone: the job's events."""
        built = self._build(spec)
        accepted = _accepted(spec, built, rendered=built.text)
        return [accepted, Done(job_id=spec.job_id, reason="", prompt_tokens=built.prompt.length)]

    def prepare(self, spec: Generate, plan: Plan | None = None) -> Running:
        """Render, tokenize, truncate, compile.

        Args:
            spec: The request.
            plan: What the answer consists of; by default what the request's format asks for.

        Raises:
            CorralError: What is wrong with the request.
        """
        built = self._build(spec)
        told = answer_spec(spec, built.text)
        parser = None if told is None else self._parser(spec)
        tokenizer, info = self._engine.tokenizer, self._engine.info
        track = self._track(spec, spec.job_id, built, _seed(spec))
        wanted = companions_of(spec.chain.samplers, self._samplers)
        companions = self._companions(spec, [each for some in wanted for each in some])
        chooser = Chooser(
            build_chain(spec.chain.samplers, self._samplers, track.view, [*map(len, wanted)]),
            track.view,
            greedy=spec.chain.greedy,
            vocab_size=info.vocab_size,
            piece_count=len(tokenizer.pieces),
            end_ids=sorted(tokenizer.end_ids),
        )
        warnings = self._warnings(companions)
        answer = None
        if spec.constraint:
            answer = Constrained(kind=spec.constraint, format=spec.format)
        if parser is None or told is None:
            if plan is None and answer is not None:
                plan = Plan(steps=(answer,))
            course = self._course(plan, chooser)
        else:
            told = msgspec.structs.replace(told, answer=answer)
            course, told, untold = self._course_of(parser, told, chooser)
            warnings += untold
        reader = Reader(spec.job_id, parser, told)
        foreign = any(sampler.name not in self._own for sampler in spec.chain.samplers)
        kind = Running if spec.score is None else Scored
        return kind(
            spec,
            track=track,
            companions=companions,
            accepted=_accepted(spec, built, warnings=warnings),
            chooser=chooser,
            course=course,
            reader=reader,
            kept_ids=self._kept(reader.kept),
            tokenizer=tokenizer,
            drafts=self._drafts if "drafts" in info.capabilities else 0,
            guarded=foreign or course is not None or parser is not None,
        )

    def _warnings(self, companions: Sequence[Track]) -> tuple[str, ...]:
        """Tell what does nothing here, of what was asked for."""
        if not self._drafts:
            return ()
        why = ""
        if "drafts" not in self._engine.info.capabilities:
            why = "this backend takes no draft tokens"
        elif companions:
            why = "a sampler of this request compares prompts, one token at a time"
        return (f'option "draft_num_predict" is ignored: {why}',) if why else ()

    # ---------------------------------------------------------------------------- privately

    def _build(self, spec: Generate) -> Built:
        return self._builder.build(
            spec.prompt, now=spec.now, num_keep=spec.options.num_keep, shift=spec.shift
        )

    def _track(self, spec: Generate, track_id: int, built: Built, seed: int) -> Track:
        tokens = self._engine.info.context_tokens
        view = HistoryView(self._engine.tokenizer, built.prompt.history(), tokens, seed)
        return Track(track_id, spec, built.prompt, view)

    def _companions(self, spec: Generate, wanted: Sequence[Companion]) -> list[Track]:
        """Render and tokenize the prompts that samplers want beside the job's own.

        Raises:
            UnsupportedError: If there are more than the engine can run at once.
        """
        slots = self._engine.info.slots
        if wanted and len(wanted) >= slots:
            raise UnsupportedError(
                f"the samplers of this request add {len(wanted)} prompts of their own, so that it "
                f"needs {len(wanted) + 1} slots at once; this model has {slots} "
                "(CORRAL_NUM_PARALLEL)"
            )
        tracks: list[Track] = []
        for companion in wanted:
            prompt = _companion_prompt(spec.prompt, companion)
            built = self._build(msgspec.structs.replace(spec, prompt=prompt))
            tracks.append(self._track(spec, next(self._companion_ids), built, seed=0))
        return tracks

    def _parser(self, spec: Generate) -> ChatParser:
        assert spec.reading is not None
        parser = self._parsers.get(spec.reading.parser)
        if parser is None:
            raise PluginError(f"no plugin gives the parser {spec.reading.parser!r} here")
        return parser

    def _kept(self, texts: frozenset[str]) -> frozenset[int]:
        """Control tokens whose literal texts occur in some texts."""
        found = self._kept_ids.get(texts)
        if found is None:
            tokenizer = self._engine.tokenizer
            pieces = {
                i: tokenizer.pieces[i].decode(errors="replace") for i in tokenizer.control_ids
            }
            found = frozenset(i for i, p in pieces.items() if p and any(p in t for t in texts))
            self._kept_ids[texts] = found
        return found

    def _course(self, plan: Plan | None, chooser: Chooser) -> Course | None:
        if plan is None:
            return None
        return Course(plan, chooser, self._engine.tokenizer, self._compile)

    def _course_of(
        self, parser: ChatParser, told: AnswerSpec, chooser: Chooser
    ) -> tuple[Course | None, AnswerSpec, tuple[str, ...]]:
        """The plan of a parser, begun. Where calls cannot be held to schemas they stay free.

        Returns:
            That, what the parser is told in the end, and warnings.

        Raises:
            UnsupportedError: If a call is to be forced, and cannot be.
        """
        try:
            return self._course(self._plan(parser, told), chooser), told, ()
        except (InvalidFormatError, PluginError) as error:
            if told.force_call:
                raise UnsupportedError(f"no call of a tool can be forced here: {error}") from error
            if not told.tools or not told.constrain_tools or told.answer is not None:
                raise
            why = f"arguments of calls are not held to the schemas of their tools: {error}"
        free = msgspec.structs.replace(told, constrain_tools=False)
        return self._course(self._plan(parser, free), chooser), free, (why,)

    @staticmethod
    def _plan(parser: ChatParser, told: AnswerSpec) -> Plan | None:
        try:
            return parser.plan(told)
        except ANYTHING as error:
            raise parser_failed(parser.name, error) from error

    def _compile(self, step: Constrained) -> Constraint:
        kind = self._constraints.get(step.kind)
        if kind is None:
            raise InvalidFormatError(f"no plugin gives the format {step.kind!r} here")
        wanted: Any = msgspec.json.decode(step.format)
        tokenizer, vocab_size = self._engine.tokenizer, self._engine.info.vocab_size
        try:
            return kind.compile(wanted, tokenizer, vocab_size)
        except Exception as error:
            raise constraint_failed(step.kind, error) from error


def _seed(spec: Generate) -> int:
    seed = spec.options.seed
    return secrets.randbits(SEED_BITS) if seed == RANDOM_SEED else seed


def _companion_prompt(own: PromptSpec, companion: Companion) -> PromptSpec:
    if companion.text is not None:
        return PromptSpec(text=companion.text, cut_middle=own.cut_middle)
    last = companion.last_message or ""
    if own.text is not None:
        return msgspec.structs.replace(own, text=last)
    if not own.messages:
        raise InvalidOptionError("a sampler wants another last message, and there is none")
    message = msgspec.structs.replace(own.messages[-1], content=last)
    return msgspec.structs.replace(own, messages=(*own.messages[:-1], message))


def _accepted(
    spec: Generate, built: Built, rendered: str | None = None, warnings: tuple[str, ...] = ()
) -> Accepted:
    return Accepted(
        job_id=spec.job_id,
        prompt_tokens=built.prompt.length,
        dropped_messages=built.dropped_messages,
        dropped_tokens=built.dropped_tokens,
        warnings=warnings,
        rendered=rendered,
    )
