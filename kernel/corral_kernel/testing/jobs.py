"""Jobs on a token engine, driven as the worker's loop does: the likeliest token each time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corral_kernel.contracts import Job, Prompt, Rows, TextPart, TokenEngine, TokenSegment
from corral_kernel.testing.suites import demand

TOKENS = 6
MOST_STEPS = 2000
"""A job that needs more steps than this comes to no end."""

Drafter = Callable[[list[int]], Sequence[int]]


class Jobs:
    """All jobs of one engine.

    Args:
        engine: Under test.
        drafter: From what a job said to what it may say next; None: no drafts.

    Attributes:
        said: Ids that were chosen, by job.
        fed: Positions that the engine fed, by job.
        cached: Positions that needed no feeding, by job.
        running: Admitted and not released; each with how many tokens it may still say.
    """

    def __init__(self, engine: TokenEngine, drafter: Drafter | None = None) -> None:
        self.engine = engine
        self.said: dict[int, list[int]] = {}
        self.fed: dict[int, int] = {}
        self.cached: dict[int, int] = {}
        self.running: dict[int, int] = {}
        self._drafter = drafter
        self._drafts: dict[int, Sequence[int]] = {}
        self._steps = 0

    def job(self, prompt: str | Sequence[int], tokens: int = TOKENS, **more: Any) -> Job:
        """Make a job of a text or of ids, not admitted yet."""
        if isinstance(prompt, str):
            made = self.engine.prepare([TextPart(prompt)])
        else:
            made = Prompt((TokenSegment(list(prompt)),))
        number = len(self.said) + 1
        self.said[number] = []
        return Job(id=number, prompt=made, max_tokens=tokens, **more)

    def admit(self, job: Job) -> bool:
        """Admit a job; False: there is no room now."""
        admission = self.engine.admit(job)
        if admission is None:
            demand(self.running, "no room for a job where no other runs")
            return False
        cached, length = admission.cached_tokens, job.prompt.length
        demand(0 <= cached < length, f"{cached} cached tokens of a prompt of {length}")
        self.running[job.id], self._drafts[job.id] = job.max_tokens, ()
        self.cached[job.id], self.fed[job.id] = cached, 0
        return True

    def start(self, prompt: str | Sequence[int], tokens: int = TOKENS) -> int:
        """Admit a job for which there is room; give its id."""
        job = self.job(prompt, tokens)
        demand(self.admit(job), f"no room for {len(self.running) + 1} jobs")
        return job.id

    def release(self, job_id: int) -> None:
        """End a job."""
        self.engine.release(job_id)
        del self.running[job_id]

    def run(self) -> None:
        """Run all jobs to their ends."""
        while self.running:
            self.step()

    def answer(self, prompt: str | Sequence[int], tokens: int = TOKENS) -> list[int]:
        """Run one job to its end; give what it said."""
        number = self.start(prompt, tokens)
        self.run()
        return self.said[number]

    def step(self) -> list[Rows]:
        """Feed the jobs once, and choose for those that have logits."""
        self._steps += 1
        demand(self._steps < MOST_STEPS, f"jobs come to no end: {sorted(self.running)}")
        found = list(self.engine.forward())
        fed, most = sum(rows.fed for rows in found), self.engine.info.batch_tokens
        demand(found, f"nothing was fed, though these are to go on: {sorted(self.running)}")
        demand(fed <= most, f"a step fed {fed} tokens; batch_tokens is {most}")
        numbers = [rows.job_id for rows in found]
        demand(len(set(numbers)) == len(numbers), f"a step gave several rows for one of {numbers}")
        for rows in found:
            demand(rows.job_id in self.running, f"rows for job {rows.job_id}, which is none")
            demand(rows.error is None, f"job {rows.job_id} failed: {rows.error}")
            self.fed[rows.job_id] += rows.fed
            if rows.logits is not None:
                self._choose(rows.job_id, self._best(rows.job_id, rows.logits))
        return found

    def force(self, number: int, token_ids: Sequence[int]) -> None:
        """Have tokens follow the prompt of the only job, whatever is likeliest."""
        while all(rows.logits is None for rows in self.engine.forward()):
            pass
        self.engine.extend(number, token_ids)
        self.running[number] -= len(token_ids)

    def _best(self, number: int, logits: NDArray[np.float32]) -> list[int]:
        shape = (1 + len(self._drafts[number]), self.engine.info.vocab_size)
        demand(logits.shape == shape, f"logits of shape {logits.shape}, not {shape}")
        demand(logits.dtype == np.float32, f"logits of {logits.dtype}, not float32")
        demand(logits.flags.writeable, "logits cannot be written to, as samplers do")
        known = logits[:, : len(self.engine.tokenizer.pieces)]
        demand(not np.isnan(known).any(), "logits are no numbers")
        best = [int(row.argmax()) for row in known]
        logits[:] = 0  # as a sampler may: other jobs' rows are others
        return best

    def _choose(self, number: int, best: list[int]) -> None:
        drafts, said = self._drafts[number], self.said[number]
        chosen: list[int] = []
        for place, token_id in enumerate(best):
            chosen.append(token_id)
            said.append(token_id)
            self.running[number] -= 1
            if token_id in self.engine.tokenizer.end_ids or not self.running[number]:
                self.release(number)
                return
            if place >= len(drafts) or drafts[place] != token_id:
                break
        room = self.running[number] - 1
        self._drafts[number] = list(self._drafter(said))[:room] if self._drafter and room else ()
        self.engine.extend(number, chosen, self._drafts[number])
