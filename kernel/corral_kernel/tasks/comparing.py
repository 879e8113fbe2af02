"""Two models on the same prompts: where their answers part, how far apart, how fast, how large.

Each is loaded alone, one after the other, answers greedily, and then reads the first one's answers
token by token. The distributions that the first one reads them with are kept for the second.
"""

import contextlib
import os
from collections.abc import AsyncGenerator, Callable, Sequence

import msgspec
from msgspec import Struct

from corral_kernel.calls import CompletionCall
from corral_kernel.frames import Accepted, Done, Generate, Score, Scores, Text
from corral_kernel.planning import Plan
from corral_kernel.tasks.answers import Answer, different_vocabularies, result_of
from corral_kernel.tasks.compare import CompareResult, SideResult, Step
from corral_kernel.tasks.private import GetLease, PrivateModel
from corral_kernel.tasks.shelf import Shelf
from corral_kernel.tasks.turns import Turns

NS = 1_000_000_000


class Side(Struct, frozen=True, kw_only=True):
    """One model of a comparison: what it is asked, and what that comes to."""

    letter: str
    call: CompletionCall
    plan: Plan


async def compare(
    sides: tuple[Side, Side],
    prompts: Sequence[str],
    get_lease: GetLease,
    make_job: Callable[[CompletionCall, Plan], Generate],
    turns: Turns,
) -> AsyncGenerator[Step | CompareResult, None]:
    """Run both models, one after the other; gives steps and, last, the result.

    Args:
        sides: The models.
        prompts: To continue.
        get_lease: The kernel's.
        make_job: The kernel's: a job of a call.
        turns: The line that tasks wait in.

    Raises:
        CorralError: Why it failed. To close the generator ends what runs.
    """
    first, second = sides
    run = _Run(prompts, get_lease, make_job)
    if turns.all_taken:
        yield Step(status="waiting", side=first.letter, model=first.call.model.name.short)
    turn = await turns.take(turns.place())
    try:
        with Shelf() as shelf:
            for steps in (run.answer(first, shelf), run.answer(second, shelf)):
                async with contextlib.aclosing(steps):
                    async for step in steps:
                        yield step
            yield run.result(sides)
    finally:
        turn.end()


