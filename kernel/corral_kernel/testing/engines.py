"""What the contract asks of an engine that gives logits. More of it comes with more engines."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from corral_kernel.contracts import EngineInfo, Job, Rows, TextPart, TokenEngine
from corral_kernel.errors import OutOfMemoryError
from corral_kernel.testing.suites import demand

_TOKENS = 6


class TokenEngineSuite:
    """Tests of one token engine. A subclass loads it in `engine`.

    Attributes:
        texts: Prompts to run, of different lengths.
    """

    texts: ClassVar[Sequence[str]] = ("Hello", "a", "What a longer prompt this is, is it not?")

    def engine(self, slots: int) -> TokenEngine:
        """Load a small model, for as many jobs at once."""
        raise NotImplementedError

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
        demand(engine.info.slots == 2, f"asked for 2 slots, it has {engine.info.slots}")  # noqa: PLR2004 - asked for above
        engine.close()

    def test_its_tokenizer_gives_texts_back(self) -> None:
        """Pieces are the bytes of the text that `encode` read."""
        engine = self.engine(1)
        tokenizer = engine.tokenizer
        for text in (*self.texts, "Ünïcode 🦙", "\n\t  x", ""):
            ids = tokenizer.encode(text, special=False)
            written = tokenizer.decode(ids)
            demand(written.strip() == text.encode().strip(), f"{text!r} comes back as {written!r}")
        known = range(len(tokenizer.pieces))
        demand(all(i in known for i in tokenizer.end_ids), "an end id is no token")
        demand(all(i in known for i in tokenizer.control_ids), "a control id is no token")
        engine.close()

    def test_a_prompt_has_one_bos_at_most(self) -> None:
        """Templates write it, and engines add it; only one may stand there."""
        engine = self.engine(1)
        bos_id = engine.tokenizer.bos_id
        for text in self.texts:
            history = engine.prepare([TextPart(text)]).history()
            demand(history, f"the prompt {text!r} has no token")
            demand(bos_id is None or history.count(bos_id) <= 1, f"{text!r} has two BOS tokens")
        engine.close()

    def test_jobs_run_side_by_side_and_within_the_batch(self) -> None:
        """Each gets rows of its own, and what it says is its own affair."""
        engine = self.engine(len(self.texts))
        for number, text in enumerate(self.texts):
            admitted = engine.admit(self._job(engine, number, text))
            demand(admitted is not None, f"no room for job {number} of {len(self.texts)}")
        answers = self._run(engine)
        demand(
            set(answers) == set(range(len(self.texts))),
            f"of {len(self.texts)} jobs only {sorted(answers)} had rows",
        )
        engine.close()

    def test_a_job_that_is_not_extended_is_not_fed(self) -> None:
        """So a slow reader's job pauses."""
        engine = self.engine(1)
        engine.admit(self._job(engine, 1, self.texts[0]))
        while not (rows := engine.forward()) or rows[0].logits is None:
            demand(rows, "a job in mid-prefill was not fed")
        demand(not list(engine.forward()), "a job was fed that nobody extended")
        engine.close()

    def test_a_full_engine_has_no_room_until_a_job_is_released(self) -> None:
        """A job that was admitted keeps its room."""
        engine = self.engine(1)
        demand(engine.admit(self._job(engine, 1, "a")) is not None, "no room in an empty engine")
        demand(engine.admit(self._job(engine, 2, "b")) is None, "two jobs in one slot")
        engine.forward()
        engine.release(1)
        demand(engine.admit(self._job(engine, 2, "b")) is not None, "no room after a release")
        engine.release(2)
        engine.close()

    def test_a_job_that_can_never_fit_is_refused(self) -> None:
        """By an error, since waiting for room would be for ever."""
        engine = self.engine(1)
        prompt = engine.prepare([TextPart(self.texts[0])])
        try:
            engine.admit(Job(id=1, prompt=prompt, max_tokens=engine.info.context_tokens))
        except OutOfMemoryError:
            engine.close()
            return
        demand(condition=False, words="it admitted a job that is longer than its context")

    # -------------------------------------------------------------------- how it is tried

    def _job(self, engine: TokenEngine, number: int, text: str) -> Job:
        return Job(id=number, prompt=engine.prepare([TextPart(text)]), max_tokens=_TOKENS)

    def _run(self, engine: TokenEngine) -> dict[int, list[int]]:
        """Take the best token of each row until every job ended; give what each said."""
        answers: dict[int, list[int]] = {}
        while rows := engine.forward():
            fed = sum(row.fed for row in rows)
            demand(fed <= engine.info.batch_tokens, f"{fed} tokens fed in a step")
            for row in rows:
                self._take(engine, row, answers)
        return answers

    def _take(self, engine: TokenEngine, row: Rows, answers: dict[int, list[int]]) -> None:
        demand(row.error is None, f"job {row.job_id} failed: {row.error}")
        if row.logits is None:
            return
        shape = (1, engine.info.vocab_size)
        demand(row.logits.shape == shape, f"logits of shape {row.logits.shape}, not {shape}")
        demand(row.logits.dtype == np.float32, f"logits of {row.logits.dtype}, not float32")
        demand(row.logits.flags.writeable, "logits cannot be written to, as samplers do")
        token_id = int(row.logits[0, : len(engine.tokenizer.pieces)].argmax())
        said = answers.setdefault(row.job_id, [])
        said.append(token_id)
        row.logits[:] = 0  # as a sampler may: other jobs' rows are others
        if token_id in engine.tokenizer.end_ids or len(said) == _TOKENS:
            engine.release(row.job_id)
        else:
            engine.extend(row.job_id, [token_id])
