"""What the contract asks of an engine that gives logits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import ClassVar

from corral_kernel.contracts import EngineInfo, Job, MediaPart, TextPart, TokenEngine
from corral_kernel.errors import CorralError, OutOfMemoryError, UnsupportedError
from corral_kernel.testing.jobs import TOKENS, Drafter, Jobs
from corral_kernel.testing.suites import ContractBrokenError, demand

_FAR = 1 << 24


class TokenEngineSuite:
    """Tests of one token engine. A subclass loads it in `engine`.

    Attributes:
        texts: Prompts to run, of different lengths.
    """

    texts: ClassVar[Sequence[str]] = ("Hello", "a", "What a longer prompt this is, is it not?")

    def engine(self, slots: int) -> TokenEngine:
        """Load a small model, for as many jobs at once."""
        raise NotImplementedError

    # ------------------------------------------------------------------------ what it says

    def test_it_says_what_it_is(self) -> None:
        """The worker and the scheduler go by it."""
        engine = self.engine(2)
        info: object = engine.info
        demand(isinstance(info, EngineInfo), f"info is {type(info).__name__}, not an EngineInfo")
        width, pieces = engine.info.vocab_size, len(engine.tokenizer.pieces)
        demand("completion" in engine.info.capabilities, "no completion among its capabilities")
        demand(width >= pieces > 0, f"rows of {width} logits for {pieces} tokens")
        demand(engine.info.context_tokens > 0, "it has no context")
        demand(engine.info.batch_tokens > 0, "batch_tokens is not over 0")
        demand(1 <= engine.info.slots <= 2, f"asked for 2 slots, it has {engine.info.slots}")  # noqa: PLR2004 - asked for above
        engine.close()

    def test_its_tokenizer_gives_texts_back(self) -> None:
        """Pieces are the bytes of the text that `encode` read."""
        engine = self.engine(1)
        tokenizer = engine.tokenizer
        for text in (*self.texts, "Ünïcode 🦙", "\n\t  x", "a\0b", ""):
            ids = tokenizer.encode(text, special=False)
            written = tokenizer.decode(ids)
            demand(written.strip() == text.encode().strip(), f"{text!r} comes back as {written!r}")
        known = range(len(tokenizer.pieces))
        demand(all(i in known for i in tokenizer.end_ids), "an end id is no token")
        demand(all(i in known for i in tokenizer.control_ids), "a control id is no token")
        engine.close()

    def test_a_user_writes_no_control_token(self) -> None:
        """Its text is read as that token only where `special` says so."""
        engine = self.engine(1)
        tokenizer = engine.tokenizer
        for control_id in sorted(tokenizer.control_ids)[:20]:
            text = f"x{tokenizer.pieces[control_id].decode(errors='replace')}y"
            plain = tokenizer.encode(text, special=False)
            demand(control_id not in plain, f"{text!r} brings the token {control_id} in")
        engine.close()

    def test_a_prompt_has_one_bos_at_most(self) -> None:
        """Templates write it, and engines add it; only one may stand there."""
        engine = self.engine(1)
        tokenizer = engine.tokenizer
        bos_id = tokenizer.bos_id
        written = "" if bos_id is None else tokenizer.pieces[bos_id].decode(errors="replace")
        for text in self.texts:
            history = engine.prepare([TextPart(text)]).history()
            demand(history, f"the prompt {text!r} has no token")
            if bos_id is None:
                continue
            demand(history.count(bos_id) <= 1, f"{text!r} has two BOS tokens")
            if tokenizer.adds_bos:
                again = engine.prepare([TextPart(written + text)]).history()
                demand(
                    again.count(bos_id) == 1, f"{written + text!r} has no one BOS token: {again}"
                )
        engine.close()

    def test_media_that_it_cannot_take_are_refused(self) -> None:
        """By name, before anything runs."""
        engine = self.engine(1)
        for kind, capability in (("image", "vision"), ("audio", "audio")):
            if capability in engine.info.capabilities:
                continue
            with self._refusing(UnsupportedError, f"a prompt with {kind}"):
                engine.prepare([TextPart("a"), MediaPart(kind, b"")])
        engine.close()

    # ---------------------------------------------------------------------------- room

    def test_a_full_engine_has_no_room_until_a_job_is_released(self) -> None:
        """A job that was admitted keeps its room."""
        jobs = Jobs(self.engine(1))
        first = jobs.start("a")
        second = jobs.job("b")
        demand(not jobs.admit(second), "two jobs in one slot")
        jobs.step()
        demand(not jobs.admit(second), "two jobs in one slot, after a step")
        if first in jobs.running:
            jobs.release(first)
        demand(jobs.admit(second), "no room after a release")
        jobs.run()
        jobs.engine.close()

    def test_a_job_that_can_never_fit_is_refused(self) -> None:
        """By an error, since waiting for room would be for ever."""
        engine = self.engine(1)
        prompt = engine.prepare([TextPart(self.texts[0])])
        with self._refusing(OutOfMemoryError, "a job that is longer than its context"):
            engine.admit(Job(id=1, prompt=prompt, max_tokens=_FAR))
        Jobs(engine).answer(self.texts[0])
        engine.close()

    def test_ids_that_are_no_tokens_are_refused(self) -> None:
        """They would have native code read beyond its tables; and they cost nothing but the job."""
        jobs = Jobs(self.engine(1))
        wanted = jobs.answer(self.texts[0])
        good = jobs.job(self.texts[0]).prompt.history()
        for bad in (jobs.engine.info.vocab_size, _FAR, -1, -_FAR):
            with self._refusing(CorralError, f"a prompt with the id {bad}"):
                jobs.engine.admit(jobs.job([*good, bad]))
        demand(jobs.answer(self.texts[0]) == wanted, "a refused job changed a later answer")
        jobs.engine.close()

    def test_a_job_may_be_released_at_any_time(self) -> None:
        """Before it is fed, in mid-prefill, between rows and `extend`; its id may come again."""
        jobs = Jobs(self.engine(2))
        wanted = [jobs.answer(text) for text in self.texts]
        for steps in range(4):
            for number, text in enumerate(self.texts):
                job = jobs.job(text)
                jobs.admit(job)
                for _ in range(steps):
                    if job.id in jobs.running:
                        jobs.step()
                if job.id in jobs.running:
                    jobs.release(job.id)
                said = jobs.answer(self.texts[number - 1])
                demand(
                    said == wanted[number - 1],
                    f"after a job that was released after {steps} steps it says {said}",
                )
        jobs.engine.close()

    def test_a_job_may_be_released_before_it_is_extended(self) -> None:
        """Its last rows stay without an answer."""
        engine = self.engine(1)
        jobs = Jobs(engine)
        wanted = jobs.answer(self.texts[0])
        job = jobs.job(self.texts[0])
        demand(engine.admit(job) is not None, "no room in an empty engine")
        while all(rows.logits is None for rows in engine.forward()):
            pass
        engine.release(job.id)
        demand(jobs.answer(self.texts[0]) == wanted, "its rows changed a later answer")
        engine.close()

    # ------------------------------------------------------------------------------- rows

    def test_jobs_run_side_by_side_as_each_does_alone(self) -> None:
        """Each gets rows of its own, and what it says is its own affair."""
        engine = self.engine(len(self.texts))
        jobs = Jobs(engine)
        alone = [jobs.answer(text) for text in self.texts]
        together = [jobs.start(text) for text in self.texts[: engine.info.slots]]
        jobs.run()
        for number, wanted in zip(together, alone, strict=False):
            said = jobs.said[number]
            demand(said == wanted, f"job {number} says {said} among others, {wanted} alone")
        engine.close()

    def test_a_job_that_is_not_extended_is_not_fed(self) -> None:
        """So a slow reader's job pauses."""
        engine = self.engine(1)
        engine.admit(Jobs(engine).job(self.texts[0]))
        while not (rows := engine.forward()) or rows[0].logits is None:
            demand(rows, "a job in mid-prefill was not fed")
        demand(not list(engine.forward()), "a job was fed that nobody extended")
        engine.release(rows[0].job_id)
        engine.close()

    def test_what_is_fed_and_what_is_cached_is_the_whole(self) -> None:
        """People are shown how much of a prompt needed no computing; long prompts come in parts."""
        jobs = Jobs(self.engine(1))
        most = jobs.engine.info.context_tokens - TOKENS - 2
        history = jobs.job(" ".join([*self.texts] * 9)).prompt.history()[:most]
        for prompt in (history, history, history[: len(history) // 2 + 1], history):
            number = jobs.start(prompt)
            jobs.run()
            counted = jobs.cached[number] + jobs.fed[number]
            wanted = len(prompt) + len(jobs.said[number]) - 1  # the last is never fed
            demand(counted == wanted, f"cached and fed are {counted} positions of {wanted}")
        jobs.engine.close()

    def test_a_kept_prefix_changes_no_answer(self) -> None:
        """It is the same prompt, computed earlier."""
        fresh = [self._fresh(prompt) for prompt in self._turns()]
        jobs = Jobs(self.engine(1))
        for prompt, wanted in zip(self._turns(), fresh, strict=True):
            said = jobs.answer(prompt)
            demand(said == wanted, f"after other prompts it says {said}, in a fresh one {wanted}")
        jobs.engine.close()

    def test_tokens_may_be_forced(self) -> None:
        """Several at once, or one after another: it comes to the same."""
        jobs = Jobs(self.engine(1))
        forced = jobs.engine.tokenizer.encode(self.texts[2], special=False)[:4]
        said = []
        for runs in ([forced], [[token_id] for token_id in forced]):
            number = jobs.start(self.texts[0], TOKENS + len(forced))
            for token_ids in runs:
                jobs.force(number, token_ids)
            jobs.run()
            said.append(jobs.said[number])
        demand(said[0] == said[1], f"forced at once: then it says {said[0]}; singly: {said[1]}")
        jobs.engine.close()

    def test_drafts_change_no_answer(self) -> None:
        """Neither those that come true nor those that do not."""
        jobs = Jobs(self.engine(2))
        if "drafts" in jobs.engine.info.capabilities:
            wanted = [jobs.answer(text) for text in self.texts]
            for text, said in zip(self.texts, wanted, strict=True):
                for drafter in (_right(said), _wrong(said), _half(said)):
                    drafted = Jobs(jobs.engine, drafter).answer(text)
                    demand(drafted == said, f"{drafted} with drafts, {said} without")
        jobs.engine.close()

    # -------------------------------------------------------------------- how it is tried

    def _turns(self) -> list[str]:
        first, *others = self.texts
        return [first, *(f"{first} {other}" for other in others), first]

    def _fresh(self, prompt: str) -> list[int]:
        engine = self.engine(1)
        said = Jobs(engine).answer(prompt)
        engine.close()
        return said

    @contextlib.contextmanager
    def _refusing(self, kind: type[CorralError], what: str) -> Iterator[None]:
        try:
            yield
        except kind as error:
            demand(str(error), f"{what} is refused without a word")
        except Exception as error:
            name = type(error).__name__
            raise ContractBrokenError(
                f"{what} is refused by {name}: {error}; wanted {kind.__name__}"
            ) from error
        else:
            raise ContractBrokenError(f"it takes {what}")


def _right(said: list[int]) -> Drafter:
    return lambda so_far: said[len(so_far) : len(so_far) + 3]


def _wrong(said: list[int]) -> Drafter:
    return lambda so_far: [(said[len(so_far)] + 1) % 2] * 2


def _half(said: list[int]) -> Drafter:
    return lambda so_far: [*said[len(so_far) : len(so_far) + 1], said[0]]