class _Run:
    def __init__(
        self,
        prompts: Sequence[str],
        get_lease: GetLease,
        make_job: Callable[[CompletionCall, Plan], Generate],
    ) -> None:
        self._prompts = prompts
        self._get_lease = get_lease
        self._make_job = make_job
        self._answers: dict[str, list[Answer]] = {}
        self._results: dict[str, SideResult] = {}
        self._warnings: list[str] = []

    async def answer(self, side: Side, shelf: Shelf) -> AsyncGenerator[Step, None]:
        """Run one model on all prompts.

        Args:
            side: The model.
            shelf: The first model's distributions: it puts them there, the second looks at them.
        """
        name, total = side.call.model.name.short, len(self._prompts)
        answers = self._answers[side.letter] = []
        yield Step(status="loading", side=side.letter, model=name)
        async with PrivateModel(side.call, side.plan, self._get_lease) as model:
            self._warnings += [f"{name}: {words}" for words in model.warnings]
            for number, prompt in enumerate(self._prompts):
                yield Step(
                    status="answering",
                    side=side.letter,
                    model=name,
                    completed=number,
                    total=total,
                )
                answer, _ = await _ask(model, self._job(side, prompt, Score()))
                answers.append(answer)
                answers[-1] = await self._read(model, side, number, shelf)
            self._results[side.letter] = _side_result(side, model, answers)

    async def _read(self, model: PrivateModel, side: Side, number: int, shelf: Shelf) -> Answer:
        """Have a model read the first one's answer; gives its own, with what came of that.

        The first one reads too, as if it were the second: had it only written, the cells of its
        cache would lie otherwise, and a model would differ from itself by what is rounded.
        """
        first, own = self._answers["a"][number], self._answers[side.letter][number]
        if different_vocabularies(first, own):
            return own
        prompt, follow = self._prompts[number], first.token_ids
        if side.letter == "a":
            score = Score(follow=follow, keep_rows=True)
            read, rows = await _ask(model, self._job(side, prompt, score))
            await shelf.put(rows)
            return msgspec.structs.replace(own, best_ids=read.best_ids)
        score = Score(follow=follow, rows=await shelf.get(number))
        read, _ = await _ask(model, self._job(side, prompt, score))
        return msgspec.structs.replace(own, divergences=read.divergences, best_ids=read.best_ids)

    def _job(self, side: Side, prompt: str, score: Score) -> Generate:
        call = msgspec.structs.replace(side.call, prompt=prompt)
        job = self._make_job(call, side.plan)
        if side.plan.want.claim.takes != "tokens":
            return job
        # Nothing cached: what is computed together rounds otherwise than what is not.
        scope = os.urandom(8).hex()
        return msgspec.structs.replace(
            job, score=score, want_ids=True, cache_scope=scope, repeat_limit=0
        )

    def result(self, sides: tuple[Side, Side]) -> CompareResult:
        """Put all together."""
        pairs = list(zip(self._answers["a"], self._answers["b"], strict=True))
        prompts = tuple(
            result_of(prompt, a, b) for prompt, (a, b) in zip(self._prompts, pairs, strict=True)
        )
        divergences = [value for each in prompts for value in each.kl]
        agreed = [
            ours == theirs
            for a, b in pairs
            if b.divergences
            for ours, theirs in zip(a.best_ids, b.best_ids, strict=False)
        ]
        reason = different_vocabularies(*pairs[0])
        return CompareResult(
            a=self._results[sides[0].letter],
            b=self._results[sides[1].letter],
            prompts=prompts,
            equal=sum(each.first_difference is None for each in prompts),
            kl_mean=sum(divergences) / len(divergences) if divergences else None,
            kl_max=max(divergences, default=None),
            agreement=sum(agreed) / len(agreed) if agreed else None,
            kl_reason=reason,
            warnings=tuple(dict.fromkeys(self._warnings)),
        )


async def _ask(model: PrivateModel, job: Generate) -> tuple[Answer, bytes]:
    """Run a job to its end; gives its distributions too."""
    scores: Scores | None = None
    pieces: list[str] = []
    prompt_tokens, done = 0, None
    async with contextlib.aclosing(model.run(job)) as events:
        async for event in events:
            match event:
                case Accepted():
                    prompt_tokens = event.prompt_tokens
                case Text():
                    pieces.append(event.content)
                case Scores():
                    scores = event
                case Done():
                    done = event
                case _:
                    pass
    assert done is not None, "a stream that ends without an error ends with `Done`"
    if scores is None:
        tokens, decode_ns = done.output_tokens, done.output_ns
        answer = Answer(text="".join(pieces), tokens=tokens, decode_ns=decode_ns)
        return answer, b""
    answer = Answer(
        text=scores.text,
        tokens=len(scores.token_ids),
        decode_ns=done.output_ns,
        token_ids=scores.token_ids,
        best_ids=scores.best_ids,
        pieces=scores.pieces,
        offsets=scores.offsets,
        vocabulary=scores.vocabulary,
        prompt_ids=done.token_ids[:prompt_tokens],
        divergences=scores.divergences,
    )
    return answer, scores.rows


def _side_result(side: Side, model: PrivateModel, answers: Sequence[Answer]) -> SideResult:
    # The first token comes with the prompt's own step: so many are decoded after it.
    decoded = sum(max(0, answer.tokens - 1) for answer in answers)
    decode_ns = sum(answer.decode_ns for answer in answers if answer.tokens > 1)
    return SideResult(
        model=side.call.model.name.short,
        backend=side.plan.want.claim.backend,
        quantization=side.call.model.listed_quantization_level,
        load_duration=model.load_ns,
        memory=model.memory_bytes(),
        context_length=model.info.context_tokens,
        tokens=sum(answer.tokens for answer in answers),
        tokens_per_second=decoded * NS / decode_ns if decode_ns > 0 else None,
    )
